"""Turns a server's JSON log into a corpus: every statement that one database was sent, in order, without duplicates.

    collect.py LOG DATABASE CORPUS HEADER-LINE...
"""

import json
import pathlib
import re
import sys

from split import SEPARATOR, records

MOST_BYTES = 300_000
SENT = re.compile(r"(?:statement|execute [^:]*): (.*)", re.S)


def sent(log, database):
    """The statements in a log."""
    for line in log.read_text("utf-8").splitlines():
        entry = json.loads(line)
        m = SENT.fullmatch(entry.get("message", "")) if entry.get("dbname") == database else None
        if m and SEPARATOR not in m[1].split("\n"):
            yield m[1].rstrip("\n")


def main(log, database, corpus, *header):
    statements = list(dict.fromkeys(s for s in sent(pathlib.Path(log), database) if s.strip()))
    text = records(header, statements)
    if len(text.encode()) > MOST_BYTES:
        sys.exit(f"{corpus}: {len(text.encode())} bytes, more than {MOST_BYTES}")
    pathlib.Path(corpus).write_text(text, "utf-8")
    print(f"{corpus}: {len(statements)} statements")


if __name__ == "__main__":
    main(*sys.argv[1:])
