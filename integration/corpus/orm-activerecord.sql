-- Sent by ActiveRecord 6.1.7.10 to PostgreSQL 15.18, as its log has it; see programs/activerecord_app.rb.
-- One statement per record, without duplicates; recorded by scripts/corpus activerecord.
;;
SET client_min_messages TO 'warning'
;;
SET standard_conforming_strings = on
;;
SET intervalstyle = iso_8601
;;
SET SESSION timezone TO 'UTC'
;;
SELECT t.oid, t.typname
FROM pg_type as t
WHERE t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4', 'float8', 'numeric', 'bool', 'timestamp', 'timestamptz')
;;
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype
FROM pg_type as t
LEFT JOIN pg_range as r ON oid = rngtypid
WHERE
  t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4', 'float8', 'text', 'varchar', 'char', 'name', 'bpchar', 'bool', 'bit', 'varbit', 'timestamptz', 'date', 'money', 'bytea', 'point', 'hstore', 'json', 'jsonb', 'cidr', 'inet', 'uuid', 'xml', 'tsvector', 'macaddr', 'citext', 'ltree', 'line', 'lseg', 'box', 'path', 'polygon', 'circle', 'time', 'timestamp', 'numeric', 'interval')
  OR t.typtype IN ('r', 'e', 'd')
  OR t.typinput = 'array_in(cstring,oid,integer)'::regprocedure
  OR t.typelem != 0
;;
SHOW TIME ZONE
;;
SELECT 1
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r','v','m','p','f')
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'schema_migrations' AND c.relkind IN ('r','v','m','p','f')
;;
CREATE EXTENSION IF NOT EXISTS "citext"
;;
CREATE TABLE "publishers" ("id" bigserial primary key, "name" character varying(80) NOT NULL, "slug" citext, "created_at" timestamp(6) NOT NULL, "updated_at" timestamp(6) NOT NULL)
;;
SHOW max_identifier_length
;;
CREATE UNIQUE INDEX "index_publishers_on_name" ON "publishers" ("name")
;;
SELECT 'character varying'::regtype::oid
;;
SELECT 'integer'::regtype::oid
;;
SELECT 'jsonb'::regtype::oid
;;
SELECT 'text[]'::regtype::oid
;;
CREATE TABLE "books" ("id" uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY, "publisher_id" bigint, "title" character varying DEFAULT 'it''s', "state" integer DEFAULT 0, "price" decimal(8,2), "data" jsonb DEFAULT '{}', "tags" text[] DEFAULT '{}', "span" int4range, "lock_version" integer DEFAULT 0, "type" character varying, "created_at" timestamp(6) DEFAULT now() NOT NULL, "updated_at" timestamp(6) DEFAULT now() NOT NULL, CONSTRAINT "fk_rails_d7ae2b039e"
FOREIGN KEY ("publisher_id")
  REFERENCES "publishers" ("id")
 ON DELETE CASCADE)
;;
CREATE INDEX "index_books_on_publisher_id" ON "books" ("publisher_id")
;;
CREATE INDEX "index_books_on_data" ON "books" USING gin ("data" jsonb_path_ops)
;;
CREATE INDEX "index_books_on_lower_title" ON "books" (lower(title)) WHERE price > 0
;;
COMMENT ON TABLE "books" IS 'books'
;;
CREATE TABLE "books_tags" ("book_id" uuid NOT NULL, "tag_id" uuid NOT NULL)
;;
CREATE INDEX "index_books_tags_on_book_id" ON "books_tags" ("book_id")
;;
CREATE TABLE "tags" ("id" uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY, "name" character varying, "books_count" integer DEFAULT 0)
;;
ALTER TABLE "books" ADD CONSTRAINT price_positive CHECK (price >= 0)
;;
SELECT 'float'::regtype::oid
;;
ALTER TABLE "publishers" ADD "rating" float DEFAULT 1.5
;;
ALTER TABLE "publishers" RENAME COLUMN "rating" TO "stars"
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'publishers'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT a.attnum, a.attname
FROM pg_attribute a
WHERE a.attrelid = 17950
AND a.attnum IN (2)
;;
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod,
       c.collname, col_description(a.attrelid, a.attnum) AS comment
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  LEFT JOIN pg_type t ON a.atttypid = t.oid
  LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
 WHERE a.attrelid = '"publishers"'::regclass
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
;;
UPDATE "publishers" SET "stars"=0.0 WHERE "stars" IS NULL
;;
ALTER TABLE "publishers" ALTER COLUMN "stars" SET NOT NULL
;;
CREATE INDEX CONCURRENTLY "index_tags_on_name" ON "tags" ("name")
;;
ALTER TABLE "publishers" ALTER COLUMN "stars" TYPE integer USING stars::integer
;;
ALTER TABLE "publishers" ALTER COLUMN "stars" SET DEFAULT 3
;;
ALTER TABLE "books_tags" ADD CONSTRAINT "fk_rails_a8df0c97a8"
FOREIGN KEY ("book_id")
  REFERENCES "books" ("id")
 NOT VALID
