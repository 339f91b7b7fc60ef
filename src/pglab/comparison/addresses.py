"""The engine at an address, for a process that is told no more than that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pglab.comparison.contract import Engine

__all__ = ["engine_at"]


def engine_at(name: str, address: Mapping[str, Any]) -> Engine:
    """Return the engine at an address that ``Engine.address`` told.

    Args:
        name: postgres, mysql, sqlite or mongodb.
        address: what it told.
    """
    # Each with its driver only: a worker should be there quickly.
    if name == "sqlite":
        from pglab.comparison.sqlite import SqliteEngine

        return SqliteEngine(str(address["path"]))
    if name == "postgres":
        from pglab.comparison.postgres import PostgresEngine

        return PostgresEngine(address)
    if name == "mysql":
        from pglab.comparison.mariadb import MariadbEngine

        return MariadbEngine(address)
    from pglab.comparison.mongodb import MongodbEngine

    return MongodbEngine(address)
