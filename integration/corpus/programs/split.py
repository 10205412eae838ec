"""Splits psql scripts into the statements that psql would send, one record each: it ends with a line that is just `;;`.

    split.py FILE...              records on standard output
    split.py --into DIR FILE...   a file of records for each, all of them without duplicates

Statements with psql's variables in them are left out; what a COPY FROM STDIN is fed with is skipped.
"""

import pathlib
import re
import sys

SEPARATOR = ";;"

TOKEN = re.compile(
    r"""
      (?P<line_comment>--[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\xff][\w$\x80-\xff]*)
    | (?P<number>[0-9][\w.$]*)
    | (?P<cast>::|:=)
    | (?P<variable>:(?:['"][^'"\n]*['"]|\{\?\w+\}|[A-Za-z_]\w*))
    | (?P<kept_semicolon>\\;)
    | (?P<command>\\[^\n]*)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.X | re.S,
)

# Commands that send what was typed before them.
SENDING = re.compile(r"\\(g|gset|gexec|gdesc|gx|crosstabview|watch|bind)\b")
# The grammar takes STDOUT for the same.
COPY_IN = re.compile(r"\bcopy\b[^;]*\bfrom\s+std(?:in|out)\b", re.I)
CONFORMING = re.compile(
    r"(set|reset)\s+(?:local\s+|session\s+)?standard_conforming_strings\b(?:\s*(?:=|to)\s*(\w+))?", re.I
)
BACKSLASHES = re.compile(r"'(?:[^'\\]|\\.|'')*(?:'|\Z)", re.S)
SQL_LINE = re.compile(
    r"\s*(--|(copy|select|create|insert|drop|alter|begin|commit|rollback|set|delete|update)\b.*;\s*$)", re.I
)


def end_of_comment(text, at):
    """Where the comment that begins at `at` ends: they nest."""
    depth = 0
    for m in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if m[0] == "/*" else -1
        if depth == 0:
            return m.end()
    return len(text)


def after_copy_data(text, at):
    """Where to go on after a COPY FROM STDIN whose statement ends at `at`: nothing is skipped where no data follows,
    because the statement was meant to fail."""
    line_end = text.find("\n", at)
    if line_end < 0:
        return at
    here = line_end + 1
    while here < len(text):
        end = text.find("\n", here)
        end = len(text) if end < 0 else end
        line = text[here:end]
        if line.rstrip("\r") == "\\.":
            return end + 1
        if SQL_LINE.match(line):
            return at
        here = end + 1
    return at


class Statement:
    """What was read of a statement so far."""

    def __init__(self):
        self.text = []
        self.words = []
        self.parens = 0
        self.bodies = 0
        self.variable = False

    def add(self, piece):
        self.text.append(piece)

    def word(self, word):
        """Counts BEGIN ATOMIC ... END: semicolons in it are part of the statement."""
        word = word.lower()
        self.words.append(word)
        head = [w for w in self.words[:4] if w not in ("or", "replace")]
        if head[:1] != ["create"] or head[1:2] not in (["function"], ["procedure"]):
            return
        if word == "atomic" and self.words[-2:-1] == ["begin"] and not self.bodies:
            self.bodies = 1
        elif self.bodies and word == "case":
            self.bodies += 1
        elif self.bodies and word == "end":
            self.bodies -= 1

    def ends_here(self):
        return self.parens <= 0 and self.bodies == 0

    def sql(self):
        return "".join(self.text).strip()


def split(text):
    """The statements of a script, in order."""
    found, now, at, conforming = [], Statement(), 0, True

    def send():
        nonlocal now
        sql, usable = now.sql(), not now.variable
        now = Statement()
        if sql and usable and SEPARATOR not in sql.split("\n"):
            found.append(sql)
        return sql

    while at < len(text):
        m = TOKEN.match(text, at)
        kind, piece, at = m.lastgroup, m[0], m.end()
        if kind == "string" and not conforming:
            piece = BACKSLASHES.match(text, m.start())[0]
            at = m.start() + len(piece)
        if kind == "block_comment":
            at = end_of_comment(text, m.start())
            piece = text[m.start() : at]
        if kind in ("line_comment", "block_comment", "space") and not now.text:
            continue
        if kind == "dollar":
            close = text.find(piece, at)
            close = len(text) if close < 0 else close + len(piece)
            piece, at = text[m.start() : close], close
        if kind == "other" and piece == ";" and now.ends_here():
            sql = send()
            for _ in COPY_IN.findall(sql):
                at = after_copy_data(text, at)
            if setting := CONFORMING.match(sql):
                conforming = setting[1].lower() == "reset" or (setting[2] or "").lower() == "on"
        elif kind == "kept_semicolon":
            now.add(";")
        elif kind == "command":
            # Two backslashes end a command's arguments, but \copy takes the whole line.
            both = re.sub(r"'[^']*'", lambda q: "_" * len(q[0]), piece).find("\\\\", 2)
            if piece.startswith("\\copy"):
                at = after_copy_data(text, at) if COPY_IN.search(piece) else at
            elif both > 0:
                at = m.start() + both + 2
            if SENDING.match(piece):
                send()
            elif re.match(r"\\(r|reset)\b", piece):
                now = Statement()
        else:
            now.variable |= kind == "variable"
            if kind == "word":
                now.word(piece)
            now.parens += {"(": 1, ")": -1}.get(piece, 0) if kind == "other" else 0
            now.add(piece)
    send()
    return found


def records(header, statements):
    """A corpus's text."""
    lines = "".join(f"-- {line}\n" for line in header)
    return lines + SEPARATOR + "\n" + "".join(f"{s}\n{SEPARATOR}\n" for s in statements)


def main(arguments):
    # Every byte is a character: scripts may be in any encoding.
    into = None
    if arguments[:1] == ["--into"]:
        into, arguments = pathlib.Path(arguments[1]), arguments[2:]
        into.mkdir(parents=True, exist_ok=True)
    seen = set()
    for name in map(pathlib.Path, arguments):
        statements = []
        for sql in split(name.read_text("latin-1")):
            if sql not in seen:
                seen.add(sql)
                statements.append(sql)
        text = records([f"{name.name}, split into statements."], statements)
        if into:
            (into / name.name).write_text(text, "latin-1")
        else:
            sys.stdout.buffer.write(text.encode("latin-1"))


if __name__ == "__main__":
    main(sys.argv[1:])
