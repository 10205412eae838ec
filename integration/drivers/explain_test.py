"""EXPLAIN (ROUTE) through psycopg 3: every way that it sends statements, with values bound by the client."""

import psycopg
from psycopg import errors

from check import URL, check, done


def lines(cursor):
    return [row[0] for row in cursor.fetchall()]


def ways(conn):
    sql = "EXPLAIN (ROUTE, ANALYZE) SELECT g, %s::text FROM generate_series(1, %s) g, pg_sleep(0.05)"
    for binary in (False, True):
        for prepare in (False, True):
            with conn.cursor(binary=binary) as cur:
                for n in (3, 5, 7):
                    said = lines(cur.execute(sql, ("x", n), prepare=prepare))
                    check(cur.description[0].name, "QUERY PLAN", "one column")
                    check(any(f"{n} rows" in line for line in said), True, f"{n} rows of {said}")
                    backend = next(line for line in said if "Backend:" in line)
                    check(float(backend.split()[1]) >= 50, True, backend)
    with psycopg.ClientCursor(conn) as cur:
        said = lines(cur.execute(sql, ("x", 3)))
        check(any("3 rows" in line for line in said), True, "values in the text")


def json(conn):
    row = conn.execute("EXPLAIN (ROUTE, ANALYZE, FORMAT JSON) SELECT %s::int", (1,)).fetchone()
    check(row[0][0]["Spent"]["Rows"], 1, "JSON")


def pipeline(conn):
    with conn.pipeline():
        cursors = [conn.execute("EXPLAIN (ROUTE, ANALYZE) SELECT %s::int", (i,)) for i in range(5)]
        last = conn.execute("SELECT 'last'")
    for cursor in cursors:
        check(any("1 rows" in line for line in lines(cursor)), True, "in a pipeline")
    check(last.fetchone()[0], "last", "after them")


def failures(conn):
    for sql, values, error in [
        ("EXPLAIN (ROUTE, ANALYZE) SELECT 1 / %s::int", (0,), errors.DivisionByZero),
        ("EXPLAIN (ROUTE, ANALYZE) SELECT %s FROM nowhere", (0,), errors.UndefinedTable),
        ("EXPLAIN (ROUTE, ANALYZE) SELEC %s", (0,), psycopg.Error),
        ("EXPLAIN (ROUTE, FORMAT XML) SELECT %s", (0,), psycopg.Error),
    ]:
        try:
            conn.execute(sql, values)
            check("no error", error, sql)
        except error:
            conn.rollback()
    check(conn.execute("SELECT 1").fetchone()[0], 1, "after them")


with psycopg.connect(URL) as conn:
    for case in (ways, json, pipeline, failures):
        case(conn)
done()
