"""Run EXPLAIN for a statement of a cell, on a session of ``%%sql``, and undo what it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg import pq

from pglab.notebook import wire
from pglab.notebook.failures import SessionLostError, SqlUsageError
from pglab.notebook.plan_options import PlanOptions
from pglab.notebook.session import Session
from pglab.notebook.statements import Statement
from pglab.plans import Plan, explain_prefix, index_columns

__all__ = ["ask", "check", "prefixed", "remedy"]

_PLANNED = {"SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE"}
_PLANNED |= {"EXECUTE", "DECLARE"}


def check(statement: Statement) -> None:
    """Refuse a statement that has no plan.

    Raises:
        SqlUsageError: says why, and what can be done instead.
    """
    verb, words = statement.verb, statement.words
    if verb in _PLANNED or not verb:
        return
    if verb == "CREATE" and "AS" in words and {"TABLE", "MATERIALIZED"} & {*words[1:4]}:
        return
    if verb == "EXPLAIN":
        raise SqlUsageError(
            "%%explain puts EXPLAIN before the statement by itself: leave the word out, or run the "
            "cell as %%sql, which shows PostgreSQL's text. Nothing was run"
        )
    name = " ".join(words[:2]) if verb in {"CREATE", "ALTER", "DROP"} else verb
    raise SqlUsageError(
        f"{name} has no plan to show: PostgreSQL plans queries, INSERT, UPDATE, DELETE and MERGE. "
        "Run it in a %%sql cell, which shows how long it took. Nothing was run"
    )


def prefixed(session: Session, statement: Statement, options: PlanOptions) -> Statement:
    """Return the statement with its EXPLAIN; its offset is such that errors point into the cell.

    Raises:
        SqlUsageError: this server's version cannot do what was asked.
    """
    version = session.open_connection.info.server_version
    form = "TEXT" if options.text else "JSON"
    try:
        prefix = explain_prefix(
            version, analyze=options.analyze, generic=options.generic, form=form
        )
    except ValueError as error:
        raise SqlUsageError(f"%%explain --generic: {error}") from None
    words = ("EXPLAIN", *statement.words)
    return Statement(prefix + statement.text, statement.offset - len(prefix), words)


def ask(session: Session, asked: Statement, options: PlanOptions) -> Plan | str:
    """Return a plan, or PostgreSQL's text of it; what the statement wrote is undone.

    Args:
        session: a transaction that is open in it goes on as it was.
        asked: from ``prefixed``.
        options: the same ones.

    Raises:
        psycopg.Error: the statement was refused.
        SessionLostError: the connection broke.
        SqlUsageError: the statement turned out to have no plan.
    """
    connection = session.open_connection
    try:
        with _undone(connection, options.timeout_ms):
            rows = _plainly(connection, asked) if options.generic else _run(connection, asked)
            if options.text:
                return "\n".join(rows)
            plan = _plan(rows, asked)
            return replace(plan, index_columns=index_columns(connection, plan.indexes))
    except psycopg.OperationalError as error:
        if wire.is_alive(connection):
            raise
        raise SessionLostError(
            f"the connection broke while the statement ran ({str(error).strip()}). What it wrote "
            "was rolled back, with any transaction that was open. Run the cell again: that opens a "
            "new session"
        ) from None


def _run(connection: wire.Connection, asked: Statement) -> list[str]:
    outcome, _ = wire.run(connection, asked, keep=10_000, count=10_000, has_written=lambda _: True)
    return [row[0] or "" for row in outcome.rows]


def _plan(rows: list[str], asked: Statement) -> Plan:
    try:
        return Plan.from_json("\n".join(rows))
    except ValueError:
        raise SqlUsageError(
            f"PostgreSQL has no plan for this {asked.words[1]}: it is a utility statement, or a "
            "rule turns it into several statements or none. Run it in a %%sql cell"
        ) from None


def _plainly(connection: wire.Connection, asked: Statement) -> list[str]:
    """Run by the simple protocol; the other would ask for values of the parameters."""
    cursor = connection.execute(asked.text.encode(connection.info.encoding), prepare=False)
    # psycopg parses JSON by itself; here everything else works on text.
    values = [row[0] for row in cursor.fetchall()]
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


@contextmanager
def _undone(connection: wire.Connection, timeout_ms: int | None) -> Iterator[None]:
    """Roll back what is done inside: a transaction, or a savepoint in one that is open."""
    if connection.pgconn.transaction_status == pq.TransactionStatus.INERROR:
        # The server will refuse it, and its words are the ones to show, without psycopg's warning
        # of a savepoint that it could not undo.
        yield
        return
    with connection.transaction(force_rollback=True):
        if timeout_ms is not None:
            connection.execute(f"SET LOCAL statement_timeout = {timeout_ms}".encode())
        yield


def remedy(error: psycopg.Error, statement: Statement) -> str:
    """Return what a learner can do about an error that is special to ``%%explain``, or nothing."""
    if re.search(r"\$\d", statement.text) and error.sqlstate in {"08P01", "42P02", "42P18"}:
        return (
            "What to do: $1 has no value here. --generic plans for any value (PostgreSQL 16 and "
            "later); or write the value itself."
        )
    if error.sqlstate == "57014":
        return (
            "What to do: nothing of it was kept. --no-analyze plans without running; --timeout "
            "SECONDS, or SET statement_timeout in a %%sql cell, allows it more time."
        )
    return ""