;;
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid
FROM pg_constraint c
JOIN pg_class t1 ON c.conrelid = t1.oid
JOIN pg_class t2 ON c.confrelid = t2.oid
JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid
JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid
JOIN pg_namespace t3 ON c.connamespace = t3.oid
WHERE c.contype = 'f'
  AND t1.relname = 'books_tags'
  AND t3.nspname = ANY (current_schemas(false))
ORDER BY c.conname
;;
ALTER TABLE "books_tags" VALIDATE CONSTRAINT "fk_rails_a8df0c97a8"
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'tags'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT a.attnum, a.attname
FROM pg_attribute a
WHERE a.attrelid = 17986
AND a.attnum IN (2)
;;
DROP INDEX  "index_tags_on_name"
;;
CREATE TABLE "extra" ("id" bigserial primary key, "wait" interval, "net" inet, "words" tsvector, "at" point, "flags" bit(3))
;;
ALTER TABLE "extra" RENAME TO "more"
;;
SELECT attr.attname, nsp.nspname, seq.relname
FROM pg_class      seq,
     pg_attribute  attr,
     pg_depend     dep,
     pg_constraint cons,
     pg_namespace  nsp
WHERE seq.oid           = dep.objid
  AND seq.relkind       = 'S'
  AND attr.attrelid     = dep.refobjid
  AND attr.attnum       = dep.refobjsubid
  AND attr.attrelid     = cons.conrelid
  AND attr.attnum       = cons.conkey[1]
  AND seq.relnamespace  = nsp.oid
  AND cons.contype      = 'p'
  AND dep.classid       = 'pg_class'::regclass
  AND dep.refobjid      = '"more"'::regclass
;;
ALTER INDEX "extra_pkey" RENAME TO "more_pkey"
;;
ALTER TABLE "public"."extra_id_seq" RENAME TO "more_id_seq"
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'more'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT 'boolean'::regtype::oid
;;
ALTER TABLE "more" ADD "a" character varying, ADD "b" boolean DEFAULT FALSE, DROP COLUMN "net"
;;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM books
;;
DROP TABLE "more" CASCADE
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'ar_internal_metadata' AND c.relkind IN ('r','p')
;;
CREATE TABLE "ar_internal_metadata" ("key" character varying NOT NULL PRIMARY KEY, "value" character varying, "created_at" timestamp(6) NOT NULL, "updated_at" timestamp(6) NOT NULL)
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'schema_migrations' AND c.relkind IN ('r','p')
;;
CREATE TABLE "schema_migrations" ("version" character varying NOT NULL PRIMARY KEY)
;;
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod,
       c.collname, col_description(a.attrelid, a.attnum) AS comment
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  LEFT JOIN pg_type t ON a.atttypid = t.oid
  LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
 WHERE a.attrelid = '"schema_migrations"'::regclass
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
;;
BEGIN
;;
INSERT INTO "schema_migrations" ("version") VALUES ($1) RETURNING "version"
;;
COMMIT
;;
SELECT a.attname
  FROM (
         SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx
           FROM pg_index
          WHERE indrelid = '"publishers"'::regclass
            AND indisprimary
       ) i
  JOIN pg_attribute a
    ON a.attrelid = i.indrelid
   AND a.attnum = i.indkey[i.idx]
 ORDER BY i.idx
