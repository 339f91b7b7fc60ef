"""One learner's session: a persistent connection that reopens itself and says what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import psycopg
from psycopg import pq

from pglab.errors import PglabError
from pglab.notebook import wire
from pglab.notebook.failures import SessionLostError
from pglab.notebook.results import Column, Note, Outcome, short_type
from pglab.notebook.statements import Statement

__all__ = ["MAIN", "HasConnection", "Session"]

MAIN = "sql"
"""The session of a ``%%sql`` without ``--as``; also its application_name on the server."""

_OPEN = {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}
# Statements that make sense in a new session even though a transaction was lost with the old one.
_FRESH_STARTS = {"BEGIN", "START", "ROLLBACK", "ABORT", "SHOW", "SET"}
_FIRST_USER_OID = 16_384


class HasConnection(Protocol):
    """What this package needs of a lab: new connections, and a count of its resets."""

    @property
    def name(self) -> str:
        """Return the lesson's name."""

    @property
    def generation(self) -> int:
        """Return a number that grows at each reset."""

    def connection(
        self, *, autocommit: bool = False, application_name: str | None = None
    ) -> psycopg.Connection[Any]:
        """Open a new connection to the lesson's database."""


class Session:
    """A named session of ``%%sql`` on one lab; it connects at the first statement."""

    def __init__(self, lab: HasConnection, name: str = MAIN) -> None:
        self.lab = lab
        self.name = name
        self._connection: wire.Connection | None = None
        self._generation = lab.generation
        self._notes: list[Note] = []
        self._types: dict[tuple[int, int], str] = {}
        self._in_transaction = False

    @property
    def open_connection(self) -> wire.Connection:
        """Return the session's connection; ``prepare`` must have opened it."""
        assert self._connection is not None  # noqa: S101 (for the type checker)
        return self._connection

    @property
    def transaction(self) -> pq.TransactionStatus:
        """Return the state of the transaction: IDLE, INTRANS (open) or INERROR (failed)."""
        if self._connection is None or self._connection.closed:
            return pq.TransactionStatus.IDLE
        return pq.TransactionStatus(self._connection.pgconn.transaction_status)

    def prepare(self, statements: Sequence[Statement]) -> list[Note]:
        """Connect if need be; return remarks about a session that was lost.

        Raises:
            SessionLostError: the lost session had an open transaction, to which the statements may
                have belonged; nothing was run.
        """
        lost = self._connection
        reset = self._generation != self.lab.generation
        if lost is not None and not reset and wire.is_alive(lost):
            return self.take_notes()
        transaction_lost = self._in_transaction and not reset
        self.close()
        self._generation = self.lab.generation
        self._connection = self._open()
        notes = self.take_notes()
        if lost is None:
            return notes
        if transaction_lost and _continues_a_transaction(statements):
            raise SessionLostError(
                "the server had ended this session, and the transaction that was open in it was "
                "rolled back. Nothing of this cell was run, because it may have belonged to that "
                "transaction. A new session is open: start again from BEGIN"
            )
        reason = "The lab was reset" if reset else "The server had ended this session"
        return [
            *notes,
            Note(
                "RECONNECTED",
                f"{reason}; this is a new one. Temporary tables, settings, prepared statements "
                "and any transaction that was open are gone.",
            ),
        ]

    def run(self, statement: Statement, *, keep: int, count: int = wire.ROWS_COUNTED) -> Outcome:
        """Run one statement; see ``wire.run``.

        Raises:
            SessionLostError: the connection broke; it is not known whether the statement was run.
            psycopg.Error: the server refused the statement.
        """
        if self._connection is None:
            self.prepare([statement])
        connection = self.open_connection
        try:
            outcome, result = wire.run(
                connection, statement, keep=keep, count=count, has_written=self._has_written
            )
        except psycopg.OperationalError as error:
            if wire.is_alive(connection):
                raise
            raise SessionLostError(
                f"the connection broke while the statement ran ({str(error).strip()}). Whether it "
                "was executed is not known, so it is not run again by itself: check, then run the "
                "cell again; that opens a new session. An open transaction was rolled back"
            ) from None
        finally:
            self._in_transaction = self.transaction in _OPEN
        if result is not None:
            outcome.columns = self._describe(connection, result)
        outcome.notes = self.take_notes()
        return outcome

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back by the server."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._types.clear()
        self._in_transaction = False

    def _open(self) -> wire.Connection:
        try:
            connection = self.lab.connection(autocommit=True, application_name=self.name)
        except (psycopg.OperationalError, PglabError) as error:
            raise SessionLostError(
                f"no connection to the lesson's database: {str(error).strip()}. Run pglab doctor "
                "in a terminal: it says what is wrong"
            ) from None
        connection.add_notice_handler(self._hear)
        return connection

    def _hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # The diagnostic belongs to libpq and ends with this call.
        parts = [diagnostic.message_primary or ""]
        if diagnostic.message_detail:
            parts.append(f"DETAIL: {diagnostic.message_detail}")
        if diagnostic.message_hint:
            parts.append(f"HINT: {diagnostic.message_hint}")
        self._notes.append(Note(diagnostic.severity or "NOTICE", "\n".join(parts)))

    def take_notes(self) -> list[Note]:
        """Return what the server has said since the last call."""
        connection = self._connection
        if connection is not None and not connection.closed:
            while (notify := connection.pgconn.notifies()) is not None:
                channel, payload = notify.relname.decode(), notify.extra.decode()
                self._notes.append(
                    Note("NOTIFY", f"{channel}: {payload!r} (from backend {notify.be_pid})")
                )
        notes, self._notes = self._notes, []
        return notes

    def _has_written(self, pid: int) -> bool:
        """Tell whether a backend's transaction has an id, which it gets at its first write."""
        try:
            with self.lab.connection(autocommit=True, application_name="pglab-limit") as watch:
                row = watch.execute(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s"
                    " AND locktype = 'transactionid' AND mode = 'ExclusiveLock')",
                    [pid],
                ).fetchone()
        except psycopg.Error:
            return True  # unknown, as when no connection is left: stopping might undo a write
        return row is None or bool(row[0])

    def _describe(self, connection: wire.Connection, result: pq.abc.PGresult) -> list[Column]:
        fields = range(result.nfields)
        kinds = [(result.ftype(index), result.fmod(index)) for index in fields]
        self._learn_types(connection, set(kinds))
        encoding = connection.info.encoding
        return [
            Column(
                (result.fname(index) or b"").decode(encoding, "replace"),
                kinds[index][0],
                self._types.get(kinds[index], f"type {kinds[index][0]}"),
            )
            for index in fields
        ]

    def _learn_types(self, connection: wire.Connection, kinds: set[tuple[int, int]]) -> None:
        """Learn type names; the server is asked only for what psycopg does not know."""
        unknown = []
        for oid, modifier in kinds - self._types.keys():
            known = connection.adapters.types.get(oid)
            if known and modifier < 0 and oid < _FIRST_USER_OID:
                suffix = "[]" if known.array_oid == oid else ""
                self._types[oid, modifier] = short_type(known.regtype + suffix)
            else:
                unknown.append((oid, modifier))
        if not unknown or connection.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            return
        rows = connection.execute(
            "SELECT pg_catalog.format_type(o, m) FROM unnest(%s::oid[], %s::int[]) AS t(o, m)",
            [[oid for oid, _ in unknown], [modifier for _, modifier in unknown]],
            prepare=False,
        ).fetchall()
        self._types |= {kind: short_type(row[0]) for kind, row in zip(unknown, rows, strict=True)}


def _continues_a_transaction(statements: Sequence[Statement]) -> bool:
    first_change = next((one for one in statements if not one.only_reads), None)
    return first_change is not None and first_change.verb not in _FRESH_STARTS
