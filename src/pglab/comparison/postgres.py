"""PostgreSQL, through psycopg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from pglab.comparison.contract import AS_INSTALLED, Refused, Setup
from pglab.comparison.sql_session import SqlSession
from pglab.servers.connect import without_libpq_variables

__all__ = ["SERIALIZABLE", "PostgresEngine"]

SERIALIZABLE: Final = "SERIALIZABLE"

_WAIT = "300ms"
_SCHEMA = "comparison"
_TABLES = """
CREATE TABLE instances (
    name varchar(100) PRIMARY KEY, state varchar(20) NOT NULL, received integer NOT NULL);
CREATE TABLE chats (
    id bigint PRIMARY KEY, instance varchar(100) NOT NULL REFERENCES instances,
    jid varchar(100) NOT NULL, name varchar(200));
CREATE TABLE messages (
    id bigint PRIMARY KEY, instance varchar(100) NOT NULL REFERENCES instances,
    chat bigint NOT NULL REFERENCES chats, whatsapp_id varchar(40) NOT NULL,
    from_me boolean NOT NULL,
    status varchar(20) NOT NULL
        CHECK (status IN ('error', 'pending', 'server_ack', 'delivery_ack', 'read', 'played')),
    body text, event jsonb NOT NULL, sent_at timestamptz NOT NULL,
    UNIQUE (instance, whatsapp_id));
CREATE INDEX messages_inbox ON messages (instance, chat, sent_at);
"""
_LOOKED_AT = ("Bitmap Heap Scan", "Seq Scan", "Index Scan")


class PostgresEngine:
    """A schema of our own in a database.

    Args:
        parameters: of libpq; the password may be among them.
    """

    name = "postgres"
    product = "PostgreSQL"
    library = False
    setups: Mapping[str, Setup] = {
        AS_INSTALLED: Setup("nothing is changed"),
        SERIALIZABLE: Setup(
            "transactions ask for ISOLATION LEVEL SERIALIZABLE", frozenset({"no_anomaly"})
        ),
    }

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = dict(parameters)
        with self._connection() as connection:
            self.version = str(connection.info.parameter_status("server_version")).split()[0]

    def _connection(self) -> psycopg.Connection[Any]:
        with without_libpq_variables():
            return psycopg.connect(
                **cast("dict[str, Any]", self._parameters),
                autocommit=True,
                application_name="pglab comparison",
                options=f"-c search_path={_SCHEMA} -c lock_timeout={_WAIT}",
            )

    def prepare(self, setup: str) -> None:
        """Make the tables anew; both set-ups have the same."""
        del setup
        with self._connection() as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
            connection.execute(f"CREATE SCHEMA {_SCHEMA}")
            connection.execute(_TABLES)

    def index_json(self, setup: str) -> None:
        """Make one index over every path of the JSON."""
        del setup
        with self._connection() as connection:
            connection.execute(
                "CREATE INDEX messages_event ON messages USING gin (event jsonb_path_ops)"
            )

    def connect(self, setup: str, *, patient: bool = False) -> PostgresSession:
        """Open a connection."""
        connection = self._connection()
        if patient:
            connection.execute("SET lock_timeout = 0")
        return PostgresSession(connection, serializable=setup == SERIALIZABLE)

    def settings(self) -> int:
        """Return how many settings it knows."""
        with self._connection() as connection:
            row = connection.execute("SELECT count(*) FROM pg_settings").fetchone()
        return int(row[0]) if row else 0

    def json_kind(self) -> str:
        """Return the type of the column for JSON."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT format_type(atttypid, NULL), "
                "(SELECT amname FROM pg_am JOIN pg_class ON relam = pg_am.oid "
                " WHERE pg_class.oid = 'messages_event'::regclass) "
                "FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'event'"
            ).fetchone()
        return f"{row[0]}, with a {row[1]} index over all of it" if row else ""

    def clear(self) -> None:
        """Remove the schema."""
        with self._connection() as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")

    def address(self) -> dict[str, Any]:
        """Return libpq's parameters."""
        return dict(self._parameters)


class PostgresSession(SqlSession):
    """One connection of PostgreSQL's."""

    def __init__(self, connection: psycopg.Connection[Any], *, serializable: bool) -> None:
        self._connection = connection
        self._begin = "BEGIN ISOLATION LEVEL SERIALIZABLE" if serializable else "BEGIN"

    def bound(self, value: Any) -> Any:
        """Return a value as psycopg takes it."""
        return Jsonb(value) if isinstance(value, dict) else value

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        try:
            cursor = self._connection.execute(cast("Any", sql), values or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise _refused(error) from error

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of the rows, without waiting for each answer."""
        try:
            self._connection.cursor().executemany(cast("Any", sql), rows)
        except psycopg.Error as error:
            raise _refused(error) from error

    def begin(self) -> None:
        """Begin a transaction."""
        self.run(self._begin)

    def rollback(self) -> None:
        """Undo the transaction."""
        if not self._connection.closed and self._connection.info.transaction_status != 0:
            self.run("ROLLBACK")

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        found = self.run("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return {name for (name,) in found}

    def by_id_in_json(self, identifier: str) -> tuple[int, int]:
        """Ask the JSON by containment."""
        wanted = Jsonb({"id": identifier})
        self.run("VACUUM ANALYZE messages")
        asked = "SELECT count(*) FROM messages WHERE event @> %s"
        plan = self.run(f"EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) {asked}", [wanted])
        return int(self.run(asked, [wanted])[0][0]), _rows_looked_at(plan[0][0][0]["Plan"])

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def _rows_looked_at(plan: Mapping[str, Any]) -> int:
    own = 0
    if plan["Node Type"] in _LOOKED_AT:
        removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        own = int(plan["Actual Rows"]) + sum(int(plan.get(name, 0)) for name in removed)
    return own + sum(_rows_looked_at(below) for below in plan.get("Plans", ()))


def _refused(error: psycopg.Error) -> Refused:
    said = (error.diag.message_primary or str(error)).strip()
    if isinstance(error, errors.LockNotAvailable):
        return Refused(said, "wait")
    if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
        return Refused(said, "conflict")
    if isinstance(error, psycopg.IntegrityError):
        return Refused(said, "rule")
    if isinstance(error, psycopg.DataError) or error.sqlstate == "42804":
        return Refused(said, "value")
    return Refused(said, "other")
