"""Rotate keys while everybody works: batches, each its own transaction, that can be killed.

The rows themselves say how far a rotation came, so it needs no memory: run it again after
``kill -9``. A row is read and written under its lock, so no concurrent write is lost, and it is
readable before and after, since a ciphertext names its key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pglab.encryption.columns import SESSIONS, EncryptedColumn, stale_parameters
from pglab.encryption.context import Context
from pglab.encryption.envelope import decrypt, encrypt, key_id_of, rewrap
from pglab.encryption.errors import EncryptionError, UnknownKeyError
from pglab.encryption.keys import KeyProvider

__all__ = ["Failure", "RotationReport", "rotate"]

Key = UUID | str | int

# NO KEY: the primary key stays, so that inserting a row which refers to this one need not wait.
_FIRST: Final = """
SELECT {pk}, {column} FROM {table} WHERE {stale}
ORDER BY {pk} LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
"""
_NEXT: Final = """
SELECT {pk}, {column} FROM {table} WHERE {stale} AND {pk} > %(after)s
ORDER BY {pk} LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
"""
_ONE: Final = """
SELECT {pk}, {column} FROM {table} WHERE {stale} AND {pk} = %(one)s FOR NO KEY UPDATE
"""
_UPDATE: Final = "UPDATE {table} SET {column} = %(blob)s, {key_id} = %(id)s WHERE {pk} = %(key)s"


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that was left as it is, because it does not open.

    Attributes:
        key: its primary key.
        error: why.
    """

    key: Key
    error: EncryptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReport:
    """What a rotation did, or has done so far.

    Attributes:
        key_id: the key that the rows are under now.
        rotated: rows that it changed.
        failures: rows that do not open; they are as they were.
        remaining: rows that are not under the key, failures included: also those that another
            program wrote with an older key meanwhile. None in a report to ``on_batch``.
        batches: transactions that looked at rows.
        seconds: in all, pauses included.
    """

    key_id: str
    rotated: int
    failures: tuple[Failure, ...]
    remaining: int | None
    batches: int
    seconds: float


def rotate(
    connection: psycopg.Connection[Any],
    keys: KeyProvider,
    *,
    column: EncryptedColumn = SESSIONS,
    batch: int = 100,
    pause_s: float = 0.0,
    on_batch: Callable[[RotationReport], object] | None = None,
    rewrap_only: bool = True,
    leave_unknown: bool = False,
) -> RotationReport:
    """Bring every row of a column under the current key.

    A first pass walks along the primary key and skips rows that others have locked; a second
    waits for those, one at a time, so that it holds no lock while it waits. The connection's
    ``lock_timeout`` bounds that wait. Programs that write with an older key should have the new
    one first: what they write behind the walk is counted in ``remaining``; then run it again.

    Wrapping the data keys anew reads no plaintext, and a KMS sees 32 bytes a row, but PostgreSQL
    writes each value whole again, for it is one field. It is enough when a key is merely old. If
    the old key leaked, whoever had it and the rows has the data keys too: ``rewrap_only=False``
    encrypts the values under new ones. Neither changes what a copy of the old rows reveals.

    Args:
        connection: with no transaction open.
        keys: the current key and all older ones that rows are under.
        column: where the ciphertexts are.
        batch: rows in a transaction; their values are in memory together.
        pause_s: seconds to wait after each batch, for the sake of others.
        on_batch: told the report so far, after each batch was committed.
        rewrap_only: wrap the data keys anew; if False, decrypt and encrypt the values.
        leave_unknown: go on although a key is missing; what it wrapped is among the failures.

    Returns:
        The report. Rows that do not open are listed there, and neither stop it nor change.

    Raises:
        ValueError: a transaction is open, or ``batch`` is less than 1.
        UnknownKeyError: rows are under a key that is not at hand; no row was changed.
        psycopg.Error: the server refused a batch; those before it are kept.
    """
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ValueError(
            "a transaction is open on this connection, and each batch needs one of its own; "
            "commit it first"
        )
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least 1 row is needed")
    rotation = _Rotation(
        connection,
        keys,
        column,
        renew=rewrap if rewrap_only else _encrypt_again,
        on_batch=on_batch,
        pause_s=pause_s,
    )
    if not leave_unknown:
        rotation.refuse_missing_keys()
    rotation.walk(batch)
    rotation.wait_for_the_rest()
    return rotation.report(remaining=len(rotation.stale_keys()))


