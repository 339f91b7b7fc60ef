"""The bytes of a stored ciphertext, version 1.

    offset      bytes  what
    0           3      magic: 50 47 45, "PGE"
    3           1      version of this layout: 01
    4           1      algorithm: 01 = AES-256-GCM, for the content
    5           1      n: length of the key id, 1 to 40
    6           n      key id: ASCII letters, digits and . _ -
    6+n         2      w: length of the wrapped data key, 1 to 4096, big-endian
    8+n         w      wrapped data key, as the key provider made it; the layout of ours, 60 bytes:
                       nonce 12, encrypted key 32, tag 16
    8+n+w       12     nonce of the content, random
    20+n+w      rest   ciphertext, as long as the plaintext, then its tag of 16 bytes

With a key id of 7 characters and our own keys that is 103 bytes more than the plaintext.

What authenticates what: the wrapping's associated data are bytes 0 to 5+n and the context; the
content's are bytes 0 to 4 and the context. So the content does not name the key-encryption key,
and a new key only has to wrap the data key again. The two lengths have no tag of their own: with
another length, other bytes are taken for the key, the nonce and the ciphertext, and no tag fits.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from pglab.encryption.errors import KeyMaterialError, MalformedError

__all__ = ["ALGORITHM", "MAGIC", "NONCE_BYTES", "PREFIX", "TAG_BYTES", "Envelope", "check_key_id"]

MAGIC: Final = b"PGE"
VERSION: Final = 1
ALGORITHM: Final = 1
PREFIX: Final = MAGIC + bytes([VERSION, ALGORITHM])
"""The five bytes that every ciphertext of this version begins with."""

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
LONGEST_WRAPPED_BYTES: Final = 4096

# Long enough for a UUID, and too short for a key in base64 or hexadecimal, given by mistake.
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")


def check_key_id(key_id: str) -> str:
    """Return the key id if it can be one.

    Raises:
        KeyMaterialError: it is not 1 to 40 ASCII letters, digits, dots, dashes and underscores.
    """
    if not _is_key_id(key_id):
        # The value is not shown: a key pasted into the id's place must not end up in a log.
        raise KeyMaterialError(
            "a key id is not 1 to 40 ASCII letters, digits and . _ - (it is not shown here, in "
            "case it is a key); name keys after their date, such as 2026-11"
        )
    return key_id


def _is_key_id(value: object) -> bool:
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The parts of a ciphertext.

    Attributes:
        key_id: which key-encryption key wrapped the data key.
        wrapped_key: the data key, wrapped.
        nonce: of the content, 12 bytes.
        sealed: ciphertext and tag.
    """

    key_id: str
    wrapped_key: bytes
    nonce: bytes
    sealed: bytes

    @staticmethod
    def header_of(key_id: str) -> bytes:
        """Return bytes 0 to 5+n: all that a wrapping authenticates besides the context."""
        return PREFIX + bytes([len(key_id)]) + key_id.encode("ascii")

    def to_bytes(self) -> bytes:
        """Return the layout above."""
        length = struct.pack(">H", len(self.wrapped_key))
        header = self.header_of(self.key_id)
        return b"".join((header, length, self.wrapped_key, self.nonce, self.sealed))

    @classmethod
    def parse(cls, blob: bytes) -> Envelope:
        """Take a ciphertext apart, without any key. Nothing is authenticated yet.

        Raises:
            MalformedError: it is not of this layout, or is cut short.
        """
        blob = bytes(blob)
        if blob[:3] != MAGIC:
            raise MalformedError(
                f"these {len(blob)} bytes do not begin with {MAGIC!r}, as every ciphertext of "
                "pglab.encryption does; they are empty, damaged, or were not encrypted by it"
            )
        if blob[3:5] != PREFIX[3:]:
            raise MalformedError(
                f"version and algorithm are {blob[3:5].hex(' ') or 'missing'}, and this program "
                f"knows {PREFIX[3:].hex(' ')}; the value is damaged, or a newer program made it"
            )
        rest = _Reader(blob, offset=len(PREFIX))
        key_id = rest.take(rest.take(1, "the key id's length")[0], "the key id")
        if not _is_key_id(key_id.decode("ascii", "replace")):
            raise MalformedError(
                "the key id holds bytes that no key id has; the value is damaged: restore it"
            )
        (length,) = struct.unpack(">H", rest.take(2, "the wrapped key's length"))
        if not 1 <= length <= LONGEST_WRAPPED_BYTES:
            raise MalformedError(
                f"the wrapped key's length is {length}, not 1 to {LONGEST_WRAPPED_BYTES} bytes; "
                "the value is damaged: restore it"
            )
        return cls(
            key_id=key_id.decode("ascii"),
            wrapped_key=rest.take(length, "the wrapped key"),
            nonce=rest.take(NONCE_BYTES, "the nonce"),
            sealed=rest.all_of_it(at_least=TAG_BYTES),
        )


class _Reader:
    """Takes bytes one part after another, and says which part is missing."""

    def __init__(self, blob: bytes, *, offset: int) -> None:
        self._blob = blob
        self._offset = offset

    def take(self, count: int, what: str) -> bytes:
        part = self._blob[self._offset : self._offset + count]
        if len(part) < count:
            raise self._cut_short(what)
        self._offset += count
        return part

    def all_of_it(self, *, at_least: int) -> bytes:
        part = self._blob[self._offset :]
        if len(part) < at_least:
            raise self._cut_short("the tag")
        return part

    def _cut_short(self, what: str) -> MalformedError:
        return MalformedError(
            f"the ciphertext ends after {len(self._blob)} bytes, within {what}; it was cut short: "
            "restore it from a backup"
        )
