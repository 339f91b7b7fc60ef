"""The shapes of ``message``: what the gateway stores for each kind of message.

A shape is JSON with holes, always in this order: <K> a token of 32 hexadecimal digits, <S> a size,
<D> a small number, <T> the text, <P> the identifier of the message before it in the conversation.
The names of the keys are WhatsApp's own; all values are invented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

HOLES: Final = ("K", "S", "D", "T", "P")


@dataclass(frozen=True)
class Shape:
    """One form of ``message``.

    Attributes:
        message_type: its label in the schema.
        weights: how often it occurs, of 100,000, in what people write, in what the bot writes,
            and in groups.
        role: which texts fill <T> (pglab.dataset.phrases); None follows the dialogue.
        has_body: whether a person reads a text; if not, body is NULL.
    """

    message_type: str
    weights: tuple[int, int, int]
    template: str
    role: str | None = None
    has_body: bool = True

    def segments(self) -> list[bytes]:
        """Return what stands before, between and after the holes, one more than HOLES.

        Holes that the template lacks are adjacent to an empty segment; ``holes`` names them.
        """
        parts = re.split(r"<([KSDTP])>", self.template)
        segments = {hole: text for text, hole in zip(parts[::2], parts[1::2], strict=False)}
        return [segments.get(hole, "").encode() for hole in HOLES] + [parts[-1].encode()]

    def holes(self) -> frozenset[str]:
        """Return the names of the holes that the template has."""
        return frozenset(re.findall(r"<([KSDTP])>", self.template))


def _file(kind: str, folder: str, mimetype: str, rest: str) -> str:
    # fileLength is a string: protobuf's 64-bit integers do not fit JavaScript's numbers.
    return (
        f'{{"{kind}":{{"url":"https://mmg.whatsapp.net/v/{folder}/<K>.enc?ccb=11-4",'
        f'"mimetype":"{mimetype}","fileLength":"<S>"{rest}}}}}'
    )


# Nine in ten messages are words. JSONB lessons need the rest: keys that exist in some rows only,
# numbers written as strings, text in three different places.
SHAPES: Final = (
    Shape("text", (56000, 52000, 60000), '{"conversation":"<T>"}'),
    Shape(
        "text",
        (20000, 0, 14000),
        '{"messageContextInfo":{"deviceListMetadata":{"senderKeyHash":"<K>",'
        '"recipientTimestamp":"1750<S>"},"deviceListMetadataVersion":2},"conversation":"<T>"}',
    ),
    Shape(
        "text",
        (1500, 31500, 2000),
        '{"extendedTextMessage":{"previewType":"NONE","text":"<T>"}}',
    ),
    Shape(
        "text",
        (3000, 4000, 9000),
        '{"extendedTextMessage":{"text":"<T>","contextInfo":{"stanzaId":"<P>",'
        '"quotedMessage":{"conversation":"…"}}}}',
    ),
    Shape(
        "image",
        (2600, 900, 2500),
        _file(
            "imageMessage",
            "t62.7118-24",
            "image/jpeg",
            ',"height":1280,"width":960,"caption":"<T>"',
        ),
        role="photo",
    ),
    # A caption that was left empty is '' and one that was never offered is absent (NULL).
    Shape(
        "image",
        (700, 100, 900),
        _file(
            "imageMessage",
            "t62.7118-24",
            "image/jpeg",
            ',"height":1600,"width":1200,"caption":"<T>"',
        ),
        role="empty",
    ),
    Shape(
        "image",
        (2700, 0, 1600),
        _file("imageMessage", "t62.7118-24", "image/jpeg", ',"height":1600,"width":720'),
        has_body=False,
    ),
    Shape(
        "audio",
        (6500, 300, 3000),
        _file("audioMessage", "t62.7117-24", "audio/ogg; codecs=opus", ',"seconds":<D>,"ptt":true'),
        has_body=False,
    ),
    Shape(
        "audio",
        (300, 200, 200),
        _file("audioMessage", "t62.7114-24", "audio/mp4", ',"seconds":<D>,"ptt":false'),
        has_body=False,
    ),
    Shape(
        "video",
        (900, 500, 900),
        _file(
            "videoMessage",
            "t62.7161-24",
            "video/mp4",
            ',"seconds":<D>,"gifPlayback":false,"caption":"<T>"',
        ),
        role="photo",
    ),
    Shape(
        "document",
        (1500, 8000, 900),
        _file(
            "documentMessage",
            "t62.7119-24",
            "application/pdf",
            ',"pageCount":<D>,"fileName":"admision.pdf","caption":"<T>"',
        ),
        role="file",
    ),
    Shape(
        "sticker",
        (1700, 0, 2500),
        _file("stickerMessage", "t62.15575-24", "image/webp", ',"isAnimated":false'),
        has_body=False,
    ),
    Shape(
        "location",
        (500, 1300, 150),
        '{"locationMessage":{"degreesLatitude":-12.0<S>,"degreesLongitude":-77.<D>,'
        '"name":"Universidad"}}',
        has_body=False,
    ),
    Shape(
        "contact",
        (300, 900, 150),
        '{"contactMessage":{"displayName":"Admisión","vcard":"BEGIN:VCARD\\nVERSION:3.0\\n'
        'FN:Admisión\\nTEL;type=CELL;waid=51987<S>\\nEND:VCARD"}}',
        has_body=False,
    ),
    Shape(
        "reaction",
        (1800, 300, 2000),
        '{"reactionMessage":{"text":"<T>","key":{"id":"<P>"}}}',
        role="emoji",
    ),
    Shape(
        "poll",
        (0, 0, 200),
        '{"pollCreationMessageV3":{"name":"<T>","options":[{"optionName":"Lunes"},'
        '{"optionName":"Miércoles"},{"optionName":"Sábado"}],"selectableOptionsCount":1}}',
        role="poll",
    ),
)
