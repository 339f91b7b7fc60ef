"""Servers of several versions, and databases whose names are meant to break queries."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pglab.servers import scratch_postgres as scratch
from pglab.servers.programs import PostgresPrograms, embedded_postgres

Connection = psycopg.Connection[Any]

PASSWORD = "a password of the test"
# Folders of further versions, such as /usr/lib/postgresql/16/bin, separated as in PATH.
MORE = os.environ.get("PGLAB_TEST_POSTGRES", "")

HOSTILE_TABLES = (
    ("public", "plain"),
    ("public", "Message"),
    ("public", "message"),
    ("Evolution API", "Message.Update"),
    ("Evolution API", 'say "hi"'),
    ("Evolution API", "it's; DROP TABLE x --"),
    ("mensajería", "Contacto ñ 你好 %s %I {extension}"),
    ("select", "order"),
)


@functools.cache
def programs() -> dict[str, PostgresPrograms]:
    """Every PostgreSQL that can be tested with, by its major version."""
    found = [embedded_postgres()]
    folders = [*map(Path, filter(None, MORE.split(os.pathsep)))]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found += [PostgresPrograms(folder, str(folder)) for folder in folders]
    usable = [each for each in found if each and (each.bin / "initdb").exists()]
    # The first of a version wins: the wheel's own before the machine's.
    return {str(each.major()): each for each in reversed(usable) if each.major() >= 15}


VERSIONS = sorted({"15", *programs()})


@contextmanager
def server(
    version: str, *, directory: Path | None = None, password: Any = None, **settings: str
) -> Iterator[scratch.ScratchPostgres]:
    """A server of that version; the test is skipped where the machine has none."""
    if version not in programs():
        pytest.skip(
            f"PostgreSQL {version} is not on this machine (Debian 12: apt-get install "
            f"postgresql-{version}, or name its folder in PGLAB_TEST_POSTGRES)"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "find_programs", lambda: programs()[version])
        wanted = {"shared_preload_libraries": "pg_stat_statements", **settings}
        with scratch.ScratchPostgres(
            settings=wanted, directory=directory, password=password
        ) as made:
            yield made


def identifier(*names: str) -> sql.Identifier:
    return sql.Identifier(*names)


def make_hostile(connection: Connection) -> None:
    """Make tables whose names need quoting, each with an index twice and a key without one."""
    for schema in dict.fromkeys(schema for schema, _ in HOSTILE_TABLES):
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(identifier(schema)))
    connection.execute("CREATE TABLE public.target (id int PRIMARY KEY)")
    for place, (schema, name) in enumerate(HOSTILE_TABLES, 1):
        table = identifier(schema, name)
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (id int PRIMARY KEY, {} int REFERENCES public.target, body text)"
            ).format(table, identifier("Ref. Nº"))
        )
        # No parameters: some of the names have a % in them.
        connection.execute(
            sql.SQL(
                "INSERT INTO {} SELECT n, NULL, repeat('x', 100) FROM generate_series(1, {}) AS n"
            ).format(table, sql.Literal(100 * place))
        )
        for suffix in (" one", " two"):
            connection.execute(
                sql.SQL("CREATE INDEX {} ON {} (body)").format(
                    identifier(name[:20] + suffix), table
                )
            )
    connection.execute("ANALYZE")


def make_watcher(server: scratch.ScratchPostgres, *, member: bool = True) -> Connection:
    """Open a connection of a role that is no superuser, in pg_monitor or in nothing."""
    name = "Watcher's role" if member else "nobody"
    with server.connect(autocommit=True) as admin:
        known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
        if not known:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    identifier(name), sql.Literal(PASSWORD)
                )
            )
        if member:
            admin.execute(sql.SQL("GRANT pg_monitor TO {}").format(identifier(name)))
    return server.connect(autocommit=True, user=name, password=PASSWORD)
