"""The servers of a run: found or started when they are needed, and let go at its end."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pglab.config import Settings
from pglab.errors import PglabError
from pglab.lab import scope_of
from pglab.servers.connect import connect_postgres, connect_redis
from pglab.servers.lifecycle import ensure_postgres, ensure_redis

if TYPE_CHECKING:
    from redis import Redis

    from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint

__all__ = ["Servers"]


class Servers:
    """The servers that a run uses, found or started, and held up until it ends.

    Args:
        token: a run's own word, in the names of its databases and keys; a new one when omitted.
        settings: those of the environment when omitted.
    """

    def __init__(self, token: str | None = None, settings: Settings | None = None) -> None:
        self._settings = settings or Settings.from_environment()
        self.postgres: PostgresEndpoint
        self.postgres, self._running = ensure_postgres(self._settings)
        self._redis: RedisEndpoint | None = None
        self._held = [self._running]
        self.token = token or secrets.token_hex(4)
        self.scope = scope_of(self._settings, self.postgres)
        self.redis_used = False
        self._data: Path | None = None

    @property
    def redis_endpoint(self) -> RedisEndpoint:
        """The Redis server, started when first asked for.

        Raises:
            NoServerError: no source on this machine can provide one.
        """
        if self._redis is None:
            self._redis, running = ensure_redis(self._settings)
            self._held.append(running)
        return self._redis

    def redis(self, **options: Any) -> Redis:
        """Return a new redis-py client on a logical database that no lesson has."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.redis_used = True
        # Trying again would be timed with the operation, and hide for seconds that Redis is gone.
        options.setdefault("retry", Retry(NoBackoff(), 0))
        return connect_redis(self.redis_endpoint, 0, **options)

    def redis_pid(self) -> int | None:
        """Return the process of the Redis server that this run uses; None if none of ours does."""
        if not self.redis_used or self.redis_endpoint.source not in {"embedded", "local"}:
            return None
        with self.redis() as client:
            return int(client.info("server")["process_id"])

    def redis_run(self) -> str | None:
        """Return what tells one start of Redis from another; None if this run does not use it."""
        if not self.redis_used:
            return None
        with self.redis(decode_responses=True) as client:
            return str(client.info("server")["run_id"])

    @property
    def prefix(self) -> str:
        """What all Redis keys of this run begin with."""
        return ":".join([*filter(None, ["pglab", self.scope]), "bench", self.token])

    def admin(self) -> psycopg.Connection[Any]:
        """Return an autocommit connection to the maintenance database."""
        return connect_postgres(self.postgres, autocommit=True, application_name="pglab bench")

    def close(self) -> None:
        """Remove the run's keys, and let the servers go."""
        try:
            if self.redis_used:
                import redis

                with suppress(redis.RedisError, PglabError), self.redis() as client:
                    for key in client.scan_iter(match=f"{self.prefix}:*", count=1_000):
                        client.unlink(key)
        finally:
            self.release()

    def free_bytes(self, admin: psycopg.Connection[Any] | None = None) -> int | None:
        """Return the free space where PostgreSQL's data lie; None if that is not seen from here.

        Args:
            admin: to ask where they lie; later, when the server may be gone, that is known.
        """
        try:
            if admin is not None:
                row = admin.execute("SHOW data_directory").fetchone()
                self._data = Path(row[0]) if row else None
            return shutil.disk_usage(self._data).free if self._data is not None else None
        except (psycopg.Error, OSError):  # another machine's, or not ours to look into
            return None

    def release(self) -> None:
        """Let the servers go."""
        for running in self._held:
            running.release()
