"""Run one statement as written, keep its first rows, and stop the server when there are many more.

psycopg's cursors fetch a whole result. Here libpq's chunked mode (PostgreSQL's documentation,
"Retrieving Query Results in Chunks") brings a few rows at a time. The statement itself is sent
unchanged, so its plan and its side effects are what they would be in psql: no LIMIT is added, and
no cursor, which would rule out parallel plans.

The extended protocol is used, without parameters: the server then refuses a text of two statements
instead of running both as one transaction.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import pq

from pglab.notebook.results import Outcome
from pglab.notebook.statements import Statement

__all__ = ["ROWS_COUNTED", "Connection", "is_alive", "run"]

Connection = psycopg.Connection[Any]

ROWS_COUNTED = 1_000
"""A query that only reads is stopped after this many rows, or BYTES_COUNTED if that comes first."""
BYTES_COUNTED = 8_000_000  # of chunks that hold more than the rows to keep
_CHUNK_ROWS = 20
_CANCEL_SECONDS = 5.0
# Where no signal wakes a waiting select (Windows), Ctrl-C is noticed this late.
_INTERRUPT_SECONDS = 0.5
_SAVEPOINT = b"pglab_result_limit"

_ROWS = {pq.ExecStatus.TUPLES_CHUNK, pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK}
_COPY = {pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH}
_IN_TRANSACTION = pq.TransactionStatus.INTRANS


def run(
    connection: Connection,
    statement: Statement,
    *,
    keep: int,
    count: int,
    has_written: Callable[[int], bool],
) -> tuple[Outcome, pq.abc.PGresult | None]:
    """Run a statement and keep at most ``keep`` rows of its result.

    Args:
        connection: in autocommit mode, so that psycopg adds no BEGIN.
        statement: sent as it is.
        keep: rows to keep, at least 1.
        count: rows after which a query that has written nothing is stopped.
        has_written: tells for a backend's pid whether its transaction has written; asked, from
            another connection, only when the limit is reached. A statement that has written is
            never stopped, because that would undo it: its other rows are read and dropped.

    Returns:
        The outcome, and the last result with rows (for its description), if any.

    Raises:
        psycopg.Error: what the server said.
        KeyboardInterrupt: after the statement was cancelled on the server.
    """
    pgconn = connection.pgconn
    # A cancelled statement would abort the learner's open transaction; a savepoint confines it.
    guarded = statement.only_reads and pgconn.transaction_status == _IN_TRANSACTION
    if guarded:
        _utility(connection, b"SAVEPOINT " + _SAVEPOINT)
    outcome = Outcome(statement)
    begin = time.perf_counter()
    try:
        described = _collect(connection, outcome, keep, count, has_written)
    except BaseException:  # Ctrl-C, above all: no statement may go on running unseen
        _cancel(connection)
        raise
    finally:
        outcome.seconds = time.perf_counter() - begin
    if guarded and outcome.stopped:
        _utility(connection, b"ROLLBACK TO SAVEPOINT " + _SAVEPOINT)
    if guarded and pgconn.transaction_status == _IN_TRANSACTION:
        _utility(connection, b"RELEASE SAVEPOINT " + _SAVEPOINT)
    return outcome, described


def _collect(
    connection: Connection,
    outcome: Outcome,
    keep: int,
    count: int,
    has_written: Callable[[int], bool],
) -> pq.abc.PGresult | None:
    """Read the results into ``outcome``; stop the server when there are enough."""
    pgconn = connection.pgconn
    encoding = connection.info.encoding
    described: pq.abc.PGresult | None = None
    error: psycopg.Error | None = None
    may_stop = outcome.statement.only_reads
    size = enough = 0
    pgconn.send_query_params(outcome.statement.text.encode(encoding), None)
    pgconn.set_chunked_rows_mode(_CHUNK_ROWS)
    for result in _results(pgconn):
        if result.status in _ROWS:
            described = result if described is None else described
            outcome.seen += result.ntuples
            wanted = min(result.ntuples, max(0, keep - len(outcome.rows)))
            outcome.rows += [_row(result, index, encoding) for index in range(wanted)]
            outcome.tag = _tag(result)
            if may_stop and not outcome.stopped:
                size += _size(result) if len(outcome.rows) >= keep else 0
                if outcome.seen > count or size > BYTES_COUNTED:
                    may_stop = not has_written(pgconn.backend_pid)
                    if may_stop:
                        connection.cancel_safe(timeout=_CANCEL_SECONDS)
                        outcome.stopped = True
                        enough = outcome.seen
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            # The first one tells the cause: after a FATAL, libpq adds that the connection closed.
            error = error or psycopg.errors.error_from_result(result, encoding)
        elif result.status in _COPY:
            # The text was refused before it got here; this keeps the connection usable regardless.
            pgconn.put_copy_end(b"COPY through the client is not possible in %%sql")
        else:
            outcome.tag = _tag(result)
    if outcome.stopped:
        # The request may have come too late: then the result is complete after all.
        outcome.stopped = isinstance(error, psycopg.errors.QueryCanceled)
        if outcome.stopped:
            # What was on its way still arrived; how much that was is chance, and tells nothing.
            outcome.seen, error = enough, None
    if error is not None:
        raise error
    return described


def _results(pgconn: pq.abc.PGconn) -> Iterator[pq.abc.PGresult]:
    """Yield the results of what was sent, waiting in Python so that Ctrl-C is heard."""
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while pgconn.flush():
            for _, event in selector.select():
                if event & selectors.EVENT_READ:
                    pgconn.consume_input()
        selector.modify(pgconn.socket, selectors.EVENT_READ)
        while True:
            while pgconn.is_busy():
                selector.select(_INTERRUPT_SECONDS)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                return
            yield result


def _row(result: pq.abc.PGresult, index: int, encoding: str) -> tuple[str | None, ...]:
    values = (result.get_value(index, column) for column in range(result.nfields))
    return tuple(None if value is None else value.decode(encoding, "replace") for value in values)


def _size(result: pq.abc.PGresult) -> int:
    return sum(
        len(result.get_value(row, column) or b"")
        for row in range(result.ntuples)
        for column in range(result.nfields)
    )


def _tag(result: pq.abc.PGresult) -> str:
    return (result.command_status or b"").decode()


def _utility(connection: Connection, command: bytes) -> None:
    result = connection.pgconn.exec_(command)
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result, connection.info.encoding)


def _cancel(connection: Connection) -> None:
    """Stop the statement on the server; give the connection up if that does not work."""
    try:
        if connection.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            connection.cancel_safe(timeout=_CANCEL_SECONDS)
            for _ in _results(connection.pgconn):
                pass
    except BaseException:
        # A second Ctrl-C, or a server that does not answer: the connection's state is unknown.
        connection.close()
        raise


def is_alive(connection: Connection) -> bool:
    """Tell whether the server still holds this connection, without sending anything.

    A server that restarts or ends a session closes the socket; reading it tells before a statement
    is sent, so that the statement can safely go to a new connection.
    """
    if connection.closed:
        return False
    pgconn = connection.pgconn
    with selectors.DefaultSelector() as selector, contextlib.suppress(psycopg.OperationalError):
        selector.register(pgconn.socket, selectors.EVENT_READ)
        while selector.select(timeout=0):
            pgconn.consume_input()
            pgconn.is_busy()  # parses what came in, such as the server's last words
    return pgconn.status == pq.ConnStatus.OK
