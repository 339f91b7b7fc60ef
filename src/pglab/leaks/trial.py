"""Where a key shows that a statement brings along: each way of sending it, in each place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql

from pglab.leaks.finding import Finding

__all__ = ["PLACES", "WAYS", "Place", "trial"]

Connection = psycopg.Connection[Any]

_USE: Final = "SELECT pgp_sym_decrypt(body, {key}) FROM pglab_leaks WHERE id = {row}"
_WRONG_KEY_OR_CORRUPT: Final = psycopg.errors.ExternalRoutineInvocationException
_TABLE: Final = """
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
DROP TABLE IF EXISTS pglab_leaks;
CREATE TABLE pglab_leaks (id integer PRIMARY KEY, body bytea NOT NULL);
"""
_ROW: Final = "INSERT INTO pglab_leaks VALUES (%s, pgp_sym_encrypt('a body', %s))"
_ACTIVITY: Final = "SELECT query FROM pg_stat_activity WHERE pid = %s"
_STATEMENTS: Final = "SELECT query FROM pg_stat_statements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somewhere that a key may show.

    Attributes:
        name: for people.
        look: ``activity`` and ``statements`` are the server's views, ``log`` is its log.
        settings: the server's settings meanwhile, where they are not the defaults.
        load: a library that the session loads first.
        fails: the statement is one that fails: the row does not open with any key.
    """

    name: str
    look: Literal["activity", "statements", "log"]
    settings: Mapping[str, str] = field(default_factory=dict)
    load: str | None = None
    fails: bool = False


_NO_PARAMETERS: Final = {"log_parameter_max_length": "0"}
_EXPLAIN: Final = {"auto_explain.log_min_duration": "0"}
_EXPLAIN_WITHOUT: Final = {**_EXPLAIN, "auto_explain.log_parameter_max_length": "0"}

PLACES: Final = (
    Place(name="pg_stat_activity", look="activity"),
    Place(name="pg_stat_statements", look="statements"),
    Place(name="log, default settings", look="log"),
    Place(name="log, default settings, statement fails", look="log", fails=True),
    Place(
        name="log, log_parameter_max_length_on_error = -1, statement fails",
        look="log",
        settings={"log_parameter_max_length_on_error": "-1"},
        fails=True,
    ),
    Place(name="log_statement = all", look="log", settings={"log_statement": "all"}),
    Place(
        name="log_statement = all, log_parameter_max_length = 0",
        look="log",
        settings={"log_statement": "all", **_NO_PARAMETERS},
    ),
    Place(
        name="log_min_duration_statement = 0",
        look="log",
        settings={"log_min_duration_statement": "0"},
    ),
    Place(
        name="log_min_duration_statement = 0, log_parameter_max_length = 0",
        look="log",
        settings={"log_min_duration_statement": "0", **_NO_PARAMETERS},
    ),
    Place(name="auto_explain", look="log", load="auto_explain", settings=_EXPLAIN),
    Place(
        name="auto_explain, its log_parameter_max_length = 0",
        look="log",
        load="auto_explain",
        settings=_EXPLAIN_WITHOUT,
    ),
    Place(
        name="auto_explain, the same, and its log_verbose = on",
        look="log",
        load="auto_explain",
        settings={**_EXPLAIN_WITHOUT, "auto_explain.log_verbose": "on"},
    ),
)
"""The places of a trial; the settings are those of PostgreSQL 16 and later."""


Sent = tuple[sql.Composed, type[psycopg.Cursor[Any]], list[Any] | None]


def _in_the_text(key: str, row: int) -> list[Sent]:
    return [(_use(sql.Literal(key), sql.Literal(row)), psycopg.Cursor, None)]


def _by_the_client(key: str, row: int) -> list[Sent]:
    # As psycopg2 always does it: the client writes the values into the text.
    return [(_use(sql.Placeholder(), sql.Placeholder()), psycopg.ClientCursor, [key, row])]


def _setting(key: str, row: int) -> list[Sent]:
    told = sql.SQL("SET app.key = {}").format(sql.Literal(key))
    used = _use(sql.SQL("current_setting('app.key')"), sql.Literal(row))
    return [(told, psycopg.Cursor, None), (used, psycopg.Cursor, None)]


def _by_the_server(key: str, row: int) -> list[Sent]:
    return [(_use(sql.Placeholder(), sql.Placeholder()), psycopg.Cursor, [key, row])]


def _use(key: sql.Composable, row: sql.Composable) -> sql.Composed:
    return sql.SQL(_USE).format(key=key, row=row)


WAYS: Final[Mapping[str, Callable[[str, int], list[Sent]]]] = {
    "in the text": _in_the_text,
    "bound by the client": _by_the_client,
    "SET, then used": _setting,
    "bound by the server": _by_the_server,
}
"""How a key can reach the server: the statements, the cursor that sends them, their parameters."""


def trial(
    connect: Callable[[], Connection],
    read_log: Callable[[], str],
    *,
    key: str,
    places: Iterable[Place] = PLACES,
) -> list[Finding]:
    """Decrypt a value once for each place and way, and look there for the key.

    Args:
        connect: opens a connection as a superuser, to a database where a table ``pglab_leaks``
            may be made. The server preloads pg_stat_statements.
        read_log: returns the whole log of this server.
        key: a key for show; each try appends a number to it, and searches for that.
        places: where to look.

    Returns:
        A finding for each place and way, in their order.
    """
    findings: list[Finding] = []
    with connect() as watcher:
        watcher.autocommit = True
        watcher.execute(_TABLE)
        one = _Try(connect, watcher, read_log)
        for place in places:
            for way in WAYS:
                number = len(findings) + 1
                line = one(place, way, f"{key}-{number:02}", number)
                findings.append(Finding(place.name, way, line))
        watcher.execute("DROP TABLE pglab_leaks")
    return findings


@dataclass(frozen=True, slots=True)
class _Try:
    """One use of a key, and the look afterwards."""

    connect: Callable[[], Connection]
    watcher: Connection
    read_log: Callable[[], str]

    def __call__(self, place: Place, way: str, key: str, row: int) -> str | None:
        """Use a key in one way, and return the line of one place that has it."""
        # A row that fails is under another key, and pgcrypto says "Wrong key or corrupt data".
        self.watcher.execute(_ROW, [row, "another" if place.fails else key])
        self.watcher.execute("SELECT pg_stat_statements_reset()")
        seen: list[str] = []
        with self.connect() as speaker:
            speaker.autocommit = True
            if place.load is not None:
                speaker.execute(sql.SQL("LOAD {}").format(sql.Literal(place.load)))
            for name, value in place.settings.items():
                speaker.execute("SELECT set_config(%s, %s, false)", [name, value])
            for query, cursor, parameters in WAYS[way](key, row):
                with suppress(_WRONG_KEY_OR_CORRUPT):  # is a result, too
                    cursor(speaker).execute(query, parameters)
                if place.look == "activity":
                    seen += _texts(self.watcher, _ACTIVITY, [speaker.info.backend_pid])
        if place.look == "statements":
            seen += _texts(self.watcher, _STATEMENTS, [])
        elif place.look == "log":
            seen.append(self.read_log())
        lines = (line.strip() for text in seen for line in text.splitlines())
        return next((line for line in lines if key in line), None)


def _texts(watcher: Connection, query: LiteralString, parameters: list[Any]) -> list[str]:
    return [text or "" for (text,) in watcher.execute(query, parameters).fetchall()]
