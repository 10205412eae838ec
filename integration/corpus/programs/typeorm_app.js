// A tour of TypeORM: entities without decorators, repositories, query builder. What it sends is recorded; nothing is
// checked. PG* variables say where to.
require("reflect-metadata");
const T = require("typeorm");
const env = process.env;

const entities = [
  new T.EntitySchema({
    name: "User",
    tableName: "user",
    columns: {
      id: { type: Number, primary: true, generated: "increment" },
      name: { type: String, length: 80, unique: true },
      mood: { type: "enum", enum: ["sad", "it's"], default: "sad" },
      data: { type: "jsonb", default: {} },
      tags: { type: "text", array: true, nullable: true },
      made: { type: "timestamptz", createDate: true },
      changed: { type: "timestamptz", updateDate: true },
      gone: { type: "timestamptz", deleteDate: true },
      version: { type: Number, version: true },
    },
    relations: {
      posts: { type: "one-to-many", target: "Post", inverseSide: "author" },
      boss: { type: "many-to-one", target: "User", nullable: true },
    },
    checks: [{ expression: "\"name\" <> ''" }],
    indices: [{ columns: ["name", "mood"], where: "gone IS NULL" }],
  }),
  new T.EntitySchema({
    name: "Post",
    schema: "blog",
    columns: {
      id: { type: "uuid", primary: true, generated: "uuid" },
      title: { type: String },
      price: { type: "numeric", precision: 10, scale: 2, default: 0 },
      both: { type: String, generatedType: "STORED", asExpression: "title || '!'", nullable: true },
      raw: { type: "bytea", nullable: true },
    },
    relations: {
      author: { type: "many-to-one", target: "User", inverseSide: "posts", onDelete: "CASCADE", joinColumn: true },
      tags: { type: "many-to-many", target: "Tag", joinTable: true, cascade: true },
    },
  }),
  new T.EntitySchema({
    name: "Tag",
    columns: { id: { type: "bigint", primary: true, generated: "identity" }, name: { type: String, comment: "what" } },
  }),
  new T.EntitySchema({
    name: "Tree",
    columns: { id: { type: Number, primary: true, generated: true }, name: { type: String } },
    relations: {
      up: { type: "many-to-one", target: "Tree", treeParent: true },
      down: { type: "one-to-many", target: "Tree", treeChildren: true },
    },
    trees: [{ type: "closure-table" }],
  }),
  new T.EntitySchema({
    name: "Rich",
    type: "view",
    expression: "SELECT id, title FROM blog.post WHERE price > 100",
    columns: { id: { type: "uuid", viewColumn: true, primary: true }, title: { type: String } },
  }),
];
const db = new T.DataSource({
  type: "postgres",
  host: env.PGHOST,
  port: +env.PGPORT,
  username: env.PGUSER,
  database: env.PGDATABASE,
  entities,
  synchronize: false,
});

async function fill() {
  await db.query("CREATE SCHEMA blog");
  await db.synchronize();
  await db.synchronize();
  const users = await db
    .getRepository("User")
    .save(["Ada", "O'Hara", "back\\slash"].map((name, i) => ({ name, tags: [name, 'q"'], data: { n: i } })));
  users[1].boss = users[0];
  await db.getRepository("User").save(users[1]);
  for (const author of users)
    await db
      .getRepository("Post")
      .save({
        title: `By ${author.name}`,
        price: 5,
        author,
        tags: [{ name: "t" }, { name: "-- u" }],
        raw: Buffer.from([0, 255]),
      });
  const trees = db.getTreeRepository("Tree");
  const root = await trees.save({ name: "root" });
  const child = await trees.save({ name: "child", up: root });
  await trees.findTrees();
  await trees.findDescendants(root);
  await trees.findAncestors(child);
  await trees.remove(child);
  return users;
}

async function finds(users) {
  const u = db.getRepository("User");
  await u.find({
    where: [
      { name: T.Like("A%"), id: T.Between(1, 9) },
      { mood: T.In(["sad"]), name: T.Not(T.IsNull()) },
    ],
    order: { name: { direction: "DESC", nulls: "LAST" } },
    skip: 1,
    take: 2,
  });
  await u.find({ where: { tags: T.ArrayContains(["Ada"]), data: T.JsonContains({ n: 0 }) } });
  await u.find({
    where: { name: T.ILike("%a"), id: T.MoreThanOrEqual(1), mood: T.Any(["sad"]) },
    relations: { posts: { tags: true }, boss: true },
    select: { id: true, name: true },
  });
  await u.find({ where: { posts: { title: T.Raw((a) => `lower(${a}) = :t`, { t: "x" }) } }, withDeleted: true });
  await u.find({ relations: { posts: true }, relationLoadStrategy: "query" });
  await u.findOneBy({ id: 1 });
  await u.findAndCount({ take: 1, relations: { posts: true } });
  await u.exists({ where: { id: 1 } });
  await u.countBy({ name: "Ada" });
  for (const how of ["sum", "average", "minimum", "maximum"]) await u[how]("id", { mood: "sad" });
  await db.getRepository("Rich").find();
  await u.query("SELECT $1::int + 1", [users.length]);
}

