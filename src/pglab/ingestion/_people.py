"""Instances, contacts and chats: who there is, and what they are called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pglab.ingestion._fields import shorten
from pglab.ingestion._jids import CHATS, read_jid
from pglab.ingestion._records import STATES, Batch, Chat, Connection, Contact

if TYPE_CHECKING:
    from pglab.ingestion._envelope import Event
    from pglab.ingestion._fields import Node

__all__ = ["read_chats", "read_connection", "read_contacts", "read_instance"]

_PHONE: Final = re.compile(r"[1-9][0-9]{6,14}", re.ASCII)


def read_connection(batch: Batch, event: Event) -> None:
    """Read how an instance stands."""
    state = event.data["state"]
    name = state.text()
    if name not in STATES:
        raise state.error(f"is {shorten(name)}, not one of {', '.join(STATES)}")
    wuid = event.data.child("wuid")
    phone = None
    if wuid.value is not None:
        phone = read_jid(wuid).text.partition("@")[0]
        if not _PHONE.fullmatch(phone):
            raise wuid.error(f"is {shorten(wuid.value)}, which starts with no phone number")
    batch.instances.add(event.instance)
    batch.connections.append(Connection(event.instance, name, phone, event.at))


def read_contacts(batch: Batch, event: Event) -> None:
    """Read people's names and pictures."""
    for data in event.data.elements():
        jid = read_jid(_either(data, "remoteJid", "id"))
        name = _either(data, "pushName", "name", required=False).optional_text()
        picture = _either(data, "profilePicUrl", "profilePictureUrl", required=False)
        url = picture.optional_text()
        if jid.kind != "person":
            batch.ignored[f"{event.name} ({jid.kind})"] += 1
            continue
        batch.instances.add(event.instance)
        batch.contacts.append(Contact(event.instance, jid.text, name, url, event.at))


def read_chats(batch: Batch, event: Event) -> None:
    """Read chats' and groups' names."""
    for data in event.data.elements():
        jid = read_jid(_either(data, "remoteJid", "id"))
        name = _either(data, "name", "subject", required=False).optional_text()
        if jid.kind not in CHATS:
            batch.ignored[f"{event.name} ({jid.kind})"] += 1
            continue
        batch.instances.add(event.instance)
        batch.chats.append(Chat(event.instance, jid.text, jid.kind, name, event.at))


def read_instance(batch: Batch, event: Event) -> None:
    """Read that an instance exists."""
    # Nothing of data: it holds the new instance's token.
    batch.instances.add(event.instance)


def _either(data: Node, first: str, second: str, *, required: bool = True) -> Node:
    """Return the field under the first of two names that the gateway uses for it."""
    other = data.child(second)
    if data.child(first).value is None and other.value is not None:
        return other
    return data[first] if required else data.child(first)
