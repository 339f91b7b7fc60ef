"""Asking a server: one measure, or all of them, without disturbing it.

Every question runs in a read-only transaction, with a limit for its time and a short one for
waiting on locks, and with a search path that nobody can have put anything in. What the role may
not see, or the server does not have, is skipped and named.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import pq, sql
from psycopg.rows import dict_row, tuple_row

from pglab.errors import ServerUnreachableError
from pglab.monitor.catalogue import SURVEY, find
from pglab.monitor.measure import Measure, Reading

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Server", "ask", "look", "recognise", "survey"]

Connection = psycopg.Connection[Any]

_TIMEOUT_MS: Final = 2_000
_READING_TIMEOUT_MS: Final = 60_000
_LOCK_TIMEOUT_MS: Final = 100

# JIT: for a planner, views over functions look expensive; compiling takes longer than running.
_SETTINGS: Final = f"""\
SELECT pg_catalog.set_config(s.name, s.value, true)
FROM (VALUES ('search_path', 'pg_catalog, pg_temp'), ('transaction_read_only', 'on'),
             ('statement_timeout', '{_TIMEOUT_MS}'), ('lock_timeout', '{_LOCK_TIMEOUT_MS}'),
             ('jit', 'off'), ('max_parallel_workers_per_gather', '0')) AS s(name, value)"""  # noqa: S608 (words of ours)

_SERVER: Final = """\
SELECT pg_catalog.current_setting('server_version_num')::int,
       current_user::text,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles AS r
             WHERE r.rolname IN ('pg_read_all_stats', 'pg_stat_scan_tables')
               AND pg_catalog.pg_has_role(r.oid, 'USAGE')),
       ARRAY(SELECT ARRAY[e.extname, n.nspname, e.extversion]::text[]
             FROM pg_catalog.pg_extension AS e
             JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace),
       pg_catalog.clock_timestamp()"""


@dataclass(frozen=True)
class Server:
    """What decides which questions can be asked.

    Attributes:
        version: as ``server_version_num``, such as 170010.
        role: who asks.
        roles: those of the predefined roles that he has and measures need.
        extensions: name → schema and version.
        now: its clock.
    """

    version: int
    role: str
    roles: frozenset[str]
    extensions: dict[str, tuple[str, tuple[int, int]]]
    now: datetime


def look(connection: Connection, name: str) -> Reading:
    """Ask one measure.

    Args:
        connection: to any database of a PostgreSQL server, 15 or later. What it has begun goes on
            undisturbed.
        name: such as "connections"; ``MEASURES`` has them all.

    Raises:
        ConfigError: there is no such measure.
        ServerUnreachableError: the connection is lost.
    """
    return ask(connection, [name])[0]


def survey(connection: Connection, names: Iterable[str] = SURVEY) -> list[Reading]:
    """Ask all measures that read no tables, or those that are named.

    Raises:
        ConfigError: there is no such measure.
        ServerUnreachableError: the connection is lost.
    """
    return ask(connection, names)


def recognise(connection: Connection) -> Server:
    """Return the server's version, the role's rights and the extensions that are there.

    Raises:
        ServerUnreachableError: the connection is lost.
    """
    with _quiet(connection):
        return _recognise(connection)


def _recognise(connection: Connection) -> Server:
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_SERVER).fetchone()
    assert row is not None  # noqa: S101 - a query without FROM has one row
    version, role, roles, extensions, now = row
    return Server(
        version,
        role,
        frozenset(roles),
        {name: (schema, _version(text)) for name, schema, text in extensions},
        now,
    )


def _version(text: str) -> tuple[int, int]:
    """Return an extension's version as numbers; ``1.12`` is later than ``1.9``."""
    parts = [int(part) for part in text.split(".") if part.isdecimal()]
    return (*parts, 0, 0)[:2]  # type: ignore[return-value]


def ask(
    connection: Connection, names: Iterable[str], server: Server | None = None
) -> list[Reading]:
    """Ask measures one after another in one transaction, so that they see one moment.

    Args:
        connection: as for ``look``.
        names: which measures.
        server: what ``recognise`` said; asked again if omitted.

    Raises:
        ConfigError: there is no such measure.
        ServerUnreachableError: the connection is lost.
    """
    measures = find(names)
    readings: list[Reading] = []
    while len(readings) < len(measures):
        with _quiet(connection):
            known = server or _recognise(connection)
            now = _now(connection) if server else known.now
            # After an error the transaction is over; the next round goes on behind it.
            for measure in measures[len(readings) :]:
                reading, failed = _ask(connection, measure, known, now)
                readings.append(reading)
                if failed:
                    break
    return readings


