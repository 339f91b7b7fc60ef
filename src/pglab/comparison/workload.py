"""The rows that every engine gets: the lab's own conversations, and the gateway's next events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

__all__ = ["BUSY", "QUIET", "STATES", "Chat", "Rows", "chat_of", "event", "rows"]

BUSY: Final = "sciencebot-production"
QUIET: Final = "sciencebot-becas"
STATES: Final = ("error", "pending", "server_ack", "delivery_ack", "read", "played")

_NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Rows(NamedTuple):
    """Everything that is there before a check begins."""

    instances: list[dict[str, Any]]
    chats: list[dict[str, Any]]
    messages: list[dict[str, Any]]


@cache
def rows(messages: int = 2_000) -> Rows:
    """Return the rows of a data set of so many messages, with the columns that we compare."""
    from pglab.dataset import Dataset  # a worker, which is told its chat, needs no NumPy

    data = Dataset(messages)
    names = {row[0]: row[1] for row in data.instances().rows()}
    return Rows(
        [{"name": name, "state": "open", "received": 0} for name in names.values()],
        [
            {"id": row[0], "instance": names[row[1]], "jid": row[2], "name": row[4]}
            for row in data.chats().rows()
        ],
        [
            {
                "id": row[0], "instance": names[row[1]], "chat": row[2], "whatsapp_id": row[3],
                "from_me": row[5], "status": row[8], "body": row[7], "event": row[10],
                "sent_at": row[12],
            }
            for row in data.messages().rows()
        ],
    )  # fmt: skip


class Chat(NamedTuple):
    """Where an event belongs."""

    instance: str
    id: int
    jid: str


@cache
def chat_of(instance: str = BUSY) -> Chat:
    """Return the first chat of an instance."""
    row = next(row for row in rows().chats if row["instance"] == instance)
    return Chat(instance, row["id"], row["jid"])


def event(number: int, chat: Chat | None = None) -> dict[str, Any]:
    """Return the message of the gateway's next event of this number."""
    instance, chat_id, jid = chat or chat_of()
    identifier = f"3EB0{number:016X}"
    return {
        "id": 1_000_000_000 + number,
        "instance": instance,
        "chat": chat_id,
        "whatsapp_id": identifier,
        "from_me": False,
        "status": "pending",
        "body": "¿Cuánto cuesta la matrícula?",
        "event": {"id": identifier, "remoteJid": jid, "fromMe": False},
        "sent_at": _NOW + timedelta(seconds=number),
    }
