"""Which events there are, and what reads each: every check of an event, and no SQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pglab.ingestion._envelope import Event
from pglab.ingestion._fields import shorten
from pglab.ingestion._messages import (
    read_message_deletions,
    read_message_edits,
    read_message_updates,
    read_messages,
)
from pglab.ingestion._people import read_chats, read_connection, read_contacts, read_instance
from pglab.ingestion._records import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

    from pglab.ingestion._fields import Node

__all__ = ["IGNORED", "STORED", "parse"]

_LONGEST_NAME: Final = 100  # characters, as instances_name_check has it

STORED: Final[Mapping[str, Callable[[Batch, Event], None]]] = {
    "instance.create": read_instance,
    "connection.update": read_connection,
    "messages.set": read_messages,
    "messages.upsert": read_messages,
    "send.message": read_messages,
    "messages.update": read_message_updates,
    "messages.edited": read_message_edits,
    "messages.delete": read_message_deletions,
    "contacts.set": read_contacts,
    "contacts.upsert": read_contacts,
    "contacts.update": read_contacts,
    "chats.set": read_chats,
    "chats.upsert": read_chats,
    "chats.update": read_chats,
    "groups.upsert": read_chats,
    "groups.update": read_chats,
}
"""The events that something is stored of."""

IGNORED: Final = frozenset(
    {
        # An event is no authority to delete a tenant's history.
        "instance.delete", "remove.instance", "chats.delete",
        # Secrets, which are stored encrypted or not at all (lesson 06).
        "creds.update", "qrcode.updated",
        # connection.update and messages.edited say the same.
        "logout.instance", "status.instance", "send.message.update",
        # Nothing of ours.
        "application.startup", "presence.update", "group-participants.update", "call",
        "typebot.start", "typebot.change-status", "labels.edit", "labels.association",
        "messaging-history.set",
    }
)  # fmt: skip
"""The events that are known, and counted only."""

_SPELLINGS: Final = {
    **{name: name for name in (*STORED, *IGNORED)},
    # Subscriptions, and some transports, write MESSAGES_UPSERT.
    **{re.sub("[.-]", "_", name).upper(): name for name in (*STORED, *IGNORED)},
    "GROUP_UPDATE": "groups.update",
}


def parse(events: list[Node], zone: tzinfo) -> Batch:
    """Read every event, or refuse the batch.

    Args:
        events: from decode().
        zone: the time zone of the gateway's clock, which wrote ``date_time``.

    Raises:
        IngestError: with the path of the first field that is wrong.
    """
    batch = Batch(events=len(events))
    for event in events:
        name = _event_name(event["event"])
        read = STORED.get(name)
        if read is None:
            # Not looked into: creds.update and qrcode.updated hold what lets one log in.
            batch.ignored[name] += 1
            continue
        instance = event["instance"]
        instance_name = instance.text(longest=_LONGEST_NAME)
        if instance_name != instance_name.strip(" "):
            raise instance.error(f"is {shorten(instance_name)}, with spaces around it")
        read(batch, Event(name, instance_name, event["date_time"].clock(zone), event["data"]))
    return batch


def _event_name(node: Node) -> str:
    """Return the event's name in the spelling of its envelope, whichever it came in."""
    name = _SPELLINGS.get(node.text())
    if name is None:
        raise node.error(f"is {shorten(node.value)}, which is no event of the gateway")
    return name
