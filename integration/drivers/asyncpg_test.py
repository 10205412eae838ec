"""asyncpg through the proxy: binary types, its own prepared statements, batches, COPY, cancel, errors, many tasks."""

import asyncio
import datetime
import decimal
import time
import uuid

import asyncpg

from check import SECONDS, URL, check, done


async def types(conn):
    for cast, value in [
        ("int", 42), ("bigint", -(2**40)), ("numeric", decimal.Decimal("12345.6789")), ("text", "größe '\\"),
        ("bytea", b"\x00\xff"), ("bool", True), ("float8", 1.5), ("text", None),
        ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")), ("date", datetime.date(2024, 2, 29)),
        ("timestamptz", datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)),
        ("int[]", [1, None, 3]), ("text[]", ["a", "b,c"]), ("jsonb", '{"a": 1}'),
    ]:
        check(await conn.fetchval(f"SELECT $1::{cast}", value), value, cast)


async def prepared(conn):
    statements = [await conn.prepare(f"SELECT {i} + $1::int") for i in range(30)]
    for _ in range(3):
        for i, statement in enumerate(statements):
            check(await statement.fetchval(1), i + 1, "prepared")


async def batches(conn):
    async with conn.transaction():
        await conn.execute("CREATE TEMP TABLE many (i int, t text) ON COMMIT DROP")
        await conn.executemany("INSERT INTO many VALUES ($1, $2)", [(i, str(i)) for i in range(1000)])
        check(await conn.fetchval("SELECT sum(i) FROM many"), 499500, "executemany")
        got = [r["i"] async for r in conn.cursor("SELECT i FROM many ORDER BY i", prefetch=100)]
        check(got, list(range(1000)), "a portal fetched a hundred rows at a time")
        await conn.copy_records_to_table("many", records=[(i, "c") for i in range(5000)])
        check(await conn.fetchval("SELECT count(*) FROM many"), 6000, "copy in")


async def failures(conn):
    for statement, error in [
        ("SELEC 1", asyncpg.PostgresSyntaxError),
        ("SELECT 1/0", asyncpg.DivisionByZeroError),
        ("SELECT * FROM no_such_table", asyncpg.UndefinedTableError),
    ]:
        try:
            await conn.fetch(statement)
            check("no error", error, statement)
        except error:
            check(await conn.fetchval("SELECT 1"), 1, f"after {statement}")
    try:
        await conn.fetchval("SELECT pg_sleep(20)", timeout=0.3)
        check("no error", "a timeout", "cancel")
    except asyncio.TimeoutError:
        check(await conn.fetchval("SELECT 2"), 2, "after a cancel")


async def one(n, until):
    conn = await asyncpg.connect(URL)
    while time.monotonic() < until:
        row = await conn.fetchrow("SELECT $1::int AS n, $2::text AS t", n, f"client {n}")
        if tuple(row) != (n, f"client {n}"):
            return (n, tuple(row))
    await conn.close()


async def main():
    conn = await asyncpg.connect(URL)
    for case in (types, prepared, batches, failures):
        await case(conn)
    await conn.close()
    until = time.monotonic() + SECONDS
    got = await asyncio.gather(*(one(n, until) for n in range(50)))
    check([g for g in got if g], [], "crowd")


asyncio.run(main())
done()
