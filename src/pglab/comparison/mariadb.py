"""MariaDB (or MySQL, by a URL), through PyMySQL."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pglab.comparison.contract import AS_INSTALLED, EngineMissingError, Refused, Setup, Why
from pglab.comparison.sql_session import SqlSession, naive_utc

if TYPE_CHECKING:
    import pymysql
    from pymysql.connections import Connection
else:
    try:
        import pymysql
    except ImportError:  # said by MariadbEngine
        pymysql = None

__all__ = ["GENERATED", "MYISAM", "SERIALIZABLE", "MariadbEngine"]

SERIALIZABLE: Final = "SERIALIZABLE"
MYISAM: Final = "MyISAM tables"
GENERATED: Final = "generated column"

_DATABASE = "pglab_comparison"
_PATH_INDEX = (
    "ALTER TABLE messages ADD event_id varchar(40) AS (JSON_VALUE(event, '$.id')) VIRTUAL, "
    "ADD INDEX messages_event (event_id)"
)
_TABLES = """
CREATE TABLE instances (
    name varchar(100) PRIMARY KEY, state varchar(20) NOT NULL, received integer NOT NULL);
CREATE TABLE chats (
    id bigint PRIMARY KEY, instance varchar(100) NOT NULL, jid varchar(100) NOT NULL,
    name varchar(200), FOREIGN KEY (instance) REFERENCES instances (name));
CREATE TABLE messages (
    id bigint PRIMARY KEY, instance varchar(100) NOT NULL, chat bigint NOT NULL,
    whatsapp_id varchar(40) NOT NULL, from_me boolean NOT NULL,
    status varchar(20) NOT NULL
        CHECK (status IN ('error', 'pending', 'server_ack', 'delivery_ack', 'read', 'played')),
    body text, event json NOT NULL, sent_at datetime(6) NOT NULL,
    UNIQUE (instance, whatsapp_id),
    FOREIGN KEY (instance) REFERENCES instances (name), FOREIGN KEY (chat) REFERENCES chats (id));
CREATE INDEX messages_inbox ON messages (instance, chat, sent_at)
"""
# https://mariadb.com/kb/en/mariadb-error-codes/; 3819 and 3140 are MySQL's.
_WHY: Final[Mapping[int, Why]] = {
    **dict.fromkeys((1205,), "wait"),
    **dict.fromkeys((1213, 1020), "conflict"),
    **dict.fromkeys((1048, 1062, 1364, 1451, 1452, 3819), "rule"),
    **dict.fromkeys((1264, 1292, 1366, 1406, 3140), "value"),
}
# A CHECK; MariaDB makes one for each JSON column, named after the column.
_CHECK, _JSON_CHECK = 4025, "`messages.event`"


class MariadbEngine:
    """A database of our own on a server.

    Args:
        parameters: of ``pymysql.connect``; the password may be among them.

    Raises:
        EngineMissingError: PyMySQL is not installed, or nothing answers.
    """

    name = "mysql"
    library = False
    setups: Mapping[str, Setup] = {
        AS_INSTALLED: Setup("nothing is changed"),
        SERIALIZABLE: Setup(
            "transactions ask for ISOLATION LEVEL SERIALIZABLE", frozenset({"no_anomaly"})
        ),
        GENERATED: Setup(
            "the path is known beforehand, and has a generated column with an index",
            frozenset({"finds_in_json"}),
        ),
        MYISAM: Setup(
            "no table is made with ENGINE = MyISAM",
            frozenset({"all_or_nothing", "broken_rules", "no_anomaly", "survives_kill"}),
            spoils=True,
        ),
    }

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        if pymysql is None:
            raise EngineMissingError("PyMySQL is not installed; run: pip install pymysql")
        self._parameters = dict(parameters)
        try:
            with contextlib.closing(self._connection(None)) as connection:
                said = str(connection.get_server_info())  # type: ignore[no-untyped-call]
        except pymysql.MySQLError as error:
            raise EngineMissingError(
                f"MariaDB does not answer ({error.args[-1]}); see that it runs, and that address "
                "and password in PGLAB_MARIADB_URL are right"
            ) from None
        self.product = "MariaDB" if "MariaDB" in said else "MySQL"
        self.version = said.removeprefix("5.5.5-").split("-")[0]

    def _connection(self, database: str | None, **options: Any) -> Connection[Any]:
        return pymysql.connect(
            **self._parameters,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=10,
            **options,
        )

    def prepare(self, setup: str) -> None:
        """Make the tables anew."""
        kind = "MyISAM" if setup == MYISAM else "InnoDB"
        with contextlib.closing(self._connection(None)) as connection:
            cursor = connection.cursor()
            for statement in (
                f"DROP DATABASE IF EXISTS {_DATABASE}",
                f"CREATE DATABASE {_DATABASE} CHARACTER SET utf8mb4",
                f"USE {_DATABASE}",
                f"SET default_storage_engine = {kind}",
                *_TABLES.split(";"),
            ):
                cursor.execute(statement)

    def index_json(self, setup: str) -> None:
        """Make an index on one path, where this set-up knows it beforehand."""
        if setup == GENERATED:
            with contextlib.closing(self._connection(_DATABASE)) as connection:
                connection.cursor().execute(_PATH_INDEX)

    def connect(self, setup: str, *, patient: bool = False) -> MariadbSession:
        """Open a connection."""
        commands = ["SET time_zone = '+00:00'"]
        if not patient:
            commands.append("SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1")
        if setup == SERIALIZABLE:
            commands.append("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        if setup == MYISAM:
            commands.append("SET default_storage_engine = MyISAM")
        connection = self._connection(_DATABASE)
        with connection.cursor() as cursor:
            for command in commands:
                cursor.execute(command)
        return MariadbSession(connection, by_column=setup == GENERATED)

    def settings(self) -> int:
        """Return how many settings it knows."""
        with (
            contextlib.closing(self._connection(None)) as connection,
            connection.cursor() as cursor,
        ):
            return int(cursor.execute("SHOW GLOBAL VARIABLES"))

    def json_kind(self) -> str:
        """Return the type of the column for JSON, as the catalogue has it."""
        with (
            contextlib.closing(self._connection(None)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "SELECT column_type FROM information_schema.columns WHERE table_schema = %s "
                "AND table_name = 'messages' AND column_name = 'event'",
                [_DATABASE],
            )
            row = cursor.fetchone()
        return f"declared json, made as {row[0]}" if row else ""

    def clear(self) -> None:
        """Remove the database."""
        with (
            contextlib.closing(self._connection(None)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"DROP DATABASE IF EXISTS {_DATABASE}")

    def address(self) -> dict[str, Any]:
        """Return PyMySQL's parameters."""
        return dict(self._parameters)


