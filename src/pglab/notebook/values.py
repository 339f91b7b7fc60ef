"""How one value is written: bounded, unmistakable, and safe in a terminal and in a browser.

Values come in the server's own text form, which exists for every value of every type: an infinite
date, a year BC, a numeric's scale, a type that Python has never heard of.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

__all__ = ["NULL", "NUMBERS", "Cell", "from_python", "from_server", "visible"]

_BOOLEAN, _BYTEA, _CHAR = 16, 17, 18
NUMBERS = {20, 21, 23, 26, 700, 701, 790, 1700}
_TEXTS = {25, 1042, 1043, 19, _CHAR}
WIDTH = 120
"""Longest value shown, in characters, unless told otherwise."""

# A text that could be taken for something else is shown as a literal, in quotes.
_MISTAKABLE = re.compile(r"|NULL|\s.*|.*\s|'.*'", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Cell:
    """A value ready to be shown: its text, and whether it is NULL or a number."""

    text: str
    is_null: bool = False
    is_number: bool = False


NULL = Cell("NULL", is_null=True)


def from_server(value: str | None, oid: int, width: int = WIDTH) -> Cell:
    """Return how a value in the server's text form is shown."""
    if value is None:
        return NULL
    if oid == _BOOLEAN:
        return Cell("true" if value == "t" else "false")
    if oid == _BYTEA and value.startswith(r"\x"):
        return Cell(_bytes(value, width))
    if oid in NUMBERS:
        return Cell(visible(value, width), is_number=True)
    if oid in _TEXTS and _MISTAKABLE.fullmatch(value):
        return Cell("'" + visible(value.replace("'", "''"), width) + "'")
    return Cell(visible(value, width))


def from_python(value: Any, width: int = WIDTH) -> Cell:
    """Return how a Python object is shown, in the same look as the server's values."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return NULL
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return Cell("true" if value else "false")
    if isinstance(value, bytes | bytearray | memoryview):
        return Cell(_bytes(r"\x" + bytes(value).hex(), width))
    if isinstance(value, str):
        return from_server(value, 25, width)
    if isinstance(value, dict | list):
        return Cell(visible(json.dumps(value, ensure_ascii=False, default=str), width))
    is_number = hasattr(value, "__float__") and not hasattr(value, "__len__")
    return Cell(visible(str(value), width), is_number=is_number)


def _bytes(hexadecimal: str, width: int) -> str:
    size = (len(hexadecimal) - 2) // 2
    if len(hexadecimal) <= min(width, 42):
        return hexadecimal
    return f"{hexadecimal[: min(width, 34)]}… ({size:,} bytes)"


def visible(text: str, width: int = WIDTH) -> str:
    """Return a text shortened to ``width`` characters, with control characters made visible."""
    cut = text if len(text) <= width else text[:width]
    shown = "".join(map(_visible_character, cut)) if not cut.isascii() or not _plain(cut) else cut
    rest = len(text) - len(cut)
    return f"{shown}… (+{rest:,} characters)" if rest else shown


def _plain(text: str) -> bool:
    return text.isprintable()


def _visible_character(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        # Most fonts have these two; the others are Unicode's pictures of control characters.
        return {"\n": "↵", "\t": "⇥"}.get(character, chr(0x2400 + code))
    if code == 0x7F:
        return "␡"
    category = unicodedata.category(character)
    # Direction overrides could make a value read as another one; U+200D joins emoji and stays.
    is_direction = category == "Cf" and unicodedata.bidirectional(character) != "BN"
    if is_direction or category in {"Cc", "Zl", "Zp"}:
        return f"<U+{code:04X}>"
    return character
