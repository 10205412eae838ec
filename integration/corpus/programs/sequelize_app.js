// A tour of Sequelize: models, associations, queries. What it sends is recorded; nothing is checked. PG* variables say
// where to.
const { Sequelize, DataTypes, Op, Transaction, fn, col, literal, where, cast, json } = require("sequelize");
const env = process.env;
const db = new Sequelize(env.PGDATABASE, env.PGUSER, "", {
  host: env.PGHOST,
  port: env.PGPORT,
  dialect: "postgres",
  logging: false,
});

const User = db.define(
  "User",
  {
    name: { type: DataTypes.STRING(80), allowNull: false, unique: true },
    mood: { type: DataTypes.ENUM("sad", "it's", "happy"), defaultValue: "happy" },
    data: { type: DataTypes.JSONB, defaultValue: {} },
    tags: DataTypes.ARRAY(DataTypes.TEXT),
    key: { type: DataTypes.UUID, defaultValue: DataTypes.UUIDV4 },
    spans: DataTypes.RANGE(DataTypes.INTEGER),
    score: { type: DataTypes.DECIMAL(10, 2), defaultValue: 0, comment: "points" },
  },
  {
    schema: "public",
    paranoid: true,
    version: true,
    indexes: [
      { fields: [fn("lower", col("name"))], name: "user_lower" },
      { fields: ["data"], using: "gin", operator: "jsonb_path_ops" },
      { fields: ["score"], where: { mood: "happy" } },
    ],
  },
);
const Post = db.define(
  "post",
  { title: DataTypes.STRING, body: DataTypes.TEXT, at: DataTypes.DATE, raw: DataTypes.BLOB },
  { schema: "blog", underscored: true },
);
const Tag = db.define(
  "tag",
  { id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true }, name: DataTypes.CITEXT },
  { schema: "blog", timestamps: false },
);
User.hasMany(Post, { as: "posts", foreignKey: { name: "author_id", allowNull: true }, onDelete: "CASCADE" });
Post.belongsTo(User, { as: "author", foreignKey: "author_id" });
Post.belongsToMany(Tag, { through: "post_tags" });
Tag.belongsToMany(Post, { through: "post_tags" });
User.belongsTo(User, { as: "boss" });

async function fill() {
  await db.query("CREATE EXTENSION IF NOT EXISTS citext");
  await db.createSchema("blog");
  await db.sync();
  await db.sync({ alter: true }).catch((e) => console.error(String(e)));
  const people = await User.bulkCreate(
    ["Ada", "O'Hara", "back\\slash", 'q"', "$1 ? :x"].map((name, i) => ({
      name,
      score: i,
      tags: ["t", name],
      data: { n: i, deep: { a: [1] } },
      spans: [1, i + 2],
    })),
    { returning: true },
  );
  await User.bulkCreate([{ name: "Ada", score: 5 }], { updateOnDuplicate: ["score"], conflictAttributes: ["name"] });
  await User.bulkCreate([{ name: "Ada" }], { ignoreDuplicates: true });
  const post = await people[0].createPost({
    title: "First",
    body: "-- no; comment",
    at: new Date(0),
    raw: Buffer.from([0, 255]),
  });
  await post.createTag({ name: "New" });
  await post.addTags(await Tag.bulkCreate([{ name: "x" }, { name: "y" }]));
  await post.setTags([]);
  await people[1].setBoss(people[0]);
  return people;
}