;;
INSERT INTO "publishers" ("name", "slug", "created_at", "updated_at") VALUES ($1, $2, $3, $4) RETURNING "id"
;;
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod,
       c.collname, col_description(a.attrelid, a.attnum) AS comment
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  LEFT JOIN pg_type t ON a.atttypid = t.oid
  LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
 WHERE a.attrelid = '"tags"'::regclass
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
;;
SELECT a.attname
  FROM (
         SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx
           FROM pg_index
          WHERE indrelid = '"tags"'::regclass
            AND indisprimary
       ) i
  JOIN pg_attribute a
    ON a.attrelid = i.indrelid
   AND a.attnum = i.indkey[i.idx]
 ORDER BY i.idx
;;
INSERT INTO "tags" ("name") VALUES ($1) RETURNING "id"
;;
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod,
       c.collname, col_description(a.attrelid, a.attnum) AS comment
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  LEFT JOIN pg_type t ON a.atttypid = t.oid
  LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
 WHERE a.attrelid = '"books"'::regclass
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
;;
SELECT a.attname
  FROM (
         SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx
           FROM pg_index
          WHERE indrelid = '"books"'::regclass
            AND indisprimary
       ) i
  JOIN pg_attribute a
    ON a.attrelid = i.indrelid
   AND a.attnum = i.indkey[i.idx]
 ORDER BY i.idx
;;
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod,
       c.collname, col_description(a.attrelid, a.attnum) AS comment
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  LEFT JOIN pg_type t ON a.atttypid = t.oid
  LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
 WHERE a.attrelid = '"books_tags"'::regclass
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
;;
SELECT a.attname
  FROM (
         SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx
           FROM pg_index
          WHERE indrelid = '"books_tags"'::regclass
            AND indisprimary
       ) i
  JOIN pg_attribute a
    ON a.attrelid = i.indrelid
   AND a.attnum = i.indkey[i.idx]
 ORDER BY i.idx
