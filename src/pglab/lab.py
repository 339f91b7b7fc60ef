"""One lesson's laboratory: a database and a cache of its own on a real server.

    lab = pglab.open("indexes")
    with lab.connection() as connection:
        connection.execute("SELECT count(*) FROM messages").fetchone()
    lab.reset()        # as new, in a fraction of a second

What a lesson stores lasts until then, whatever happens to its kernel and to the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pglab import databases, templates
from pglab.closeable import Closeable
from pglab.config import Settings
from pglab.errors import (
    ConfigError,
    LabClosedError,
    LabError,
    NoServerError,
    ServerUnreachableError,
)
from pglab.servers.choose import choose
from pglab.servers.connect import connect_postgres, connect_redis, is_full, is_lost
from pglab.servers.external import check_version
from pglab.servers.home import Kind, Unit, home_of, starting, write_private
from pglab.servers.lifecycle import ensure_postgres, ensure_redis
from pglab.servers.redis import DATABASES
from pglab.servers.running import probe

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg
    import sqlalchemy
    from redis import Redis

    from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint
    from pglab.servers.lifecycle import Running

__all__ = ["Lab", "open_lab"]


_labs: weakref.WeakSet[Lab] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lab in list(_labs):
        lab._leave_to_parent()  # noqa: SLF001 - the class below


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Lab(Closeable):
    """A lesson's own database and cache; made by :func:`pglab.open`.

    Attributes:
        name: the lesson's name.
        size: how many conversations it holds: empty, tiny, small, medium or large.
        database: name of its database on the server.
        generation: grows by one at each reset, so that who keeps a connection can notice.
    """

    def __init__(self, name: str, size: str, settings: Settings, *, progress: bool = True) -> None:
        self.name = _lesson_name(name)
        self.size = templates.check_size(size)
        self.generation = 0
        self._settings = settings
        self._progress = progress
        self._connections: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()
        self._closed = False
        self._running: dict[Kind, Running] = {}
        try:
            self._attach()
        except BaseException:
            self.close()
            raise
        _labs.add(self)

    # What a lesson uses

    def connection(
        self,
        *,
        autocommit: bool = False,
        application_name: str | None = None,
        **options: Any,
    ) -> psycopg.Connection[Any]:
        """Open a new connection to the lesson's database.

        Args:
            autocommit: each statement is a transaction of its own.
            application_name: what pg_stat_activity shows; the lesson's name when omitted.
            options: further parameters of ``psycopg.connect``, such as ``row_factory``.

        Returns:
            A psycopg connection, closed with the lab at the latest. As a context manager it
            commits, or rolls back after an exception, and closes.

        Raises:
            LabClosedError: the lab was closed.
            ServerUnreachableError: the server does not answer.
        """
        self._check_open()
        options["autocommit"] = autocommit
        options["application_name"] = application_name or f"pglab {self.name}"
        try:
            connection = connect_postgres(self._postgres, self.database, **options)
        except ServerUnreachableError as error:
            # The server was stopped meanwhile, or another kernel is just resetting this lesson.
            ours = self._postgres.managed or "does not exist" in str(error)
            if not ours or is_full(error):
                raise
            self._attach()
            with self._admin() as admin, databases.locked(admin, self.database):
                connection = connect_postgres(self._postgres, self.database, **options)
        self._connections.add(connection)
        return connection

    @cached_property
    def engine(self) -> sqlalchemy.Engine:
        """A SQLAlchemy engine on the lesson's database; connections open when first needed."""
        import sqlalchemy

        self._check_open()
        url = sqlalchemy.URL.create(
            "postgresql+psycopg",
            username=self._postgres.user,
            host=self._postgres.host,
            port=self._postgres.port,
            database=self.database,
        )
        # The creator knows the password; the URL, which is easily printed, does not.
        return sqlalchemy.create_engine(url, creator=self.connection, pool_pre_ping=True)

    @cached_property
    def redis(self) -> Redis:
        """A redis-py client on the lesson's own logical database (answers are bytes)."""
        return self.redis_client()

    def redis_client(self, **options: Any) -> Redis:
        """Return a new redis-py client, with options such as ``decode_responses=True``.

        Raises:
            NoServerError: no source on this machine can provide Redis.
        """
        self._check_open()
        return connect_redis(self._redis_endpoint, self._redis_number, **options)

    def key(self, *parts: object) -> str:
        """Return a Redis key of this lesson's: ``pglab:<lesson>:part:part``.

        On a Redis of the learner's own, ``reset`` removes exactly the keys that begin so.
        """
        scope = self.scope
        if not scope and self._settings.redis_url is not None:  # others may use it, too
            scope = _learner()
        return ":".join([*filter(None, ["pglab", scope]), self.name, *map(str, parts)])

    def reset(self) -> None:
        """Put the database and the cache back to the lesson's beginning.

        Connections to the database end, this process's and others'; the SQL magics reconnect by
        themselves.

        Raises:
            LabClosedError: the lab was closed.
        """
        self._check_open()
        self._drop_connections()
        with self._admin() as admin, databases.locked(admin, self.database):
            template = self._template(admin)
            databases.drop(admin, self.database)
            templates.copy(admin, self.database, template)
        self.generation += 1
        self._reset_redis()

    def drop(self) -> None:
        """Remove the lesson's database and keys, and close; the next open begins anew."""
        self._check_open()
        self._drop_connections()
        with self._admin() as admin, databases.locked(admin, self.database):
            databases.drop(admin, self.database)
        self._reset_redis()
        self.close()

    def url(self, *, reveal: bool = False) -> str:
        """Return the database's URL for other tools; the password only if ``reveal``."""
        return self._postgres.url(self.database, reveal=reveal)

    @property
    def server(self) -> PostgresEndpoint:
        """The PostgreSQL server that the lesson runs on."""
        return self._postgres

    def close(self) -> None:
        """Close every connection; the database stays as it is. Doing so twice is harmless."""
        if self._closed:
            return
        self._drop_connections()
        if "redis" in self.__dict__:
            self.redis.close()
        for running in self._running.values():
            running.release()
        self._closed = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"PostgreSQL from {self._postgres.source}"
        return f"<Lab {self.name!r}, size {self.size!r}, database {self.database!r}, {state}>"

    # How it is done

    def _check_open(self) -> None:
        if self._closed:
            raise LabClosedError(
                f"the lab {self.name!r} is closed; open it again: pglab.open({self.name!r})"
            )

    @contextmanager
    def _admin(self) -> Iterator[psycopg.Connection[Any]]:
        # PostgreSQL never drops or copies the database that one is connected to.
        with connect_postgres(self._postgres, autocommit=True) as admin:
            yield admin

    def _attach(self) -> None:
        """Find the server or start it, and see that the lesson's database is there."""
        import psycopg

        for attempt in range(1, 4):
            self._postgres, running = ensure_postgres(self._settings)
            self._hold("postgres", running)
            self.scope = scope_of(self._settings, self._postgres)
            self.database = "_".join(["pglab", *filter(None, [self.scope]), self.name, self.size])
            try:
                self._make_database()
            except psycopg.OperationalError as error:
                # It answered a moment ago, and was just ending, or recovers from a crash.
                if not is_lost(error):
                    raise
                if attempt == 3:
                    raise ServerUnreachableError(
                        f"PostgreSQL ended the connection {attempt} times ({error}); "
                        "run: pglab status, and look into its log"
                    ) from error
            except ServerUnreachableError:
                if attempt == 3 or not self._postgres.managed:
                    raise
            else:
                return

    def _hold(self, kind: Kind, running: Running) -> None:
        before = self._running.get(kind)
        self._running[kind] = running
        if before is not None:
            before.release()

    def _template(self, admin: psycopg.Connection[Any]) -> str:
        return templates.ensure(
            self._postgres, admin, self.size, scope=self.scope, progress=self._progress
        )

    def _make_database(self) -> None:
        with self._admin() as admin:
            if not self._postgres.managed:
                check_version(admin.info.server_version)
            if databases.exists(admin, self.database):
                return
            with databases.locked(admin, self.database):
                if databases.exists(admin, self.database):
                    return
                template = self._template(admin)
                templates.copy(admin, self.database, template)

    def _leave_to_parent(self) -> None:
        # In a forked child: closing a connection would end it for the parent, too.
        if "engine" in self.__dict__:
            self.engine.dispose(close=False)
        self._connections = weakref.WeakSet()

    def _drop_connections(self) -> None:
        if "engine" in self.__dict__:
            self.engine.dispose()
        for connection in list(self._connections):
            with suppress(Exception):  # a broken connection is closed already
                connection.close()

    @cached_property
    def _redis_endpoint(self) -> RedisEndpoint:
        endpoint, running = ensure_redis(self._settings)
        self._hold("redis", running)
        return endpoint

    @cached_property
    def _redis_number(self) -> int:
        endpoint = self._redis_endpoint
        if not endpoint.managed:
            return 0
        unit = Unit(home_of(self._settings), "redis", endpoint.source)
        return _logical_database(unit, self.database)

    def _redis_may_hold_keys(self) -> bool:
        try:
            source = choose("redis", self._settings)
        except NoServerError:
            return False
        if source == "url":
            return True
        unit = Unit(home_of(self._settings), "redis", source)
        # A lesson that never used ours has no number there. Started just to be emptied, ours would
        # be empty: it saves nothing.
        return (
            self.database in _read_numbers(unit.path / "databases.json")
            and probe(unit).endpoint is not None
        )

    def _reset_redis(self) -> None:
        # Keys may be there from before, though this process has not used them yet.
        if "_redis_endpoint" not in self.__dict__ and not self._redis_may_hold_keys():
            return
        with self.redis_client() as client:
            if self._redis_endpoint.managed:
                client.flushdb()
                return
            for key in client.scan_iter(match=self.key("*"), count=1000):
                client.unlink(key)