async function queries() {
  await User.findAll({
    where: {
      name: { [Op.like]: "A%" },
      score: { [Op.between]: [0, 9], [Op.ne]: 3 },
      mood: { [Op.in]: ["sad", "happy"] },
    },
  });
  await User.findAll({
    where: {
      [Op.or]: [{ name: { [Op.iLike]: "%a" } }, { [Op.not]: { score: { [Op.gt]: 3 } } }],
      tags: { [Op.contains]: ["t"], [Op.overlap]: ["t"] },
    },
  });
  await User.findAll({
    where: { name: { [Op.iRegexp]: "^a", [Op.notIn]: ["z"], [Op.startsWith]: "A", [Op.any]: ["Ada"] } },
  }).catch(() => {});
  await User.findAll({
    where: { data: { n: 1, deep: { b: "x" } }, spans: { [Op.contains]: 2, [Op.adjacent]: [5, 9] } },
  });
  await User.findAll({ where: json("data.n", "2"), attributes: ["id", [json("data.deep.a[0]"), "first"]] }).catch(
    () => {},
  );
  await User.findAll({
    where: where(fn("char_length", col("name")), { [Op.gt]: 2 }),
    order: [["score", "DESC NULLS LAST"], [fn("lower", col("name")), "ASC"], literal("random()")],
    limit: 2,
    offset: 1,
  });
  await User.findAll({
    attributes: ["mood", [fn("COUNT", col("id")), "n"], [fn("sum", cast(col("score"), "integer")), "s"]],
    group: ["mood"],
    having: literal("count(*) > 0"),
    raw: true,
  });
  await User.findAll({
    attributes: {
      exclude: ["data"],
      include: [
        [literal('(SELECT count(*) FROM blog.posts p WHERE p.author_id = "User".id)'), "posts_n"],
        [literal("rank() OVER (ORDER BY score)"), "r"],
      ],
    },
  });
  await User.findAll({
    include: [
      { model: Post, as: "posts", where: { title: "First" }, required: false, include: [Tag] },
      { model: User, as: "boss" },
    ],
    limit: 3,
  });
  await User.findAll({
    include: [{ model: Post, as: "posts", separate: true, order: ["id"] }],
    where: { "$boss.name$": "Ada" },
  }).catch(() => User.findAll({ include: ["boss"], where: { "$boss.name$": "Ada" } }));
  await Post.findAndCountAll({ include: [{ model: User, as: "author", right: true }], distinct: true, limit: 1 });
  await User.findOne({ where: { name: "Ada" }, paranoid: false });
  await User.findByPk(1);
  await User.count({ where: { mood: null }, distinct: true, col: "name" });
  for (const how of ["max", "min", "sum"]) await User[how]("score");
  await User.findAll({ where: { id: { [Op.in]: literal("(SELECT author_id FROM blog.posts)") } } });
  await db.query('SELECT * FROM "Users" WHERE name = :name AND id IN (:ids)', {
    replacements: { name: "A'b", ids: [1, 2] },
  });
  await db.query("SELECT $1::text, $2::int", { bind: ["x", 1] });
  await User.describe();
  await db.getQueryInterface().showAllTables();
  await db.getQueryInterface().showIndex("Users");
}

async function changes(people) {
  await User.update({ score: literal("score + 1") }, { where: { name: "Ada" }, returning: true });
  await User.increment({ score: 2 }, { where: { id: 1 } });
  await people[0].decrement("score");
  await people[0].update({ data: { n: 9 }, tags: [] });
  await User.upsert({ name: "Ada", score: 8 }, { conflictFields: ["name"] });
  await User.findOrCreate({ where: { name: "New" }, defaults: { score: 1 } });
  await User.findOrCreate({ where: { name: "New" } });
  await User.findCreateFind({ where: { name: "Newer" } });
  await people[2].destroy();
  await people[2].restore();
  await User.destroy({ where: { score: { [Op.lt]: 0 } }, force: true, limit: 1 });
  await db.transaction(
    { isolationLevel: Transaction.ISOLATION_LEVELS.SERIALIZABLE, deferrable: "SET CONSTRAINTS ALL DEFERRED" },
    async (transaction) => {
      for (const lock of ["UPDATE", "SHARE", "KEY SHARE", "NO KEY UPDATE"]) await User.findAll({ lock, transaction });
      await User.findAll({
        lock: { level: "UPDATE", of: { name: "posts" } },
        skipLocked: true,
        include: [{ model: Post, as: "posts", required: true }],
        transaction,
      });
      const inner = await db.transaction({ transaction });
      await User.create({ name: "inner" }, { transaction: inner });
      await inner.rollback();
    },
  );
  await Tag.truncate({ cascade: true, restartIdentity: true });
}

async function migrate() {
  const q = db.getQueryInterface();
  await q.createTable("extra", {
    id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true },
    a: { type: DataTypes.STRING, defaultValue: "x" },
  });
  await q.addColumn("extra", "b", { type: DataTypes.ENUM("p", "q"), allowNull: true });
  await q.changeColumn("extra", "a", { type: DataTypes.TEXT, allowNull: false, defaultValue: "y" });
  await q.renameColumn("extra", "a", "aa");
  await q.addIndex("extra", ["aa", "b"], { name: "extra_both", unique: true, concurrently: true });
  await q.removeIndex("extra", "extra_both");
  await q.addConstraint("extra", { type: "check", fields: ["id"], name: "small", where: { id: { [Op.lt]: 1000 } } });
  await q.addConstraint("extra", {
    type: "foreign key",
    fields: ["id"],
    name: "same",
    references: { table: "Users", field: "id" },
    onDelete: "cascade",
  });
  await q.removeConstraint("extra", "small");
  await q.removeColumn("extra", "b");
  await q.renameTable("extra", "more");
  await q.createFunction("twice", [{ type: "integer", name: "n" }], "integer", "plpgsql", "RETURN n * 2;");
  await q.dropFunction("twice", [{ type: "integer", name: "n" }]);
  await q.bulkDelete("more", { id: [1, 2] });
  await q.dropTable("more");
  await db.drop({ cascade: true });
  await db.dropSchema("blog");
}

fill()
  .then(async (people) => {
    await queries();
    await changes(people);
    await migrate();
  })
  .finally(() => db.close());