;;
SELECT exists(
  SELECT * FROM pg_proc
  WHERE proname = 'lower'
    AND proargtypes = ARRAY['character varying'::regtype]::oidvector
) OR exists(
  SELECT * FROM pg_proc
  INNER JOIN pg_cast
    ON ARRAY[casttarget]::oidvector = proargtypes
  WHERE proname = 'lower'
    AND castsource = 'character varying'::regtype
)
;;
SELECT 1 AS one FROM "books" WHERE LOWER("books"."title") = LOWER($1) AND "books"."publisher_id" = $2 LIMIT $3
;;
INSERT INTO "books" ("publisher_id", "title", "price", "data", "created_at", "updated_at", "lock_version") VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING "id"
;;
INSERT INTO "books_tags" ("book_id", "tag_id") VALUES ($1, $2)
;;
UPDATE "publishers" SET "updated_at" = $1 WHERE "publishers"."id" = $2
;;
SELECT 1 AS one FROM "books" WHERE LOWER("books"."title") = LOWER($1) AND "books"."publisher_id" IS NULL LIMIT $2
;;
INSERT INTO "books" ("title", "span", "type", "created_at", "updated_at", "lock_version") VALUES ($1, $2, $3, $4, $5, $6) RETURNING "id"
;;
SELECT "books".* FROM "books" WHERE "books"."title" IN ($1, $2) AND "books"."state" = $3 AND "books"."price" IS NOT NULL ORDER BY "books"."price" DESC, "books"."title" ASC LIMIT $4 OFFSET $5
;;
SELECT "books".* FROM "books" WHERE (title ILIKE '%book%' OR data @> '{"n":1}' OR "books"."price" BETWEEN $1 AND $2)
;;
SELECT "books".* FROM "books"
;;
SHOW search_path
;;
SELECT DISTINCT "books".* FROM "books" INNER JOIN "publishers" ON "publishers"."id" = "books"."publisher_id" INNER JOIN "books_tags" ON "books_tags"."book_id" = "books"."id" INNER JOIN "tags" ON "tags"."id" = "books_tags"."tag_id" WHERE "publishers"."name" = $1
;;
SELECT books.*, COUNT(tags.id) AS n FROM "books" LEFT OUTER JOIN "books_tags" ON "books_tags"."book_id" = "books"."id" LEFT OUTER JOIN "tags" ON "tags"."id" = "books_tags"."tag_id" GROUP BY "books"."id" HAVING (COUNT(tags.id) > 1)
;;
SELECT "publishers".* FROM "publishers" WHERE "publishers"."id" IN ($1, $2, $3)
;;
SELECT "books_tags".* FROM "books_tags" WHERE "books_tags"."book_id" IN ($1, $2, $3, $4, $5, $6, $7)
;;
SELECT "tags".* FROM "tags" WHERE "tags"."id" IN ($1, $2)
;;
SELECT DISTINCT "books"."id" FROM "books" LEFT OUTER JOIN "books_tags" ON "books_tags"."book_id" = "books"."id" LEFT OUTER JOIN "tags" ON "tags"."id" = "books_tags"."tag_id" LIMIT $1
;;
SELECT "books"."id" AS t0_r0, "books"."publisher_id" AS t0_r1, "books"."title" AS t0_r2, "books"."state" AS t0_r3, "books"."price" AS t0_r4, "books"."data" AS t0_r5, "books"."tags" AS t0_r6, "books"."span" AS t0_r7, "books"."lock_version" AS t0_r8, "books"."type" AS t0_r9, "books"."created_at" AS t0_r10, "books"."updated_at" AS t0_r11, "tags"."id" AS t1_r0, "tags"."name" AS t1_r1, "tags"."books_count" AS t1_r2 FROM "books" LEFT OUTER JOIN "books_tags" ON "books_tags"."book_id" = "books"."id" LEFT OUTER JOIN "tags" ON "tags"."id" = "books_tags"."tag_id" WHERE "books"."id" = $1
;;
SELECT "publishers".* FROM "publishers" WHERE (stars > 1) AND "publishers"."id" IN (SELECT "books"."publisher_id" FROM "books")
;;
SELECT "publishers".* FROM "publishers" WHERE EXISTS (SELECT "books".* FROM "books" WHERE (publisher_id = publishers.id))
;;
SELECT name, top FROM "publishers" JOIN LATERAL (SELECT max(price) AS top FROM books WHERE publisher_id = publishers.id) t ON true
;;
SELECT "s"."double" FROM (SELECT price * 2 AS double FROM "books") s
;;
SELECT "books"."id", SUM("books"."price") OVER (PARTITION BY "books"."publisher_id" ORDER BY "books"."price" DESC) AS s FROM "books"
;;
SELECT "books".* FROM "books" ORDER BY data->>'n' NULLS LAST
;;
SELECT "books".* FROM "books" ORDER BY "books"."title" DESC
;;
SELECT "books".* FROM "books" WHERE "books"."type" = $1
;;
SELECT "books".* FROM "books" WHERE "books"."span" = $1
;;
SELECT "books".* FROM "books" FOR UPDATE
;;
SELECT "books".* FROM "books" INNER JOIN "publishers" ON "publishers"."id" = "books"."publisher_id" FOR SHARE OF books NOWAIT
;;
SELECT "books".* FROM "books" LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
;;
SELECT /*+ SeqScan(books) */ "books".* FROM "books" /* why * / not */
;;
SELECT COUNT(*) FROM "books"
;;
SELECT COUNT(DISTINCT "books"."publisher_id") FROM "books"
;;
SELECT SUM("books"."price") AS sum_price, "books"."state" AS books_state FROM "books" GROUP BY "books"."state"
;;
SELECT AVG("books"."price") FROM "books"
;;
SELECT MAX("books"."price") FROM "books"
;;
SELECT "books"."id", upper(title) FROM "books"
;;
SELECT "books"."id" FROM "books"
;;
SELECT 1 AS one FROM "books" WHERE "books"."title" = $1 LIMIT $2
;;
SELECT "books".* FROM "books" ORDER BY "books"."id" ASC LIMIT $1
;;
SELECT "books".* FROM "books" ORDER BY "books"."id" DESC LIMIT $1
;;
SELECT "books".* FROM "books" LIMIT $1
;;
SELECT "books".* FROM "books" WHERE "books"."title" = $1 LIMIT $2
;;
SELECT "books".* FROM "books" WHERE "books"."id" > $1 ORDER BY "books"."id" ASC LIMIT $2
;;
SELECT "books"."id" FROM "books" ORDER BY "books"."id" ASC LIMIT $1
;;
UPDATE "books" SET price = price + 1 WHERE "books"."id" IN ($1, $2, $3)
;;
SELECT "books"."id" FROM "books" WHERE "books"."id" > $1 ORDER BY "books"."id" ASC LIMIT $2
;;
UPDATE "books" SET price = price + 1 WHERE "books"."id" = $1
;;
SELECT "books".* FROM "books" WHERE "books"."price" = $1
;;
EXPLAIN SELECT "books".* FROM "books" WHERE "books"."price" = $1
;;
SELECT current_database()
;;
SELECT * FROM books WHERE price > 1
;;
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT n FROM t
;;
SELECT $1::int
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'books'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT a.attnum, a.attname
FROM pg_attribute a
WHERE a.attrelid = 17959
AND a.attnum IN (6)
;;
SELECT a.attnum, a.attname
FROM pg_attribute a
WHERE a.attrelid = 17959
AND a.attnum IN (2)
;;
INSERT INTO "books" ("title") VALUES ('i1'), ('i2') ON CONFLICT  DO NOTHING RETURNING "id","title"
;;
INSERT INTO "publishers" ("name","created_at","updated_at") VALUES ('Ace', '2026-11-23 13:33:47.008461', '2026-11-23 13:33:47.008463') ON CONFLICT ("name") DO UPDATE SET "created_at"=excluded."created_at","updated_at"=excluded."updated_at" RETURNING "id"
;;
INSERT INTO "publishers" ("name","created_at","updated_at") VALUES ('Ace', '2026-11-23 13:33:47.011055', '2026-11-23 13:33:47.011056') ON CONFLICT  DO NOTHING RETURNING "id"
;;
SELECT "publishers".* FROM "publishers" WHERE "publishers"."name" = $1 LIMIT $2
;;
INSERT INTO "publishers" ("name", "created_at", "updated_at") VALUES ($1, $2, $3) RETURNING "id"
;;
ROLLBACK
;;
SELECT "tags".* FROM "tags" INNER JOIN "books_tags" ON "tags"."id" = "books_tags"."tag_id" WHERE "books_tags"."book_id" = $1
;;
DELETE FROM "books_tags" WHERE "books_tags"."book_id" = $1 AND "books_tags"."tag_id" IN ($2, $3)
;;
SELECT 1 AS one FROM "books" WHERE LOWER("books"."title") = LOWER($1) AND "books"."id" != $2 AND "books"."publisher_id" = $3 LIMIT $4
;;
UPDATE "books" SET "title" = $1, "data" = $2, "updated_at" = $3, "lock_version" = $4 WHERE "books"."id" = $5 AND "books"."lock_version" = $6
;;
SELECT "publishers".* FROM "publishers" WHERE "publishers"."id" = $1 LIMIT $2
;;
UPDATE "books" SET "price" = COALESCE("price", 0) + $1, "lock_version" = COALESCE("lock_version", 0) + $2 WHERE "books"."id" = $3
;;
UPDATE "books" SET "updated_at" = $1, "lock_version" = $2 WHERE "books"."id" = $3 AND "books"."lock_version" = $4
;;
SELECT "books".* FROM "books" WHERE "books"."id" = $1 LIMIT $2 FOR UPDATE NOWAIT
;;
UPDATE "books" SET "state" = $1, "updated_at" = $2, "lock_version" = $3 WHERE "books"."id" = $4 AND "books"."lock_version" = $5
;;
SELECT "books".* FROM "books" WHERE "books"."id" = $1 LIMIT $2 FOR UPDATE
;;
UPDATE "books" SET "price" = $1, "lock_version" = COALESCE("lock_version", 0) + $2 WHERE "books"."id" IN (SELECT "books"."id" FROM "books" INNER JOIN "publishers" ON "publishers"."id" = "books"."publisher_id" WHERE "books"."publisher_id" = $3)
;;
DELETE FROM "books" WHERE "books"."id" IN (SELECT "books"."id" FROM "books" INNER JOIN "books_tags" ON "books_tags"."book_id" = "books"."id" INNER JOIN "tags" ON "tags"."id" = "books_tags"."tag_id" WHERE "tags"."id" = $1)
;;
DELETE FROM "books" WHERE "books"."id" IN (SELECT "books"."id" FROM "books" WHERE "books"."title" = $1 LIMIT $2)
;;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
;;
INSERT INTO "books" ("title", "created_at", "updated_at", "lock_version") VALUES ($1, $2, $3, $4) RETURNING "id"
;;
SAVEPOINT active_record_1
;;
ROLLBACK TO SAVEPOINT active_record_1
;;
SELECT "books".* FROM "books" WHERE "books"."publisher_id" = $1
;;
DELETE FROM "books_tags" WHERE "books_tags"."book_id" = $1
;;
DELETE FROM "books" WHERE "books"."id" = $1 AND "books"."lock_version" = $2
;;
DELETE FROM "publishers" WHERE "publishers"."id" = $1
;;
SELECT "publishers".* FROM "publishers" WHERE "publishers"."name" = $1
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r','p')
;;
ALTER TABLE "tags" DISABLE TRIGGER ALL;ALTER TABLE "books" DISABLE TRIGGER ALL;ALTER TABLE "publishers" DISABLE TRIGGER ALL;ALTER TABLE "books_tags" DISABLE TRIGGER ALL;ALTER TABLE "ar_internal_metadata" DISABLE TRIGGER ALL;ALTER TABLE "schema_migrations" DISABLE TRIGGER ALL
;;
TRUNCATE TABLE "publishers", "books", "books_tags"
;;
ALTER TABLE "tags" ENABLE TRIGGER ALL;ALTER TABLE "ar_internal_metadata" ENABLE TRIGGER ALL;ALTER TABLE "schema_migrations" ENABLE TRIGGER ALL;ALTER TABLE "publishers" ENABLE TRIGGER ALL;ALTER TABLE "books" ENABLE TRIGGER ALL;ALTER TABLE "books_tags" ENABLE TRIGGER ALL
;;
SELECT pg_try_advisory_lock(5)
;;
SELECT pg_advisory_unlock(5)
;;
SELECT attr.attname, nsp.nspname, seq.relname
FROM pg_class      seq,
     pg_attribute  attr,
     pg_depend     dep,
     pg_constraint cons,
     pg_namespace  nsp
