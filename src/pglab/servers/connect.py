"""Connecting to a server, whatever the learner's environment says."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pglab.errors import PermissionMissingError, ServerUnreachableError
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint

if TYPE_CHECKING:
    import psycopg
    import redis

__all__ = ["connect_postgres", "connect_redis", "is_full", "is_lost", "without_libpq_variables"]

_environment_lock = threading.Lock()


@contextmanager
def without_libpq_variables() -> Iterator[None]:
    """Hide libpq's variables for the time of one connection attempt."""
    # libpq reads PGSERVICE, PGOPTIONS, PGSSLMODE and more from the environment at each connection,
    # and a parameter cannot unset them all. They come back afterwards.
    with _environment_lock:
        names = [n for n in os.environ if n.startswith("PG") and not n.startswith("PGLAB_")]
        hidden = {name: os.environ.pop(name) for name in names}
        try:
            yield
        finally:
            os.environ.update(hidden)


def connect_postgres(
    endpoint: PostgresEndpoint,
    database: str | None = None,
    *,
    autocommit: bool = False,
    application_name: str = "pglab",
    timeout_s: int = 10,
    tcp: bool = False,
    **options: Any,
) -> psycopg.Connection[Any]:
    """Open a psycopg connection.

    Args:
        endpoint: the server.
        database: its name; the maintenance database when omitted.
        autocommit: each statement is a transaction of its own.
        application_name: what pg_stat_activity shows.
        timeout_s: seconds to wait for the connection.
        tcp: insist on TCP where the server has a unix socket, too.
        options: further parameters of ``psycopg.connect``.

    Raises:
        PermissionMissingError: the role may not connect to this database.
        ServerUnreachableError: nothing answers, or it refuses us.
    """
    import psycopg

    parameters = {
        **endpoint.parameters(database, tcp=tcp),
        "application_name": application_name,
        "connect_timeout": endpoint.options.get("connect_timeout", str(timeout_s)),
        **options,
    }
    try:
        if endpoint.managed:
            with without_libpq_variables():
                return psycopg.connect(**parameters, autocommit=autocommit)
        return psycopg.connect(**parameters, autocommit=autocommit)
    except psycopg.OperationalError as error:
        # libpq's words name host, port, user and database, never the password.
        said = " ".join(str(error).split())
        if "permission denied for database" in said:
            name = parameters["dbname"]
            raise PermissionMissingError(
                f"role {endpoint.user!r} may not connect to database {name!r} of "
                f"{endpoint.url(database)}; let its owner run: "
                f'GRANT CONNECT ON DATABASE "{name}" TO "{endpoint.user}"'
            ) from None
        raise ServerUnreachableError(
            f"no connection to PostgreSQL at {endpoint.url(database)}: {said}; {_remedy(endpoint)}"
        ) from None


def is_full(error: ServerUnreachableError) -> bool:
    """Tell whether PostgreSQL refused a connection because it has no more to give."""
    said = str(error)
    return "too many clients" in said or "remaining connection slots" in said


def is_lost(error: psycopg.OperationalError) -> bool:
    """Tell whether a connection ended because its server did, or is about to recover."""
    # admin_shutdown, crash_shutdown, cannot_connect_now; none at all where the socket just closed
    return error.sqlstate in {None, "57P01", "57P02", "57P03"}


def connect_redis(
    endpoint: RedisEndpoint,
    database: int = 0,
    **options: Any,
) -> redis.Redis:
    """Return a redis-py client; it connects at its first command.

    Args:
        endpoint: the server.
        database: logical database, from 0; a URL of the learner's own keeps the one it names.
        options: further parameters of ``redis.Redis``, such as ``decode_responses``.
    """
    import redis

    if endpoint.external_url is not None:
        return redis.Redis.from_url(endpoint.external_url.reveal(), **options)
    where: dict[str, Any] = (
        {"unix_socket_path": endpoint.socket}
        if endpoint.socket
        else {"host": endpoint.host, "port": endpoint.port}
    )
    return redis.Redis(**where, db=database, password=endpoint.password.reveal() or None, **options)


def _remedy(endpoint: PostgresEndpoint) -> str:
    if endpoint.managed:
        return "run: pglab status, and pglab up"
    remedy = "correct DATABASE_URL, or unset it to use pglab's own server"
    # With a URL of the learner's own these hold, as for any program: PGPASSWORD may be meant.
    names = sorted(n for n in os.environ if n.startswith("PG") and not n.startswith("PGLAB_"))
    return remedy + (f" (these variables had a say, too: {', '.join(names)})" if names else "")