class _Rotation:
    """One call of ``rotate``: what it was given, and what it has done."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        keys: KeyProvider,
        column: EncryptedColumn,
        *,
        renew: Callable[..., bytes],
        on_batch: Callable[[RotationReport], object] | None,
        pause_s: float,
    ) -> None:
        self.connection = connection
        self.keys = keys
        self.column = column
        self.renew = renew
        self.on_batch = on_batch
        self.pause_s = pause_s
        # Read once: a provider whose current key changes meanwhile must not move the goal.
        self.key_id = keys.current_key_id
        self.stale = stale_parameters(self.key_id)
        self.rotated = 0
        self.batches = 0
        self.failures: dict[Key, Failure] = {}
        self.started = time.monotonic()

    def report(self, *, remaining: int | None = None) -> RotationReport:
        return RotationReport(
            key_id=self.key_id,
            rotated=self.rotated,
            failures=tuple(self.failures.values()),
            remaining=remaining,
            batches=self.batches,
            seconds=time.monotonic() - self.started,
        )

    def refuse_missing_keys(self) -> None:
        # By the column of ids: a flipped bit in one ciphertext's id is that row's failure only.
        rows = self._rows(
            "SELECT {key_id}, count(*) FROM {table} WHERE {stale} GROUP BY 1 ORDER BY 1"
        )
        named = [(key, count) for key, count in rows if key is not None]
        missing = [(key, count) for key, count in named if not self.keys.has(key)]
        if missing:
            words = ", ".join(f"{key!r} ({count} rows)" for key, count in missing)
            raise UnknownKeyError(
                f"rows of {self.column.table} are under keys that are not at hand: {words}; add "
                "them from the backup of the keys, or pass leave_unknown=True to rotate the "
                "others (nothing was changed)"
            )

    def walk(self, batch: int) -> None:
        seen = self._batch(_FIRST, {"batch": batch})
        while seen:
            seen = self._batch(_NEXT, {"batch": batch, "after": seen[-1]})

    def wait_for_the_rest(self) -> None:
        for key in self.stale_keys():
            if key not in self.failures:
                self._batch(_ONE, {"one": key})

    def stale_keys(self) -> list[Key]:
        rows = self._rows("SELECT {pk} FROM {table} WHERE {stale} ORDER BY 1")
        return [row[0] for row in rows]

    def _batch(self, query: LiteralString, parameters: dict[str, Any]) -> list[Key]:
        """Renew the rows that a query finds and locks; return their primary keys."""
        renewed: list[dict[str, Any]] = []
        failed: dict[Key, Failure] = {}
        # Under REPEATABLE READ, any row that somebody changed meanwhile would end the rotation.
        with (
            self.connection.transaction(),
            self.connection.cursor(row_factory=tuple_row, binary=True) as cursor,
        ):
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            found = cursor.execute(
                self.column.compose(query), {**self.stale, **parameters}
            ).fetchall()
            for key, blob in found:
                try:
                    new = self.renew(blob, keys=self.keys, context=self.column.place(key))
                except EncryptionError as error:
                    # The frames of a kept traceback would keep ciphertexts and data keys, too.
                    error.__context__ = None
                    failed[key] = Failure(key, error.with_traceback(None))
                else:
                    renewed.append({"key": key, "blob": new, "id": key_id_of(new)})
            if renewed:
                cursor.executemany(self.column.compose(_UPDATE), renewed)
        # Counted only now: a batch that the server refused was none.
        if found:
            self.rotated += len(renewed)
            self.failures |= failed
            self.batches += 1
            if self.on_batch is not None:
                self.on_batch(self.report())
            time.sleep(self.pause_s)
        return [key for key, _ in found]

    def _rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        with (
            self.connection.transaction(),
            self.connection.cursor(row_factory=tuple_row) as cursor,
        ):
            return cursor.execute(self.column.compose(query), self.stale).fetchall()


def _encrypt_again(blob: bytes, *, keys: KeyProvider, context: Context) -> bytes:
    return encrypt(decrypt(blob, keys=keys, context=context), keys=keys, context=context)
