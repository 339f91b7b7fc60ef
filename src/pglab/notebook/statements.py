"""Cut a cell into SQL statements by the rules of PostgreSQL's own scanner, as psql does.

Nothing in the text is interpreted or replaced: no ``:name``, no ``%``, no ``{{``. Text that the
rules cannot make sense of (an open quote, an unbalanced parenthesis) is passed on whole, so that
the server, who knows better, says what is wrong.

Source of the rules: PostgreSQL's documentation, "Lexical Structure" (4.1), and psql's treatment of
``BEGIN ATOMIC`` bodies (one statement, semicolons and all).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pglab.notebook.failures import SqlUsageError

__all__ = ["Statement", "split"]

# Possessive quantifiers (+) keep an unterminated literal of a megabyte from backtracking. Not
# around alternatives: Python before 3.11.5, Debian 12's among them, matches those wrongly. There,
# each alternative begins with another sign, so that giving one back never finds another way.
_ESCAPED = r"[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*"
_NEXT_LINE = r"'(?:[ \t\f\v]|--[^\r\n]*+)*[\r\n](?:\s|--[^\r\n]*+[\r\n])*'"
_TOKEN = re.compile(
    rf"""
      (?P<space>\s+)
    | (?P<comment>--[^\r\n]*+)
    | (?P<block>/\*)
      # Backslash escapes hold only after E; a literal goes on after a line break, escapes and all.
    | (?P<escaped>[eE]'{_ESCAPED}(?:{_NEXT_LINE}{_ESCAPED})*(?:'|\\?\Z))
    | (?P<string>'[^']*+(?:'|\Z))
    | (?P<quoted>"[^"]*+(?:"|\Z))
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*+)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+)
    | (?P<number>[0-9][0-9A-Za-z_.]*+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")

_READS = {"SELECT", "VALUES", "TABLE", "WITH"}
# A statement with one of these words must run to its end, or what it does would not happen.
# pg_notify is here because it leaves no transaction id by which a write could be noticed.
_WRITES = {"INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "PG_NOTIFY"}


@dataclass(frozen=True)
class Statement:
    """One SQL statement, without its semicolon.

    Attributes:
        text: what is sent to the server, unchanged.
        offset: where ``text`` begins in the cell, in characters.
        words: its unquoted words in upper case, in order.
    """

    text: str
    offset: int
    words: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        """Return the first word, such as ``SELECT``; empty if there is none."""
        return self.words[0] if self.words else ""

    @property
    def only_reads(self) -> bool:
        """Tell whether the text looks like a query; a function that it calls may still write."""
        return self.verb in _READS and _WRITES.isdisjoint(self.words)

    @property
    def copies_through_client(self) -> bool:
        """Tell whether this is COPY from STDIN or to STDOUT."""
        pairs = zip(self.words, self.words[1:], strict=False)
        return self.verb == "COPY" and any(
            pair in {("FROM", "STDIN"), ("TO", "STDOUT")} for pair in pairs
        )


@dataclass
class _Scan:
    """What has been seen of the statement that is being read."""

    start: int | None = None
    end: int = 0
    parentheses: int = 0
    # Open BEGIN ATOMIC and CASE blocks of a routine's body: semicolons inside belong to it.
    blocks: int = 0
    words: list[str] = field(default_factory=list)

    def see(self, start: int, end: int) -> None:
        if self.start is None:
            self.start = start
        self.end = end

    def see_word(self, word: str) -> None:
        previous = self.words[-1] if self.words else ""
        self.words.append(word)
        if self.parentheses:
            return
        if self.blocks:
            self.blocks += {"CASE": 1, "END": -1}.get(word, 0)
        elif (previous, word) == ("BEGIN", "ATOMIC") and self._is_routine():
            self.blocks = 1

    def _is_routine(self) -> bool:
        head = [word for word in self.words[:4] if word not in {"OR", "REPLACE"}]
        return head[:1] == ["CREATE"] and head[1:2] in (["FUNCTION"], ["PROCEDURE"])


def split(cell: str) -> list[Statement]:
    r"""Return the statements of a cell in order; comments before, between and after are left out.

    Raises:
        SqlUsageError: the cell holds a psql command such as ``\d``, or a NUL character.
    """
    if "\0" in cell:
        raise SqlUsageError(
            f"the cell holds a NUL character (at position {cell.index(chr(0)) + 1}), which SQL "
            "text cannot carry: remove it"
        )
    return list(_statements(cell))


def _statements(cell: str) -> Iterator[Statement]:
    scan = _Scan()
    position = 0
    while match := _TOKEN.match(cell, position):
        kind, lexeme, begin, position = match.lastgroup, match[0], match.start(), match.end()
        if kind in {"space", "comment"}:
            continue
        if kind == "block":
            position = _end_of_comment(cell, position)
            continue
        if lexeme == ";" and not scan.parentheses and not scan.blocks:
            yield from _finish(cell, scan)
            scan = _Scan()
            continue
        if lexeme == "\\":
            raise _psql_command(cell, begin)
        if kind == "dollar":
            closing = cell.find(lexeme, position)
            position = len(cell) if closing < 0 else closing + len(lexeme)
        elif kind == "word":
            scan.see_word(lexeme.upper())
        elif lexeme == "(":
            scan.parentheses += 1
        elif lexeme == ")":
            scan.parentheses = max(0, scan.parentheses - 1)
        scan.see(begin, position)
    yield from _finish(cell, scan)


def _finish(cell: str, scan: _Scan) -> Iterator[Statement]:
    if scan.start is not None:
        yield Statement(cell[scan.start : scan.end], scan.start, tuple(scan.words))


def _end_of_comment(cell: str, position: int) -> int:
    """Return where a block comment ends that was opened before ``position``; they nest."""
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(cell, position)
        if edge is None:
            return len(cell)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position


_INSTEAD = {
    "d": "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
    "WHERE table_name = '…' ORDER BY ordinal_position",
    "dt": "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public'",
    "di": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "l": "SELECT datname FROM pg_database",
    "du": "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles",
    "copy": "lab.connection() and psycopg's cursor.copy(…) in a Python cell",
    "c": "pglab.open(…) for another lesson's database, or %%sql --as NAME for a second session",
    "gset": "%%sql NAME << (the result becomes a DataFrame of that name)",
    "timing": "nothing: %%sql always shows the time",
    "i": "a Python cell: lab.connection().execute(pathlib.Path(…).read_text())",
}
_INSTEAD |= {"d+": _INSTEAD["d"], "dt+": _INSTEAD["dt"], "di+": _INSTEAD["di"]}


def _psql_command(cell: str, position: int) -> SqlUsageError:
    found = re.compile(r"\\(\S*)").match(cell, position)
    name = found[1].rstrip(";") if found else ""
    instead = _INSTEAD.get(name) or "SELECT … FROM pg_catalog or information_schema"
    return SqlUsageError(
        f"\\{name} is a command of the program psql, not SQL: the server does not know it, and "
        f"nothing of this cell was run. Here, use: {instead}"
    )
