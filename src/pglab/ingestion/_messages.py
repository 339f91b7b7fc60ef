"""Messages, and what happens to them afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pglab.ingestion._content import CONTENTS, body, edited_body
from pglab.ingestion._fields import shorten
from pglab.ingestion._jids import CHATS, LONGEST_ID, read_jid, read_optional_jid
from pglab.ingestion._records import STATUSES, Batch, Chat, Contact, Message, Update

if TYPE_CHECKING:
    from pglab.ingestion._envelope import Event
    from pglab.ingestion._fields import Node

__all__ = ["read_message_deletions", "read_message_edits", "read_message_updates", "read_messages"]

_SOURCES: Final = {"unknown", "android", "ios", "web", "desktop"}
_PROTOCOLS: Final = {0: "REVOKE", 14: "MESSAGE_EDIT"}


def read_messages(batch: Batch, event: Event) -> None:
    """Read messages as they were first written."""
    for data in event.data.elements():
        key = data["key"]
        whatsapp_id = key["id"].text(longest=LONGEST_ID)
        chat = read_jid(key["remoteJid"])
        from_me = key["fromMe"].boolean()
        participant = read_optional_jid(key.child("participant"))
        type_name = data["messageType"].text()
        message = data["message"]
        push_name = data.child("pushName").optional_text()
        status = _status(data.child("status")) or "PENDING"
        source = data.child("source").optional_text() or "unknown"
        sent_at = data["messageTimestamp"].epoch()
        key_json, message_json = key.object(), message.object()
        content = CONTENTS.get(type_name)
        text = body(message, content) if content else None

        if chat.kind not in CHATS:
            batch.ignored[f"{event.name} ({chat.kind})"] += 1
            continue
        if content is None:
            batch.ignored[f"{event.name} ({type_name[:60]})"] += 1
            continue
        in_group = chat.kind == "group"
        sender = participant.text if participant and in_group and not from_me else None
        batch.instances.add(event.instance)
        batch.chats.append(Chat(event.instance, chat.text, chat.kind, None, event.at))
        batch.messages.append(
            Message(
                instance=event.instance,
                whatsapp_id=whatsapp_id,
                chat_jid=chat.text,
                sender_jid=sender,
                from_me=from_me,
                message_type=content.message_type,
                body=text,
                status=status.lower() if status.lower() in STATUSES else "pending",
                source=source if source in _SOURCES else "unknown",
                key=_dump(key_json),
                message=_dump(message_json),
                sent_at=sent_at,
            )
        )
        if status == "DELETED":
            batch.updates.append(Update(event.instance, whatsapp_id, "deleted", event.at))
        # What we sent carries our own name, which is not the contact's.
        author = sender if in_group else chat.text
        if push_name and author and not from_me:
            batch.contacts.append(Contact(event.instance, author, push_name, None, event.at))


def read_message_updates(batch: Batch, event: Event) -> None:
    """Read acknowledgements."""
    for data in event.data.elements():
        whatsapp_id = data["keyId"].text(longest=LONGEST_ID)
        chat = read_jid(data["remoteJid"])
        status = _status(data.child("status"))
        if chat.kind not in CHATS:
            batch.ignored[f"{event.name} ({chat.kind})"] += 1
        elif status is None or status == "EDITED":
            # Votes in a poll come without a status; an edit's text comes in messages.edited.
            batch.ignored[f"{event.name} ({status or 'no status'})"] += 1
        else:
            batch.instances.add(event.instance)
            kind = "deleted" if status == "DELETED" else f"status:{status.lower()}"
            batch.updates.append(Update(event.instance, whatsapp_id, kind, event.at))


def read_message_edits(batch: Batch, event: Event) -> None:
    """Read edits, and deletions that come under their name."""
    for data in event.data.elements():
        key = data["key"]
        whatsapp_id = key["id"].text(longest=LONGEST_ID)
        chat = read_jid(key["remoteJid"])
        act = _protocol(data.child("type"))
        if chat.kind not in CHATS:
            batch.ignored[f"{event.name} ({chat.kind})"] += 1
            continue
        # Every protocolMessage comes under this name, a sender's "delete for everyone" too.
        if act == "REVOKE":
            batch.instances.add(event.instance)
            batch.updates.append(Update(event.instance, whatsapp_id, "deleted", event.at))
            continue
        if act != "MESSAGE_EDIT":
            batch.ignored[f"{event.name} ({act[:60]})"] += 1
            continue
        edited = data["editedMessage"]
        written = data.child("timestampMs")
        happened_at = event.at if written.value is None else written.epoch(unit_ms=1)
        payload = {"body": edited_body(edited), "message": edited.object()}
        batch.instances.add(event.instance)
        batch.updates.append(
            Update(event.instance, whatsapp_id, "edited", happened_at, _dump(payload))
        )


def read_message_deletions(batch: Batch, event: Event) -> None:
    """Read deletions."""
    for data in event.data.elements():
        whatsapp_id = data["id"].text(longest=LONGEST_ID)
        chat = read_jid(data["remoteJid"])
        if chat.kind not in CHATS:
            batch.ignored[f"{event.name} ({chat.kind})"] += 1
            continue
        batch.instances.add(event.instance)
        batch.updates.append(Update(event.instance, whatsapp_id, "deleted", event.at))


def _protocol(node: Node) -> str:
    """Return what a protocolMessage does: a name, or WhatsApp's number for it."""
    if node.value is None:
        return "MESSAGE_EDIT"
    if isinstance(node.value, str):
        return node.text()
    return _PROTOCOLS.get(node.whole(), str(node.value))


def _status(node: Node) -> str | None:
    """Return a status in upper case, None for null and nothing."""
    if node.value is None:
        return None
    status = node.text().upper()
    if status.lower() not in STATUSES and status not in {"EDITED", "DELETED"}:
        raise node.error(f"is {shorten(node.value)}, which is no status of a message")
    return status


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
