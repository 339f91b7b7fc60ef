"""What the ingest tests share: a database of their own, its contents, and events in short."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pglab import schema

WEBHOOKS = Path(__file__).parents[1] / "data" / "webhooks"
APIKEY = "FAKE-APIKEY-FOR-LESSONS-NOT-A-SECRET"
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
LUCIA = "12025550101@s.whatsapp.net"


@contextlib.contextmanager
def database_with_tables(server_url: str) -> Iterator[str]:
    """Make a database with our tables; yield its connection string; drop it."""
    name = sql.Identifier(f"pglab_test_{uuid.uuid4().hex[:12]}")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        url = make_conninfo(server_url, dbname=name.as_string().strip('"'))
        try:
            with psycopg.connect(url) as connection:
                schema.create(connection)
            yield url
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextlib.contextmanager
def empty_tables(url: str) -> Iterator[psycopg.Connection]:
    """Yield a connection to tables that are empty, before and afterwards."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()
        connection.execute("TRUNCATE instances CASCADE")


def versions(connection: psycopg.Connection) -> dict[str, list[Any]]:
    """Return every row, and its place on disk, which any UPDATE changes."""
    return {
        table: connection.execute(
            f"SELECT t.ctid::text, t::text FROM {table} AS t ORDER BY t.ctid"
        ).fetchall()
        for table in schema.TABLES
    }


def facts(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Return what the tables say: all but surrogate ids and when rows were written."""
    noise = "- 'id' - 'instance_id' - 'chat_id' - 'created_at' - 'updated_at'"
    return {
        table: [
            row
            for (row,) in connection.execute(
                f"SELECT concat_ws(' ', i.name, {chat}, (to_jsonb(t) {noise})::text) AS fact"
                f" FROM {table} AS t JOIN instances AS i ON i.id = t.{instance}"
                f" {join} ORDER BY fact"
            )
        ]
        for table, instance, chat, join in [
            ("instances", "id", "''", ""),
            ("contacts", "instance_id", "''", ""),
            ("chats", "instance_id", "''", ""),
            ("messages", "instance_id", "c.jid", "JOIN chats AS c ON c.id = t.chat_id"),
            ("message_updates", "instance_id", "''", ""),
        ]
    }


def sample(name: str) -> dict[str, Any]:
    """Return one of data/webhooks' good events."""
    return json.loads((WEBHOOKS / f"{name}.json").read_text(encoding="utf-8"))


def event(name: str, data: Any, *, at: float = 0, instance: str = "one") -> dict[str, Any]:
    """Make an event, ``at`` seconds after noon."""
    return {
        "event": name,
        "instance": instance,
        "data": data,
        "date_time": (NOON + timedelta(seconds=at)).isoformat(timespec="milliseconds")[:-6] + "Z",
        "apikey": APIKEY,
    }


def said(whatsapp_id: str, text: str = "hola", *, at: int = 0, **changed: Any) -> dict[str, Any]:
    """Make a messages.upsert of a text; ``name``, ``jid``, ``status`` and others may be given."""
    envelope = {"instance": changed.pop("instance", "one"), "at": at}
    key = {"id": whatsapp_id, "remoteJid": changed.pop("jid", LUCIA), "fromMe": False}
    key |= changed.pop("key", {})
    data = {
        "key": key,
        "pushName": changed.pop("name", None),
        "message": {"conversation": text},
        "messageType": "conversation",
        "messageTimestamp": int(NOON.timestamp()) + at,
    }
    return event("messages.upsert", data | changed, **envelope)


def acknowledged(whatsapp_id: str, status: str, *, at: float = 0, **more: Any) -> dict[str, Any]:
    """Make a messages.update."""
    data = {"keyId": whatsapp_id, "remoteJid": LUCIA, "fromMe": True, "status": status}
    return event("messages.update", data, at=at, **more)


def edited(whatsapp_id: str, text: str, *, at: float = 0, **more: Any) -> dict[str, Any]:
    """Make a messages.edited."""
    data = {
        "key": {"id": whatsapp_id, "remoteJid": LUCIA, "fromMe": False},
        "type": "MESSAGE_EDIT",
        "editedMessage": {"conversation": text},
        "timestampMs": int((NOON.timestamp() + at) * 1000),
    }
    return event("messages.edited", data, at=at, **more)


def deleted(whatsapp_id: str, *, at: float = 0, **more: Any) -> dict[str, Any]:
    """Make a messages.delete."""
    data = {"id": whatsapp_id, "remoteJid": LUCIA, "fromMe": False, "status": "DELETED"}
    return event("messages.delete", data, at=at, **more)