WHERE seq.oid           = dep.objid
  AND seq.relkind       = 'S'
  AND attr.attrelid     = dep.refobjid
  AND attr.attnum       = dep.refobjsubid
  AND attr.attrelid     = cons.conrelid
  AND attr.attnum       = cons.conkey[1]
  AND seq.relnamespace  = nsp.oid
  AND cons.contype      = 'p'
  AND dep.classid       = 'pg_class'::regclass
  AND dep.refobjid      = '"publishers"'::regclass
;;
SELECT MAX("id") FROM "publishers"
;;
SELECT seqmin FROM pg_sequence WHERE seqrelid = '"public"."publishers_id_seq"'::regclass
;;
SELECT setval('"public"."publishers_id_seq"', 1, false)
;;
ALTER TABLE "tags" DISABLE TRIGGER ALL;ALTER TABLE "ar_internal_metadata" DISABLE TRIGGER ALL;ALTER TABLE "schema_migrations" DISABLE TRIGGER ALL;ALTER TABLE "publishers" DISABLE TRIGGER ALL;ALTER TABLE "books" DISABLE TRIGGER ALL;ALTER TABLE "books_tags" DISABLE TRIGGER ALL
;;
DELETE FROM "publishers"
;;
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid
FROM pg_constraint c
JOIN pg_class t1 ON c.conrelid = t1.oid
JOIN pg_class t2 ON c.confrelid = t2.oid
JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid
JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid
JOIN pg_namespace t3 ON c.connamespace = t3.oid
WHERE c.contype = 'f'
  AND t1.relname = 'tags'
  AND t3.nspname = ANY (current_schemas(false))
