"""Finding an encrypted phone number: by a blind index, or by decrypting every row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pglab.bench.cases._encrypted import local_keys, one
from pglab.bench.operations import Opened, Parameters

if TYPE_CHECKING:
    from pglab.bench.ground import Place
    from pglab.encryption import BlindIndex, LocalKeys

__all__ = ["Search", "phone"]


def phone(number: int) -> str:
    """Return a phone number that only this number has."""
    return f"+51 9{number:08d}"


def _index() -> BlindIndex:
    from pglab.encryption import BlindIndex, digits

    key = hashlib.sha256(b"pglab bench, blind").digest()
    return BlindIndex(key, "people.phone", normalise=digits)


@dataclass(frozen=True)
class Search:
    """Finding the person with a phone number among ``{size}`` / 20.

    Attributes:
        how: ``blind index``: by the HMAC of the number; ``decrypt all``: every row is fetched and
            decrypted here. Both decrypt what they return.
    """

    how: Literal["blind index", "decrypt all"]

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:  # noqa: ARG002
        """Encrypt the numbers, and look at the plan of the search."""
        ask = self.asked(place)
        check = {
            # The plan for a number that is there; the parameter itself is made here.
            "blind index": _literal(_index().of(phone(1))),
            "decrypt all": "SELECT id, sealed FROM people",
        }[self.how]
        return Opened(lambda i: len(ask(i)), check=check, connection=place.connection)

    def asked(self, place: Place) -> Callable[[int], list[str]]:
        """Return what does search number i: the numbers that it found."""
        from pglab.encryption import Context, decrypt

        people, keys, index = place.size // 20, local_keys(), _index()
        self._fill(place, keys, index)
        cursor = place.connection.cursor()
        execute, fetch = cursor.execute, cursor.fetchall

        def opened(number: int, sealed: bytes) -> str:
            return decrypt(sealed, keys=keys, context=Context("people", "phone", number)).decode()

        def by_blind_index(i: int) -> list[str]:
            execute(
                b"SELECT id, sealed FROM people WHERE blind = %s",
                (index.of(phone(wanted(i))),), prepare=True, binary=True,
            )  # fmt: skip
            return [opened(*row) for row in fetch()]

        def by_decrypting(i: int) -> list[str]:
            execute(b"SELECT id, sealed FROM people", prepare=True, binary=True)
            number = phone(wanted(i))
            return [found for row in fetch() if (found := opened(*row)) == number]

        def wanted(i: int) -> int:
            return i * 7_919 % people + 1  # a prime: one number after the other, all over the table

        return by_blind_index if self.how == "blind index" else by_decrypting

    @staticmethod
    def _fill(place: Place, keys: LocalKeys, index: BlindIndex) -> None:
        from pglab.encryption import Context, encrypt

        connection = place.connection
        if not one(place, "SELECT count(*) FROM people WHERE sealed IS NULL"):
            return
        numbers = [row[0] for row in connection.execute("SELECT id FROM people").fetchall()]
        rows = [
            (
                encrypt(
                    phone(number).encode(), keys=keys, context=Context("people", "phone", number)
                ),
                index.of(phone(number)),
                number,
            )
            for number in numbers
        ]
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany("UPDATE people SET sealed = %s, blind = %s WHERE id = %s", rows)
        # The rows as they lie after an UPDATE would be twice as many pages.
        connection.execute("VACUUM (FULL, ANALYZE) people")
        connection.execute("VACUUM people")


def _literal(blind: bytes) -> str:
    return f"SELECT sealed FROM people WHERE blind = '\\x{blind.hex()}'::bytea"  # noqa: S608 - hex
