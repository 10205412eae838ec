// A tour of Knex: schema builder and queries. What it sends is recorded; nothing is checked. PG* variables say where to.
const knex = require("knex")({
  client: "pg",
  connection: {
    host: process.env.PGHOST,
    port: process.env.PGPORT,
    user: process.env.PGUSER,
    database: process.env.PGDATABASE,
  },
});

async function define() {
  await knex.schema.createSchemaIfNotExists("shop");
  await knex.schema.createTable("person", (t) => {
    t.increments();
    t.string("name", 80).notNullable().unique().comment("who");
    t.enu("mood", ["sad", "happy"], { useNative: true, enumName: "mood" }).defaultTo("happy");
    t.jsonb("data").defaultTo("{}");
    t.specificType("tags", "text[]");
    t.uuid("key").defaultTo(knex.fn.uuid());
    t.integer("parent_id").references("person.id").onDelete("SET NULL").deferrable("deferred");
    t.timestamps(true, true);
    t.index(["name", "mood"], "person_both");
    t.check("length(??) > 0", ["name"]);
  });
  await knex.schema.withSchema("shop").createTable("order", (t) => {
    t.bigIncrements("id");
    t.integer("person_id").references("id").inTable("public.person");
    t.decimal("total", 10, 2).checkPositive();
    t.timestamp("at", { useTz: true, precision: 3 }).defaultTo(knex.fn.now(3));
    t.boolean("paid").defaultTo(false);
  });
  await knex.schema.alterTable("person", (t) => {
    t.text("note").nullable();
    t.renameColumn("key", "uid");
    t.string("name", 120).alter();
    t.dropIndex([], "person_both");
    t.index(knex.raw("lower(name)"), "person_lower", { predicate: knex.whereNotNull("note") });
  });
  await knex.schema.createView("happy", (v) => v.as(knex("person").where("mood", "happy")));
  await knex.schema.createMaterializedView("counted", (v) => v.as(knex("person").count("* as n")));
  await knex.schema.refreshMaterializedView("counted", true).catch(() => {});
  await knex.schema.createTableLike("copy", "person");
  await knex.schema.hasTable("person");
  await knex.schema.hasColumn("person", "note");
  await knex("person").columnInfo();
}

async function queries() {
  const p = () => knex("person");
  const o = () => knex.withSchema("shop").from("order");
  const all = [
    p().select("*").where({ name: "Ada", mood: "happy" }).orWhere("id", ">", 3).orderBy("name", "desc", "last"),
    p().whereIn("id", [1, 2]).whereNotNull("name").whereBetween("id", [1, 9]).limit(2).offset(1),
    p().whereLike("name", "A%").whereILike("name", "%a_").whereNot("id", 4).first(),
    p().whereIn(
      ["id", "name"],
      [
        [1, "Ada"],
        [2, "x"],
      ],
    ),
    p().whereExists(o().whereRaw("person_id = person.id")),
    p()
      .whereRaw("data @> ?", [JSON.stringify({ a: 1 })])
      .whereJsonPath("data", "$.a", ">", 0),
    p().whereJsonSupersetOf("data", { a: 1 }).jsonExtract("data", "$.a", "a"),
    p()
      .join("shop.order as o", "o.person_id", "person.id")
      .leftJoin("person as q", function () {
        this.on("q.id", "person.parent_id").andOnVal("q.mood", "happy");
      })
      .select("person.id", "o.total"),
    p().crossJoin("person as b").fullOuterJoin("person as c", "c.id", "b.id").count("b.id as n"),
    o()
      .sum("total as s")
      .groupBy("person_id")
      .having("sum", ">", 1)
      .catch(() => o().sum("total as s").groupBy("person_id").havingRaw("sum(total) > ?", [1])),
    o()
      .select("person_id")
      .rowNumber("r", (q) => q.partitionBy("person_id").orderBy("at"))
      .rank("k", "total"),
    o().avg("total").max("at").countDistinct("person_id").groupByRaw("rollup (paid)"),
    p()
      .distinctOn("mood")
      .orderBy([{ column: "mood" }, { column: "id", order: "desc" }]),
    p()
      .select("name")
      .union([p().select("note"), p().select(knex.raw("?::text", ["x"]))], true)
      .unionAll(p().select("name").limit(1)),
    p().select("id").intersect(p().select("parent_id")).except(p().select("id").where("id", 0)),
    knex
      .with("w", p().where("id", "<", 5))
      .with("x", ["n"], knex.raw("select 1"))
      .select("*")
      .from("w")
      .join("x", knex.raw("true")),
    knex
      .withRecursive("t", ["id", "up"], (q) =>
        q
          .select("id", "parent_id")
          .from("person")
          .whereNull("parent_id")
          .unionAll((r) =>
            r.select("person.id", "person.parent_id").from("person").join("t", "t.id", "person.parent_id"),
          ),
      )
      .from("t"),
    knex.withMaterialized("m", p()).from("m"),
    knex.with("gone", knex("copy").where("id", 1).del().returning("id")).from("gone"),
    knex
      .with("new", knex("copy").insert({ name: "cte" }).returning("*"))
      .select("name")
      .from("new"),
    knex.select(knex.raw("generate_series(1, 3) as g, coalesce(nullif(?, ''), 'y')", [""])).as("x"),
    knex.from(p().as("s")).select(p().count("*").as("n"), "s.name"),
    p().increment("parent_id", 1).where("id", -1),
    p().pluck("name"),
    p().whereNull("name").clearWhere().max("id"),
  ];
  for (const query of all) await query;
}

