"""What a batch of events says, typed: what parsing hands to storing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from types import MappingProxyType
from typing import Final

__all__ = [
    "STATES",
    "STATUSES",
    "Batch",
    "Chat",
    "Connection",
    "Contact",
    "IngestReport",
    "Message",
    "Update",
]

# The labels of connection_state and of message_status in schema.sql. Of two states reported for one
# instant the later here wins, as in the enum. A status may only move to the right: pending stands
# before error, unlike in the enum, because a failure must show; an acknowledgement outweighs both.
STATES: Final = ("close", "connecting", "open", "refused")
STATUSES: Final = ("pending", "error", "server_ack", "delivery_ack", "read", "played")


@dataclass(frozen=True, slots=True)
class Connection:
    """How an instance stands, at an instant of the gateway's clock."""

    instance: str
    state: str
    phone_number: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of a person; None says nothing, rather than "none"."""

    instance: str
    jid: str
    push_name: str | None
    picture_url: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat that exists, and perhaps its name."""

    instance: str
    jid: str
    kind: str
    name: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was first written; ``key`` and ``message`` are JSON texts."""

    instance: str
    whatsapp_id: str
    chat_jid: str
    sender_jid: str | None
    from_me: bool
    message_type: str
    body: str | None
    status: str
    source: str
    key: str
    message: str
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Update:
    """An acknowledgement, an edit or a deletion; ``payload`` is a JSON text."""

    instance: str
    whatsapp_id: str
    kind: str
    happened_at: datetime
    payload: str = "{}"


@dataclass(slots=True)
class Batch:
    """Everything that one call of ingest has to store."""

    events: int = 0
    instances: set[str] = field(default_factory=set)
    connections: list[Connection] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    chats: list[Chat] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, repr=False)
class IngestReport:
    """What a batch changed. Every count is of rows, except ``events`` and ``ignored``.

    Attributes:
        events: events in the batch.
        instances: instances that the batch made known.
        connections: instances whose state or number changed.
        contacts: contacts inserted or changed.
        chats: chats inserted or renamed.
        messages: messages inserted.
        updates: acknowledgements, edits and deletions inserted into message_updates.
        changed: messages that were there before and are different now.
        duplicates: messages and updates that were known already.
        ignored: what was not stored, by event name and, in brackets, the reason.
    """

    events: int = 0
    instances: int = 0
    connections: int = 0
    contacts: int = 0
    chats: int = 0
    messages: int = 0
    updates: int = 0
    changed: int = 0
    duplicates: int = 0
    ignored: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        """Show the events and whatever is not nothing."""
        shown = [f"events={self.events}"]
        for each in fields(self)[1:]:
            value = getattr(self, each.name)
            if value:
                shown.append(f"{each.name}={dict(value) if each.name == 'ignored' else value}")
        return f"IngestReport({', '.join(shown)})"