ORDER BY c.conname
;;
            SELECT conname, pg_get_constraintdef(c.oid) AS constraintdef, c.convalidated AS valid
            FROM pg_constraint c
            JOIN pg_class t ON c.conrelid = t.oid
            WHERE c.contype = 'c'
              AND t.relname = 'tags'
;;
SELECT pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'tags'
  AND c.relkind IN ('r','p')
  AND n.nspname = ANY (current_schemas(false))
;;
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod,
       c.collname, col_description(a.attrelid, a.attnum) AS comment
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  LEFT JOIN pg_type t ON a.atttypid = t.oid
  LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
 WHERE a.attrelid = '"ar_internal_metadata"'::regclass
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'ar_internal_metadata'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid
FROM pg_constraint c
JOIN pg_class t1 ON c.conrelid = t1.oid
JOIN pg_class t2 ON c.confrelid = t2.oid
JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid
JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid
JOIN pg_namespace t3 ON c.connamespace = t3.oid
WHERE c.contype = 'f'
  AND t1.relname = 'ar_internal_metadata'
  AND t3.nspname = ANY (current_schemas(false))
ORDER BY c.conname
;;
            SELECT conname, pg_get_constraintdef(c.oid) AS constraintdef, c.convalidated AS valid
            FROM pg_constraint c
            JOIN pg_class t ON c.conrelid = t.oid
            WHERE c.contype = 'c'
              AND t.relname = 'ar_internal_metadata'