async function changes() {
  await knex("person").insert([
    { name: "Ada", tags: ["a", 'q"'] },
    { name: "O'Hara", note: null },
    { name: "? \\ $1" },
  ]);
  await knex("person").insert({ name: "Ada" }).onConflict("name").ignore();
  await knex("person")
    .insert({ name: "Ada", note: "n" })
    .onConflict("name")
    .merge(["note"])
    .where("person.id", ">", 0)
    .returning(["id", "name"]);
  await knex("person")
    .insert({ name: "Ada", note: "m" })
    .onConflict(knex.raw("(name) where note is not null"))
    .merge()
    .catch(() => {});
  await knex
    .insert(knex("person").select("name", "note"), ["id"])
    .into(knex.raw("copy (name, note)"))
    .catch(() => {});
  await knex("person")
    .update({ note: knex.raw("upper(name)") })
    .where("id", 1)
    .returning("*");
  await knex("person as p")
    .update({ note: knex.ref("p.name") })
    .updateFrom("shop.order as o")
    .whereRaw("o.person_id = p.id")
    .catch(() => {});
  await knex.batchInsert(
    "shop.order",
    Array.from({ length: 5 }, (_, i) => ({ person_id: 1, total: i + 1 })),
    2,
  );
  await knex("shop.order").where("total", ">", 4).del(["id"]);
  await knex("shop.order as o")
    .using("person as p")
    .whereRaw("p.id = o.person_id")
    .del()
    .catch(() => {});
  await knex.transaction(
    async (t) => {
      await t("person").forUpdate().skipLocked().where("id", 1);
      await t("person").forShare().noWait();
      await t("person").forNoKeyUpdate("person").first();
      await t("person").forKeyShare();
      await t
        .transaction(async (inner) => {
          await inner("person").insert({ name: "inner" });
          throw new Error("undo");
        })
        .catch(() => {});
      await t.raw("select pg_advisory_xact_lock(?)", [7]);
      await t.raw("set local lock_timeout = '1s'");
    },
    { isolationLevel: "repeatable read" },
  );
  await knex.transaction((t) => t("person"), { readOnly: true });
  await knex.raw("lock table ?? in share mode", ["person"]).catch(() => {});
  await knex("copy").truncate();
}

async function drop() {
  await knex.schema.renameTable("copy", "copied");
  await knex.schema.dropMaterializedView("counted");
  await knex.schema.dropViewIfExists("happy");
  await knex.schema
    .alterTable("person", (t) => {
      t.dropColumn("note");
      t.dropUnique("name");
      t.dropForeign("parent_id");
      t.dropPrimary();
    })
    .catch(() => {});
  await knex.schema.dropTableIfExists("copied");
  await knex.schema.dropSchemaIfExists("shop", true);
  await knex.schema.raw("drop table person cascade");
}

async function migrations() {
  const source = {
    getMigrations: async () => ["one"],
    getMigrationName: (n) => n,
    getMigration: () => ({
      up: (k) => k.schema.createTable("m", (t) => t.increments()),
      down: (k) => k.schema.dropTable("m"),
    }),
  };
  await knex.migrate.latest({ migrationSource: source });
  await knex.migrate.rollback({ migrationSource: source });
}

define()
  .then(changes)
  .then(queries)
  .then(migrations)
  .then(drop)
  .finally(() => knex.destroy());
