"""Storing and reading a value that is encrypted, or not: what the encryption cases time."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pglab.bench.operations import Opened, Parameters
from pglab.errors import BenchError

if TYPE_CHECKING:
    from pglab.bench.ground import Place
    from pglab.encryption import LocalKeys

__all__ = ["CHEAP_S2K", "EXTENSION", "EncryptOnly", "How", "Value", "local_keys", "one", "payload"]

How = Literal["plaintext", "pgcrypto", "pgcrypto, cheap S2K", "AES-GCM"]

EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public"
CHEAP_S2K: Final = "s2k-count=1024"
"""The fewest octets that OpenPGP's mode 3 can hash: for a random key, which needs no stretching."""

_KEY: Final = "a passphrase of the benchmark"
_ROWS_BYTES: Final = 4_000_000
_MOST_ROWS: Final = 32

_WRITE: Final[dict[How, str]] = {
    "plaintext": "INSERT INTO secrets (content) VALUES (convert_to(%s, 'UTF8'))",
    "pgcrypto": "INSERT INTO secrets (content) VALUES (pgp_sym_encrypt(%s::text, %s::text))",
    "pgcrypto, cheap S2K": (
        "INSERT INTO secrets (content) VALUES (pgp_sym_encrypt(%s::text, %s::text, %s::text))"
    ),
    "AES-GCM": "INSERT INTO secrets (content) VALUES (%s)",
}
_READ: Final[dict[How, str]] = {
    "plaintext": "SELECT convert_from(content, 'UTF8') FROM secrets WHERE id = %s",
    "pgcrypto": "SELECT pgp_sym_decrypt(content, %s::text) FROM secrets WHERE id = %s",
    "pgcrypto, cheap S2K": "SELECT pgp_sym_decrypt(content, %s::text) FROM secrets WHERE id = %s",
    "AES-GCM": "SELECT content FROM secrets WHERE id = %s",
}


def payload(size: int, number: int = 0) -> str:
    """Return a text of this many characters that hardly compresses, as a session's keys do."""
    drawn = random.Random(f"{size}:{number}").randbytes(size * 3 // 4 + 3)  # noqa: S311 - no secret
    return base64.b64encode(drawn).decode()[:size]


def local_keys() -> LocalKeys:
    """Return the keys of the benchmark, the same in every run."""
    from pglab.encryption import LocalKeys

    return LocalKeys({"bench": hashlib.sha256(b"pglab bench").digest()})


@dataclass(frozen=True)
class Value:
    """Writing or reading one value by its key, as text on the client's side.

    What is timed ends where the program has its text, or the server has the row; a commit does not
    wait for the disk, which costs all alike.

    Attributes:
        how: it is stored.
        size: characters of the text.
        write: store it; otherwise read it.
    """

    how: How
    size: int
    write: bool

    @property
    def rows(self) -> int:
        """How many different values there are."""
        return max(4, min(_MOST_ROWS, _ROWS_BYTES // self.size))

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:  # noqa: ARG002
        """Fill the table, where it is to be read."""
        connection = place.connection
        connection.execute("SET synchronous_commit = off")
        if self.write:
            return Opened(
                self.written(place),
                before=lambda _, __: connection.execute("TRUNCATE secrets"),
                connection=connection,
                measures=lambda: self._measures(place),
            )
        if not one(place, "SELECT count(*) FROM secrets"):  # else it was opened before
            write = self.written(place)
            for number in range(self.rows):
                write(number)
            connection.execute("VACUUM (ANALYZE) secrets")
        read = self.asked(place)
        return Opened(
            lambda i: len(read(i)) and 1,
            connection=connection,
            measures=lambda: self._measures(place),
        )

    def written(self, place: Place) -> Callable[[int], int]:
        """Return what stores value number i."""
        from pglab.encryption import Context, encrypt

        texts = [payload(self.size, number) for number in range(self.rows)]
        cursor, count, text = place.connection.cursor(), self.rows, _WRITE[self.how].encode()
        execute = cursor.execute
        if self.how == "AES-GCM":
            keys = local_keys()

            def once(i: int) -> int:
                place_of_it = Context("secrets", "content", i % count)
                sealed = encrypt(texts[i % count].encode(), keys=keys, context=place_of_it)
                execute(text, (sealed,), prepare=True)
                return cursor.rowcount

            return once
        more: tuple[str, ...] = {
            "plaintext": (),
            "pgcrypto": (_KEY,),
            "pgcrypto, cheap S2K": (_KEY, CHEAP_S2K),
        }[self.how]

        def by_the_server(i: int) -> int:
            execute(text, (texts[i % count], *more), prepare=True)
            return cursor.rowcount

        return by_the_server

    def asked(self, place: Place) -> Callable[[int], str]:
        """Return what reads value number i."""
        from pglab.encryption import Context, decrypt

        cursor, count, sql = place.connection.cursor(), self.rows, _READ[self.how].encode()
        execute, fetch = cursor.execute, cursor.fetchone
        first = one(place, "SELECT min(id) FROM secrets")
        keys = local_keys()

        def stored(i: int, *more: str) -> Any:
            execute(sql, (*more, first + i % count), prepare=True, binary=True)
            row = fetch()
            if row is None:
                raise BenchError(f"value {i % count} is gone; run it again")
            return row[0]

        if self.how == "plaintext":
            return stored
        if self.how == "AES-GCM":
            return lambda i: decrypt(
                stored(i), keys=keys, context=Context("secrets", "content", i % count)
            ).decode()
        return lambda i: stored(i, _KEY)

    @staticmethod
    def _measures(place: Place) -> dict[str, float]:
        # NULL where the last thing that happened to the table was a TRUNCATE.
        stored = one(place, "SELECT avg(pg_column_size(content))::float8 FROM secrets")
        return {} if stored is None else {"stored_bytes": stored}


@dataclass(frozen=True)
class EncryptOnly:
    """Encrypting a text of 1,000 characters in this process, without any server."""

    size: int = 1_000

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:  # noqa: ARG002
        """Make the key."""
        from pglab.encryption import Context, encrypt

        keys, text = local_keys(), payload(self.size).encode()
        context = Context("secrets", "content", 1)
        return Opened(lambda _: len(encrypt(text, keys=keys, context=context)) and 1)


def one(place: Place, query: str) -> Any:
    """Return the only value that a query gives."""
    row = place.connection.execute(query.encode()).fetchone()
    return row[0] if row else None
