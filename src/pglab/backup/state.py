"""What a database holds, in figures that can be compared: counts, checksums, structure.

The checksum of a table is SHA-256 over its rows as COPY writes them, in the order of its primary
key. Anybody can have it again, with psql and sha256sum: ``TableState.statement`` is the query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pglab.backup import catalog
from pglab.backup.catalog import Table

if TYPE_CHECKING:
    import psycopg

__all__ = ["DatabaseState", "SequenceState", "TableState", "differences", "read_state"]


# The form of a value in COPY depends on these; the planner's parallel workers cannot help a COPY
# in the order of a key, and two connections are busy already.
_SETTINGS: Final = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",
    "search_path": "",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "work_mem": "64MB",
}


class TableState(msgspec.Struct, frozen=True, kw_only=True):
    """One table.

    Attributes:
        rows: how many.
        sha256: of all rows, in order.
        statement: the COPY that the checksum is of.
        columns: each with its type, default and NOT NULL, in words.
    """

    rows: int
    sha256: str
    statement: str
    columns: tuple[str, ...]


class SequenceState(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence. Sequences obey no snapshot: a dump has a value from between these two.

    Attributes:
        first: the next value that it would have given when the dump began.
        last: … when the dump was finished.
    """

    first: int
    last: int


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """What one database holds.

    Attributes:
        tables: by quoted name.
        sequences: by quoted name.
        constraints: definition by ``table: name``.
        indexes: definition by quoted name; one that is not valid ends with ``(INVALID)``.
        extensions: version by name.
        objects: views, functions, triggers, types and policies, by kind: a list of names.
        roles: that own something or were granted something, each with what it may do.
    """

    tables: dict[str, TableState]
    sequences: dict[str, SequenceState]
    constraints: dict[str, str]
    indexes: dict[str, str]
    extensions: dict[str, str]
    objects: dict[str, tuple[str, ...]]
    roles: dict[str, str]

    @property
    def rows(self) -> int:
        """How many rows all tables hold together."""
        return sum(table.rows for table in self.tables.values())


def read_state(
    connect: Callable[[], psycopg.Connection[Any]],
    *,
    snapshot: str | None = None,
    jobs: int = 2,
    on_rows: Callable[[int], object] | None = None,
) -> DatabaseState:
    """Count and checksum every table, and note the structure.

    Args:
        connect: opens a connection to the database.
        snapshot: exported by a transaction that is still open; None for what is there now.
        jobs: how many connections work at a time.
        on_rows: told how many more rows were read, from several threads.

    Raises:
        psycopg.Error: a table cannot be read.
    """
    with ExitStack() as stack:
        connections = [stack.enter_context(connect()) for _ in range(max(1, jobs))]
        first = connections[0]
        begin(first, snapshot)
        if snapshot is None and jobs > 1:
            row = first.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
            snapshot = str(row[0]) if row else None
        for connection in connections[1:]:
            begin(connection, snapshot)
        tables = catalog.tables(first)
        waiting: SimpleQueue[Table] = SimpleQueue()
        for table in sorted(tables, key=lambda each: -each.size):
            waiting.put(table)
        found: dict[str, TableState] = {}
        sequences = catalog.sequence_values(first)
        structure = catalog.structure(first)

        def work(connection: psycopg.Connection[Any]) -> None:
            for table in _taken(waiting):
                found[table.name] = _table_state(connection, table, on_rows)

        with ThreadPoolExecutor(len(connections)) as pool:
            try:
                for done in [pool.submit(work, connection) for connection in connections]:
                    done.result()
            except BaseException:
                for _ in _taken(waiting):  # the others end after the table that they are at
                    pass
                for connection in connections:
                    connection.cancel_safe(timeout=2)
                raise
        return DatabaseState(
            tables={table.name: found[table.name] for table in tables},
            sequences={
                name: SequenceState(first=value, last=value) for name, value in sequences.items()
            },
            **structure,
        )


def begin(connection: psycopg.Connection[Any], snapshot: str | None) -> None:
    """Begin a transaction that reads one state of the database, in one form of values."""
    from psycopg import IsolationLevel, sql

    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    if snapshot is not None:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    connection.execute(
        sql.SQL(";").join(
            sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in _SETTINGS.items()
        )
    )


def _taken(waiting: SimpleQueue[Table]) -> Iterator[Table]:
    while True:
        try:
            yield waiting.get_nowait()
        except Empty:
            return


def _table_state(
    connection: psycopg.Connection[Any], table: Table, on_rows: Callable[[int], object] | None
) -> TableState:
    digest = hashlib.sha256()
    rows = 0
    block: list[bytes] = []
    with connection.cursor() as cursor, cursor.copy(table.statement.encode()) as copy:
        for row in copy:
            block.append(bytes(row))
            if len(block) == 1_000:
                digest.update(b"".join(block))
                rows += len(block)
                block.clear()
                if on_rows is not None:
                    on_rows(1_000)
    digest.update(b"".join(block))
    if on_rows is not None:
        on_rows(len(block))
    return TableState(
        rows=rows + len(block),
        sha256=digest.hexdigest(),
        statement=table.statement,
        columns=table.columns,
    )


def differences(
    expected: DatabaseState, found: DatabaseState, *, definitions: bool = True
) -> tuple[str, ...]:
    """Return how a database differs from what is expected, in words; nothing if it does not.

    Args:
        expected: what was dumped.
        found: what was restored.
        definitions: compare the definitions of indexes and constraints, too, and not only their
            names; another major version may write them in other words.
    """
    said = [
        *_names("table", expected.tables, found.tables),
        *_names("sequence", expected.sequences, found.sequences),
        *_names("extension", expected.extensions, found.extensions),
    ]
    for name in expected.tables.keys() & found.tables.keys():
        said += _table_differences(name, expected.tables[name], found.tables[name])
    for name in expected.sequences.keys() & found.sequences.keys():
        bounds, has = expected.sequences[name], found.sequences[name].first
        if not min(bounds.first, bounds.last) <= has <= max(bounds.first, bounds.last):
            between = str(bounds.first)
            if bounds.last != bounds.first:
                between = f"between {bounds.first} and {bounds.last}"
            said.append(f"sequence {name} continues with {has}, not {between}")
    for what, before, after in (
        ("constraint", expected.constraints, found.constraints),
        ("index", expected.indexes, found.indexes),
    ):
        said += _names(what, before, after)
        said += [
            f"{what} {name} is now: {after[name]}; it was: {before[name]}"
            for name in before.keys() & after.keys()
            if (definitions or "INVALID" in after[name]) and before[name] != after[name]
        ]
    for kind, names in expected.objects.items():
        said += _names(kind, dict.fromkeys(names), dict.fromkeys(found.objects.get(kind, ())))
    return tuple(sorted(said))


def _names(what: str, before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return [
        *(f"{what} {name} is missing" for name in before.keys() - after.keys()),
        *(f"{what} {name} is new" for name in after.keys() - before.keys()),
    ]


def _table_differences(name: str, before: TableState, after: TableState) -> Iterator[str]:
    if before.rows != after.rows:
        yield f"table {name} has {after.rows:,} rows, not {before.rows:,}"
    elif before.sha256 != after.sha256:
        yield f"table {name} has {after.rows:,} rows as expected, but other content"
    if before.columns != after.columns:
        changed = sorted(set(before.columns) ^ set(after.columns))
        yield f"table {name} has other columns: {'; '.join(changed) or 'in another order'}"
