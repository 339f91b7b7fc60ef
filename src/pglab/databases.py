"""Databases that pglab makes on a server: their names, their making and their dropping.

On a server of the learner's own, pglab touches only what is named ``pglab_…`` *and* carries our
comment, so that a database that somebody else called pglab_something is safe, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from pglab.errors import DiskFullError, LabError, PermissionMissingError

if TYPE_CHECKING:
    import psycopg

__all__ = ["PREFIX", "create", "drop", "locked", "made_by_us", "unlocked"]

PREFIX: Final = "pglab_"
_COMMENT: Final = "made by pglab"


@contextmanager
def locked(connection: psycopg.Connection[Any], name: str) -> Iterator[None]:
    """Hold a lock on a database's name, among all that use pglab on this server."""
    key = _lock_key(name)
    connection.execute("SELECT pg_advisory_lock(%s)", (key,))
    try:
        yield
    finally:
        _unlock(connection, key)


@contextmanager
def unlocked(connection: psycopg.Connection[Any], name: str) -> Iterator[bool]:
    """Tell whether nobody holds the lock; if so, it is ours within the block."""
    key = _lock_key(name)
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
    free = bool(row and row[0])
    try:
        yield free
    finally:
        if free:
            _unlock(connection, key)


def _lock_key(name: str) -> int:
    digest = hashlib.blake2b(f"pglab:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _unlock(connection: psycopg.Connection[Any], key: int) -> None:
    import psycopg

    # A server that is gone holds no locks; what went wrong first is what must be read.
    with suppress(psycopg.OperationalError):
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (key,))


def exists(connection: psycopg.Connection[Any], name: str) -> bool:
    """Tell whether a database of ours has this name.

    Raises:
        LabError: a database has it that pglab did not make.
    """
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (name,)
    ).fetchone()
    if row is None:
        return False
    if not str(row[0] or "").startswith(_COMMENT):
        raise LabError(
            f"the server has a database {name!r} that pglab did not make, and leaves alone; "
            "rename it, or set PGLAB_SCOPE to a word of your own"
        )
    return True


def made_by_us(connection: psycopg.Connection[Any], prefix: str = PREFIX) -> list[str]:
    """Return the names of databases with this prefix that carry our comment."""
    rows = connection.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s) "
        "AND starts_with(shobj_description(oid, 'pg_database'), %s) ORDER BY datname",
        (prefix, _COMMENT),
    )
    return [row[0] for row in rows]


def create(
    connection: psycopg.Connection[Any],
    name: str,
    *,
    template: str | None = None,
    settings: Mapping[str, str] | None = None,
    fill: Callable[[str], None] | None = None,
) -> None:
    """Create a database and mark it as ours; it has its name only when it is complete.

    Args:
        connection: autocommit, to the maintenance database, holding ``locked(name)``.
        name: of the new database.
        template: a database to copy; an empty UTF-8 database when omitted.
        settings: what every session in it begins with (a copy does not have its template's).
        fill: is given the name that the database has while it is being made, and fills it.

    Raises:
        PermissionMissingError: the role may not create databases.
        DiskFullError: the server's disk is full; nothing is left behind.
    """
    import psycopg
    from psycopg import sql

    _check_name(name)
    building = f"{PREFIX}building_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    _drop_unfinished(connection, building)
    unfinished = sql.Identifier(building)
    statement = sql.SQL("CREATE DATABASE {}").format(unfinished)
    if template is not None:
        # Copies files instead of writing every page to the WAL: faster from some 20 MB on.
        statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
    else:
        statement += sql.SQL(" TEMPLATE template0 ENCODING 'UTF8'")
        if connection.info.server_version >= 170000:
            # The same order of strings on every server; from 17 on it needs no system locale.
            statement += sql.SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'")
    with _explained(connection, f"create database {name!r}"):
        connection.execute(statement)
    try:
        with _explained(connection, f"fill database {name!r}"):
            connection.execute(
                sql.SQL("COMMENT ON DATABASE {} IS {}").format(unfinished, sql.Literal(_COMMENT))
            )
            for setting, value in (settings or {}).items():
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                        unfinished, sql.Identifier(setting), sql.Literal(value)
                    )
                )
            if fill is not None:
                fill(building)
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(unfinished, sql.Identifier(name))
            )
    except BaseException:
        with suppress(psycopg.Error):  # what went wrong first is what the learner must read
            _drop_unfinished(connection, building)
        raise


def _drop_unfinished(connection: psycopg.Connection[Any], building: str) -> None:
    # Left by a process that was killed, perhaps before it could leave our comment: its name is a
    # hash that nobody else makes, and it must belong to this role.
    from psycopg import sql

    row = connection.execute(
        "SELECT 1 FROM pg_database WHERE datname = %s AND pg_get_userbyid(datdba) = current_user",
        (building,),
    ).fetchone()
    if row:
        connection.execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(building))
        )


@contextmanager
def _explained(connection: psycopg.Connection[Any], doing: str) -> Iterator[None]:
    """Raise an error with the remedy where the role may not do this, or the disk is full."""
    import psycopg

    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        who = f"role {connection.info.user!r} may not {doing} on {connection.info.host}"
        if "must be owner" in str(error):
            remedy = "connect as the role that made it, or set PGLAB_SCOPE to a word of your own"
        elif "create database" in str(error):
            remedy = f'let an administrator run: ALTER ROLE "{connection.info.user}" CREATEDB'
        else:
            remedy = "let an administrator grant that"
        raise PermissionMissingError(f"{who}: {error}; {remedy}") from None
    except psycopg.errors.DiskFull as error:
        raise DiskFullError(
            f"cannot {doing}: the disk of the PostgreSQL server is full ({error}); "
            "make room there, then try again"
        ) from None
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise PermissionMissingError(
            f"cannot {doing} on {connection.info.host}: {error}; name the primary server in "
            "DATABASE_URL, or, where a role is set to read only, let it run: "
            f'ALTER ROLE "{connection.info.user}" RESET default_transaction_read_only'
        ) from None


def _check_name(name: str) -> None:
    if not name.startswith(PREFIX):
        raise LabError(f"{name!r} is no database of pglab's; only {PREFIX}… are made and dropped")


def drop(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a database of ours, if it is there, and end the connections to it.

    Raises:
        LabError: it is not ours.
        PermissionMissingError: it belongs to another role.
    """
    from psycopg import sql

    _check_name(name)
    if exists(connection, name):
        identifier = sql.Identifier(name)
        with _explained(connection, f"drop database {name!r}"):
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(identifier))
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
