"""The same conversations in the seed document's three tables."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pglab.errors import LoadError
from pglab.load.failures import BYTES_PER_SEED_MESSAGE, explained
from pglab.load.rebuild import Cursor

TABLES = ("instances", "sessions", "messages")
# Identifiers are hashes of ours: random in order, as gen_random_uuid() would give them, and the
# same in every database. Subscriptions are upper case, as the gateway stores them, whatever the
# seed's comment says. TIMESTAMP has no zone: what is written is UTC.
_INSTANCES: LiteralString = """
INSERT INTO seed.instances
SELECT i.id, i.name, i.phone_number, w.url, w.events, i.settings, i.created_at AT TIME ZONE 'UTC'
FROM instances AS i
LEFT JOIN LATERAL (SELECT url, events FROM webhooks
                   WHERE instance_id = i.id AND enabled ORDER BY id LIMIT 1) AS w ON true
ORDER BY i.created_at
"""
# What Baileys keeps, in plain text, as the gateway stores it; every secret says that it is none.
_SESSIONS: LiteralString = """
INSERT INTO seed.sessions
SELECT md5('session:' || i.id)::uuid, i.name,
       jsonb_build_object(
           'registrationId', 1000 + row_number() OVER (ORDER BY i.created_at),
           'advSecretKey', 'FAKE-not-a-real-secret-' || i.name,
           'noiseKey', jsonb_build_object(
               'public', jsonb_build_object('type', 'Buffer', 'data', 'FAKE-public-' || i.name),
               'private', jsonb_build_object('type', 'Buffer', 'data', 'FAKE-private-' || i.name)),
           'signedIdentityKey', jsonb_build_object(
               'private', jsonb_build_object('type', 'Buffer', 'data', 'FAKE-identity-' || i.name)),
           'me', CASE WHEN i.phone_number IS NOT NULL THEN jsonb_build_object(
               'id', i.phone_number || ':1@s.whatsapp.net', 'name', i.name) END,
           'registered', i.connection_state = 'open',
           'platform', 'android'),
       CASE WHEN i.connection_state IN ('connecting', 'refused')
            THEN '2@FAKE-QR-' || upper(md5('qr:' || i.id)) END,
       CASE i.connection_state WHEN 'open' THEN 'connected'
                               WHEN 'connecting' THEN 'qr' ELSE 'disconnected' END,
       coalesce(s.created_at, i.created_at) AT TIME ZONE 'UTC',
       coalesce(s.updated_at, i.created_at) AT TIME ZONE 'UTC'
FROM instances AS i LEFT JOIN sessions AS s ON s.instance_id = i.id
ORDER BY i.created_at
"""
_MESSAGES: LiteralString = """
INSERT INTO seed.messages
SELECT md5('message:' || m.id)::uuid, m.instance_id, c.jid, m.whatsapp_id, m.message_type::text,
       m.body, extract(epoch FROM m.sent_at)::bigint, m.from_me,
       CASE WHEN m.status IN ('read', 'played') THEN 'read'
            WHEN m.status = 'delivery_ack' THEN 'delivered' ELSE 'sent' END
FROM messages AS m JOIN chats AS c ON c.id = m.chat_id
ORDER BY m.id
"""


def fill_seed(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Copy our rows into the seed's tables, on the server, in one transaction.

    None of the seed's four indexes is made: lesson 05 does that.

    Args:
        connection: on a database with both schemas, ours filled and first in the search path.

    Returns:
        Rows stored, by table of schema ``seed``.

    Raises:
        LoadError: a schema is missing, a table of the seed holds rows, or a statement failed.
        DiskFullError: the server's disk is full.
    """
    with connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        size = _message_count(cursor) * BYTES_PER_SEED_MESSAGE
        with explained("filling the seed's tables", size):
            for table in TABLES:
                _require_empty(cursor, table)
            stored = {
                "instances": cursor.execute(_INSTANCES).rowcount,
                "sessions": cursor.execute(_SESSIONS).rowcount,
                "messages": cursor.execute(_MESSAGES).rowcount,
            }
            cursor.execute("ANALYZE seed.instances, seed.sessions, seed.messages")
    return stored


def _message_count(cursor: Cursor) -> int:
    """Estimate how many messages there are, for the sake of an error's text."""
    row = cursor.execute(
        "SELECT coalesce(max(reltuples), 0)::bigint FROM pg_class "
        "WHERE oid = to_regclass('messages')"
    ).fetchone()
    return max(0, row[0]) if row else 0


def _require_empty(cursor: Cursor, table: str) -> None:
    name = f"seed.{table}"
    found = cursor.execute("SELECT to_regclass(%s)", [name]).fetchone()
    if found is None or found[0] is None:
        raise LoadError(f"there is no table {name}; create the seed's schema (seed.sql) first")
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier("seed", table))
    row = cursor.execute(query).fetchone()
    if row is not None and row[0]:
        raise LoadError(f"table {name} holds rows already; empty it (TRUNCATE {name} CASCADE)")
