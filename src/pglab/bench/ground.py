"""Where a benchmark takes place: a database of its own, and twins of the tables for each variant.

Nothing of the learner's is touched. A size gets a scratch database with the course's own rows; a
variant gets a schema in it with real twins of the tables, and a connection that finds them first.
When the run ends, however it ends, the database goes; one that a killed run left behind goes at
the next run's beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import psycopg
from psycopg import sql

from pglab import databases, schema
from pglab.bench.faults import end_of_run
from pglab.dataset import Dataset
from pglab.errors import BenchError, DiskFullError, PermissionMissingError
from pglab.load import load
from pglab.servers.connect import connect_postgres

if TYPE_CHECKING:
    import sqlalchemy
    from redis import Redis

    from pglab.bench.case import Case, Variant
    from pglab.bench.run_servers import Servers

__all__ = ["SESSION", "Ground", "Isolation", "Place"]

Isolation = Literal["AUTOCOMMIT", "READ COMMITTED"]

SESSION: Final = {
    # Workers would share the long scans, bend the curve of growth, and run on other cores.
    "max_parallel_workers_per_gather": "0",
    # Compiling a plan takes longer than most of what is measured here.
    "jit": "off",
    # A statement that lasts longer is no measurement but an accident.
    "statement_timeout": "120s",
}
"""Settings of every measured connection; they are part of the results."""

# Rows and indexes as the loader leaves them, with the log that a checkpoint has not yet let go.
_BYTES_PER_MESSAGE: Final = 800
_TWIN_BYTES_PER_MESSAGE: Final = 700


@dataclass
class Place:
    """A variant's own ground at one size.

    Attributes:
        connection: autocommit, the twins' schema first in its search path.
        schema: that schema.
        size: messages.
        seed: of whatever is drawn.
        prefix: what the variant's Redis keys begin with; whatever does is removed at the end.
    """

    connection: psycopg.Connection[Any]
    schema: str
    size: int
    seed: int
    prefix: str
    _ground: Ground
    _stack: ExitStack = field(default_factory=ExitStack)
    _further: list[psycopg.Connection[Any]] = field(default_factory=list, init=False)

    @property
    def connections(self) -> Sequence[psycopg.Connection[Any]]:
        """All connections of this place that are open."""
        return [each for each in (self.connection, *self._further) if not each.closed]

    def connect(self) -> psycopg.Connection[Any]:
        """Open one more connection like ``connection``; it is closed with the place."""
        connection = self._ground.connection(self.schema)
        self._further.append(connection)
        self._stack.callback(connection.close)
        return connection

    def redis(self, **options: Any) -> Redis:
        """Return a redis-py client; keys should begin with ``prefix``.

        Raises:
            NoServerError: no source on this machine can provide Redis.
        """
        client = self._ground.servers.redis(**options)
        self._stack.callback(client.close)
        return client

    def sqlalchemy_connection(self) -> sqlalchemy.Connection:
        """Return a held SQLAlchemy connection, autocommit, on the variant's twins."""
        return self._stack.enter_context(self.engine().connect())

    def engine(self, isolation_level: Isolation = "AUTOCOMMIT") -> sqlalchemy.Engine:
        """Return a SQLAlchemy engine on the variant's twins; autocommit unless asked otherwise."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            isolation_level=isolation_level,
        )
        self._stack.callback(engine.dispose)
        return engine

    @staticmethod
    def raw(connection: sqlalchemy.Connection) -> psycopg.Connection[Any]:
        """Return the psycopg connection below SQLAlchemy's."""
        found: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        return found

    def release(self) -> None:
        """Close what was opened through this place."""
        self._stack.close()

    def close(self) -> None:
        """Close what was opened, and the connection."""
        self.release()
        self.connection.close()


