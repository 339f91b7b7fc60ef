"""What came back from the server: columns, raw values, notices and how a statement ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from pglab.notebook.statements import Statement

__all__ = ["Column", "Note", "Outcome", "short_type"]

_SHORT_TYPES = (
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
    ("time with time zone", "timetz"),
    ("time without time zone", "time"),
    ("character varying", "varchar"),
)


@dataclass(frozen=True)
class Column:
    """A column of a result: its name and PostgreSQL type (``type_name`` as ``varchar(20)``)."""

    name: str
    oid: int
    type_name: str


@dataclass(frozen=True)
class Note:
    """A remark that is not a row: a NOTICE or WARNING, a notification, or one of ours."""

    severity: str
    message: str


@dataclass
class Outcome:
    """How one statement ended.

    Attributes:
        tag: the server's command tag, such as ``INSERT 0 5``; empty if it was told to stop.
        columns: None for a statement that returns no rows.
        rows: the first rows, each value in the server's text form, None for NULL.
        seen: how many rows arrived or were counted; all of them unless ``stopped``.
        stopped: the server was told to stop, so that the total is unknown.
        seconds: from sending the statement to its end.
    """

    statement: Statement
    tag: str = ""
    columns: list[Column] | None = None
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    seen: int = 0
    stopped: bool = False
    seconds: float = 0.0
    notes: list[Note] = field(default_factory=list)

    @property
    def seen_at_stop(self) -> int:
        """Return a round number that the total of a stopped result is surely above."""
        return self.seen - 1 if self.seen < 100 else (self.seen - 1) // 100 * 100

    @property
    def affected(self) -> int | None:
        """Return the row count of the command tag, None where it has none (``CREATE TABLE``)."""
        last = self.tag.rpartition(" ")[2]
        return int(last) if last.isdigit() else None

    @property
    def command(self) -> str:
        """Return the command tag without its numbers: ``INSERT``, ``CREATE TABLE``."""
        words = [word for word in self.tag.split() if not word.isdigit()]
        return " ".join(words) or self.statement.verb


def short_type(type_name: str) -> str:
    """Return a type as people write it: ``timestamptz(3)`` of ``timestamp(3) with time zone``."""
    for long, short in _SHORT_TYPES:
        head, _, tail = long.partition(" ")
        # format_type puts a precision in the middle: timestamp(3) with time zone.
        if type_name.startswith(head) and tail and tail in type_name:
            return type_name.replace(f" {tail}", "").replace(head, short, 1)
    return type_name