;;
SELECT a.attname
  FROM (
         SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx
           FROM pg_index
          WHERE indrelid = '"ar_internal_metadata"'::regclass
            AND indisprimary
       ) i
  JOIN pg_attribute a
    ON a.attrelid = i.indrelid
   AND a.attnum = i.indkey[i.idx]
 ORDER BY i.idx
;;
SELECT pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'ar_internal_metadata'
  AND c.relkind IN ('r','p')
  AND n.nspname = ANY (current_schemas(false))
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'schema_migrations'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid
FROM pg_constraint c
JOIN pg_class t1 ON c.conrelid = t1.oid
JOIN pg_class t2 ON c.confrelid = t2.oid
JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid
JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid
JOIN pg_namespace t3 ON c.connamespace = t3.oid
WHERE c.contype = 'f'
  AND t1.relname = 'schema_migrations'
  AND t3.nspname = ANY (current_schemas(false))
ORDER BY c.conname
;;
            SELECT conname, pg_get_constraintdef(c.oid) AS constraintdef, c.convalidated AS valid
            FROM pg_constraint c
            JOIN pg_class t ON c.conrelid = t.oid
            WHERE c.contype = 'c'
              AND t.relname = 'schema_migrations'
;;
SELECT a.attname
  FROM (
         SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx
           FROM pg_index
          WHERE indrelid = '"schema_migrations"'::regclass
            AND indisprimary
       ) i
  JOIN pg_attribute a
    ON a.attrelid = i.indrelid
   AND a.attnum = i.indkey[i.idx]
 ORDER BY i.idx
;;
SELECT pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'schema_migrations'
  AND c.relkind IN ('r','p')
  AND n.nspname = ANY (current_schemas(false))
