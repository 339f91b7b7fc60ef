"""What a check may ask of a database: the same few operations of four very different ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from pglab.errors import ServerError

__all__ = [
    "AS_INSTALLED",
    "Engine",
    "EngineMissingError",
    "Power",
    "Refused",
    "Row",
    "Session",
    "Setup",
    "Why",
    "opened",
]

AS_INSTALLED: Final = "as installed"
"""The set-up that somebody gets who changes nothing."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to use an engine.

    Attributes:
        condition: what is asked for by it, as words that follow "only if".
        checks: the checks that come out differently with it; empty for all.
        spoils: it makes things worse; the condition is then the words that avoid it.
    """

    condition: str
    checks: frozenset[str] = frozenset()
    spoils: bool = False


Row = Mapping[str, Any]
"""Column names with Python values: str, int, bool, dict (for JSON), aware datetime, None."""

Why = Literal["value", "rule", "wait", "conflict", "other"]
"""Why something was refused: a wrong value, a rule of the schema, a lock, a concurrent change."""


class EngineMissingError(ServerError):
    """An engine cannot be run here; the message says what was looked for, and what would help."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The database said no.

    Attributes:
        why: see ``Why``.
    """

    def __init__(self, said: str, why: Why) -> None:
        super().__init__(said)
        self.why: Why = why


class Session(Protocol):
    """One connection. Outside begin() and commit() every operation stands for itself.

    Every operation raises ``Refused`` where the database says no.
    """

    def begin(self) -> None:
        """Begin a transaction, as the engine's set-up does that."""

    def commit(self) -> None:
        """End it; the work is kept from here on."""

    def rollback(self) -> None:
        """End it, or do nothing where none is open; the work is undone."""

    def insert(self, table: str, row: Row) -> None:
        """Store one row."""

    def insert_many(self, table: str, rows: Sequence[Row]) -> None:
        """Store rows in one transaction, the quickest ordinary way."""

    def update(self, table: str, where: Row, change: Row) -> None:
        """Set columns of the rows that have these values."""

    def add(self, instance: str, n: int = 1) -> None:
        """Count ``n`` more messages of an instance, in one operation."""

    def delete(self, table: str, where: Row) -> None:
        """Remove the rows that have these values."""

    def count(self, table: str, where: Row | None = None) -> int:
        """Return how many rows have these values."""

    def values(self, table: str, column: str, where: Row) -> list[Any]:
        """Return a column of the rows that have these values, as the driver gives it."""

    def make_table(self, name: str) -> None:
        """Make one more table, with the columns ``id`` (text) and ``n`` (whole number)."""

    def tables(self) -> set[str]:
        """Return the names of all tables."""

    def inbox(self, instance: str) -> list[tuple[int, str]]:
        """Return the newest message of each chat: chat and WhatsApp's id, by the chat's number."""

    def joined(self) -> list[tuple[str, str, int]]:
        """Return instance, chat and number of messages of each chat that has any, sorted."""

    def by_id_in_json(self, identifier: str) -> tuple[int, int]:
        """Ask the stored JSON for the event of this id.

        Returns:
            How many messages; and how many rows the database looked at to find them.
        """

    def close(self) -> None:
        """Close it; an open transaction is undone."""


class Engine(Protocol):
    """A database of one's own on some server or in some file.

    Attributes:
        name: postgres, mysql, sqlite or mongodb: a column of the seed's comparison.
        product: what really ran, such as ``MariaDB``.
        version: of it.
        setups: the ways to use it by name, the first being ``AS_INSTALLED``.
        library: it runs in the process of who uses it; there is no server.
    """

    name: str
    product: str
    version: str
    setups: Mapping[str, Setup]
    library: bool

    def prepare(self, setup: str) -> None:
        """Make the tables anew, empty, as this set-up makes them."""

    def index_json(self, setup: str) -> None:
        """Make the index on the stored JSON that this set-up can have, if any."""

    def connect(self, setup: str, *, patient: bool = False) -> Session:
        """Open a connection that works as this set-up does.

        Args:
            setup: by name.
            patient: wait for locks as long as it does by itself; otherwise for a moment only, so
                that steps taken in one thread cannot wait for each other.
        """

    def settings(self) -> int:
        """Return how many settings it knows."""

    def json_kind(self) -> str:
        """Return what the column for JSON really is, in a few words, from its catalogue."""

    def clear(self) -> None:
        """Remove all that we made."""

    def address(self) -> dict[str, Any]:
        """Return what another process needs to reach it; may hold a password."""


class Power(Protocol):
    """Who can kill a server and start it again."""

    def kill(self) -> None:
        """End every process of it with SIGKILL."""

    def start(self) -> None:
        """Start it again with the same data, at the same address, and wait until it answers."""


@contextmanager
def opened(engine: Engine, setup: str) -> Iterator[Session]:
    """Open a session, and close it whatever happens."""
    session = engine.connect(setup)
    try:
        yield session
    finally:
        session.close()
