-- Sent by knex 3.3.0, pg 8.23.1 to PostgreSQL 15.18, as its log has it; see programs/knex_app.js.
-- One statement per record, without duplicates; recorded by scripts/corpus knex.
;;
select version();
;;
create schema if not exists "shop"
;;
create type "mood" as enum ('sad', 'happy')
;;
create table "person" ("id" serial primary key, "name" varchar(80) not null, "mood" "mood" default 'happy', "data" jsonb default '{}', "tags" text[], "key" uuid default (gen_random_uuid()), "parent_id" integer, "created_at" timestamptz not null default CURRENT_TIMESTAMP, "updated_at" timestamptz not null default CURRENT_TIMESTAMP, check (length("name") > 0))
;;
comment on column "person"."name" is 'who'
;;
alter table "person" add constraint "person_name_unique" unique ("name")
;;
alter table "person" add constraint "person_parent_id_foreign" foreign key ("parent_id") references "person" ("id") on delete SET NULL deferrable initially deferred 
;;
create index "person_both" on "person" ("name", "mood")
;;
create table "shop"."order" ("id" bigserial primary key, "person_id" integer, "total" decimal(10, 2) check ("total" > 0), "at" timestamptz(3) default CURRENT_TIMESTAMP(3), "paid" boolean default '0')
;;
alter table "shop"."order" add constraint "order_person_id_foreign" foreign key ("person_id") references "public"."person" ("id")
;;
alter table "person" add column "note" text null
;;
alter table "person" alter column "name" drop default
;;
alter table "person" alter column "name" drop not null
;;
alter table "person" alter column "name" type varchar(120) using ("name"::varchar(120))
;;
alter table "person" rename "key" to "uid"
;;
drop index "person_both"
;;
create index "person_lower" on "person" (lower(name)) where "note" is not null
;;
create view "happy" as select * from "person" where "mood" = 'happy'
;;
create materialized view "counted" as select count(*) as "n" from "person"
;;
refresh materialized view concurrently "counted"
;;
create table "copy" (like "person" including all)
;;
select * from information_schema.tables where table_name = $1 and table_schema = current_schema()
;;
select * from information_schema.columns where table_name = $1 and column_name = $2 and table_schema = current_schema()
;;
select * from information_schema.columns where table_name = $1 and table_catalog = current_database() and table_schema = current_schema()
;;
insert into "person" ("name", "note", "tags") values ($1, DEFAULT, $2), ($3, $4, DEFAULT), ($5, DEFAULT, DEFAULT)
;;
insert into "person" ("name") values ($1) on conflict ("name") do nothing
;;
insert into "person" ("name", "note") values ($1, $2) on conflict ("name") do update set "note" = excluded."note" where "person"."id" > $3 returning "id", "name"
;;
insert into "person" ("name", "note") values ($1, $2) on conflict (name) where note is not null do update set "name" = excluded."name", "note" = excluded."note"
;;
insert into copy (name, note) select "name", "note" from "person" returning "id"
;;
update "person" set "note" = upper(name) where "id" = $1 returning *
;;
update "person" as "p" set "note" = "p"."name" from "shop"."order" as "o" where o.person_id = p.id
;;
BEGIN;
;;
insert into "shop"."order" ("person_id", "total") values ($1, $2), ($3, $4)
;;
insert into "shop"."order" ("person_id", "total") values ($1, $2)
;;
COMMIT;
;;
delete from "shop"."order" where "total" > $1 returning "id"
;;
delete from "shop"."order" as "o" using "person" as "p" where p.id = o.person_id
;;
BEGIN TRANSACTION ISOLATION LEVEL repeatable read;
;;
select * from "person" where "id" = $1 for update skip locked
;;
select * from "person" for share nowait
;;
select * from "person" limit $1 for no key update of "person"
;;
select * from "person" for key share
;;
SAVEPOINT trx4;
;;
insert into "person" ("name") values ($1)
;;
ROLLBACK TO SAVEPOINT trx4
;;
select pg_advisory_xact_lock($1)
;;
set local lock_timeout = '1s'
;;
BEGIN TRANSACTION READ ONLY;
;;
select * from "person"
;;
lock table "person" in share mode
;;
truncate "copy" restart identity
;;
select * from "person" where "name" = $1 and "mood" = $2 or "id" > $3 order by "name" desc nulls last
;;
select sum("total") as "s" from "shop"."order" group by "person_id" having sum(total) > $1
;;
select * from "person" where "id" in ($1, $2) and "name" is not null and "id" between $3 and $4 limit $5 offset $6
;;
select * from "person" where "name" like $1 and "name" ilike $2 and not "id" = $3 limit $4
;;
select * from "person" where ("id", "name") in (($1, $2), ($3, $4))
;;
select * from "person" where exists (select * from "shop"."order" where person_id = person.id)
;;
select * from "person" where data @> $1 and jsonb_path_query_first("data", $2) #>> '{}' > $3
;;
select jsonb_path_query("data", $1) as "a" from "person" where "data" @> $2
;;
select "person"."id", "o"."total" from "person" inner join "shop"."order" as "o" on "o"."person_id" = "person"."id" left join "person" as "q" on "q"."id" = "person"."parent_id" and "q"."mood" = $1
;;
select count("b"."id") as "n" from "person" cross join "person" as "b" full outer join "person" as "c" on "c"."id" = "b"."id"
;;
select "person_id", row_number() over (partition by "person_id" order by "at") as "r", rank() over (order by "total") as "k" from "shop"."order"
;;
select avg("total"), max("at"), count(distinct "person_id") from "shop"."order" group by rollup (paid)
;;
select distinct on ("mood") * from "person" order by "mood" asc, "id" desc
;;
(select "name" from "person") union (select "note" from "person") union (select $1::text from "person") union all select "name" from "person" limit $2
;;
select "id" from "person" intersect select "parent_id" from "person" except select "id" from "person" where "id" = $1
;;
with "w" as (select * from "person" where "id" < $1), "x"("n") as (select 1) select * from "w" inner join "x" on true
;;
with recursive "t"("id", "up") as (select "id", "parent_id" from "person" where "parent_id" is null union all select "person"."id", "person"."parent_id" from "person" inner join "t" on "t"."id" = "person"."parent_id") select * from "t"
;;
with "m" as materialized (select * from "person") select * from "m"
;;
with "gone" as (delete from "copy" where "id" = $1 returning "id") select * from "gone"
;;
with "new" as (insert into "copy" ("name") values ($1) returning *) select "name" from "new"
;;
select generate_series(1, 3) as g, coalesce(nullif($1, ''), 'y')
;;
select (select count(*) from "person") as "n", "s"."name" from (select * from "person") as "s"
;;
update "person" set "parent_id" = "parent_id" + $1 where "id" = $2
;;
select "name" from "person"
;;
select max("id") from "person"
;;
create table "knex_migrations" ("id" serial primary key, "name" varchar(255), "batch" integer, "migration_time" timestamptz)
;;
create table "knex_migrations_lock" ("index" serial primary key, "is_locked" integer)
;;
select * from "knex_migrations_lock"
;;
insert into "knex_migrations_lock" ("is_locked") values ($1)
;;
select "name" from "knex_migrations" order by "id" asc
;;
update "knex_migrations_lock" set "is_locked" = $1 where "is_locked" = $2
;;
select max("batch") as "max_batch" from "knex_migrations"
;;
create table "m" ("id" serial primary key)
;;
insert into "knex_migrations" ("batch", "migration_time", "name") values ($1, $2, $3)
;;
update "knex_migrations_lock" set "is_locked" = $1
;;
select * from "knex_migrations" where "batch" = (select max("batch") from "knex_migrations") order by "id" desc
;;
drop table "m"
;;
delete from "knex_migrations" where "name" = $1
;;
alter table "copy" rename to "copied"
;;
drop materialized view "counted"
;;
drop view if exists "happy"
;;
alter table "person" drop column "note"
;;
alter table "person" drop constraint "person_name_unique"
;;
alter table "person" drop constraint "person_parent_id_foreign"
;;
alter table "person" drop constraint "person_pkey"
;;
drop table if exists "copied"
;;
drop schema if exists "shop" cascade
;;
drop table person cascade
;;