def _logical_database(unit: Unit, name: str) -> int:
    # Redis has numbers instead of names; the list of who has which is ours, kept beside it.
    path = unit.path / "databases.json"
    with starting(unit):
        numbers = _read_numbers(path)
        if name not in numbers:
            free = set(range(1, DATABASES)) - set(numbers.values())
            if not free:
                raise LabError(
                    f"all {DATABASES - 1} logical databases of Redis are taken; run: pglab purge"
                )
            numbers[name] = min(free)
            write_private(path, json.dumps(numbers, indent=1) + "\n")
        return numbers[name]


def _read_numbers(path: Path) -> dict[str, int]:
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        numbers = None
    if isinstance(numbers, dict) and all(type(n) is int for n in numbers.values()):
        return numbers
    # Beginning a new list would give one number to two lessons that are open now.
    raise LabError(
        f"{path}, the list of the lessons' Redis databases, is spoilt; run: pglab down, remove "
        "that file, and open the lesson again (Redis is a cache here: nothing is lost)"
    )


def _lesson_name(name: str) -> str:
    plain = re.sub(r"^\d\d-", "", name).replace("-", "_")
    if re.fullmatch(r"[a-z][a-z0-9_]{0,23}", plain):
        return plain
    raise ConfigError(
        f"lesson {name!r} cannot name a database; use up to 24 lower-case letters, digits and "
        'dashes, such as "indexes"'
    )


