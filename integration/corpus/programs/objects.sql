-- A database with some of everything, for what psql's listing commands and pg_dump make of it.
CREATE ROLE corpus_reader NOLOGIN;
CREATE ROLE corpus_writer LOGIN CONNECTION LIMIT 5 IN ROLE corpus_reader;
ALTER ROLE corpus_writer SET statement_timeout = '1min';
COMMENT ON DATABASE objects IS 'some of everything';
ALTER DATABASE objects SET work_mem = '8MB';
CREATE SCHEMA shop AUTHORIZATION corpus_writer;
CREATE SCHEMA "Odd Schema";
CREATE EXTENSION hstore WITH SCHEMA shop;
CREATE EXTENSION postgres_fdw;
CREATE COLLATION shop.german (provider = icu, locale = 'de-u-co-phonebk');
CREATE TYPE shop.mood AS ENUM ('sad', 'it''s ok', 'happy');
CREATE TYPE shop.pair AS (a int, b text COLLATE "C");
CREATE TYPE shop.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN shop.price AS numeric(10, 2) DEFAULT 0 NOT NULL CONSTRAINT positive CHECK (value >= 0);
CREATE SEQUENCE shop.spare AS smallint INCREMENT BY 5 MINVALUE -10 MAXVALUE 100 START 7 CYCLE CACHE 3;
CREATE FUNCTION shop.double(int) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql RETURN $1 * 2;
CREATE FUNCTION shop.both(IN a int, OUT b int, INOUT c text DEFAULT 'x''y', VARIADIC d int[] DEFAULT '{}') LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = shop, pg_temp COST 7 AS $body$ BEGIN b := a; c := $$;$$; END $body$;
CREATE FUNCTION shop.items() RETURNS TABLE (id int, name text) ROWS 5 BEGIN ATOMIC SELECT 1, 'one'; SELECT CASE WHEN true THEN 2 END, 'two'; END;
CREATE PROCEDURE shop.tidy(n int) LANGUAGE sql AS 'SELECT n';
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changed := now(); RETURN NEW; END';
CREATE FUNCTION shop.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE AGGREGATE shop.total (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE OPERATOR shop.@+ (function = int4pl, leftarg = int, rightarg = int);
CREATE CAST (shop.pair AS text) WITH INOUT AS ASSIGNMENT;
CREATE OPERATOR CLASS shop.backwards FOR TYPE int USING btree AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
CREATE CONVERSION shop.mine FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY shop.short (TEMPLATE = simple, stopwords = 'english');
CREATE TEXT SEARCH CONFIGURATION shop.search (COPY = english);
ALTER TEXT SEARCH CONFIGURATION shop.search ALTER MAPPING FOR asciiword WITH shop.short;
CREATE TABLE shop.customer (
    id int GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY,
    name text NOT NULL COLLATE "C" UNIQUE NULLS NOT DISTINCT,
    mood shop.mood DEFAULT 'happy',
    worth shop.price,
    facts shop.hstore,
    data jsonb DEFAULT '{"a": [1, 2]}'::jsonb,
    twice int GENERATED ALWAYS AS (shop.double(3)) STORED,
    changed timestamptz DEFAULT now(),
    EXCLUDE USING gist (int4range(length(name), 1000) WITH &&) WHERE (name = 'never')
) WITH (fillfactor = 80);
CREATE TABLE "Odd Schema"."Odd ""Table""" (
    "select" serial, "a b" text[] DEFAULT ARRAY['x', NULL], customer_id int
        REFERENCES shop.customer ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY ("select") INCLUDE ("a b"), CHECK ("select" > 0) NOT VALID
);
CREATE TABLE shop.event (at timestamptz NOT NULL, kind text, n bigint, raw bytea, b bit(3)) PARTITION BY RANGE (at);
CREATE TABLE shop.event_2023 PARTITION OF shop.event FOR VALUES FROM ('2023-01-01') TO ('2024-01-01') PARTITION BY LIST (kind);
CREATE TABLE shop.event_2023_a PARTITION OF shop.event_2023 FOR VALUES IN ('a', NULL);
CREATE TABLE shop.event_rest PARTITION OF shop.event DEFAULT;
CREATE TABLE shop.hashed (k int) PARTITION BY HASH (k);
CREATE TABLE shop.hashed_0 PARTITION OF shop.hashed FOR VALUES WITH (modulus 1, remainder 0);
CREATE TABLE shop.parent (a int);
CREATE TABLE shop.child (b int) INHERITS (shop.parent);
CREATE UNLOGGED TABLE shop.quick (LIKE shop.parent INCLUDING ALL, f float8, d date, i interval, m money, p point, x xml, u uuid, net inet, v tsvector);
CREATE INDEX ON shop.event (at DESC NULLS LAST, lower(kind));
CREATE UNIQUE INDEX customer_lower ON shop.customer (lower(name)) INCLUDE (mood) WHERE mood <> 'sad';
CREATE INDEX customer_data ON shop.customer USING gin (data jsonb_path_ops) WITH (fastupdate = off);
CREATE STATISTICS shop.related (dependencies, ndistinct) ON name, mood FROM shop.customer;
ALTER TABLE shop.customer ALTER name SET STATISTICS 200, ALTER name SET STORAGE external, CLUSTER ON customer_pkey, REPLICA IDENTITY FULL;
CREATE VIEW shop.happy WITH (security_barrier) AS
    SELECT c.id, c.name, count(o.*) FILTER (WHERE o."select" > 1) AS n, rank() OVER (ORDER BY c.id) FROM shop.customer c
    LEFT JOIN "Odd Schema"."Odd ""Table""" o ON o.customer_id = c.id WHERE c.mood = 'happy' GROUP BY c.id, c.name;
CREATE VIEW shop.named AS SELECT id, name FROM shop.customer WHERE name <> '' WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW shop.counted (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counted WHERE n < 5;
CREATE MATERIALIZED VIEW shop.sums AS SELECT kind, sum(n) FROM shop.event GROUP BY ROLLUP (kind) WITH NO DATA;
CREATE UNIQUE INDEX ON shop.sums (kind);
CREATE RULE quiet AS ON INSERT TO shop.named WHERE new.name = 'quiet' DO INSTEAD (UPDATE shop.customer SET name = name; DELETE FROM shop.child);
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF name ON shop.customer FOR EACH ROW WHEN (NEW.name IS NOT NULL) EXECUTE FUNCTION shop.stamp('a', 'it''s');
CREATE CONSTRAINT TRIGGER late AFTER DELETE ON shop.customer DEFERRABLE FOR EACH ROW EXECUTE FUNCTION shop.stamp();
ALTER TABLE shop.customer DISABLE TRIGGER late;
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION shop.watch();
ALTER TABLE shop.customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.customer AS RESTRICTIVE FOR UPDATE TO corpus_writer USING (name = current_user) WITH CHECK (id > 0);
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'localhost', dbname 'far');
CREATE USER MAPPING FOR corpus_writer SERVER far OPTIONS (user 'u', password 'p''w');
CREATE FOREIGN TABLE shop.far (a int OPTIONS (column_name 'A'), b text) SERVER far OPTIONS (schema_name 's');
CREATE PUBLICATION several FOR TABLE shop.customer WHERE (id > 1), TABLES IN SCHEMA "Odd Schema" WITH (publish = 'insert');
CREATE PUBLICATION columns FOR TABLE shop.parent (a);
CREATE PUBLICATION whole FOR ALL TABLES;
CREATE SUBSCRIPTION never CONNECTION 'dbname=far' PUBLICATION several WITH (connect = false, slot_name = NONE);
CREATE LANGUAGE corpus_sql HANDLER plpgsql_call_handler;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal));
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
GRANT USAGE ON SCHEMA shop TO corpus_reader;
GRANT SELECT, UPDATE (name, mood) ON shop.customer TO corpus_reader WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION shop.double(int) TO corpus_writer;
REVOKE ALL ON FUNCTION shop.double(int) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO corpus_reader;
COMMENT ON TABLE shop.customer IS 'who''s who';
COMMENT ON COLUMN shop.customer.name IS E'two\nlines';
COMMENT ON CONSTRAINT customer_pkey ON shop.customer IS 'key';
COMMENT ON FUNCTION shop.double(int) IS 'twice';
COMMENT ON TRIGGER stamp ON shop.customer IS 'when';
INSERT INTO shop.customer (name, worth, facts) VALUES ('Ada', 12.5, 'a=>1, b=>NULL'), ('O''Hara; --', 0, NULL), (E'back\\slash\ttab', 1, '');
INSERT INTO "Odd Schema"."Odd ""Table""" ("a b", customer_id) VALUES (ARRAY['p,q', '"r"'], 100), (NULL, NULL);
INSERT INTO shop.event VALUES ('2023-05-05', 'a', 1, '\x00ff', B'101'), ('2024-05-05', NULL, -9223372036854775808, NULL, NULL);
INSERT INTO shop.quick VALUES (1, 'NaN', 'infinity', '1 year 2 days', 5, '(1,2)', '<a b="c">&amp;</a>', gen_random_uuid(), '10.0.0.0/8', 'fat:2 cat:3');
INSERT INTO shop.hashed SELECT generate_series(1, 5);
SELECT lo_create(424242);
SELECT lo_put(424242, 0, '\x414243');
GRANT SELECT ON LARGE OBJECT 424242 TO corpus_reader;
REFRESH MATERIALIZED VIEW shop.sums;
ANALYZE;