class MariadbSession(SqlSession):
    """One connection of MariaDB's."""

    def __init__(self, connection: Connection[Any], *, by_column: bool) -> None:
        self._connection = connection
        self._by_column = by_column

    def bound(self, value: Any) -> Any:
        """Return a value as MariaDB takes it: its times have no zone."""
        return naive_utc(value) if isinstance(value, datetime) else super().bound(value)

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, tuple(values) or None)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise _refused(error) from error

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for all rows; PyMySQL makes statements of many rows of it."""
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(sql, rows)
        except pymysql.MySQLError as error:
            raise _refused(error) from error

    def begin(self) -> None:
        """Begin a transaction."""
        self.run("START TRANSACTION")

    def rollback(self) -> None:
        """Undo the transaction."""
        if self._connection.open:
            self.run("ROLLBACK")

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        return {str(name) for (name,) in self.run("SHOW TABLES")}

    def by_id_in_json(self, identifier: str) -> tuple[int, int]:
        """Ask the JSON by containment, and count the rows that the storage engine handed out."""
        asked = "SELECT count(*) FROM messages WHERE JSON_CONTAINS(event, %s)"
        wanted = self.bound({"id": identifier})
        if self._by_column:
            asked, wanted = "SELECT count(*) FROM messages WHERE event_id = %s", identifier
        self.run(asked, [wanted])  # the first time, statistics of the table are read and counted
        before = self._handed_out()
        found = int(self.run(asked, [wanted])[0][0])
        counting = self._handed_out()
        itself = self._handed_out() - counting  # to ask for the counters is counted, too
        # The last step finds no row: it is not one that was looked at.
        return found, counting - before - itself - 1

    def _handed_out(self) -> int:
        rows = self.run("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(n) for name, n in rows if name.endswith(("_key", "_next")))

    def close(self) -> None:
        """Close it."""
        if self._connection.open:
            with contextlib.suppress(pymysql.MySQLError, OSError):
                self._connection.close()


def _refused(error: pymysql.MySQLError) -> Refused:
    code = error.args[0] if error.args else 0
    said = str(error.args[-1]) if error.args else str(error)
    if code == _CHECK:
        return Refused(said, "value" if _JSON_CHECK in said else "rule")
    return Refused(said, _WHY.get(code, "other"))
