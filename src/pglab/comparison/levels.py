"""What two transactions can do to each other at each isolation level of PostgreSQL: tried out.

The names of the phenomena are those of the SQL standard and of Berenson et al., "A Critique of ANSI
SQL Isolation Levels" (1995). Two connections take their steps in turn, from one thread: who is
quicker decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, cast

import psycopg

__all__ = ["LEVELS", "what_each_level_shows"]

LEVELS: Final = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

Connection = psycopg.Connection[Any]
_TABLE = "pglab_levels"


def what_each_level_shows(connect: Callable[[], Connection]) -> list[dict[str, str]]:
    """Try four phenomena at four levels; one row a level, for ``table``.

    Args:
        connect: opens a connection with autocommit; a table is made by it, and removed again.

    Returns:
        For each phenomenon ``"happens"``, ``"cannot happen"``, or ``"refused: 40001"`` where the
        server ends one of the two transactions.
    """
    trials = {
        "dirty read": _dirty_read,
        "non-repeatable read": _non_repeatable_read,
        "lost update": _lost_update,
        "write skew": _write_skew,
    }
    with ExitStack() as stack:
        first, second = (stack.enter_context(connect()) for _ in range(2))
        for connection in (first, second):
            connection.execute("SET lock_timeout = '5s'")
        try:
            return [
                {"level": level}
                | {name: _tried(run, first, second, level) for name, run in trials.items()}
                for level in LEVELS
            ]
        finally:
            first.execute(f"DROP TABLE IF EXISTS {_TABLE}")


def _tried(
    run: Callable[[Connection, Connection], bool],
    first: Connection,
    second: Connection,
    level: str,
) -> str:
    first.execute(f"DROP TABLE IF EXISTS {_TABLE}")
    first.execute(f"CREATE TABLE {_TABLE} (id integer PRIMARY KEY, n integer)")
    first.execute(f"INSERT INTO {_TABLE} VALUES (1, 0), (2, 0)")  # noqa: S608 - our own word
    try:
        for connection in (first, second):
            connection.execute(cast("Any", f"BEGIN ISOLATION LEVEL {level}"))
        return "happens" if run(first, second) else "cannot happen"
    except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
        return f"refused: {error.sqlstate}"
    finally:
        for connection in (first, second):
            connection.execute("ROLLBACK")


def _read(connection: Connection, number: int) -> int:
    row = connection.execute(
        f"SELECT n FROM {_TABLE} WHERE id = %s",  # noqa: S608 - our own word
        [number],
    ).fetchone()
    return int(row[0]) if row else -1


def _write(connection: Connection, number: int, value: int) -> None:
    connection.execute(
        f"UPDATE {_TABLE} SET n = %s WHERE id = %s",  # noqa: S608 - our own word
        [value, number],
    )


def _dirty_read(first: Connection, second: Connection) -> bool:
    _write(first, 1, 7)
    return _read(second, 1) == 7


def _non_repeatable_read(first: Connection, second: Connection) -> bool:
    before = _read(second, 1)
    _write(first, 1, 7)
    first.execute("COMMIT")
    return _read(second, 1) != before


def _lost_update(first: Connection, second: Connection) -> bool:
    read = [_read(first, 1), _read(second, 1)]
    for connection, value in zip((first, second), read, strict=True):
        _write(connection, 1, value + 1)
        connection.execute("COMMIT")
    return _read(first, 1) < 2


def _write_skew(first: Connection, second: Connection) -> bool:
    # A rule over two rows: at most one of them may become 1. Each looks at the other's row.
    for connection, mine, other in ((first, 1, 2), (second, 2, 1)):
        if _read(connection, other) == 0:
            _write(connection, mine, 1)
    for connection in (first, second):
        connection.execute("COMMIT")
    return _read(first, 1) + _read(first, 2) == 2
