"""WhatsApp's addresses: people, groups, and what is neither."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pglab.ingestion._fields import Node

__all__ = ["CHATS", "LONGEST_ID", "Jid", "read_jid", "read_optional_jid"]

LONGEST_ID: Final = 128
"""Characters of an address or a message's id, as messages_whatsapp_id_check has it."""

CHATS: Final = frozenset({"person", "group"})
"""The kinds of address that have a chat; the others are told apart only to be counted."""

_JID: Final = re.compile(
    r"(?P<user>[0-9A-Za-z._-]+)(?P<device>:[0-9]+)?@(?P<server>[a-z.]+)", re.ASCII
)
_KINDS: Final = {
    "s.whatsapp.net": "person",
    "lid": "person",
    "g.us": "group",
    "broadcast": "broadcast",
    "newsletter": "newsletter",
    "bot": "bot",
}


class Jid(NamedTuple):
    """An address without its device, and the kind of its owner."""

    text: str
    kind: str


def read_jid(node: Node) -> Jid:
    """Return an address of WhatsApp without its device."""
    match = _JID.fullmatch(node.text(longest=LONGEST_ID))
    kind = _KINDS.get(match["server"]) if match else None
    if match is None or kind is None:
        raise node.wrong("an address such as 51900000001@s.whatsapp.net or …@g.us")
    return Jid(f"{match['user']}@{match['server']}", kind)


def read_optional_jid(node: Node) -> Jid | None:
    """Return an address, None for null, nothing and an empty text."""
    # Groups that hide their members send an empty participant.
    return None if node.value is None or node.value == "" else read_jid(node)
