"""Servers of the learner's own, by URL: checked, used within bounds, never started or stopped."""

from __future__ import annotations

from pglab.config import Secret
from pglab.errors import ConfigError, ServerUnreachableError
from pglab.servers.connect import connect_redis
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint, mask_url

__all__ = ["postgres", "redis"]


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
        # libpq quotes the piece that it cannot read, and that may be the password.
        reason = str(error).partition(":")[0].strip().strip('"')
        raise ConfigError(
            f"DATABASE_URL ({mask_url(url.reveal())}) cannot be read: {reason}; percent-encode "
            "special characters of the password, as in p%40ss for p@ss, or unset DATABASE_URL"
        ) from None
    host = given.pop("host", None) or "localhost"
    return PostgresEndpoint(
        source="url",
        host=None if host.startswith("/") else host,
        socket_directory=host if host.startswith("/") else None,
        port=_port(given.pop("port", "5432")),
        user=given.pop("user", "postgres"),
        password=Secret(given.pop("password", "")),
        maintenance_database=given.pop("dbname", "postgres"),
        options=given,
    )


def _port(value: str) -> int:
    if value.isascii() and value.isdigit() and 1 <= int(value) <= 65535:
        return int(value)
    raise ConfigError(
        f"DATABASE_URL names port {value!r}; a port is one number from 1 to 65535; correct it"
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
    except ValueError as error:
        raise ConfigError(f"REDIS_URL cannot be read: {error}; correct it, or unset it") from None
    except (client_library.RedisError, OSError) as error:
        raise ServerUnreachableError(
            f"no connection to Redis at {mask_url(url.reveal())}: {error}; "
            "correct REDIS_URL, or unset it to use pglab's own server"
        ) from None
    return endpoint
