"""Loading rows: the same messages into an empty twin with its primary key, six ways.

Only the load is timed. The rows are generated beforehand, once for all variants, in the form that
each way takes: tuples of Python's values, dictionaries, or the generator's columns. Turning these
into what the server wants (text, JSON, COPY's binary format) is part of the load, and so is the
COMMIT: each load is one transaction. The twin is emptied before each load, outside the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from psycopg.types.json import Jsonb

from pglab.bench.case import Case, Variant
from pglab.bench.operations import Opened, Parameters
from pglab.dataset import Batch, Dataset
from pglab.load.binary import HEAD, TAIL, encode

if TYPE_CHECKING:
    from pglab.bench.ground import Place

__all__ = ["CASES", "MOST_ROWS", "Load"]

MOST_ROWS: Final = 100_000
"""So many are loaded at larger sizes, too: as Python's values they take some 300 MB."""

Loader = Callable[[], object]


class _Rows:
    """Rows of messages, in the forms that loaders take; each is made when it is first asked for."""

    def __init__(self, size: int, seed: int) -> None:
        dataset = Dataset(size, seed)
        self.count = min(size, MOST_ROWS)
        # Whole batches but for the last one, as the dataset makes them.
        self.batches: list[Batch] = []
        for batch in dataset.batches("messages"):
            left = self.count - sum(map(len, self.batches))
            if len(batch) >= left:
                first = sum(map(len, self.batches))
                self.batches.append(dataset.messages(first, first + left))
                break
            self.batches.append(batch)
        self.columns = list(self.batches[0].columns)

    @cached_property
    def dictionaries(self) -> list[dict[str, Any]]:
        """Rows as SQLAlchemy takes them."""
        return [
            dict(zip(self.columns, row, strict=True))
            for batch in self.batches
            for row in batch.rows()
        ]

    @cached_property
    def tuples(self) -> list[tuple[Any, ...]]:
        """Rows as psycopg takes them: a dictionary for a column jsonb says that it is one."""
        return [
            tuple(Jsonb(value) if isinstance(value, dict) else value for value in row.values())
            for row in self.dictionaries
        ]


_made: WeakValueDictionary[tuple[int, int], _Rows] = WeakValueDictionary()


def _rows(size: int, seed: int) -> _Rows:
    """Return the rows; variants that are open at the same time share them."""
    found = _made.get((size, seed))
    if found is None:
        found = _made[size, seed] = _Rows(size, seed)
    return found


@dataclass(frozen=True)
class Load:
    """Emptying the twin, and loading it.

    Attributes:
        way: given the place and the rows, it returns what loads them, in one transaction.
    """

    way: Callable[[Place, _Rows], Loader]

    def open(self, place: Place, _: Sequence[Parameters]) -> Opened:
        """Generate the rows, in the form that this way takes."""
        rows = _rows(place.size, place.seed)
        load = self.way(place, rows)

        def once(_: int) -> int:
            load()
            return rows.count

        def before(_: int, __: int) -> None:
            place.connection.execute("TRUNCATE messages")

        # The plan of an INSERT of values says nothing, and looking at it would store them twice.
        return Opened(once, before=before, connection=place.connection)


def _insert_select(place: Place, rows: _Rows) -> Loader:
    connection = place.connection
    statement = (
        f"INSERT INTO messages SELECT * FROM public.messages ORDER BY id LIMIT {rows.count}"  # noqa: S608 (ours)
    ).encode()
    return lambda: connection.execute(statement)


def _executemany(place: Place, rows: _Rows) -> Loader:
    connection, tuples = place.connection, rows.tuples
    marks = ", ".join(["%s"] * len(rows.columns))
    statement = f"INSERT INTO messages ({', '.join(rows.columns)}) VALUES ({marks})".encode()  # noqa: S608

    def load() -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(statement, tuples)

    return load


def _copy_text(place: Place, rows: _Rows) -> Loader:
    connection, tuples = place.connection, rows.tuples
    statement = f"COPY messages ({', '.join(rows.columns)}) FROM STDIN".encode()

    def load() -> None:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in tuples:
                copy.write_row(row)

    return load


def _copy_binary(place: Place, rows: _Rows) -> Loader:
    connection, batches = place.connection, rows.batches
    statement = f"COPY messages ({', '.join(rows.columns)}) FROM STDIN (FORMAT binary)".encode()

    def load() -> None:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(HEAD)
            for batch in batches:
                copy.write(encode(batch))
            copy.write(TAIL)

    return load


def _core(place: Place, rows: _Rows) -> Loader:
    from sqlalchemy import insert

    from pglab.models import Message

    engine, dictionaries = place.engine("READ COMMITTED"), rows.dictionaries
    engine.connect().close()  # the pool keeps it
    statement = insert(Message.metadata.tables["messages"])

    def load() -> None:
        with engine.begin() as connection:
            connection.execute(statement, dictionaries)

    return load


def _orm(place: Place, rows: _Rows) -> Loader:
    from sqlalchemy import insert
    from sqlalchemy.orm import Session

    from pglab.models import Message

    engine, dictionaries = place.engine("READ COMMITTED"), rows.dictionaries
    engine.connect().close()
    # Else the ORM leaves a None out, and begins another statement wherever other columns are NULL.
    statement = insert(Message).execution_options(render_nulls=True)

    def load() -> None:
        with Session(engine) as session, session.begin():
            session.execute(statement, dictionaries)

    return load


def _variant(name: str, way: Callable[[Place, _Rows], Loader], about: str) -> Variant:
    setup = ("ALTER TABLE messages ADD PRIMARY KEY (id)",)
    return Variant(name, Load(way), setup=setup, about=about)


CASES: Final = (
    Case(
        name="load-messages",
        question="Which way of loading messages stores the most rows a second?",
        variants=(
            _variant(
                "INSERT … SELECT", _insert_select, "on the server, from a table: no client at work"
            ),
            _variant(
                "COPY binary",
                _copy_binary,
                "psycopg, encoded a column at a time by pglab.load.binary",
            ),
            _variant("COPY text", _copy_text, "psycopg's write_row, from tuples"),
            _variant("executemany", _executemany, "psycopg, which sends rows in a pipeline"),
            _variant("SQLAlchemy Core", _core, "one execute() with a list of dictionaries"),
            _variant("SQLAlchemy ORM", _orm, "a session's bulk insert, from the same dictionaries"),
        ),
        twins={"messages": "SELECT * FROM messages LIMIT 0"},
        sizes=(5_000, 100_000),
        group="loading",
        unit="load",
        rows="rows",
        operations=1,
        picture="rate",
        writes=True,
        expected="thousand rows a second of 9 columns: INSERT … SELECT 236, COPY binary 273, COPY "
        "text 187, executemany 67, Core 54, ORM 42 (shared/reference/benchmarking.md); these "
        "have 16 columns, two of them jsonb",
    ),
)
