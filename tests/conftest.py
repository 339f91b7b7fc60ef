"""Fixtures that every suite shares: a real server, and a database of one's own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo


@pytest.fixture(scope="session")
def lab_home() -> Path:
    """Return the home of this run's servers (see the conftest.py above)."""
    return Path(os.environ["PGLAB_HOME"])


@pytest.fixture(scope="session")
def server_url(lab_home: Path) -> Iterator[str]:
    """Return the URL of a superuser on a real PostgreSQL server."""
    if "PGLAB_TEST_URL" in os.environ:  # a scratch server, while writing tests
        yield os.environ["PGLAB_TEST_URL"]
        return
    from pglab.config import Settings
    from pglab.servers import lifecycle

    endpoint, running = lifecycle.ensure_postgres(Settings.from_environment())
    yield endpoint.url(reveal=True)
    running.release()


@pytest.fixture
def database(server_url: str) -> Iterator[str]:
    """Create an empty database; yield its connection string; drop it."""
    name = f"pglab_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
        )
        yield make_conninfo(server_url, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
