"""Fixtures that every suite shares: real servers, and a database of one's own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

# Nothing of the person's who runs the tests may decide what they see, nor be touched by them.
for _name in [n for n in os.environ if n.startswith(("PG", "DATABASE_URL", "REDIS_URL"))]:
    if _name != "PGLAB_TEST_URL":
        del os.environ[_name]


@pytest.fixture(scope="session")
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give this test process servers of its own; remove them and their data at the end."""
    from pglab.config import Settings
    from pglab.servers import lifecycle
    from pglab.servers.home import remove_tree

    home = tmp_path_factory.mktemp("home") / "lab"
    patch = pytest.MonkeyPatch()
    patch.setenv("PGLAB_HOME", str(home))
    # Should this process be killed, its servers end by themselves.
    patch.setenv("PGLAB_IDLE_MINUTES", "5")
    yield home
    for unit in lifecycle.units(Settings.from_environment()):
        lifecycle.stop(unit)
        for path in unit.owned_paths():
            remove_tree(path)
    patch.undo()


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
