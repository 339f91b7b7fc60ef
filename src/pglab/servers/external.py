"""Servers of the learner's own, by URL: checked, used within bounds, never started or stopped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pglab.config import Secret
from pglab.errors import ConfigError, NoServerError, ServerUnreachableError
from pglab.servers.connect import connect_redis
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint, mask_url
from pglab.servers.programs import OLDEST_MAJOR

if TYPE_CHECKING:
    import psycopg

__all__ = ["check_version", "postgres", "reason", "redis"]


def postgres(url: Secret) -> PostgresEndpoint:
    """Return the endpoint that DATABASE_URL names; nothing is connected yet.

    Raises:
        ConfigError: libpq cannot read the URL.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = {k: str(v) for k, v in conninfo_to_dict(url.reveal()).items() if v is not None}
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            f"DATABASE_URL ({mask_url(url.reveal())}) cannot be read: {reason(error)}; "
            "percent-encode special characters of the password, as in p%40ss for p@ss, or unset "
            "DATABASE_URL"
        ) from None
    host = given.pop("host", "") or "localhost"
    if "," in host or "," in given.get("hostaddr", ""):
        raise ConfigError(
            f"DATABASE_URL names several servers ({host}), and a lab lives on one; "
            "keep the one that accepts writes, or unset DATABASE_URL to use pglab's own server"
        )
    return PostgresEndpoint(
        source="url",
        host=None if host.startswith("/") else host,
        socket_directory=host if host.startswith("/") else None,
        port=_port(given.pop("port", "") or "5432"),
        user=given.pop("user", "") or "postgres",
        password=Secret(given.pop("password", "")),
        maintenance_database=given.pop("dbname", "") or "postgres",
        options=given,
    )


def reason(error: psycopg.ProgrammingError) -> str:
    """Return why libpq cannot read a URL, without what it quotes: that may be the password."""
    quoted = r': ".*|(?<=") after ".*|(?<=connection option) ".*'
    return re.split(quoted, str(error), flags=re.DOTALL)[0].strip()


def _port(value: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", value) and 1 <= int(value) <= 65535:
        return int(value)
    # Where @host is forgotten, the password stands in the port's place: it is not shown.
    raise ConfigError(
        "DATABASE_URL has something else where a port from 1 to 65535 should be; write it as "
        "postgresql://user:password@host:port/database, or unset it"
    )


def check_version(number: int) -> None:
    """Refuse a server that is too old for the course.

    Args:
        number: its version as PostgreSQL counts, such as 150004.

    Raises:
        NoServerError: it is.
    """
    if number < OLDEST_MAJOR * 10_000:
        raise NoServerError(
            f"DATABASE_URL leads to PostgreSQL {number // 10_000}, and the course needs "
            f"{OLDEST_MAJOR} or later; name another server, or unset it to use pglab's own"
        )


def redis(url: Secret) -> RedisEndpoint:
    """Return the endpoint that REDIS_URL names, after a PING.

    Raises:
        ConfigError: redis-py cannot read the URL.
        ServerUnreachableError: nothing answers there, or it refuses the password.
    """
    import redis as client_library

    endpoint = RedisEndpoint(source="url", external_url=url)
    try:
        with connect_redis(endpoint, socket_connect_timeout=5) as client:
            client.ping()
    except ValueError:  # its words may quote the password
        raise ConfigError(
            f"REDIS_URL ({mask_url(url.reveal())}) cannot be read; write it as "
            "redis://:password@host:port/0, or unset it to use pglab's own server"
        ) from None
    except (client_library.RedisError, OSError) as error:
        raise ServerUnreachableError(
            f"no connection to Redis at {mask_url(url.reveal())}: {error}; "
            "correct REDIS_URL, or unset it to use pglab's own server"
        ) from None
    return endpoint
