"""psycopg 3 through the proxy: types, prepared statements, pipelines, COPY, cancel, errors, many threads at once."""

import datetime
import decimal
import threading
import time
import uuid

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from check import SECONDS, URL, check, done


def types(conn):
    values = [
        42, -(2**40), decimal.Decimal("12345.678900"), "größe \u2603 'quoted' \\", b"\x00\x01\xff", True, None,
        1.5, uuid.UUID("12345678-1234-5678-1234-567812345678"), datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc), [1, 2, 3], ["a", None, "b,c"],
    ]
    for binary in (False, True):
        with conn.cursor(binary=binary) as cur:
            for value in values:
                cast = "::text" if value is None else "::text[]" if isinstance(value, list) and value[0] == "a" else ""
                check(cur.execute(f"SELECT %s{cast}", (value,)).fetchone()[0], value, f"{type(value)} binary={binary}")
            check(cur.execute("SELECT %s", (Jsonb({"a": [1, "x"]}),)).fetchone()[0], {"a": [1, "x"]}, "jsonb")


def prepared(conn):
    for i in range(30):
        check(conn.execute("SELECT %s::int + 1", (i,), prepare=True).fetchone()[0], i + 1, "prepared")
    for i in range(30):
        check(conn.execute(f"SELECT {i}, %s::text", ("x",), prepare=True).fetchone(), (i, "x"), "many prepared")


def pipeline(conn):
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(50)]
    check([c.fetchone()[0] for c in cursors], list(range(50)), "pipeline")
    try:
        with conn.pipeline() as p:
            conn.execute("SELECT 1")
            conn.execute("SELECT 1/0")
            conn.execute("SELECT 2")
            p.sync()
        check("no error", "an error", "pipeline with an error")
    except (errors.DivisionByZero, psycopg.errors.PipelineAborted):
        conn.rollback()
    check(conn.execute("SELECT 7").fetchone()[0], 7, "after a failed pipeline")
    with conn.cursor() as cur:
        cur.execute("CREATE TEMP TABLE many (i int, t text)")
        cur.executemany("INSERT INTO many VALUES (%s, %s)", [(i, str(i)) for i in range(500)])
        check(cur.execute("SELECT count(*), sum(i) FROM many").fetchone(), (500, 124750), "executemany")
        cur.execute("DROP TABLE many")


def copy(conn):
    with conn.transaction(), conn.cursor() as cur:
        cur.execute("CREATE TEMP TABLE copied (i int, t text) ON COMMIT DROP")
        with cur.copy("COPY copied FROM STDIN") as into:
            for i in range(5000):
                into.write_row((i, f"row {i}"))
        with cur.copy("COPY copied TO STDOUT") as out:
            rows = [row for row in out.rows()]
        check((len(rows), rows[4999]), (5000, ("4999", "row 4999")), "copy")
    try:
        with conn.transaction(), conn.cursor() as cur:
            cur.execute("CREATE TEMP TABLE bad (i int) ON COMMIT DROP")
            with cur.copy("COPY bad FROM STDIN") as into:
                into.write_row(("not a number",))
        check("no error", "an error", "bad copy")
    except errors.InvalidTextRepresentation:
        check(conn.execute("SELECT 1").fetchone()[0], 1, "after a bad copy")


def cancel(conn):
    timer = threading.Timer(0.3, conn.cancel_safe)
    timer.start()
    began = time.monotonic()
    try:
        conn.execute("SELECT pg_sleep(20)")
        check("no error", "an error", "cancel")
    except errors.QueryCanceled:
        check(time.monotonic() - began < 10, True, "cancelled in time")
    timer.join()
    conn.rollback()
    check(conn.execute("SELECT 1").fetchone()[0], 1, "after a cancel")


def failures(conn):
    for statement, error in [
        ("SELEC 1", errors.SyntaxError),
        ("SELECT 1/0", errors.DivisionByZero),
        ("SELECT * FROM no_such_table", errors.UndefinedTable),
        ("INSERT INTO organizations SELECT * FROM organizations", errors.Error),
    ]:
        try:
            conn.execute(statement)
            check("no error", error, statement)
        except error:
            check(conn.execute("SELECT 1").fetchone()[0], 1, f"after {statement}")
    with conn.transaction():
        conn.execute("SELECT 1")
        try:
            with conn.transaction():
                conn.execute("SELECT 1/0")
        except errors.DivisionByZero:
            pass
        check(conn.execute("SELECT 3").fetchone()[0], 3, "after a savepoint")


def notices(conn):
    heard = []
    conn.add_notice_handler(lambda n: heard.append(n.message_primary))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'hear me'; END $$")
    check(heard, ["hear me"], "notice")


def crowd():
    """Each of fifty clients gets its own answers, and nobody else's."""
    until = time.monotonic() + SECONDS
    failed = []

    def one(n):
        try:
            with psycopg.connect(URL, autocommit=True) as conn:
                while time.monotonic() < until:
                    got = conn.execute("SELECT %s::int, %s::text", (n, f"client {n}")).fetchone()
                    if got != (n, f"client {n}"):
                        failed.append((n, got))
        except Exception as e:  # whatever it is, it is a failure
            failed.append((n, repr(e)))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(50)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(failed, [], "crowd")


with psycopg.connect(URL, autocommit=True) as connection:
    for case in (types, prepared, pipeline, copy, cancel, failures, notices):
        case(connection)
crowd()
done()
