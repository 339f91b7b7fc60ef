"""The place that a ciphertext belongs to."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

__all__ = ["Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """The place of one value: authenticated with its ciphertext, and not stored in it.

    A ciphertext opens only under the context that it was made with, so that one which was copied
    to another row, column or table does not. What this cannot detect is an *older* ciphertext of
    the same place that somebody puts back, or a row that was deleted.

    Attributes:
        table: name of the table.
        column: name of the column.
        key: primary key of the row; taken as its text, so 7 and "7" are the same key.
    """

    table: str
    column: str
    key: UUID | str | int

    def to_bytes(self) -> bytes:
        """Return the three parts in UTF-8, each after its length as 4 bytes, big-endian.

        The lengths keep the parts apart: ("ab", "c") and ("a", "bc") are different places.
        """
        parts = [part.encode() for part in (self.table, self.column, str(self.key))]
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)