def _ask(
    connection: Connection, measure: Measure, server: Server, now: datetime
) -> tuple[Reading, bool]:
    missing = _missing(measure, server)
    if missing:
        return Reading(measure=measure, skipped=missing, at=now), False
    schema, version = server.extensions.get(measure.extension, ("", (0, 0)))
    text = measure.sql(server.version, version)
    assert text is not None  # noqa: S101 - _missing looked
    if measure.extension:
        text = text.replace("{extension}", sql.Identifier(schema).as_string(connection))
    began = time.perf_counter()
    try:
        with _given_time(connection, measure), connection.cursor(row_factory=dict_row) as cursor:
            rows = tuple(cursor.execute(text.encode()).fetchall())
    except psycopg.OperationalError as error:
        # A time-out is operational, too; a lost connection has no way back.
        if connection.closed or connection.broken:
            raise
        return Reading(measure=measure, skipped=_reason(error, measure, server), at=now), True
    except psycopg.Error as error:
        return Reading(measure=measure, skipped=_reason(error, measure, server), at=now), True
    took_ms = 1000 * (time.perf_counter() - began)
    return Reading(measure=measure, rows=rows, took_ms=took_ms, at=now), False


@contextmanager
def _given_time(connection: Connection, measure: Measure) -> Iterator[None]:
    """Let what reads whole tables take longer: somebody asked for it by name."""
    if not measure.reads_tables:
        yield
        return
    limit = "SELECT pg_catalog.set_config('statement_timeout', %s, true)"
    connection.execute(limit, [str(_READING_TIMEOUT_MS)])
    yield  # an error ends the transaction, and the limit with it
    connection.execute(limit, [str(_TIMEOUT_MS)])


def _now(connection: Connection) -> datetime:
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a query without FROM has one row
    now: datetime = row[0]
    return now


def _missing(measure: Measure, server: Server) -> str:
    """Return what keeps a measure from being asked, with the remedy; empty if nothing does."""
    if measure.role and measure.role not in server.roles:
        who = sql.Identifier(server.role).as_string(None)
        return f"needs the role {measure.role}; a superuser says: GRANT pg_monitor TO {who}"
    if measure.extension and measure.extension not in server.extensions:
        return (
            f"needs the extension {measure.extension}; its owner says: "
            f"CREATE EXTENSION {measure.extension}"
        )
    version = server.extensions.get(measure.extension, ("", (0, 0)))[1]
    if measure.sql(server.version, version) is None:
        if measure.extension and version < min(each.extension for each in measure.variants):
            return (
                f"the extension {measure.extension} is too old; its owner says: "
                f"ALTER EXTENSION {measure.extension} UPDATE"
            )
        return f"needs PostgreSQL {measure.oldest}; this is {server.version // 10_000}"
    return ""


def _reason(error: psycopg.Error, measure: Measure, server: Server) -> str:
    said = error.diag.message_primary or str(error)
    if isinstance(error, psycopg.errors.QueryCanceled):
        limit_ms = _READING_TIMEOUT_MS if measure.reads_tables else _TIMEOUT_MS
        return f"took longer than {limit_ms / 1000:.0f} s, and was given up"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "somebody holds a table for himself; see lock_waits and blocking_tree"
    # The words may be translated; the setting's name is not.
    if (
        isinstance(error, psycopg.errors.ObjectNotInPrerequisiteState)
        and "shared_preload_libraries" in said
    ):
        return f"{said}; add it there and restart the server"
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and measure.extension:
        schema = sql.Identifier(server.extensions[measure.extension][0]).as_string(None)
        who = sql.Identifier(server.role).as_string(None)
        return f"{said}; its owner says: GRANT USAGE ON SCHEMA {schema} TO {who}"
    return said


@contextmanager
def _quiet(connection: Connection) -> Iterator[None]:
    """Hold a transaction that changes nothing; in one that has begun, a savepoint that goes."""
    state = connection.info.transaction_status
    inside = state != pq.TransactionStatus.IDLE
    try:
        # What is set inside a transaction of the caller's must not stay; alone, it ends with ours,
        # and a rollback would count as somebody's failure.
        with connection.transaction(force_rollback=inside):
            connection.execute(_SETTINGS)
            yield
            if connection.info.transaction_status == pq.TransactionStatus.INERROR:
                raise psycopg.Rollback
    except psycopg.OperationalError as error:
        raise ServerUnreachableError(
            f"the server does not answer any more ({_first_line(error)}); run: pglab status"
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
