"""A blind index: find equal values in an encrypted column without decrypting it."""

from __future__ import annotations

import hashlib
import hmac
import struct
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pglab.encryption.errors import EncryptionError
from pglab.encryption.key_material import check_key

__all__ = ["BlindIndex", "digits", "folded"]


def folded(value: str) -> str:
    """Return the text without outer spaces, in NFKC and case-folded: "Ñandú " as "ñandú"."""
    return unicodedata.normalize("NFKC", value).strip().casefold()


def digits(value: str) -> str:
    """Return only the ASCII digits: "+51 987-654" as "51987654"."""
    return "".join(character for character in value if character in "0123456789")


class BlindIndex:
    """HMAC-SHA-256 of a normalised value, to be stored beside its ciphertext and indexed.

    What it leaks, to anybody who reads the table: which rows have equal values, and how many; so
    a value that is known to be frequent is recognised by its frequency, and so is one that the
    reader had stored himself. Who also has the key can guess: one Python process tries all
    nine-digit phone numbers in about an hour. So its key is not the encryption key, each column
    has a purpose of its own (equal values in two columns do not look equal), and a column with
    few values, such as a status or a yes and no, should have no blind index at all.

    A new key means new index values: decrypt every row and compute them again.

    Args:
        key: 32 random bytes, from ``generate_key()``, used for nothing else.
        purpose: what is indexed, such as "contacts.phone"; part of what is hashed.
        normalise: makes the spellings of a value equal; ``folded`` or ``digits``.
        size_bytes: how much of the 32 bytes to keep, 4 to 32. With 16, two of a thousand million
            values collide with a probability of 10⁻²¹. With few bytes different values share an
            entry on purpose: it leaks less, and the reader decrypts and compares.

    Raises:
        KeyMaterialError: the key is not 32 bytes.
        EncryptionError: the size is not 4 to 32, or the purpose is empty.
    """

    def __init__(
        self,
        key: bytes,
        purpose: str,
        *,
        normalise: Callable[[str], str] = folded,
        size_bytes: int = 16,
    ) -> None:
        check_key(key, what="the key of a blind index")
        if not 4 <= size_bytes <= hashlib.sha256().digest_size:
            raise EncryptionError(f"size_bytes is {size_bytes}; 4 to 32 are possible")
        if not purpose:
            raise EncryptionError("the purpose is empty; name the column, such as contacts.phone")
        self.purpose: Final = purpose
        self.size_bytes: Final = size_bytes
        self._normalise = normalise
        name = purpose.encode()
        # Keyed once, copied for each value. The length keeps purpose and value apart.
        self._keyed = hmac.new(bytes(key), struct.pack(">I", len(name)) + name, hashlib.sha256)

    def of(self, value: str) -> bytes:
        """Return what to store for a value, or to search for.

        Raises:
            EncryptionError: the value is empty once normalised; store NULL for no value.
        """
        normal = self._normalise(value)
        if not normal:
            raise EncryptionError(
                f"a value of {self.purpose} is empty once normalised, and all such would look "
                "equal; store NULL where there is no value"
            )
        keyed = self._keyed.copy()
        keyed.update(normal.encode("utf-8", "surrogatepass"))
        return keyed.digest()[: self.size_bytes]

    def search(
        self,
        connection: psycopg.Connection[Any],
        value: str,
        *,
        table: str,
        index_column: str,
        columns: Sequence[str],
    ) -> list[tuple[Any, ...]]:
        """Return the columns of the rows that are indexed under a value.

        They are candidates: decrypt, and compare, where ``size_bytes`` is small. The server sees
        the HMAC only, and needs an ordinary B-tree index on ``index_column``.

        Raises:
            EncryptionError: the value is empty once normalised.
        """
        query = sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(*table.split(".")),
            sql.Identifier(index_column),
        )
        with connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(query, [self.of(value)]).fetchall()

    def __repr__(self) -> str:
        return f"BlindIndex(purpose={self.purpose!r}, size_bytes={self.size_bytes})"

    def __copy__(self) -> BlindIndex:
        return self

    def __deepcopy__(self, memo: object) -> BlindIndex:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a blind index holds a key and is not pickled; make it again")
