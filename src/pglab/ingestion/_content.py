"""What a message carries: the gateway's names of message types, and where each keeps its text."""

from __future__ import annotations

from typing import Final, NamedTuple

from pglab.ingestion._fields import Node

__all__ = ["CONTENTS", "body", "edited_body"]


class _Content(NamedTuple):
    """A message type of ours, and the path to what a person would read."""

    message_type: str
    path: tuple[str, ...] = ()


_TEXT: Final = _Content("text", ("conversation",))
_POLL: Final = "poll"

CONTENTS: Final = {
    "conversation": _TEXT,
    "extendedTextMessage": _Content("text", ("extendedTextMessage", "text")),
    "imageMessage": _Content("image", ("imageMessage", "caption")),
    "audioMessage": _Content("audio"),
    "videoMessage": _Content("video", ("videoMessage", "caption")),
    "ptvMessage": _Content("video"),
    "documentMessage": _Content("document", ("documentMessage", "caption")),
    "documentWithCaptionMessage": _Content(
        "document", ("documentWithCaptionMessage", "message", "documentMessage", "caption")
    ),
    "stickerMessage": _Content("sticker"),
    "locationMessage": _Content("location", ("locationMessage", "name")),
    "liveLocationMessage": _Content("location", ("liveLocationMessage", "caption")),
    "contactMessage": _Content("contact", ("contactMessage", "displayName")),
    "contactsArrayMessage": _Content("contact", ("contactsArrayMessage", "displayName")),
    # An emoji; a text of no characters takes the reaction back.
    "reactionMessage": _Content("reaction", ("reactionMessage", "text")),
    "pollCreationMessage": _Content(_POLL, ("pollCreationMessage", "name")),
    "pollCreationMessageV2": _Content(_POLL, ("pollCreationMessageV2", "name")),
    "pollCreationMessageV3": _Content(_POLL, ("pollCreationMessageV3", "name")),
}
"""The gateway's ``messageType`` → ours. WhatsApp adds types all the time; others are ignored."""


def body(message: Node, content: _Content) -> str | None:
    """Return the text or caption, None where there is none.

    Raises:
        IngestError: something on the way there has the wrong type.
    """
    text = _at(message, content.path) if content.path else None
    if text is None and content.message_type == "text" and content is not _TEXT:
        # The gateway names the type that WhatsApp sent, and sometimes flattens the text itself.
        return _at(message, _TEXT.path)
    return text


def edited_body(message: Node) -> str | None:
    """Return the new text or caption out of an edit, which does not name its type."""
    for content in CONTENTS.values():
        if content.path and message.child(content.path[0]).value is not None:
            return body(message, content)
    return None


def _at(node: Node, path: tuple[str, ...]) -> str | None:
    """Follow the path; stop at the first thing that is not there."""
    for key in path:
        if node.value is None:
            return None
        node = node.child(key)
    return node.optional_text()
