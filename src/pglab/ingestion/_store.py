"""From records to rows: a handful of set-based statements, whatever the batch's size.

Two ingests never wait for each other in a circle: the first thing that each does is to lock its
instances, in the order of their names. Whoever holds an instance sees everything committed for it,
so that a message and its acknowledgement in two transactions cannot miss each other either (under
READ COMMITTED, PostgreSQL's default; a transaction with an older snapshot may).
"""

from __future__ import annotations

from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg.rows import tuple_row

from pglab.ingestion import _sql
from pglab.ingestion._records import STATES, STATUSES, Batch, IngestReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    import psycopg

__all__ = ["store"]

_K = TypeVar("_K")
_V = TypeVar("_V", int, "tuple[datetime, int]", "tuple[datetime, str]")
_update: Final = attrgetter("whatsapp_id", "kind", "happened_at", "payload")


def store(connection: psycopg.Connection[Any], batch: Batch) -> IngestReport:
    """Store a batch in one transaction, or in a savepoint of the one that is open.

    Raises:
        psycopg.Error: the server refused; nothing of the batch was stored.
    """
    if not batch.instances:
        return IngestReport(events=batch.events, ignored=MappingProxyType(dict(batch.ignored)))
    # A cursor of our own: the connection's may give rows as dictionaries.
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:

        def run(statement: str, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
            """Run a statement that takes its rows as one array a column."""
            columns = [list(column) for column in zip(*rows, strict=True)]
            return cursor.execute(statement, columns).fetchall() if columns else []

        created, ids = _lock_instances(cursor, sorted(batch.instances))
        connections = run(_sql.CONNECTIONS, _latest_connections(batch, ids))
        contacts = run(_sql.CONTACTS, _latest_contacts(batch, ids))
        chats = run(_sql.CHATS, _latest_chats(batch, ids))

        statuses = _furthest_statuses(batch)
        stored = run(_sql.MESSAGES, _messages(batch, ids, statuses))
        updates = run(_sql.UPDATES, [(ids[u.instance], *_update(u)) for u in batch.updates])
        touched = statuses | {
            (u.instance, u.whatsapp_id): statuses.get((u.instance, u.whatsapp_id))
            for u in batch.updates
        }
        merged = run(_sql.MERGE, [(ids[name], key, touched[name, key]) for name, key in touched])

    inserted = {key for key, is_new in stored if is_new}
    new_updates = sum(is_new for (is_new,) in updates)
    return IngestReport(
        events=batch.events,
        instances=created,
        connections=len(connections),
        contacts=len(contacts),
        chats=len(chats),
        messages=len(inserted),
        updates=new_updates,
        changed=len({key for key, _ in stored} | {key for (key,) in merged}) - len(inserted),
        duplicates=len(batch.messages) - len(inserted) + len(batch.updates) - new_updates,
        ignored=MappingProxyType(dict(batch.ignored)),
    )


def _lock_instances(cursor: psycopg.Cursor[Any], names: list[str]) -> tuple[int, dict[str, UUID]]:
    """Hold the instances, creating the unknown; return how many were, and the ids by name."""
    created = 0
    ids: dict[str, UUID] = {}
    while len(ids) < len(names):  # again if one was deleted between the two statements
        created += len(cursor.execute(_sql.CREATE_INSTANCES, [names]).fetchall())
        ids = dict(cursor.execute(_sql.LOCK_INSTANCES, [names]).fetchall())
    return created, ids


def _latest_connections(batch: Batch, ids: dict[str, UUID]) -> list[tuple[Any, ...]]:
    """Reduce to one row an instance: the latest state, and the latest number."""
    states: dict[str, tuple[datetime, int]] = {}
    phones: dict[str, tuple[datetime, str]] = {}
    for each in batch.connections:
        _keep_greatest(states, each.instance, (each.at, STATES.index(each.state)))
        if each.phone_number is not None:
            _keep_greatest(phones, each.instance, (each.at, each.phone_number))
    rows = []
    for name, (state_at, state) in states.items():
        phone_at, phone = phones.get(name, (None, None))
        rows.append((ids[name], STATES[state], state_at, phone, phone_at))
    return rows


def _latest_contacts(batch: Batch, ids: dict[str, UUID]) -> list[tuple[Any, ...]]:
    """Reduce to one row a contact: the latest name, and the latest picture."""
    names: dict[tuple[str, str], tuple[datetime, str]] = {}
    pictures: dict[tuple[str, str], tuple[datetime, str]] = {}
    known = {(each.instance, each.jid): None for each in batch.contacts}
    for each in batch.contacts:
        owner = (each.instance, each.jid)
        if each.push_name is not None:
            _keep_greatest(names, owner, (each.at, each.push_name))
        if each.picture_url is not None:
            _keep_greatest(pictures, owner, (each.at, each.picture_url))
    rows = []
    for instance, jid in known:
        name_at, name = names.get((instance, jid), (None, None))
        picture_at, picture = pictures.get((instance, jid), (None, None))
        rows.append((ids[instance], jid, name, name_at, picture, picture_at))
    return rows


def _latest_chats(batch: Batch, ids: dict[str, UUID]) -> list[tuple[Any, ...]]:
    """Reduce to one row a chat, with its latest name."""
    names: dict[tuple[str, str], tuple[datetime, str]] = {}
    kinds = {(each.instance, each.jid): each.kind for each in batch.chats}
    for each in batch.chats:
        if each.name is not None:
            _keep_greatest(names, (each.instance, each.jid), (each.at, each.name))
    rows = []
    for (instance, jid), kind in kinds.items():
        at, name = names.get((instance, jid), (None, None))
        rows.append((ids[instance], jid, kind, name, at))
    return rows


def _messages(
    batch: Batch, ids: dict[str, UUID], statuses: Mapping[tuple[str, str], str | None]
) -> list[tuple[Any, ...]]:
    """Return a row a version of a message; all versions of one have the same, furthest status."""
    return [
        (
            ids[each.instance],
            each.whatsapp_id,
            each.chat_jid,
            each.sender_jid,
            each.from_me,
            each.message_type,
            each.body,
            statuses[each.instance, each.whatsapp_id],
            each.source,
            each.key,
            each.message,
            each.sent_at,
        )
        for each in batch.messages
    ]


def _furthest_statuses(batch: Batch) -> dict[tuple[str, str], str | None]:
    """Return how far each message of the batch has come, over all its versions."""
    ranks: dict[tuple[str, str], int] = {}
    for each in batch.messages:
        _keep_greatest(ranks, (each.instance, each.whatsapp_id), STATUSES.index(each.status))
    return {key: STATUSES[rank] for key, rank in ranks.items()}


def _keep_greatest(kept: dict[_K, _V], key: _K, value: _V) -> None:
    # Texts compare by code point here and by UTF-8 byte under COLLATE "C": the same order.
    if key not in kept or value > kept[key]:
        kept[key] = value
