"""One value of an event and where it stands, so that every complaint can name its field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from pglab.errors import IngestError

__all__ = ["MAX_DEPTH", "MAX_TEXT_BYTES", "Node", "plain", "shorten"]

MAX_TEXT_BYTES: Final = 2**20
"""The longest single text that is stored, in bytes of UTF-8; WhatsApp's own limit is far lower."""

MAX_DEPTH: Final = 100
"""How deep an event's objects and arrays may nest; quoted messages reach about 20."""

# The same bounds as messages_sent_at_check in schema.sql.
_EARLIEST: Final = datetime(2009, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_EARLIEST_S: Final = int(_EARLIEST.timestamp())
_LATEST_S: Final = int(_LATEST.timestamp())

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
_ISO: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(?P<offset>Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_INTEGER: Final = re.compile(r"-?\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """A value inside an event, and its path from the batch down."""

    value: Any
    path: str

    def error(self, fact: str) -> IngestError:
        """Make the error that says what is wrong with this value; nothing was stored yet."""
        path = self.path
        if len(path) > 200:  # what nests too deep has a path to match
            path = f"{path[:120]}…{path[-60:]}"
        return IngestError(f"{path} {fact}; nothing of the batch was stored", field=path)

    def wrong(self, wanted: str) -> IngestError:
        """Make the error that names what is here and what should be."""
        return self.error(f"is {shorten(self.value)}, not {wanted}")

    def child(self, key: str) -> Node:
        """Return what stands under ``key``, None if nothing does."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return Node(self.value.get(key), f"{self.path}.{_step(key)}")

    def __getitem__(self, key: str) -> Node:
        """Return what stands under ``key``; it must be there."""
        child = self.child(key)
        if child.value is None:
            raise child.error("is null" if key in self.value else "is missing")
        return child

    def elements(self) -> list[Node]:
        """Return the array's elements; any other value is taken for an array of one."""
        if not isinstance(self.value, list | tuple):
            return [self]
        return [Node(value, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def object(self) -> dict[str, Any]:
        """Return a JSON object whose every text PostgreSQL can store."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        copy: dict[str, Any] = plain(self)
        return copy

    def text(self, *, longest: int | None = None) -> str:
        """Return a text that PostgreSQL can store, of at most ``longest`` characters."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        _check_text(self, self.value)
        if longest is not None and not 1 <= len(self.value) <= longest:
            raise self.error(f"has {len(self.value)} characters, and must have 1 to {longest}")
        return self.value

    def optional_text(self) -> str | None:
        """Return a text, or None for null, for nothing there and for an empty one."""
        return None if self.value is None else self.text() or None

    def boolean(self) -> bool:
        """Return a boolean; 0 and 1 are none."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def integer(self) -> int:
        """Return an integer: a number, a text of digits, or a Long ``{low, high, unsigned}``."""
        value = self.value
        if isinstance(value, Mapping):
            # JavaScript's numbers are exact only to 2**53, so its protobuf library splits 64 bits.
            low, high = (self[half].whole() for half in ("low", "high"))
            return (high << 32) | (low & 0xFFFF_FFFF)
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            return int(value)
        return self.whole()

    def whole(self) -> int:
        """Return a number without a fraction; neither a boolean nor a text is one."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong("a whole number")
        return self.value

    def epoch(self, *, unit_ms: int = 1000) -> datetime:
        """Return the instant of a count since 1970 in units of ``unit_ms`` milliseconds."""
        count = self.integer()
        per_second = 1000 // unit_ms
        if not _EARLIEST_S * per_second <= count < _LATEST_S * per_second:
            unit = "seconds" if per_second == 1 else "milliseconds"
            raise self.error(
                f"is {_digits(count)} {unit} after 1970, which is not between 2009 and 2100 "
                "(messageTimestamp counts seconds, timestampMs milliseconds)"
            )
        return datetime.fromtimestamp(count // per_second, UTC).replace(
            microsecond=count % per_second * unit_ms * 1000
        )

    def clock(self, zone: tzinfo) -> datetime:
        """Return the instant of an ISO 8601 text that was written on a clock in ``zone``.

        The gateway appends a ``Z`` to its local time (its issue 631), so a ``Z`` is not believed;
        an offset in digits is.
        """
        text = self.text()
        match = _ISO.fullmatch(text)
        try:
            written = datetime.fromisoformat(text) if match else None
        except ValueError:
            written = None
        if match is None or written is None:
            raise self.wrong("a time such as 2025-03-01T09:30:00.000Z")
        if match["offset"] in {None, "Z"}:
            written = written.replace(tzinfo=zone)
        # Years first: near the calendar's ends, a change of zone overflows.
        if not 2009 <= written.year < 2100 or not _EARLIEST <= written < _LATEST:
            raise self.error(f"is {shorten(text)}, which is not between 2009 and 2100")
        return written.astimezone(UTC)


def plain(node: Node, depth: int = 0) -> Any:
    """Copy a value as JSON that PostgreSQL can store, or say where it is not.

    Raises:
        IngestError: a NUL, a lone surrogate, NaN, a text over ``MAX_TEXT_BYTES``, nesting over
            ``MAX_DEPTH``, or a Python object that is no JSON.
    """
    value = node.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _check_text(node, value)
        return value
    if isinstance(value, int | float):
        return _number(node, value)
    if depth == MAX_DEPTH:
        raise node.error(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        copy = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise node.error(f"has the key {shorten(key)}, which is not a text")
            below = Node(item, f"{node.path}.{_step(key)}")
            _check_text(below, key)
            copy[key] = plain(below, depth + 1)
        return copy
    if isinstance(value, list | tuple):
        return [plain(element, depth + 1) for element in node.elements()]
    raise node.wrong("JSON")


def shorten(value: object) -> str:
    """Describe a value in a few words: a scalar's beginning, a container's size only.

    A container may hold the envelope's apikey, and a message may be long and private.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")
    if isinstance(value, int):
        return _digits(value)
    return repr(value) if isinstance(value, float) else f"a Python {type(value).__name__}"


def _step(key: object) -> str:
    """Spell a key in a path: as it is when it is a plain word, quoted when it is not."""
    text = str(key)
    return text if _PLAIN_KEY.fullmatch(text) else shorten(text)


def _digits(number: int) -> str:
    # Python refuses to print integers of thousands of digits.
    return str(number) if abs(number) < 10**20 else f"a number of {number.bit_length()} bits"


def _number(node: Node, value: float) -> float:
    """Return a number that jsonb can hold; NaN and Infinity are not JSON."""
    if isinstance(value, int):
        if value.bit_length() > 1024:
            raise node.error(f"is {_digits(value)}, more than the 1024 that JSON numbers may have")
    elif not math.isfinite(value):
        raise node.error(f"is {value!r}, which is not a JSON number")
    return value


def _check_text(node: Node, text: str) -> None:
    """Refuse what PostgreSQL's text and jsonb cannot hold, and what is too long to keep."""
    if "\0" in text:
        raise node.error(f"holds a NUL at character {text.index(chr(0))}: PostgreSQL stores none")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise node.error(
            f"holds half a character (the lone surrogate {text[error.start]!a}) "
            f"at character {error.start}: UTF-8 has no such thing"
        ) from None
    if size > MAX_TEXT_BYTES:
        raise node.error(f"has {size} bytes, and at most {MAX_TEXT_BYTES} are stored")