;;
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid
FROM pg_constraint c
JOIN pg_class t1 ON c.conrelid = t1.oid
JOIN pg_class t2 ON c.confrelid = t2.oid
JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid
JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid
JOIN pg_namespace t3 ON c.connamespace = t3.oid
WHERE c.contype = 'f'
  AND t1.relname = 'publishers'
  AND t3.nspname = ANY (current_schemas(false))
ORDER BY c.conname
;;
            SELECT conname, pg_get_constraintdef(c.oid) AS constraintdef, c.convalidated AS valid
            FROM pg_constraint c
            JOIN pg_class t ON c.conrelid = t.oid
            WHERE c.contype = 'c'
              AND t.relname = 'publishers'
;;
SELECT pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'publishers'
  AND c.relkind IN ('r','p')
  AND n.nspname = ANY (current_schemas(false))
;;
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid
FROM pg_constraint c
JOIN pg_class t1 ON c.conrelid = t1.oid
JOIN pg_class t2 ON c.confrelid = t2.oid
JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid
JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid
JOIN pg_namespace t3 ON c.connamespace = t3.oid
WHERE c.contype = 'f'
  AND t1.relname = 'books'
  AND t3.nspname = ANY (current_schemas(false))
ORDER BY c.conname
;;
            SELECT conname, pg_get_constraintdef(c.oid) AS constraintdef, c.convalidated AS valid
            FROM pg_constraint c
            JOIN pg_class t ON c.conrelid = t.oid
            WHERE c.contype = 'c'
              AND t.relname = 'books'
;;
SELECT pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'books'
  AND c.relkind IN ('r','p')
  AND n.nspname = ANY (current_schemas(false))
;;
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid,
                pg_catalog.obj_description(i.oid, 'pg_class') AS comment
FROM pg_class t
INNER JOIN pg_index d ON t.oid = d.indrelid
INNER JOIN pg_class i ON d.indexrelid = i.oid
LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE i.relkind IN ('i', 'I')
  AND d.indisprimary = 'f'
  AND t.relname = 'books_tags'
  AND n.nspname = ANY (current_schemas(false))
ORDER BY i.relname
;;
SELECT a.attnum, a.attname
FROM pg_attribute a
WHERE a.attrelid = 17982
AND a.attnum IN (1)
;;
            SELECT conname, pg_get_constraintdef(c.oid) AS constraintdef, c.convalidated AS valid
            FROM pg_constraint c
            JOIN pg_class t ON c.conrelid = t.oid
            WHERE c.contype = 'c'
              AND t.relname = 'books_tags'
;;
SELECT pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_class c
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'books_tags'
  AND c.relkind IN ('r','p')
  AND n.nspname = ANY (current_schemas(false))
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('v','m')
;;
SELECT extname FROM pg_extension
;;
SELECT nspname
  FROM pg_namespace
 WHERE nspname !~ '^pg_.*'
   AND nspname NOT IN ('information_schema')
 ORDER by nspname;
;;
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'books' AND c.relkind IN ('r','v','m','p','f')
;;
SET search_path TO public
;;
SET LOCAL statement_timeout = '1s'
;;
DEALLOCATE a1
;;
DEALLOCATE a2
;;
DEALLOCATE a3
;;
DEALLOCATE a4
;;
DEALLOCATE a5
;;
DEALLOCATE a6
;;
DEALLOCATE a7
;;
DEALLOCATE a8
;;
DEALLOCATE a9
;;
DEALLOCATE a10
;;
DEALLOCATE a11
;;
DEALLOCATE a12
;;
DEALLOCATE a13
;;
DEALLOCATE a14
;;
DEALLOCATE a15
;;
DEALLOCATE a16
;;
DISCARD ALL
;;
SELECT "schema_migrations"."version" FROM "schema_migrations" ORDER BY "schema_migrations"."version" ASC
;;
DROP TABLE "books_tags"
;;
DROP TABLE IF EXISTS "books" CASCADE
;;
