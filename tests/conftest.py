"""Fixtures that every suite shares: real servers, and a database of one's own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql


@pytest.fixture(scope="session")
def server_url() -> str:
    """Return the URL of a superuser on a real PostgreSQL server."""
    return os.environ["PGLAB_TEST_URL"]


@pytest.fixture
def database(server_url: str) -> Iterator[str]:
    """Create an empty database; yield its URL; drop it."""
    name = f"pglab_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield psycopg.conninfo.make_conninfo(server_url, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
