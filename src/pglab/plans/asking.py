"""Ask a server for a plan, with all that its version can tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pglab.plans.tree import Plan

if TYPE_CHECKING:
    import psycopg

__all__ = ["GENERIC_SINCE", "explain", "explain_prefix", "index_columns"]

GENERIC_SINCE = 160000
"""The first version, as libpq numbers them, that has ``EXPLAIN (GENERIC_PLAN)``."""
_SERIALIZE_SINCE = 170000


def explain_prefix(
    version: int, *, analyze: bool = True, generic: bool = False, form: str = "JSON"
) -> str:
    """Return ``EXPLAIN (…)`` for a server's version, to be put before a statement.

    Args:
        version: as libpq numbers them, such as 170010.
        analyze: run the statement. What it writes is written.
        generic: plan for any value of $1 …, which excludes ``analyze``.
        form: JSON or TEXT.

    Raises:
        ValueError: a generic plan is asked of a version before 16, or is to be run.
    """
    if generic and version < GENERIC_SINCE:
        raise ValueError(
            f"EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16; this server is {version // 10000}. "
            "Write the values in place of $1 …"
        )
    if generic and analyze:
        raise ValueError("a generic plan has no values, so it cannot be run: analyze=False")
    options = ["ANALYZE"] * analyze + ["GENERIC_PLAN"] * generic + ["BUFFERS", "SETTINGS"]
    if version >= _SERIALIZE_SINCE:
        options.append("MEMORY")
    if analyze:
        options.append("WAL")
        if version >= _SERIALIZE_SINCE:
            # Without it nobody reads the result, and long values are never fetched from TOAST.
            options.append("SERIALIZE TEXT")
    return f"EXPLAIN ({', '.join([*options, f'FORMAT {form}'])}) "


def explain(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: Sequence[Any] | dict[str, Any] | None = None,
    *,
    analyze: bool = False,
    generic: bool = False,
) -> Plan:
    """Return a statement's plan; whatever the statement wrote is rolled back.

    Args:
        connection: a transaction that is open on it goes on as it was.
        query: one statement; with ``parameters`` it has psycopg's placeholders, %s or %(name)s.
        parameters: what psycopg fills in.
        analyze: run it, for actual rows, pages and time.
        generic: plan for any value of $1 … (PostgreSQL 16 and later).

    Raises:
        psycopg.Error: it cannot be planned or, with ``analyze``, run.
        ValueError: it has no plan, as CREATE INDEX has none; or see ``explain_prefix``.
    """
    from psycopg.rows import tuple_row

    version = connection.info.server_version
    text = explain_prefix(version, analyze=analyze, generic=generic) + query
    with connection.transaction(force_rollback=True):
        # A prepared statement would after five runs be planned for any value.
        row = (
            connection.cursor(row_factory=tuple_row)
            .execute(text.encode(connection.info.encoding), parameters, prepare=False)
            .fetchone()
        )
        plan = Plan.from_json(row[0] if row else None)
        return replace(plan, index_columns=index_columns(connection, plan.indexes))


def index_columns(
    connection: psycopg.Connection[Any], names: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return what each index is on: columns, or expressions as ``CREATE INDEX`` would have them.

    Of indexes with the same name, the one is taken that the search path finds first.
    """
    from psycopg.rows import tuple_row

    rows = (
        connection.cursor(row_factory=tuple_row)
        .execute(
            "SELECT DISTINCT ON (c.relname) c.relname, ARRAY("
            "  SELECT pg_get_indexdef(c.oid, n, true) FROM generate_series(1, i.indnkeyatts) AS n)"
            " FROM pg_class AS c JOIN pg_index AS i ON i.indexrelid = c.oid"
            " WHERE c.relname = ANY(%s::text[])"
            " ORDER BY c.relname, NOT pg_table_is_visible(c.oid), c.oid",
            [list(names)],
        )
        .fetchall()
    )
    return {name: tuple(columns) for name, columns in rows}
