"""Template databases: the course's schema and conversations, made once for each size and copied."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pglab import databases, schema
from pglab.errors import ConfigError
from pglab.servers.connect import connect_postgres

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["SETTINGS", "SIZES", "copy", "ensure", "template_name"]

# Messages in each; "empty" is the schema alone.
SIZES: Final = {
    "empty": 0,
    "tiny": 2_000,
    "small": 50_000,
    "medium": 1_000_000,
    "large": 10_000_000,
}

# ANALYZE samples 300 rows for each unit of the target: at 200 it reads all of "small", so that
# every machine, and every ANALYZE of a lesson, has the same statistics, and the same plans.
SETTINGS: Final = {"default_statistics_target": "200"}


def check_size(size: str) -> str:
    """Return the size if there is one of this name.

    Raises:
        ConfigError: there is none.
    """
    if size not in SIZES:
        raise ConfigError(f"size {size!r} is unknown; choose one of {', '.join(SIZES)}")
    return size


def template_name(size: str, scope: str = "") -> str:
    """Return the template's name; it changes with the schema and with the generator's source."""
    content = hashlib.sha256(schema.digest().encode())
    if SIZES[check_size(size)]:
        # Read, not imported: opening a lesson that is there already shall not load NumPy.
        here = Path(__file__).parent
        for source in sorted(
            (*here.glob("dataset/*.py"), here / "load" / "seed.py", here / "templates.py")
        ):
            content.update(source.read_bytes())
    return f"{_prefix(size, scope)}{content.hexdigest()[:8]}"


def _prefix(size: str, scope: str) -> str:
    # On a server that several learners share, each has templates of their own: a copy's tables
    # belong to who made the template, and another version of pglab must not drop it as stale.
    return "_".join([databases.PREFIX + scope if scope else "pglab", "template", size, ""])


def ensure(
    endpoint: PostgresEndpoint,
    admin: psycopg.Connection[Any],
    size: str,
    *,
    scope: str = "",
    progress: bool = True,
) -> str:
    """Return the name of the size's template database, made now if it is not there yet.

    Args:
        endpoint: the server.
        admin: autocommit, to its maintenance database.
        size: one of ``SIZES``.
        scope: the learner's word, on a server that others may use, too.
        progress: show a progress bar while rows are loaded.

    Raises:
        ConfigError: there is no such size.
        PermissionMissingError: the role may not create databases.
        LoadError: the rows could not be loaded, or the disk is full; nothing is left behind.
    """
    from psycopg import sql

    name = template_name(check_size(size), scope)
    if databases.exists(admin, name):
        return name
    with databases.locked(admin, name):
        if databases.exists(admin, name):  # another process made it while we waited
            return name
        for stale in databases.made_by_us(admin, _prefix(size, scope)):
            databases.drop(admin, stale)
        databases.create(
            admin,
            name,
            settings=SETTINGS,
            fill=lambda building: _fill(endpoint, building, size, progress),
        )
        # Nobody may connect, so that a copy never waits for somebody to leave.
        for setting in ("ALLOW_CONNECTIONS false", "IS_TEMPLATE true"):
            admin.execute(
                sql.SQL("ALTER DATABASE {} ").format(sql.Identifier(name)) + sql.SQL(setting)
            )
    return name


def copy(admin: psycopg.Connection[Any], name: str, template: str) -> None:
    """Create a database as a copy of a template, with the template's settings.

    Args:
        admin: autocommit, to the maintenance database, holding ``databases.locked(name)``.
        name: of the new database.
        template: from ``ensure``.

    Raises:
        PermissionMissingError: the role may not create databases.
        DiskFullError: the server's disk is full; nothing is left behind.
    """
    databases.create(admin, name, template=template, settings=SETTINGS)


def _fill(endpoint: PostgresEndpoint, building: str, size: str, progress: bool) -> None:
    with connect_postgres(endpoint, building, autocommit=True) as connection:
        schema.create(connection)
        if SIZES[size]:
            from pglab.dataset import Dataset
            from pglab.load import fill_seed, load

            load(connection, Dataset(size), progress=progress)
            fill_seed(connection)
            # Copies come with statistics and a visibility map, as a table in use has them.
            connection.execute("VACUUM (ANALYZE)")
