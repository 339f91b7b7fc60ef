"""What indexes and keys cost a write, and what a missing index costs a delete."""

from __future__ import annotations

from typing import Final

from pglab.bench.case import Case, Claim, Variant
from pglab.bench.cases._batches import Storing, incoming
from pglab.bench.cases._sessions import LARGE, REDUNDANT, SESSIONS, UNIQUE
from pglab.bench.cases._sql import MESSAGE_COLUMNS, PAGE_INDEX
from pglab.bench.operations import Query

__all__ = ["CASES"]

_BATCH: Final = 500
_BATCHES: Final = 5

# --- the number of indexes ----------------------------------------------------------------------

_INDEXES: Final = (
    "ALTER TABLE messages ADD PRIMARY KEY (id)",
    "ALTER TABLE messages ADD UNIQUE (instance_id, whatsapp_id)",
    PAGE_INDEX,
    "CREATE INDEX idx_messages_timestamp ON messages (sent_at DESC)",
    "CREATE INDEX idx_messages_instance_id ON messages (instance_id)",
    "CREATE INDEX idx_messages_status ON messages (status)",
)
# A second a message, newer than all that is there: so they come in practice.
_NEW_MESSAGE: Final = (
    "n, m.instance_id, m.chat_id, 'B' || md5(n::text), m.sender_jid, m.from_me, m.message_type, "
    "m.body, m.status, m.source, m.key, m.message, '2026-07-01'::timestamptz + n * '1 s'::interval,"
    " m.edited_at, m.deleted_at, m.created_at"
)
_ABOUT: Final = {
    0: "A heap, and nothing that finds a row in it.",
    1: "The primary key.",
    2: "And the unique key on (instance_id, whatsapp_id), random to whoever inserts.",
    4: "And the index of a chat's page, and one on the time.",
    6: "And the seed's on the tenant, and one on the status.",
}

_INDEX_COUNT: Final = Case(
    name="insert-indexes",
    group="writes",
    question="What does each further index cost an INSERT?",
    variants=tuple(
        Variant(
            f"{count} index" if count == 1 else f"{count} indexes",
            Storing("messages", MESSAGE_COLUMNS, _NEW_MESSAGE, _BATCH),
            setup=(*_INDEXES[:count], *incoming("messages")),
            about=about,
        )
        for count, about in _ABOUT.items()
    ),
    sizes=LARGE,
    unit=f"batch of {_BATCH} rows",
    rows="rows",
    operations=_BATCHES,
    picture="rate",
    writes=True,
    expected="Fewer rows a second, and more log, with every index.",
)

# --- a redundant index --------------------------------------------------------------------------

_SESSIONS_BATCH: Final = 100
_NEW_SESSION: Final = Storing(
    "sessions",
    "id, instance_name, session_data, qr_code, status, created_at, updated_at",
    "md5(n::text)::uuid, 'bot-' || n, jsonb_build_object('creds', repeat(md5(n::text), 28)), "
    "NULL, 'qr', now(), now()",
    _SESSIONS_BATCH,
)

_SESSION_INSERT: Final = Case(
    name="session-insert",
    group="writes",
    question="What does the seed's redundant index on instance_name cost a new session?",
    variants=(
        Variant("unique", _NEW_SESSION, setup=(*UNIQUE, *incoming("sessions"))),
        Variant(
            "unique and index",
            _NEW_SESSION,
            setup=(*UNIQUE, REDUNDANT, *incoming("sessions")),
            about="The seed's idx_sessions_instance_name, which serves no query that UNIQUE does "
            "not serve (session-name).",
        ),
    ),
    twins={"sessions": SESSIONS},
    sizes=LARGE,
    unit=f"batch of {_SESSIONS_BATCH} rows",
    rows="rows",
    operations=_BATCHES,
    picture="rate",
    writes=True,
    expected="A third index to write, besides the primary key and UNIQUE, and nothing gained.",
)

# --- kinds of keys ------------------------------------------------------------------------------