class Ground:
    """A scratch database that holds the course's rows of one size."""

    def __init__(self, servers: Servers, size: int, seed: int) -> None:
        self.servers = servers
        self.size = size
        self.seed = seed
        words = ["pglab", *filter(None, [servers.scope]), "bench", servers.token, str(size)]
        self.database = "_".join(words)
        self._numbers = 0

    @classmethod
    @contextmanager
    def opened(
        cls, servers: Servers, size: int, seed: int, twins: int, *, progress: bool = True
    ) -> Iterator[Ground]:
        """Make the database and fill it; drop it at the end.

        Args:
            servers: where.
            size: messages.
            seed: of the dataset.
            twins: how many twins will be there at a time, for the space they need.
            progress: show a bar while rows are loaded.

        Raises:
            DiskFullError: there is not room enough, or the disk became full.
            LoadError: the rows could not be loaded.
        """
        ground = cls(servers, size, seed)
        with servers.admin() as admin:
            _drop_leftovers(servers, admin)
            ground.check_room(admin, twins)
            # Held until the end: it tells others that this database is not left over.
            with databases.locked(admin, ground.database):
                try:
                    # Named before it is filled, so that a later run knows it if we are killed.
                    databases.create(admin, ground.database)
                    ground.fill(progress)
                    yield ground
                finally:
                    ground.drop()

    def drop(self) -> None:
        """Drop the database, if the server is still there."""
        # On a connection of its own: the one that holds the lock may have died in mid-run.
        with suppress(psycopg.Error, ConnectionError), self.servers.admin() as admin:
            databases.drop(admin, self.database)

    def fill(self, progress: bool) -> None:
        """Load the course's rows."""
        with self.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            schema.create(connection)
            load(connection, Dataset(self.size, self.seed), progress=progress)
            connection.execute("VACUUM (ANALYZE)")

    def check_room(self, admin: psycopg.Connection[Any], twins: int) -> None:
        """Refuse a size that the disk cannot hold, as far as it can be seen from here.

        Raises:
            DiskFullError: there is too little room.
        """
        needed = self.size * (_BYTES_PER_MESSAGE + twins * _TWIN_BYTES_PER_MESSAGE)
        free = self.servers.free_bytes(admin)
        if free is not None and needed > free:
            raise DiskFullError(
                f"{self.size:,} messages with {twins} twins need some {needed / 1e9:.1f} GB, and "
                f"the disk of the PostgreSQL server has {free / 1e9:.1f} GB free; choose a "
                "smaller --size, or make room"
            )

    @contextmanager
    def connect(self, schema_name: str = "public") -> Iterator[psycopg.Connection[Any]]:
        """Open a measured connection; a schema of a variant comes first in its search path."""
        connection = self.connection(schema_name)
        try:
            yield connection
        finally:
            connection.close()

    def connection(self, schema_name: str = "public") -> psycopg.Connection[Any]:
        """Return a measured connection that the caller closes."""
        connection = connect_postgres(
            self.servers.postgres,
            self.database,
            autocommit=True,
            application_name="pglab bench",
        )
        for name, value in SESSION.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        path = sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys([schema_name, "public"])))
        connection.execute(sql.SQL("SET search_path = {}").format(path))
        return connection

    @contextmanager
    def place(self, case: Case, variant: Variant) -> Iterator[Place]:
        """Make a variant's twins and run its set-up; all of it goes at the end.

        Raises:
            BenchError: the set-up fails.
            DiskFullError: the disk became full.
        """
        self._numbers += 1
        name = f"v{self._numbers}"
        place = None
        try:
            with self.connect() as builder:
                self._build(builder, name, case, variant)
            prefix = f"{self.servers.prefix}:{name}"
            place = Place(self.connection(name), name, self.size, self.seed, prefix, self)
            yield place
        finally:
            if place is not None:
                place.close()
            # The database goes in any case; this only makes room for the next case.
            with suppress(psycopg.Error, ConnectionError), self.connect() as builder:
                doomed = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
                builder.execute(doomed)

    def _build(
        self, builder: psycopg.Connection[Any], name: str, case: Case, variant: Variant
    ) -> None:
        builder.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        builder.execute("SET statement_timeout = 0")
        builder.execute("SELECT set_config('maintenance_work_mem', '256MB', false)")
        twins = {**case.twins, **variant.twins}
        try:
            for table, query in twins.items():
                # The SELECT finds the course's tables: the twins are not in the path yet.
                create = sql.SQL("CREATE TABLE {}.{} WITH (autovacuum_enabled = off) AS {}").format(
                    sql.Identifier(name),
                    sql.Identifier(table),
                    sql.SQL(query.replace("{size}", str(self.size))),
                )
                builder.execute(create)
            path = sql.SQL("SET search_path = {}, public").format(sql.Identifier(name))
            builder.execute(path)
            for statement in variant.setup:
                builder.execute(statement.replace("{size}", str(self.size)).encode())
            for table in twins:
                builder.execute(
                    sql.SQL("VACUUM (ANALYZE) {}.{}").format(
                        sql.Identifier(name), sql.Identifier(table)
                    )
                )
        except psycopg.errors.DiskFull as error:
            raise DiskFullError(
                f"the disk of the PostgreSQL server became full while the twins of "
                f"{variant.name!r} were made ({error}); choose a smaller --size, or make room"
            ) from None
        except psycopg.Error as error:
            if end_of_run(error) is not None:
                raise
            raise BenchError(
                f"case {case.name!r}: the set-up of {variant.name!r} fails: {error}"
            ) from error


def _drop_leftovers(servers: Servers, admin: psycopg.Connection[Any]) -> None:
    prefix = "_".join(["pglab", *filter(None, [servers.scope]), "bench", ""])
    # A lesson may be called "bench", too: its database ends with a size's name.
    ours = re.compile(f"{re.escape(prefix)}[0-9a-f]{{8}}_[0-9]+")
    for name in filter(ours.fullmatch, databases.made_by_us(admin, prefix)):
        # Another role's is that role's to drop.
        with suppress(PermissionMissingError), databases.unlocked(admin, name) as free:
            if free:
                databases.drop(admin, name)