def scope_of(settings: Settings, endpoint: PostgresEndpoint) -> str:
    """Return the word that sets this learner's databases apart; empty on a server of ours."""
    return settings.scope or ("" if endpoint.managed else _learner())


def _learner() -> str:
    # Two learners, or two checkouts, on one server of their own must not meet.
    who = f"{socket.gethostname()}:{os.environ.get('HOME', '')}:{os.path.realpath(sys.prefix)}"
    return hashlib.sha256(who.encode()).hexdigest()[:6]


def open_lab(name: str, size: str = "small", *, progress: bool = True) -> Lab:
    """Open a lesson's laboratory: find the running servers, or start them.

    The lesson gets a database of its own, copied from a template; what it holds lasts until
    ``lab.reset()``. In a notebook this also switches on ``%%sql``.

    Args:
        name: the lesson, such as ``"indexes"``.
        size: how many messages: ``empty`` (schema only), ``tiny`` (2 k), ``small`` (50 k),
            ``medium`` (1 M) or ``large`` (10 M).
        progress: show a progress bar when data are made for the first time.

    Raises:
        ConfigError: the name, the size or a variable of the environment cannot be used.
        NoServerError: no source on this machine can provide PostgreSQL.
        ServerError: it did not start, cannot be reached, or a permission is missing.
        LoadError: the data could not be loaded, or the disk is full.
    """
    lab = Lab(name, size, Settings.from_environment(), progress=progress)
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython

        if get_ipython() is not None:
            from pglab import notebook

            notebook.activate(lab)
    return lab
