"""Turns a server's JSON log into a corpus: every statement that a database or an application sent, in order, without
duplicates. Scripts named after the options are split and added.

    collect.py LOG [--database NAME] [--application NAME] --into CORPUS --header LINE... [SCRIPT...]
"""

import argparse
import json
import pathlib
import re
import sys

from split import SEPARATOR, records, split

MOST_BYTES = 300_000
SENT = re.compile(r"(?:statement|execute [^:]*): (.*)", re.S)


def sent(log, wanted):
    """The statements in a log."""
    for line in log.read_text("utf-8").splitlines():
        entry = json.loads(line)
        if all(entry.get(key) == value for key, value in wanted.items()):
            if m := SENT.fullmatch(entry.get("message", "")):
                yield m[1].rstrip("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=pathlib.Path)
    parser.add_argument("--database")
    parser.add_argument("--application")
    parser.add_argument("--into", type=pathlib.Path, required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("scripts", type=pathlib.Path, nargs="*")
    given = parser.parse_intermixed_args()
    wanted = {"dbname": given.database, "application_name": given.application}
    found = list(sent(given.log, {key: value for key, value in wanted.items() if value}))
    for script in given.scripts:
        found += split(script.read_text("utf-8"))
    statements = [s for s in dict.fromkeys(found) if s.strip() and SEPARATOR not in s.split("\n")]
    text = records(given.header, statements).encode()
    if len(text) > MOST_BYTES:
        sys.exit(f"{given.into}: {len(text)} bytes, more than {MOST_BYTES}")
    given.into.write_bytes(text)
    print(f"{given.into.name}: {len(statements)} statements")


if __name__ == "__main__":
    main()
