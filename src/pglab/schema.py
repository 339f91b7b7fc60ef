"""The lessons' tables, made from the SQL in ``pglab/sql``: that SQL is the source.

``seed.sql`` holds the seed document's three tables as it writes them (PostgreSQL schema ``seed``),
``schema.sql`` what lesson 02 improves them into (schema ``public``).
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import psycopg

__all__ = ["TABLES", "create", "digest", "sql_text"]

TABLES: Final = (
    "instances",
    "sessions",
    "webhooks",
    "contacts",
    "chats",
    "messages",
    "message_updates",
)
"""Our tables, each after those it refers to: the order to load them in."""

_FILES: Final = ("seed.sql", "schema.sql")


def sql_text(name: str) -> str:
    """Return the text of one of the package's SQL files, such as ``schema.sql``."""
    return resources.files("pglab").joinpath("sql", name).read_text(encoding="utf-8")


def create(connection: psycopg.Connection) -> None:
    """Create the seed's tables and ours, all of them or none.

    Args:
        connection: to an empty database. The tables are committed, unless a transaction is open
            already: that one stays the caller's to commit.

    Raises:
        psycopg.errors.DuplicateSchema: the tables exist already.
    """
    with connection.transaction():
        row = connection.execute("SELECT current_setting('search_path') AS path").fetchone()
        before = _only_value(row)
        for name in _FILES:
            # seed.sql moves the search path to its own schema; ours belong in public.
            connection.execute("SET LOCAL search_path TO public")
            connection.execute(sql_text(name))
        # Inside a caller's transaction, SET LOCAL would outlive this block.
        connection.execute("SELECT set_config('search_path', %s, true)", [before])


def digest() -> str:
    """Return 12 hexadecimal digits that change when the SQL does; they name template databases."""
    text = "\0".join(sql_text(name) for name in _FILES)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _only_value(row: object) -> object:
    """Return the one value of a row, whichever row factory the connection has."""
    return next(iter(row.values())) if isinstance(row, dict) else cast("tuple[object]", row)[0]
