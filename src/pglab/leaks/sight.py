"""Who can read a value that was just stored: those who hold a dump, a disk, a role, a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import psycopg
from psycopg import sql

from pglab.leaks.finding import Finding

__all__ = ["Store", "who_sees"]

Connection = psycopg.Connection[Any]

_LISTENING: Final = {"log_statement": "all", "client_min_messages": "log"}
_LONGEST_LINE: Final = 200


@dataclass(frozen=True, slots=True)
class Store:
    """A way to store a secret.

    Attributes:
        table: where it goes; a schema may stand before it.
        store: stores the text that it is given, on the connection that it is given.
    """

    table: str
    store: Callable[[Connection, str], object]


def who_sees(
    connection: Connection,
    stores: Mapping[str, Store],
    *,
    dump: Callable[[str], str],
) -> list[Finding]:
    """Store a secret in each way, and search for it where others could look.

    The log is read as the server sends it: a client whose ``client_min_messages`` is ``log`` gets
    the words and parameters that go to the log.

    Args:
        connection: a superuser's, in autocommit: it reads files of the server.
        stores: the ways.
        dump: returns a plain dump of a table, as pg_dump makes it.

    Returns:
        For each way: the stolen dump, the stolen disk (the table's file, and the log of changes,
        WAL), a superuser who reads the table, and a reader of the server's log while
        ``log_statement`` is ``all``.

    Raises:
        psycopg.errors.InsufficientPrivilege: the role is no superuser.
    """
    findings = []
    for way, how in stores.items():
        secret = f"FAKE-secret-{token_hex(8)}"
        began = _wal_file(connection)
        log = _stored_while_listening(connection, how, secret)
        connection.execute("CHECKPOINT")  # what is in memory only goes to the files
        wal = {began, _wal_file(connection)}
        places = {
            "has a stolen dump": dump(how.table).encode(),
            "has a stolen disk: the table's file": _table_file(connection, how.table),
            "has a stolen disk: the WAL": b"".join(_file(connection, name) for name in wal),
            "is superuser, and reads the table": _rows(connection, how.table),
            "reads the log, with log_statement = all": log,
        }
        findings += [
            Finding(place, way, _line_with(secret, content)) for place, content in places.items()
        ]
    return findings


def _line_with(secret: str, content: bytes) -> str | None:
    # A dump writes bytea in hexadecimal digits.
    for form in (secret, secret.encode().hex()):
        place = content.find(form.encode())
        if place >= 0:
            start = content.rfind(b"\n", 0, place) + 1
            return content[start : start + _LONGEST_LINE].decode(errors="replace")
    return None


def _stored_while_listening(connection: Connection, how: Store, secret: str) -> bytes:
    """Store the secret with every statement logged; return the log's lines."""
    heard: list[str] = []

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        heard.extend(filter(None, (notice.message_primary, notice.message_detail)))

    connection.add_notice_handler(listen)
    try:
        for name, value in _LISTENING.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        how.store(connection, secret)
    finally:
        connection.remove_notice_handler(listen)
        for name in _LISTENING:
            connection.execute(sql.SQL("RESET {}").format(sql.Identifier(name)))
    return "\n".join(heard).encode()


def _wal_file(connection: Connection) -> str:
    name = _value(connection, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    return f"pg_wal/{name}"


def _table_file(connection: Connection, table: str) -> bytes:
    path = _value(connection, "SELECT pg_relation_filepath(%s::regclass)", table)
    return _file(connection, path)


def _file(connection: Connection, path: str) -> bytes:
    return bytes(_value(connection, "SELECT pg_read_binary_file(%s)", path))


def _rows(connection: Connection, table: str) -> bytes:
    query = sql.SQL("SELECT string_agg(t::text, chr(10)) FROM {} AS t").format(
        sql.Identifier(*table.split("."))
    )
    text: str = connection.execute(query).fetchall()[0][0] or ""
    return text.encode()


def _value(connection: Connection, query: Any, *parameters: str) -> Any:
    return connection.execute(query, parameters, binary=True).fetchall()[0][0]
