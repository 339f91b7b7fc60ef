"""Sessions whose credentials are known, for the tests of encryption."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg

from pglab import schema
from pglab.encryption import KeyProvider, LocalKeys, store_session

OLD, NEW, THIRD = (bytes([number]) * 31 + b"!" for number in (1, 2, 3))
BEFORE = LocalKeys({"old": OLD})
AFTER = LocalKeys({"new": NEW, "old": OLD})
ONLY_NEW = LocalKeys({"new": NEW})


def credentials(number: int) -> dict[str, Any]:
    """Return the credentials of an instance, each other than any other's."""
    return {"me": f"5198765{number:04}", "noiseKey": "secret-" * (number % 50)}


def create(connection: psycopg.Connection[Any], numbers: Iterable[int]) -> None:
    """Create the lessons' tables and an instance of each number."""
    schema.create(connection)
    with connection.transaction():
        connection.cursor().executemany(
            "INSERT INTO instances (id, name) VALUES (%s, %s)",
            [(UUID(int=number), f"instance-{number}") for number in numbers],
        )


def fill(connection: psycopg.Connection[Any], count: int, keys: KeyProvider = BEFORE) -> None:
    """Create instances 1 to ``count``, each with a session."""
    create(connection, range(1, count + 1))
    with connection.transaction():
        for number in range(1, count + 1):
            store_session(connection, UUID(int=number), credentials(number), keys)
