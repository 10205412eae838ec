-- Sent by sequelize 6.37.8, pg 8.23.1 to PostgreSQL 15.18, as its log has it; see programs/sequelize_app.js.
-- One statement per record, without duplicates; recorded by scripts/corpus sequelize.
;;
SET client_min_messages TO warning;SET TIME ZONE INTERVAL '+00:00' HOUR TO MINUTE;
;;
WITH ranges AS (  SELECT pg_range.rngtypid, pg_type.typname AS rngtypname,         pg_type.typarray AS rngtyparray, pg_range.rngsubtype    FROM pg_range LEFT OUTER JOIN pg_type ON pg_type.oid = pg_range.rngtypid)SELECT pg_type.typname, pg_type.typtype, pg_type.oid, pg_type.typarray,       ranges.rngtypname, ranges.rngtypid, ranges.rngtyparray  FROM pg_type LEFT OUTER JOIN ranges ON pg_type.oid = ranges.rngsubtype WHERE (pg_type.typtype IN('b', 'e'));
;;
CREATE EXTENSION IF NOT EXISTS citext
;;
CREATE SCHEMA IF NOT EXISTS "blog";
;;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_name = 'Users'
;;
SELECT t.typname enum_name, array_agg(e.enumlabel ORDER BY enumsortorder) enum_value FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = 'public' AND t.typname='enum_Users_mood' GROUP BY 1
;;
DO 'BEGIN CREATE TYPE "public"."enum_Users_mood" AS ENUM(''sad'', ''it''''s'', ''happy''); EXCEPTION WHEN duplicate_object THEN null; END';
;;
CREATE TABLE IF NOT EXISTS "public"."Users" ("id"   SERIAL , "name" VARCHAR(80) NOT NULL UNIQUE, "mood" "public"."enum_Users_mood" DEFAULT 'happy', "data" JSONB DEFAULT '{}', "tags" TEXT[], "key" UUID, "spans" int4range, "score" DECIMAL(10,2) DEFAULT 0 , "createdAt" TIMESTAMP WITH TIME ZONE NOT NULL, "updatedAt" TIMESTAMP WITH TIME ZONE NOT NULL, "deletedAt" TIMESTAMP WITH TIME ZONE, "version" INTEGER NOT NULL DEFAULT 0, "bossId" INTEGER REFERENCES "public"."Users" ("id") ON DELETE SET NULL ON UPDATE CASCADE, PRIMARY KEY ("id")); COMMENT ON COLUMN "public"."Users"."score" IS 'points';
;;
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a, pg_namespace s WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'Users' AND s.oid = t.relnamespace AND s.nspname = 'public' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname;
;;
CREATE INDEX "user_lower" ON "public"."Users" (lower("name"))
;;
CREATE INDEX "users_data" ON "public"."Users" USING gin ("data" jsonb_path_ops)
;;
CREATE INDEX "users_score" ON "public"."Users" ("score") WHERE "mood" = 'happy'
;;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'blog' AND table_name = 'posts'
;;
CREATE TABLE IF NOT EXISTS "blog"."posts" ("id"   SERIAL , "title" VARCHAR(255), "body" TEXT, "at" TIMESTAMP WITH TIME ZONE, "raw" BYTEA, "created_at" TIMESTAMP WITH TIME ZONE NOT NULL, "updated_at" TIMESTAMP WITH TIME ZONE NOT NULL, "author_id" INTEGER REFERENCES "public"."Users" ("id") ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY ("id"));
;;
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a, pg_namespace s WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'posts' AND s.oid = t.relnamespace AND s.nspname = 'blog' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname;
;;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'blog' AND table_name = 'tags'
;;
CREATE TABLE IF NOT EXISTS "blog"."tags" ("id"  BIGSERIAL , "name" CITEXT, PRIMARY KEY ("id"));
;;
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a, pg_namespace s WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'tags' AND s.oid = t.relnamespace AND s.nspname = 'blog' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname;
;;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'blog' AND table_name = 'post_tags'
;;
CREATE TABLE IF NOT EXISTS "blog"."post_tags" ("created_at" TIMESTAMP WITH TIME ZONE NOT NULL, "updated_at" TIMESTAMP WITH TIME ZONE NOT NULL, "post_id" INTEGER  REFERENCES "blog"."posts" ("id") ON DELETE CASCADE ON UPDATE CASCADE, "tag_id" BIGINT  REFERENCES "blog"."tags" ("id") ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY ("post_id","tag_id"));
;;
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a, pg_namespace s WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'post_tags' AND s.oid = t.relnamespace AND s.nspname = 'blog' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname;
;;
SELECT pk.constraint_type as "Constraint",c.column_name as "Field", c.column_default as "Default",c.is_nullable as "Null", (CASE WHEN c.udt_name = 'hstore' THEN c.udt_name ELSE c.data_type END) || (CASE WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' ELSE '' END) as "Type", (SELECT array_agg(e.enumlabel) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid=e.enumtypid WHERE t.typname=c.udt_name) AS "special", (SELECT pgd.description FROM pg_catalog.pg_statio_all_tables AS st INNER JOIN pg_catalog.pg_description pgd on (pgd.objoid=st.relid) WHERE c.ordinal_position=pgd.objsubid AND c.table_name=st.relname) AS "Comment" FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, cu.column_name, tc.constraint_type FROM information_schema.TABLE_CONSTRAINTS tc JOIN information_schema.KEY_COLUMN_USAGE  cu ON tc.table_schema=cu.table_schema and tc.table_name=cu.table_name and tc.constraint_name=cu.constraint_name and tc.constraint_type='PRIMARY KEY') pk ON pk.table_schema=c.table_schema AND pk.table_name=c.table_name AND pk.column_name=c.column_name WHERE c.table_name = 'Users' AND c.table_schema = 'public'
;;
SELECT DISTINCT tc.constraint_name as constraint_name, tc.constraint_schema as constraint_schema, tc.constraint_catalog as constraint_catalog, tc.table_name as table_name,tc.table_schema as table_schema,tc.table_catalog as table_catalog,tc.initially_deferred as initially_deferred,tc.is_deferrable as is_deferrable,kcu.column_name as column_name,ccu.table_schema  AS referenced_table_schema,ccu.table_catalog  AS referenced_table_catalog,ccu.table_name  AS referenced_table_name,ccu.column_name AS referenced_column_name FROM information_schema.table_constraints AS tc JOIN information_schema.key_column_usage AS kcu ON tc.constraint_name = kcu.constraint_name JOIN information_schema.constraint_column_usage AS ccu ON ccu.constraint_name = tc.constraint_name WHERE constraint_type = 'FOREIGN KEY' AND tc.table_name = 'Users' AND tc.table_catalog = 'sequelize' AND tc.table_schema = 'public'
;;
ALTER TABLE "public"."Users" ALTER COLUMN "name" SET NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "name" DROP DEFAULT;ALTER TABLE "public"."Users"  ADD UNIQUE ("name");ALTER TABLE "public"."Users" ALTER COLUMN "name" TYPE VARCHAR(80)  ;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "mood" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "mood" SET DEFAULT 'happy';DO 'BEGIN CREATE TYPE "public"."enum_Users_mood" AS ENUM(''sad'', ''it''''s'', ''happy''); EXCEPTION WHEN duplicate_object THEN null; END';ALTER TABLE "public"."Users" ALTER COLUMN "mood" TYPE "public"."enum_Users_mood" USING ("mood"::"public"."enum_Users_mood");
;;
ALTER TABLE "public"."Users" ALTER COLUMN "data" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "data" SET DEFAULT '{}';ALTER TABLE "public"."Users" ALTER COLUMN "data" TYPE JSONB;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "tags" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "tags" DROP DEFAULT;ALTER TABLE "public"."Users" ALTER COLUMN "tags" TYPE TEXT[];
;;
ALTER TABLE "public"."Users" ALTER COLUMN "key" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "key" DROP DEFAULT;ALTER TABLE "public"."Users" ALTER COLUMN "key" TYPE UUID;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "spans" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "spans" DROP DEFAULT;ALTER TABLE "public"."Users" ALTER COLUMN "spans" TYPE int4range;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "score" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "score" SET DEFAULT 0;ALTER TABLE "public"."Users" ALTER COLUMN "score" TYPE DECIMAL(10,2) ; COMMENT ON COLUMN "public"."Users"."score" IS 'points';
;;
ALTER TABLE "public"."Users" ALTER COLUMN "createdAt" SET NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "createdAt" DROP DEFAULT;ALTER TABLE "public"."Users" ALTER COLUMN "createdAt" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "updatedAt" SET NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "updatedAt" DROP DEFAULT;ALTER TABLE "public"."Users" ALTER COLUMN "updatedAt" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "deletedAt" DROP NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "deletedAt" DROP DEFAULT;ALTER TABLE "public"."Users" ALTER COLUMN "deletedAt" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "public"."Users" ALTER COLUMN "version" SET NOT NULL;ALTER TABLE "public"."Users" ALTER COLUMN "version" SET DEFAULT 0;ALTER TABLE "public"."Users" ALTER COLUMN "version" TYPE INTEGER;
;;
ALTER TABLE "public"."Users"  ADD FOREIGN KEY ("bossId") REFERENCES "public"."Users" ("id") ON DELETE SET NULL ON UPDATE CASCADE;
;;
SELECT DISTINCT tc.constraint_name as constraint_name, tc.constraint_schema as constraint_schema, tc.constraint_catalog as constraint_catalog, tc.table_name as table_name,tc.table_schema as table_schema,tc.table_catalog as table_catalog,tc.initially_deferred as initially_deferred,tc.is_deferrable as is_deferrable,kcu.column_name as column_name,ccu.table_schema  AS referenced_table_schema,ccu.table_catalog  AS referenced_table_catalog,ccu.table_name  AS referenced_table_name,ccu.column_name AS referenced_column_name FROM information_schema.table_constraints AS tc JOIN information_schema.key_column_usage AS kcu ON tc.constraint_name = kcu.constraint_name JOIN information_schema.constraint_column_usage AS ccu ON ccu.constraint_name = tc.constraint_name WHERE constraint_type = 'FOREIGN KEY' AND tc.table_name = 'posts' AND tc.table_catalog = 'sequelize' AND tc.table_schema = 'blog'
;;
SELECT pk.constraint_type as "Constraint",c.column_name as "Field", c.column_default as "Default",c.is_nullable as "Null", (CASE WHEN c.udt_name = 'hstore' THEN c.udt_name ELSE c.data_type END) || (CASE WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' ELSE '' END) as "Type", (SELECT array_agg(e.enumlabel) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid=e.enumtypid WHERE t.typname=c.udt_name) AS "special", (SELECT pgd.description FROM pg_catalog.pg_statio_all_tables AS st INNER JOIN pg_catalog.pg_description pgd on (pgd.objoid=st.relid) WHERE c.ordinal_position=pgd.objsubid AND c.table_name=st.relname) AS "Comment" FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, cu.column_name, tc.constraint_type FROM information_schema.TABLE_CONSTRAINTS tc JOIN information_schema.KEY_COLUMN_USAGE  cu ON tc.table_schema=cu.table_schema and tc.table_name=cu.table_name and tc.constraint_name=cu.constraint_name and tc.constraint_type='PRIMARY KEY') pk ON pk.table_schema=c.table_schema AND pk.table_name=c.table_name AND pk.column_name=c.column_name WHERE c.table_name = 'posts' AND c.table_schema = 'blog'
;;
ALTER TABLE "blog"."posts" ALTER COLUMN "title" DROP NOT NULL;ALTER TABLE "blog"."posts" ALTER COLUMN "title" DROP DEFAULT;ALTER TABLE "blog"."posts" ALTER COLUMN "title" TYPE VARCHAR(255);
;;
ALTER TABLE "blog"."posts" ALTER COLUMN "body" DROP NOT NULL;ALTER TABLE "blog"."posts" ALTER COLUMN "body" DROP DEFAULT;ALTER TABLE "blog"."posts" ALTER COLUMN "body" TYPE TEXT;
;;
ALTER TABLE "blog"."posts" ALTER COLUMN "at" DROP NOT NULL;ALTER TABLE "blog"."posts" ALTER COLUMN "at" DROP DEFAULT;ALTER TABLE "blog"."posts" ALTER COLUMN "at" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "blog"."posts" ALTER COLUMN "raw" DROP NOT NULL;ALTER TABLE "blog"."posts" ALTER COLUMN "raw" DROP DEFAULT;ALTER TABLE "blog"."posts" ALTER COLUMN "raw" TYPE BYTEA;
;;
ALTER TABLE "blog"."posts" ALTER COLUMN "created_at" SET NOT NULL;ALTER TABLE "blog"."posts" ALTER COLUMN "created_at" DROP DEFAULT;ALTER TABLE "blog"."posts" ALTER COLUMN "created_at" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "blog"."posts" ALTER COLUMN "updated_at" SET NOT NULL;ALTER TABLE "blog"."posts" ALTER COLUMN "updated_at" DROP DEFAULT;ALTER TABLE "blog"."posts" ALTER COLUMN "updated_at" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "blog"."posts"  ADD FOREIGN KEY ("author_id") REFERENCES "public"."Users" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
;;
SELECT DISTINCT tc.constraint_name as constraint_name, tc.constraint_schema as constraint_schema, tc.constraint_catalog as constraint_catalog, tc.table_name as table_name,tc.table_schema as table_schema,tc.table_catalog as table_catalog,tc.initially_deferred as initially_deferred,tc.is_deferrable as is_deferrable,kcu.column_name as column_name,ccu.table_schema  AS referenced_table_schema,ccu.table_catalog  AS referenced_table_catalog,ccu.table_name  AS referenced_table_name,ccu.column_name AS referenced_column_name FROM information_schema.table_constraints AS tc JOIN information_schema.key_column_usage AS kcu ON tc.constraint_name = kcu.constraint_name JOIN information_schema.constraint_column_usage AS ccu ON ccu.constraint_name = tc.constraint_name WHERE constraint_type = 'FOREIGN KEY' AND tc.table_name = 'tags' AND tc.table_catalog = 'sequelize' AND tc.table_schema = 'blog'
;;
SELECT pk.constraint_type as "Constraint",c.column_name as "Field", c.column_default as "Default",c.is_nullable as "Null", (CASE WHEN c.udt_name = 'hstore' THEN c.udt_name ELSE c.data_type END) || (CASE WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' ELSE '' END) as "Type", (SELECT array_agg(e.enumlabel) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid=e.enumtypid WHERE t.typname=c.udt_name) AS "special", (SELECT pgd.description FROM pg_catalog.pg_statio_all_tables AS st INNER JOIN pg_catalog.pg_description pgd on (pgd.objoid=st.relid) WHERE c.ordinal_position=pgd.objsubid AND c.table_name=st.relname) AS "Comment" FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, cu.column_name, tc.constraint_type FROM information_schema.TABLE_CONSTRAINTS tc JOIN information_schema.KEY_COLUMN_USAGE  cu ON tc.table_schema=cu.table_schema and tc.table_name=cu.table_name and tc.constraint_name=cu.constraint_name and tc.constraint_type='PRIMARY KEY') pk ON pk.table_schema=c.table_schema AND pk.table_name=c.table_name AND pk.column_name=c.column_name WHERE c.table_name = 'tags' AND c.table_schema = 'blog'
;;
ALTER TABLE "blog"."tags" ALTER COLUMN "name" DROP NOT NULL;ALTER TABLE "blog"."tags" ALTER COLUMN "name" DROP DEFAULT;ALTER TABLE "blog"."tags" ALTER COLUMN "name" TYPE CITEXT;
;;
SELECT pk.constraint_type as "Constraint",c.column_name as "Field", c.column_default as "Default",c.is_nullable as "Null", (CASE WHEN c.udt_name = 'hstore' THEN c.udt_name ELSE c.data_type END) || (CASE WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' ELSE '' END) as "Type", (SELECT array_agg(e.enumlabel) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid=e.enumtypid WHERE t.typname=c.udt_name) AS "special", (SELECT pgd.description FROM pg_catalog.pg_statio_all_tables AS st INNER JOIN pg_catalog.pg_description pgd on (pgd.objoid=st.relid) WHERE c.ordinal_position=pgd.objsubid AND c.table_name=st.relname) AS "Comment" FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, cu.column_name, tc.constraint_type FROM information_schema.TABLE_CONSTRAINTS tc JOIN information_schema.KEY_COLUMN_USAGE  cu ON tc.table_schema=cu.table_schema and tc.table_name=cu.table_name and tc.constraint_name=cu.constraint_name and tc.constraint_type='PRIMARY KEY') pk ON pk.table_schema=c.table_schema AND pk.table_name=c.table_name AND pk.column_name=c.column_name WHERE c.table_name = 'post_tags' AND c.table_schema = 'blog'
;;
SELECT DISTINCT tc.constraint_name as constraint_name, tc.constraint_schema as constraint_schema, tc.constraint_catalog as constraint_catalog, tc.table_name as table_name,tc.table_schema as table_schema,tc.table_catalog as table_catalog,tc.initially_deferred as initially_deferred,tc.is_deferrable as is_deferrable,kcu.column_name as column_name,ccu.table_schema  AS referenced_table_schema,ccu.table_catalog  AS referenced_table_catalog,ccu.table_name  AS referenced_table_name,ccu.column_name AS referenced_column_name FROM information_schema.table_constraints AS tc JOIN information_schema.key_column_usage AS kcu ON tc.constraint_name = kcu.constraint_name JOIN information_schema.constraint_column_usage AS ccu ON ccu.constraint_name = tc.constraint_name WHERE constraint_type = 'FOREIGN KEY' AND tc.table_name = 'post_tags' AND tc.table_catalog = 'sequelize' AND tc.table_schema = 'blog'
;;
ALTER TABLE "blog"."post_tags" ALTER COLUMN "created_at" SET NOT NULL;ALTER TABLE "blog"."post_tags" ALTER COLUMN "created_at" DROP DEFAULT;ALTER TABLE "blog"."post_tags" ALTER COLUMN "created_at" TYPE TIMESTAMP WITH TIME ZONE;
;;
ALTER TABLE "blog"."post_tags" ALTER COLUMN "updated_at" SET NOT NULL;ALTER TABLE "blog"."post_tags" ALTER COLUMN "updated_at" DROP DEFAULT;ALTER TABLE "blog"."post_tags" ALTER COLUMN "updated_at" TYPE TIMESTAMP WITH TIME ZONE;
;;
INSERT INTO "public"."Users" ("id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","version") VALUES (DEFAULT,'Ada','happy','{"n":0,"deep":{"a":[1]}}',ARRAY['t','Ada']::TEXT[],'70b6bf6f-1ea1-4f90-839e-d210c053ad40','[1,2)',0,'2026-11-23 13:33:43.385 +00:00','2026-11-23 13:33:43.385 +00:00',0),(DEFAULT,'O''Hara','happy','{"n":1,"deep":{"a":[1]}}',ARRAY['t','O''Hara']::TEXT[],'db82a060-ea16-440d-bd86-3edd71b527db','[1,3)',1,'2026-11-23 13:33:43.385 +00:00','2026-11-23 13:33:43.385 +00:00',0),(DEFAULT,'back\slash','happy','{"n":2,"deep":{"a":[1]}}',ARRAY['t','back\slash']::TEXT[],'8306300f-32ee-42ae-8ae0-3e7f93bfff39','[1,4)',2,'2026-11-23 13:33:43.385 +00:00','2026-11-23 13:33:43.385 +00:00',0),(DEFAULT,'q"','happy','{"n":3,"deep":{"a":[1]}}',ARRAY['t','q"']::TEXT[],'8ce5978d-6dee-4057-ab46-108fc61a5652','[1,5)',3,'2026-11-23 13:33:43.385 +00:00','2026-11-23 13:33:43.385 +00:00',0),(DEFAULT,'$1 ? :x','happy','{"n":4,"deep":{"a":[1]}}',ARRAY['t','$1 ? :x']::TEXT[],'63500644-6207-4740-96c4-c0575404d764','[1,6)',4,'2026-11-23 13:33:43.385 +00:00','2026-11-23 13:33:43.385 +00:00',0) RETURNING "id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","deletedAt","version","bossId";
;;
INSERT INTO "public"."Users" ("id","name","mood","data","key","score","createdAt","updatedAt","version") VALUES (DEFAULT,'Ada','happy','{}','65843d24-d68b-484a-aecd-51ef697f9931',5,'2026-11-23 13:33:43.395 +00:00','2026-11-23 13:33:43.395 +00:00',0) ON CONFLICT ("name") DO UPDATE SET "score"=EXCLUDED."score" RETURNING "id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","deletedAt","version","bossId";
;;
INSERT INTO "public"."Users" ("id","name","mood","data","key","score","createdAt","updatedAt","version") VALUES (DEFAULT,'Ada','happy','{}','ba40cae3-2700-42f2-9bd2-cc91f60ff30a',0,'2026-11-23 13:33:43.397 +00:00','2026-11-23 13:33:43.397 +00:00',0) ON CONFLICT DO NOTHING RETURNING "id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","deletedAt","version","bossId";
;;
INSERT INTO "blog"."posts" ("id","title","body","at","raw","created_at","updated_at","author_id") VALUES (DEFAULT,$1,$2,$3,$4,$5,$6,$7) RETURNING "id","title","body","at","raw","created_at","updated_at","author_id";
;;
INSERT INTO "blog"."tags" ("id","name") VALUES (DEFAULT,$1) RETURNING "id","name";
;;
SELECT "created_at" AS "createdAt", "updated_at" AS "updatedAt", "post_id" AS "postId", "tag_id" AS "tagId" FROM "blog"."post_tags" AS "post_tags" WHERE "post_tags"."post_id" = 1 AND "post_tags"."tag_id" IN ('1');
;;
INSERT INTO "blog"."post_tags" ("created_at","updated_at","post_id","tag_id") VALUES ('2026-11-23 13:33:43.410 +00:00','2026-11-23 13:33:43.410 +00:00',1,'1') RETURNING "created_at","updated_at","post_id","tag_id";
;;
INSERT INTO "blog"."tags" ("id","name") VALUES (DEFAULT,'x'),(DEFAULT,'y') RETURNING "id","name";
;;
SELECT "created_at" AS "createdAt", "updated_at" AS "updatedAt", "post_id" AS "postId", "tag_id" AS "tagId" FROM "blog"."post_tags" AS "post_tags" WHERE "post_tags"."post_id" = 1 AND "post_tags"."tag_id" IN ('2', '3');
;;
INSERT INTO "blog"."post_tags" ("created_at","updated_at","post_id","tag_id") VALUES ('2026-11-23 13:33:43.414 +00:00','2026-11-23 13:33:43.414 +00:00',1,'2'),('2026-11-23 13:33:43.414 +00:00','2026-11-23 13:33:43.414 +00:00',1,'3') RETURNING "created_at","updated_at","post_id","tag_id";
;;
SELECT "created_at" AS "createdAt", "updated_at" AS "updatedAt", "post_id" AS "postId", "tag_id" AS "tagId" FROM "blog"."post_tags" AS "post_tags" WHERE "post_tags"."post_id" = 1;
;;
DELETE FROM "blog"."post_tags" WHERE "post_id" = 1 AND "tag_id" IN ('1', '2', '3')
;;
UPDATE "public"."Users" SET "bossId"=$1,"updatedAt"=$2,"version"=$3 WHERE "id" = $4 AND "version" = $5
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND ("User"."name" LIKE 'A%' AND ("User"."score" BETWEEN 0 AND 9 AND "User"."score" != 3) AND "User"."mood" IN ('sad', 'happy')));
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND (("User"."name" ILIKE '%a' OR NOT ("User"."score" > 3)) AND ("User"."tags" @> ARRAY['t']::TEXT[] AND "User"."tags" && ARRAY['t']::TEXT[])));
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND ("User"."name" ~* '^a' AND "User"."name" NOT IN ('z') AND "User"."name" LIKE 'A%' AND "User"."name" = ANY (ARRAY['Ada'])));
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND ((CAST(("User"."data"#>>'{n}') AS DOUBLE PRECISION) = 1 AND ("User"."data"#>>'{deep,b}') = 'x') AND ("User"."spans" @> '2'::int4 AND "User"."spans" -|- '[5,9)')));
;;
SELECT "id", ("data"#>>'{deep,a,0}') AS "first" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND ("data"#>>'{n}') = '2');
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND char_length("name") > 2) ORDER BY "User"."score" DESC NULLS LAST, lower("name") ASC, random() LIMIT 2 OFFSET 1;
;;
SELECT "mood", COUNT("id") AS "n", sum(CAST("score" AS INTEGER)) AS "s" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL) GROUP BY "mood" HAVING count(*) > 0;
;;
SELECT "id", "name", "mood", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId", (SELECT count(*) FROM blog.posts p WHERE p.author_id = "User".id) AS "posts_n", rank() OVER (ORDER BY score) AS "r" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL);
;;
SELECT "User".*, "posts"."id" AS "posts.id", "posts"."title" AS "posts.title", "posts"."body" AS "posts.body", "posts"."at" AS "posts.at", "posts"."raw" AS "posts.raw", "posts"."created_at" AS "posts.createdAt", "posts"."updated_at" AS "posts.updatedAt", "posts"."author_id" AS "posts.author_id", "posts->tags"."id" AS "posts.tags.id", "posts->tags"."name" AS "posts.tags.name", "posts->tags->post_tags"."created_at" AS "posts.tags.post_tags.createdAt", "posts->tags->post_tags"."updated_at" AS "posts.tags.post_tags.updatedAt", "posts->tags->post_tags"."post_id" AS "posts.tags.post_tags.postId", "posts->tags->post_tags"."tag_id" AS "posts.tags.post_tags.tagId", "boss"."id" AS "boss.id", "boss"."name" AS "boss.name", "boss"."mood" AS "boss.mood", "boss"."data" AS "boss.data", "boss"."tags" AS "boss.tags", "boss"."key" AS "boss.key", "boss"."spans" AS "boss.spans", "boss"."score" AS "boss.score", "boss"."createdAt" AS "boss.createdAt", "boss"."updatedAt" AS "boss.updatedAt", "boss"."deletedAt" AS "boss.deletedAt", "boss"."version" AS "boss.version", "boss"."bossId" AS "boss.bossId" FROM (SELECT "User"."id", "User"."name", "User"."mood", "User"."data", "User"."tags", "User"."key", "User"."spans", "User"."score", "User"."createdAt", "User"."updatedAt", "User"."deletedAt", "User"."version", "User"."bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL) LIMIT 3) AS "User" LEFT OUTER JOIN "blog"."posts" AS "posts" ON "User"."id" = "posts"."author_id" AND "posts"."title" = 'First' LEFT OUTER JOIN ( "blog"."post_tags" AS "posts->tags->post_tags" INNER JOIN "blog"."tags" AS "posts->tags" ON "posts->tags"."id" = "posts->tags->post_tags"."tag_id") ON "posts"."id" = "posts->tags->post_tags"."post_id" LEFT OUTER JOIN "public"."Users" AS "boss" ON "User"."bossId" = "boss"."id" AND ("boss"."deletedAt" IS NULL);
;;
SELECT "User"."id", "User"."name", "User"."mood", "User"."data", "User"."tags", "User"."key", "User"."spans", "User"."score", "User"."createdAt", "User"."updatedAt", "User"."deletedAt", "User"."version", "User"."bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "boss"."name" = 'Ada');
;;
SELECT "User"."id", "User"."name", "User"."mood", "User"."data", "User"."tags", "User"."key", "User"."spans", "User"."score", "User"."createdAt", "User"."updatedAt", "User"."deletedAt", "User"."version", "User"."bossId", "boss"."id" AS "boss.id", "boss"."name" AS "boss.name", "boss"."mood" AS "boss.mood", "boss"."data" AS "boss.data", "boss"."tags" AS "boss.tags", "boss"."key" AS "boss.key", "boss"."spans" AS "boss.spans", "boss"."score" AS "boss.score", "boss"."createdAt" AS "boss.createdAt", "boss"."updatedAt" AS "boss.updatedAt", "boss"."deletedAt" AS "boss.deletedAt", "boss"."version" AS "boss.version", "boss"."bossId" AS "boss.bossId" FROM "public"."Users" AS "User" LEFT OUTER JOIN "public"."Users" AS "boss" ON "User"."bossId" = "boss"."id" AND ("boss"."deletedAt" IS NULL) WHERE ("User"."deletedAt" IS NULL AND "boss"."name" = 'Ada');
;;
SELECT count(DISTINCT("post"."id")) AS "count" FROM "blog"."posts" AS "post" RIGHT OUTER JOIN "public"."Users" AS "author" ON "post"."author_id" = "author"."id" AND ("author"."deletedAt" IS NULL);
;;
SELECT "post"."id", "post"."title", "post"."body", "post"."at", "post"."raw", "post"."created_at" AS "createdAt", "post"."updated_at" AS "updatedAt", "post"."author_id", "author"."id" AS "author.id", "author"."name" AS "author.name", "author"."mood" AS "author.mood", "author"."data" AS "author.data", "author"."tags" AS "author.tags", "author"."key" AS "author.key", "author"."spans" AS "author.spans", "author"."score" AS "author.score", "author"."createdAt" AS "author.createdAt", "author"."updatedAt" AS "author.updatedAt", "author"."deletedAt" AS "author.deletedAt", "author"."version" AS "author.version", "author"."bossId" AS "author.bossId" FROM "blog"."posts" AS "post" RIGHT OUTER JOIN "public"."Users" AS "author" ON "post"."author_id" = "author"."id" AND ("author"."deletedAt" IS NULL) LIMIT 1;
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE "User"."name" = 'Ada';
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "User"."id" = 1);
;;
SELECT count(DISTINCT("name")) AS "count" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "User"."mood" IS NULL);
;;
SELECT max("score") AS "max" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL);
;;
SELECT min("score") AS "min" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL);
;;
SELECT sum("score") AS "sum" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL);
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "User"."id" IN (SELECT author_id FROM blog.posts));
;;
SELECT * FROM "Users" WHERE name = 'A''b' AND id IN (1, 2)
;;
SELECT $1::text, $2::int
;;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type LIKE '%TABLE' AND table_name != 'spatial_ref_sys';
;;
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'Users' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname;
;;
UPDATE "public"."Users" SET "score"=score + 1,"updatedAt"=$1 WHERE ("deletedAt" IS NULL AND "name" = $2) RETURNING "id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","deletedAt","version","bossId"
;;
UPDATE "public"."Users" SET "score"="score"+ 2,"version"="version"+ 1,"updatedAt"='2026-11-23 13:33:43.482 +00:00' WHERE "id" = 1 RETURNING *
;;
UPDATE "public"."Users" SET "score"="score"- 1,"version"="version"- -1,"updatedAt"='2026-11-23 13:33:43.483 +00:00' WHERE "id" = 1 RETURNING *
;;
UPDATE "public"."Users" SET "data"=$1,"tags"=$2,"updatedAt"=$3,"version"=$4 WHERE "id" = $5 AND "version" = $6
;;
INSERT INTO "public"."Users" ("name","mood","data","key","score","version","createdAt","updatedAt") VALUES ($1,$2,$3,$4,$5,$6,$7,$8) ON CONFLICT ("name") DO UPDATE SET "name"=EXCLUDED."name","score"=EXCLUDED."score","updatedAt"=EXCLUDED."updatedAt" RETURNING "id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","deletedAt","version","bossId";
;;
START TRANSACTION;
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "User"."name" = 'New');
;;
CREATE OR REPLACE FUNCTION pg_temp.testfunc(OUT response "public"."Users", OUT sequelize_caught_exception text) RETURNS RECORD AS $func_9376acff681443238aaca5db3b2f0c59$ BEGIN INSERT INTO "public"."Users" ("id","name","mood","data","key","score","createdAt","updatedAt","version") VALUES (DEFAULT,'New','happy','{}','97023f82-81fd-47dc-9496-5b0b3ff86df7',1,'2026-11-23 13:33:43.493 +00:00','2026-11-23 13:33:43.493 +00:00',0) RETURNING * INTO response; EXCEPTION WHEN unique_violation THEN GET STACKED DIAGNOSTICS sequelize_caught_exception = PG_EXCEPTION_DETAIL; END $func_9376acff681443238aaca5db3b2f0c59$ LANGUAGE plpgsql; SELECT (testfunc.response)."id", (testfunc.response)."name", (testfunc.response)."mood", (testfunc.response)."data", (testfunc.response)."tags", (testfunc.response)."key", (testfunc.response)."spans", (testfunc.response)."score", (testfunc.response)."createdAt", (testfunc.response)."updatedAt", (testfunc.response)."deletedAt", (testfunc.response)."version", (testfunc.response)."bossId", testfunc.sequelize_caught_exception FROM pg_temp.testfunc(); DROP FUNCTION IF EXISTS pg_temp.testfunc();
;;
COMMIT;
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "User"."name" = 'Newer');
;;
INSERT INTO "public"."Users" ("id","name","mood","data","key","score","createdAt","updatedAt","version") VALUES (DEFAULT,$1,$2,$3,$4,$5,$6,$7,$8) RETURNING "id","name","mood","data","tags","key","spans","score","createdAt","updatedAt","deletedAt","version","bossId";
;;
UPDATE "public"."Users" SET "deletedAt"=$1,"updatedAt"=$2,"version"=$3 WHERE "id" = $4 AND "version" = $5
;;
DELETE FROM "public"."Users" WHERE "id" IN (SELECT "id" FROM "public"."Users" WHERE "score" < 0 LIMIT 1)
;;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
;;
SET CONSTRAINTS ALL DEFERRED
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL) FOR UPDATE;
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL) FOR SHARE;
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL) FOR KEY SHARE;
;;
SELECT "id", "name", "mood", "data", "tags", "key", "spans", "score", "createdAt", "updatedAt", "deletedAt", "version", "bossId" FROM "public"."Users" AS "User" WHERE ("User"."deletedAt" IS NULL) FOR NO KEY UPDATE;
;;
SELECT "User"."id", "User"."name", "User"."mood", "User"."data", "User"."tags", "User"."key", "User"."spans", "User"."score", "User"."createdAt", "User"."updatedAt", "User"."deletedAt", "User"."version", "User"."bossId", "posts"."id" AS "posts.id", "posts"."title" AS "posts.title", "posts"."body" AS "posts.body", "posts"."at" AS "posts.at", "posts"."raw" AS "posts.raw", "posts"."created_at" AS "posts.createdAt", "posts"."updated_at" AS "posts.updatedAt", "posts"."author_id" AS "posts.author_id" FROM "public"."Users" AS "User" INNER JOIN "blog"."posts" AS "posts" ON "User"."id" = "posts"."author_id" WHERE ("User"."deletedAt" IS NULL) FOR UPDATE SKIP LOCKED;
;;
SAVEPOINT "e4a9b962-f84c-4546-a926-5de2cb8b7a64-sp-1";
;;
ROLLBACK TO SAVEPOINT "e4a9b962-f84c-4546-a926-5de2cb8b7a64-sp-1";
;;
TRUNCATE "blog"."tags" RESTART IDENTITY CASCADE
;;
CREATE TABLE IF NOT EXISTS "extra" ("id"  SERIAL , "a" VARCHAR(255) DEFAULT 'x', PRIMARY KEY ("id"));
;;
DO 'BEGIN CREATE TYPE "public"."enum_extra_b" AS ENUM(''p'', ''q''); EXCEPTION WHEN duplicate_object THEN null; END';ALTER TABLE "public"."extra" ADD COLUMN "b" "public"."enum_extra_b";
;;
ALTER TABLE "extra" ALTER COLUMN "a" SET NOT NULL;ALTER TABLE "extra" ALTER COLUMN "a" SET DEFAULT 'y';ALTER TABLE "extra" ALTER COLUMN "a" TYPE TEXT;
;;
SELECT pk.constraint_type as "Constraint",c.column_name as "Field", c.column_default as "Default",c.is_nullable as "Null", (CASE WHEN c.udt_name = 'hstore' THEN c.udt_name ELSE c.data_type END) || (CASE WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' ELSE '' END) as "Type", (SELECT array_agg(e.enumlabel) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid=e.enumtypid WHERE t.typname=c.udt_name) AS "special", (SELECT pgd.description FROM pg_catalog.pg_statio_all_tables AS st INNER JOIN pg_catalog.pg_description pgd on (pgd.objoid=st.relid) WHERE c.ordinal_position=pgd.objsubid AND c.table_name=st.relname) AS "Comment" FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, cu.column_name, tc.constraint_type FROM information_schema.TABLE_CONSTRAINTS tc JOIN information_schema.KEY_COLUMN_USAGE  cu ON tc.table_schema=cu.table_schema and tc.table_name=cu.table_name and tc.constraint_name=cu.constraint_name and tc.constraint_type='PRIMARY KEY') pk ON pk.table_schema=c.table_schema AND pk.table_name=c.table_name AND pk.column_name=c.column_name WHERE c.table_name = 'extra' AND c.table_schema = 'public'
;;
ALTER TABLE "extra" RENAME COLUMN "a" TO "aa";
;;
CREATE UNIQUE INDEX CONCURRENTLY "extra_both" ON "extra" ("aa", "b")
;;
DROP INDEX IF EXISTS "extra_both"
;;
ALTER TABLE "extra" ADD CONSTRAINT "small" CHECK ("id" < 1000);
;;
ALTER TABLE "extra" ADD CONSTRAINT "same" FOREIGN KEY ("id") REFERENCES "Users" ("id") ON DELETE CASCADE;
;;
ALTER TABLE "extra" DROP CONSTRAINT "small"
;;
ALTER TABLE "public"."extra" DROP COLUMN "b";
;;
ALTER TABLE "extra" RENAME TO "more";
;;
CREATE FUNCTION twice(n integer) RETURNS integer AS $func$  BEGIN RETURN n * 2; END; $func$ language 'plpgsql';
;;
DROP FUNCTION twice(n integer) RESTRICT;
;;
DELETE FROM "more" WHERE "id" IN (1, 2)
;;
DROP TABLE IF EXISTS "more";
;;
DROP TABLE IF EXISTS "public"."Users" CASCADE;
;;
DROP TABLE IF EXISTS "blog"."posts" CASCADE;
;;
DROP TABLE IF EXISTS "blog"."tags" CASCADE;
;;
DROP TABLE IF EXISTS "blog"."post_tags" CASCADE;
;;
DROP SCHEMA IF EXISTS "blog" CASCADE;
;;