async function builders() {
  const u = () => db.getRepository("User").createQueryBuilder("u");
  await u()
    .leftJoinAndSelect("u.posts", "p", "p.price > :min", { min: 1 })
    .innerJoin("p.tags", "t")
    .where("u.id IN (:...ids)", { ids: [1, 2] })
    .orderBy("p.title", "ASC", "NULLS FIRST")
    .take(2)
    .getMany();
  await u()
    .select("u.mood", "mood")
    .addSelect("COUNT(*)", "n")
    .groupBy("u.mood")
    .having("COUNT(*) > :n", { n: 0 })
    .getRawMany();
  await u()
    .where((q) => "u.id IN " + q.subQuery().select("p.authorId").from("Post", "p").getQuery())
    .andWhere(new T.Brackets((q) => q.where("u.name = :a", { a: "A" }).orWhere("u.mood IS NOT NULL")))
    .getCount();
  await u().distinctOn(["u.mood"]).orderBy("u.mood").getMany();
  await u()
    .addCommonTableExpression("SELECT 1 AS one", "c")
    .innerJoin("c", "c", "c.one = u.id")
    .getMany()
    .catch((e) => console.error(String(e)));
  await db
    .createQueryBuilder()
    .select("s.n")
    .from((q) => q.select("p.price * 2", "n").from("Post", "p"), "s")
    .getRawMany();
  await db
    .createQueryBuilder()
    .insert()
    .into("Tag")
    .values([{ name: "a" }, { name: () => "upper('b')" }])
    .returning("*")
    .execute();
  await db.createQueryBuilder().insert().into("User").values({ name: "Ada" }).orIgnore().execute();
  await db
    .createQueryBuilder()
    .insert()
    .into("User")
    .values({ name: "Ada", mood: "sad" })
    .orUpdate(["mood"], ["name"], { skipUpdateIfNoValuesChanged: true })
    .execute();
  await db.getRepository("User").upsert([{ name: "Ada" }, { name: "Bob" }], ["name"]);
  await db
    .createQueryBuilder()
    .update("User")
    .set({ name: () => "name || '.'" })
    .where("id = :id", { id: 2 })
    .returning(["id"])
    .execute();
  await db.createQueryBuilder().delete().from("Tag").where("name LIKE :n", { n: "a%" }).execute();
  await u().softDelete().where("id = 3").execute();
  await u().restore().where("id = 3").execute();
  await db
    .createQueryBuilder()
    .relation("Post", "tags")
    .of((await db.getRepository("Post").find())[0])
    .add(1)
    .catch(() => {});
  await db.getRepository("User").increment({ id: 1 }, "version", 2);
  await db.transaction("SERIALIZABLE", async (m) => {
    for (const lock of ["pessimistic_read", "pessimistic_write", "for_no_key_update", "for_key_share"])
      await m.createQueryBuilder("User", "u").setLock(lock).getMany();
    await m
      .createQueryBuilder("User", "u")
      .setLock("pessimistic_write", undefined, ["u"])
      .setOnLocked("skip_locked")
      .leftJoin("u.boss", "b")
      .getOne();
    await m.findOne("User", { where: { id: 1 }, lock: { mode: "pessimistic_write", onLocked: "nowait" } });
    await m
      .transaction(async (inner) => {
        await inner.insert("Tag", { name: "inner" });
        throw new Error("undo");
      })
      .catch(() => {});
  });
  const stream = await db.getRepository("User").findOne({ where: { id: 2 } });
  await db.getRepository("User").softRemove(stream);
  await db
    .getRepository("User")
    .remove(stream)
    .catch(() => {});
}

async function migrate() {
  const q = db.createQueryRunner();
  await q.createTable(
    new T.Table({
      name: "extra",
      columns: [
        { name: "id", type: "int", isPrimary: true, isGenerated: true },
        { name: "a", type: "varchar", default: "'x'" },
      ],
      checks: [{ expression: "id > 0" }],
      exclusions: [{ expression: "USING gist (int4range(id, id + 1) WITH &&)" }],
    }),
    true,
  );
  await q.addColumn("extra", new T.TableColumn({ name: "b", type: "enum", enum: ["p", "q"], isNullable: true }));
  await q.changeColumn(
    "extra",
    "b",
    new T.TableColumn({ name: "b", type: "enum", enum: ["p", "q", "r"], default: "'r'" }),
  );
  await q.renameColumn("extra", "a", "aa");
  await q.createIndex("extra", new T.TableIndex({ columnNames: ["aa"], isUnique: true, isConcurrent: false }));
  await q.createForeignKey(
    "extra",
    new T.TableForeignKey({
      columnNames: ["id"],
      referencedTableName: "user",
      referencedColumnNames: ["id"],
      deferrable: "INITIALLY DEFERRED",
    }),
  );
  await q.dropColumn("extra", "b");
  await q.renameTable("extra", "more");
  await q.clearTable("more", { cascade: true });
  await q.dropTable("more");
  await q.createSchema("spare", true);
  await q.dropSchema("spare", true, true);
  await q.release();
  await db.dropDatabase();
}

db.initialize()
  .then(fill)
  .then(async (users) => {
    await finds(users);
    await builders();
    await migrate();
  })
  .finally(() => db.destroy());
