"""The load itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pglab.dataset import TABLES, Dataset
from pglab.errors import LoadError
from pglab.load import rebuild
from pglab.load.binary import HEAD, TAIL, encode
from pglab.load.failures import BYTES_PER_MESSAGE, explained
from pglab.load.progress import bar
from pglab.load.rebuild import Cursor

# A few batches ahead keep both cores busy; more would only use memory (each is about 1 MB).
_BATCHES_AHEAD = 4
# Sorting for an index; parallel workers share it. Modest, because free notebooks have 2 GB.
_SORT_MEMORY = "256MB"


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        rows: rows stored, by table.
        copy_seconds: making the rows and copying them in.
        build_seconds: making keys, indexes and foreign keys.
        seconds: all of it, with ANALYZE and the commit.
    """

    rows: Mapping[str, int]
    copy_seconds: float
    build_seconds: float
    seconds: float

    def __str__(self) -> str:
        messages = self.rows["messages"]
        return (
            f"{messages:,} messages and {sum(self.rows.values()) - messages:,} other rows "
            f"in {self.seconds:.1f} s (copy {self.copy_seconds:.1f} s, "
            f"keys and indexes {self.build_seconds:.1f} s)"
        )


def load(
    connection: psycopg.Connection[Any], dataset: Dataset, *, progress: bool = True
) -> LoadReport:
    """Fill the six tables of an empty schema, in one transaction.

    Rows are made in a second thread while the first one copies: COPY mostly waits for the server,
    and only the first touches the connection, so that Ctrl-C leaves nothing behind. Constraints
    and indexes come off, and are built once the rows are there, as the catalogue had them.

    Args:
        connection: on a database with pglab's schema first in its search path.
        dataset: what to load.
        progress: show a bar, where somebody can see it.

    Raises:
        LoadError: the schema is missing, a table holds rows, or a statement failed.
        DiskFullError: the server's disk is full.
        PermissionMissingError: the role does not own the tables.
    """
    started = time.perf_counter()
    count = dataset.counts
    what = f"loading {dataset.message_count:,} messages"
    size = dataset.message_count * BYTES_PER_MESSAGE
    with explained(what, size), connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        _require_empty(cursor)
        cursor.execute("SELECT set_config('maintenance_work_mem', %s, true)", [_SORT_MEMORY])
        found = rebuild.take_off(cursor, TABLES)
        # A table that this transaction truncated can be filled with frozen rows: no later pass
        # has to mark them, and index-only scans work at once.
        names = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        cursor.execute(sql.SQL("TRUNCATE {}").format(names))
        with bar(sum(count.values()), "copying", wanted=progress) as shown:
            for table in TABLES:
                shown.set_description(f"copying {table}")
                _copy(cursor, dataset, table, shown)
        copied = time.perf_counter()
        _rebuild(cursor, found, progress=progress)
        built = time.perf_counter()
        for table in TABLES:
            _advance_identity(cursor, table)
        cursor.execute(sql.SQL("ANALYZE {}").format(names))
    return LoadReport(
        rows=MappingProxyType(dict(count)),
        copy_seconds=copied - started,
        build_seconds=built - copied,
        seconds=time.perf_counter() - started,
    )


def _require_empty(cursor: Cursor) -> None:
    for table in TABLES:
        exists = cursor.execute("SELECT to_regclass(quote_ident(%s))", [table]).fetchone()
        if exists is None or exists[0] is None:
            raise LoadError(
                f"the search path leads to no table {table}; create the schema (schema.sql) first"
            )
    # Nobody may add rows between this look and the first COPY.
    names = sql.SQL(", ").join(map(sql.Identifier, TABLES))
    cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))
    for table in TABLES:
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))
        filled = cursor.execute(query).fetchone()
        if filled is not None and filled[0]:
            raise LoadError(
                f"table {table} holds rows already, and a load adds to nothing; "
                f"empty it (TRUNCATE {table} CASCADE) or load into another database"
            )


def _copy(cursor: Cursor, dataset: Dataset, table: str, shown: Any) -> None:
    with _encoded(dataset, table) as chunks:
        first = next(chunks)
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, first.columns))
        )
        with cursor.copy(statement) as copy:
            copy.write(HEAD)
            for chunk in chain([first], chunks):
                copy.write(chunk.data)
                shown.update(chunk.rows)
            copy.write(TAIL)


class _Chunk(NamedTuple):
    """A batch, ready to be sent."""

    rows: int
    columns: list[str]
    data: bytes


@contextmanager
def _encoded(dataset: Dataset, table: str) -> Iterator[Iterator[_Chunk]]:
    """Encode batches in another thread, a few ahead; leaving the block waits for that thread."""
    batches = dataset.batches(table)

    def make() -> _Chunk | None:
        batch = next(batches, None)
        return None if batch is None else _Chunk(len(batch), list(batch.columns), encode(batch))

    def in_order(pool: ThreadPoolExecutor) -> Iterator[_Chunk]:
        waiting = deque(pool.submit(make) for _ in range(_BATCHES_AHEAD))
        while (chunk := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(make))
            yield chunk

    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pglab-load")
    try:
        yield in_order(pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _rebuild(cursor: Cursor, found: rebuild.Definitions, *, progress: bool) -> None:
    steps = rebuild.statements(found)
    with bar(len(steps), "building", wanted=progress) as shown:
        shown.unit = " steps"
        for name, statement in steps:
            shown.set_description(f"building {name}")
            cursor.execute(statement)
            shown.update(1)


def _advance_identity(cursor: Cursor, table: str) -> None:
    """Let the next insert continue after the largest identifier."""
    sequence = cursor.execute(
        "SELECT a.attname, pg_get_serial_sequence(quote_ident(%(table)s), a.attname) "
        "FROM pg_attribute AS a WHERE a.attrelid = quote_ident(%(table)s)::regclass "
        "AND a.attidentity <> ''",
        {"table": table},
    ).fetchone()
    if sequence is not None:
        column, name = sequence
        cursor.execute(
            sql.SQL("SELECT setval(%s, max({})) FROM {}").format(
                sql.Identifier(column), sql.Identifier(table)
            ),
            [name],
        )
