"""The queries that a gateway lives on, named and typed; their SQL stands in ``pglab/sql/queries``.

Every one of them asks for the tenant (``instance_id``): with another tenant's chat or identifier it
finds nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import UUID

from pglab.schema import sql_text

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "INBOX_VARIANTS",
    "ChatMessage",
    "InboxRow",
    "InboxVariant",
    "Page",
    "Place",
    "chat_page",
    "chat_page_by_offset",
    "inbox",
    "mark_read",
    "message_by_whatsapp_id",
    "sql",
    "unread_counts",
]

InboxVariant = Literal["distinct_on", "window", "lateral", "skip_scan"]

INBOX_VARIANTS: Final[tuple[InboxVariant, ...]] = get_args(InboxVariant)
"""Ways to ask for the inbox. All give the same rows; what they cost differs (lesson 03)."""


@dataclass(frozen=True)
class InboxRow:
    """A chat, and its newest message that was not deleted."""

    chat_id: int
    name: str | None
    message_id: int
    sent_at: dt.datetime
    from_me: bool
    body: str | None


@dataclass(frozen=True)
class ChatMessage:
    """A message as a chat shows it. ``body`` of a deleted one is there, and not to be shown."""

    id: int
    whatsapp_id: str
    sent_at: dt.datetime
    from_me: bool
    sender_jid: str | None
    status: str
    body: str | None
    edited_at: dt.datetime | None
    deleted_at: dt.datetime | None


@dataclass(frozen=True)
class Place:
    """Where in a chat a page ended: the last row's values of the columns that give the order."""

    sent_at: dt.datetime
    id: int


@dataclass(frozen=True)
class Page:
    """A page of a chat.

    Attributes:
        messages: newest first.
        older: where the next page begins, for ``chat_page``; None after the last page.
    """

    messages: tuple[ChatMessage, ...]
    older: Place | None


def sql(name: str) -> str:
    """Return a query's text with psycopg's ``%(name)s`` placeholders; ``name`` as the file's.

    Raises:
        FileNotFoundError: there is no such query.
    """
    return sql_text(f"queries/{name}.sql")


def inbox(
    connection: psycopg.Connection[Any],
    instance_id: UUID,
    *,
    limit: int = 20,
    variant: InboxVariant = "lateral",
) -> list[InboxRow]:
    """Return a tenant's chats, the one with the newest message first; empty chats are left out.

    Raises:
        ValueError: there is no such variant.
    """
    if variant not in INBOX_VARIANTS:
        raise ValueError(f"no inbox variant {variant!r}; use one of {', '.join(INBOX_VARIANTS)}")
    given = {"instance_id": instance_id, "limit": limit}
    return [InboxRow(*row) for row in _rows(connection, f"inbox_{variant}", given)]


def chat_page(
    connection: psycopg.Connection[Any],
    instance_id: UUID,
    chat_id: int,
    *,
    limit: int = 50,
    before: Place | None = None,
) -> Page:
    """Return a page of a chat by keyset: it costs the same however far back it is.

    Messages that arrive between two calls move nothing: no row comes twice or is left out. To go
    on, pass ``Page.older`` of the page before as ``before``; None asks for the newest page.
    """
    given = {
        "instance_id": instance_id,
        "chat_id": chat_id,
        # One more than asked for tells whether there is another page.
        "limit": limit + 1,
        "before_sent_at": before.sent_at if before else "infinity",
        "before_id": before.id if before else 0,
    }
    found = [ChatMessage(*row) for row in _rows(connection, "chat_page", given)]
    messages = tuple(found[:limit])
    more = len(found) > limit and messages
    return Page(messages, Place(messages[-1].sent_at, messages[-1].id) if more else None)


def chat_page_by_offset(
    connection: psycopg.Connection[Any],
    instance_id: UUID,
    chat_id: int,
    *,
    limit: int = 50,
    offset: int = 0,
) -> list[ChatMessage]:
    """Return a page of a chat by OFFSET, for comparison: each page costs all pages before it."""
    given = {"instance_id": instance_id, "chat_id": chat_id, "limit": limit, "offset": offset}
    return [ChatMessage(*row) for row in _rows(connection, "chat_page_offset", given)]


def unread_counts(connection: psycopg.Connection[Any], instance_id: UUID) -> dict[int, int]:
    """Return for each chat with unread messages how many it has."""
    return dict(_rows(connection, "unread_counts", {"instance_id": instance_id}))


def message_by_whatsapp_id(
    connection: psycopg.Connection[Any], instance_id: UUID, whatsapp_id: str
) -> ChatMessage | None:
    """Return a tenant's message by WhatsApp's identifier, or None."""
    given = {"instance_id": instance_id, "whatsapp_id": whatsapp_id}
    rows = _rows(connection, "message_by_whatsapp_id", given)
    return ChatMessage(*rows[0]) if rows else None


def mark_read(
    connection: psycopg.Connection[Any], instance_id: UUID, chat_id: int, until: dt.datetime
) -> int:
    """Mark what came in up to a moment as read; return how many messages were not."""
    given = {"instance_id": instance_id, "chat_id": chat_id, "until": until}
    return connection.execute(sql("mark_read"), given).rowcount


def _rows(
    connection: psycopg.Connection[Any], name: str, given: dict[str, object]
) -> list[tuple[Any, ...]]:
    from psycopg.rows import tuple_row

    # A cursor of our own: the connection's may give rows as dictionaries.
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(sql(name), given).fetchall()
