"""Which index serves which question: each one built alone, and each question asked with it.

For lesson 04. Unlike the cases of the harness it counts pages and
needs no clock. An index is built in a transaction that is rolled back, so none is left behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from pglab.errors import LabError
from pglab.plans import explain

__all__ = ["WITHOUT", "Trial", "try_indexes"]

WITHOUT: Final = "no index"
"""Name of the first trial, in which the table is as it was."""
_PROBE: Final = "serving_probe"


@dataclass(frozen=True)
class Trial:
    """One index, and what it did for each question.

    Attributes:
        name: of the index, or WITHOUT.
        pages: of 8 kB that it has; 0 without.
        buffers: pages that each question touched, cached or not.
        served: the questions whose plan used this index.
    """

    name: str
    pages: int
    buffers: Mapping[str, int]
    served: frozenset[str]


def try_indexes(
    connection: psycopg.Connection[Any],
    table: str,
    indexes: Mapping[str, str],
    questions: Mapping[str, str],
) -> list[Trial]:
    """Ask the same questions without an index, and with each index alone.

    Args:
        connection: in autocommit mode, on a lesson's database.
        table: its name, found through the search path; it should have been analysed.
        indexes: for each name what follows ``CREATE INDEX ON table``, such as
            ``"USING gin (key)"``; SQL of the lesson's own, not of a stranger's.
        questions: for each name a condition, what follows ``WHERE``; the lesson's own as well.

    Returns:
        One trial more than there are indexes; the first is without any.

    Raises:
        LabError: with an index a question found another number of rows than without.
        psycopg.Error: an index cannot be made, or a condition is no SQL.
    """
    trials = []
    expected: dict[str, int] = {}
    for name, definition in {WITHOUT: "", **indexes}.items():
        # Workers would share the long scans, and touch other pages.
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            pages = _build(connection, table, definition) if definition else 0
            buffers: dict[str, int] = {}
            served = set()
            for question, condition in questions.items():
                query = f"SELECT id FROM {table} WHERE {condition}"  # noqa: S608 (the lesson's)
                found = explain(connection, query, analyze=True)
                rows = round(found.root.rows or 0)
                if rows != expected.setdefault(question, rows):
                    raise LabError(
                        f"{question!r} finds {rows:,} rows with the index {name!r} and "
                        f"{expected[question]:,} without; the table changed meanwhile, or the "
                        "index is broken: lab.reset(), and try again"
                    )
                buffers[question] = found.buffers.touched
                if _PROBE in found.indexes:
                    served.add(question)
        trials.append(Trial(name, pages, buffers, frozenset(served)))
    return trials


def _build(connection: psycopg.Connection[Any], table: str, definition: str) -> int:
    connection.execute(f"CREATE INDEX {_PROBE} ON {table} {definition}".encode())
    # An index on an expression brings statistics of its own, which ANALYZE has to gather.
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    row = connection.execute("SELECT pg_relation_size(%s::regclass) / 8192", [_PROBE]).fetchone()
    return int(row[0]) if row else 0