# Made from the row's number, so that every run stores the same ones; to an index they look as
# random as drawn ones. Version 7 begins with the time in milliseconds (RFC 9562): one a row.
_V4: Final = "overlay(overlay(md5({n}::text) placing '4' from 13) placing 'a' from 17)::uuid"
_V7: Final = (
    "(lpad(to_hex(1767225600000 + {n}), 12, '0') || "
    "overlay(overlay(substr(md5({n}::text), 13) placing '7' from 1) placing 'a' from 5))::uuid"
)
_KEYED: Final = "chat_id, from_me, status, sent_at, body"


def _keyed(name: str, key: str, about: str) -> Variant:
    made = "m.chat_id, m.from_me, m.status, m.sent_at, m.body"
    return Variant(
        name,
        Storing("messages", f"id, {_KEYED}", f"{key.replace('{n}', 'n')}, {made}", _BATCH),
        setup=("ALTER TABLE messages ADD PRIMARY KEY (id)", *incoming("messages")),
        twins={
            "messages": f"SELECT {key.replace('{n}', 'id')} AS id, {_KEYED} "  # noqa: S608 (ours)
            "FROM messages ORDER BY messages.id"
        },
        about=about,
    )


_KEY_KINDS: Final = Case(
    name="insert-keys",
    group="writes",
    question="What do random primary keys cost an INSERT?",
    variants=(
        _keyed("UUIDv4", _V4, "Random: every row goes to another page of the index."),
        _keyed("UUIDv7", _V7, "Begins with the time: every row goes to the index's last page."),
        _keyed("bigint", "{n}", "A number that grows, half as long as a UUID."),
    ),
    sizes=LARGE,
    unit=f"batch of {_BATCH} rows",
    rows="rows",
    operations=_BATCHES,
    picture="rate",
    writes=True,
    expected="UUIDv7 stores rows nearly as fast as bigint; UUIDv4 falls behind as the index grows. "
    "The log shows why: right after a checkpoint nearly every row of UUIDv4 writes a whole page of "
    "8 kB to it. The keys were made beforehand, so what it costs to draw them is not in it.",
)

# --- deleting a parent --------------------------------------------------------------------------

_CHILDREN: Final = (
    "ALTER TABLE chats ADD PRIMARY KEY (id), ADD UNIQUE (id, instance_id)",
    (
        "ALTER TABLE messages ADD FOREIGN KEY (chat_id, instance_id) "
        "REFERENCES chats (id, instance_id) ON DELETE CASCADE"
    ),
    "CREATE SEQUENCE doomed",
)
_DELETE_CHAT: Final = Query(
    "DELETE FROM chats WHERE id = (SELECT -nextval('doomed'))",
    before=(
        # New chats without a message: what is timed is to look for messages, not to delete them.
        (
            "INSERT INTO chats (id, instance_id) SELECT -n, gen_random_uuid() "
            "FROM generate_series({first} + 1, {first} + {count}) AS n"
        ),
        "SELECT setval('doomed', {first} + 1, false)",
    ),
    # What the foreign key's trigger runs; the plan of the DELETE itself does not show it.
    check="DELETE FROM ONLY messages WHERE chat_id = -1 "
    "AND instance_id = '00000000-0000-4000-8000-000000000001'",
)

_DELETE_PARENT: Final = Case(
    name="delete-parent",
    group="writes",
    question="What does a foreign key without an index cost whoever deletes a chat?",
    variants=(
        Variant(
            "no index",
            _DELETE_CHAT,
            setup=_CHILDREN,
            claim=Claim(scan=("Seq Scan",)),
            theory="O(n)",
            about="The trigger of ON DELETE CASCADE reads the whole table for every chat.",
        ),
        Variant(
            "index",
            _DELETE_CHAT,
            setup=(*_CHILDREN, PAGE_INDEX),
            claim=Claim(index="messages_chat_id_sent_at_idx"),
            theory="O(log n)",
            about="The course's composite index, whose first column is the foreign key's.",
        ),
    ),
    twins={
        "messages": "SELECT * FROM messages ORDER BY id",
        "chats": "SELECT * FROM chats ORDER BY id",
    },
    unit="delete",
    operations=10,
    writes=True,
    expected="As look-ups do: without an index it grows as the table of messages does, though the "
    "chats that are deleted have none. The plan of the DELETE shows nothing of it.",
)

CASES: Final = (_INDEX_COUNT, _SESSION_INSERT, _KEY_KINDS, _DELETE_PARENT)
"""Inserts first."""
