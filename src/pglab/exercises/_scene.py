"""One answer on one copy: set up, run, look at what came of it, and undo it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import pq

from pglab.exercises._problem import Problem
from pglab.exercises._results import Column, Result
from pglab.exercises._sandbox import Sandbox
from pglab.notebook import wire
from pglab.notebook.results import Outcome, short_type
from pglab.notebook.statements import Statement, split

__all__ = ["MOST_ROWS", "AnswerFailedError", "Scene", "TooSlowError"]

MOST_ROWS = 100_000
"""Rows that a reference may return."""
_SPARE_ROWS = 20
"""Rows beyond the reference's that are fetched of an answer: enough to show some."""

_IDLE, _INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.INERROR


class TooSlowError(Exception):
    """A statement was cancelled at its limit."""


class AnswerFailedError(Exception):
    """The server refused a statement of the answer.

    Attributes:
        error: what it said.
        statement: which one.
    """

    def __init__(self, error: psycopg.Error, statement: Statement) -> None:
        super().__init__(str(error))
        self.error = error
        self.statement = statement


class Scene:
    """What checks look at after an answer has run.

    Attributes:
        statements: the answer.
        result: the last result with rows, None if no statement returned any.
        tag: the server's command tag of the last statement, such as ``INSERT 0 1``.
        error: the answer's error, where the problem wants one.
        left_transaction: the answer ended our transaction, or left its own open.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], problem: Problem, statements: list[Statement]
    ) -> None:
        self.connection = connection
        self.problem = problem
        self.statements = statements
        self.result: Result | None = None
        self.tag = ""
        self.error: psycopg.Error | None = None
        self.left_transaction = False

    # What checks use

    def query(self, sql: str, keep: int = MOST_ROWS) -> Result:
        """Return what a query of the author's returns now; its effects are undone.

        Raises:
            psycopg.Error: the server refused it.
        """
        with self._undone():
            outcome = self._run(_one(sql), keep)
            return self._result(outcome) or Result((), (), 0)

    def attempt(self, sql: str) -> psycopg.Error | None:
        """Run statements of the author's, undo them; return the error that occurred, or None."""
        try:
            with self._undone():
                for statement in split(sql):
                    self._run(statement, 1)
                self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as error:
            return error
        return None

    def explain(self, sql: str, *, analyze: bool) -> dict[str, Any]:
        """Return the plan of a statement as PostgreSQL's JSON; its effects are undone.

        Raises:
            psycopg.Error: it cannot be planned (or, with ``analyze``, run).
        """
        options = "FORMAT JSON, ANALYZE, BUFFERS, TIMING OFF" if analyze else "FORMAT JSON"
        with self._undone():
            outcome = self._run(Statement(f"EXPLAIN ({options}) {sql}", 0, ("EXPLAIN",)), 1)
        plan: dict[str, Any] = json.loads(outcome.rows[0][0] or "[]")[0]["Plan"]
        return plan

    # What the engine uses

    def answer(self, rows: int) -> None:
        """Run the answer; keep that many rows of its result and a few more.

        Raises:
            AnswerFailedError: the server refused a statement.
            TooSlowError: one took longer than the problem's limit.
        """
        own = self.problem.answer == "statements"
        for statement in self.statements:
            try:
                outcome = self._run(statement, rows + _SPARE_ROWS)
                self.tag = outcome.tag
                self.result = self._result(outcome) or self.result
                if not own and self.status == _IDLE:
                    self.left_transaction = True
                    return
            except psycopg.Error as error:
                if self.connection.closed or isinstance(error, psycopg.errors.AdminShutdown):
                    raise
                raise AnswerFailedError(error, statement) from None
        if own:
            self.left_transaction = self.status != _IDLE
            return
        try:
            # What a deferred constraint would say at COMMIT, which never comes.
            self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            # COMMIT AND CHAIN leaves a transaction, but it is not ours.
            self.connection.execute("RELEASE pglab_answer")
        except psycopg.errors.InvalidSavepointSpecification:
            self.left_transaction = True
        except psycopg.Error as error:
            raise AnswerFailedError(error, self.statements[-1]) from None

    def _run(self, statement: Statement, keep: int) -> Outcome:
        watch = _Watch(self.connection, self.problem.limit_s)
        with watch:
            try:
                outcome, result = wire.run(
                    self.connection,
                    statement,
                    keep=keep,
                    count=keep,
                    has_written=lambda _: False,  # stopping it undoes only what is undone anyway
                )
            except psycopg.errors.QueryCanceled:
                if watch.rang:
                    raise TooSlowError from None
                raise
        self._described = result
        return outcome

    def _result(self, outcome: Outcome) -> Result | None:
        described = self._described
        if described is None:
            return None
        encoding = self.connection.info.encoding
        places = range(described.nfields)
        kinds = [(described.ftype(at), described.fmod(at)) for at in places]
        facts = self.connection.execute(
            "SELECT pg_catalog.format_type(t.oid, k.m), t.typcategory::text"
            " FROM unnest(%s::oid[], %s::int[]) WITH ORDINALITY AS k(o, m, n)"
            " JOIN pg_catalog.pg_type AS t ON t.oid = k.o ORDER BY k.n",
            [[oid for oid, _ in kinds], [modifier for _, modifier in kinds]],
            prepare=False,
        ).fetchall()
        columns = tuple(
            Column(
                (described.fname(at) or b"").decode(encoding, "replace"),
                kinds[at][0],
                short_type(facts[at][0]),
                facts[at][1],
            )
            for at in places
        )
        return Result(columns, tuple(outcome.rows), outcome.seen, outcome.stopped)

    @property
    def status(self) -> pq.TransactionStatus:
        """Return the state of the connection's transaction."""
        return pq.TransactionStatus(self.connection.pgconn.transaction_status)

    @contextmanager
    def _undone(self) -> Iterator[None]:
        idle = self.status == _IDLE
        self.connection.execute("BEGIN" if idle else "SAVEPOINT pglab_look")
        try:
            yield
        finally:
            with suppress(psycopg.OperationalError):  # the connection is gone: so is the work
                self.connection.execute("ROLLBACK" if idle else "ROLLBACK TO pglab_look")

    def touched(self) -> dict[str, int]:
        """Return how many rows of which tables this transaction has written, before its end."""
        rows = self.connection.execute(
            "SELECT format('%s.%s', schemaname, relname), n_tup_ins + n_tup_upd + n_tup_del"
            " FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"
            " AND schemaname IN ('public', 'seed')"
        ).fetchall()
        return dict(rows)


@contextmanager
def scene(box: Sandbox, problem: Problem, statements: list[Statement]) -> Iterator[Scene]:
    """Prepare a copy for an answer; afterwards undo everything, or mark the copy as spoilt."""
    own = problem.answer == "statements"
    with box.connection() as connection:
        made = Scene(connection, problem, statements)
        if not own:
            connection.execute("BEGIN")
        for statement in split(problem.setup):
            connection.execute(statement.text.encode(), prepare=False)
        if problem.answer == "query":
            connection.execute("SET TRANSACTION READ ONLY")
        if not own:
            connection.execute("SAVEPOINT pglab_answer")
        yield made
        touched = {}
        if made.left_transaction or own or connection.closed:
            box.spoilt = True
        else:
            undo_answer(made)
            if problem.answer != "query" or problem.setup:
                touched = made.touched()
            connection.execute("ROLLBACK")
    box.repair(touched)


def undo_answer(made: Scene) -> None:
    """Take back a failed answer, so that its surroundings can be looked at."""
    if made.status == _INERROR:
        made.connection.execute(
            "ROLLBACK" if made.problem.answer == "statements" else "ROLLBACK TO pglab_answer"
        )


class _Watch:
    """Cancels what a connection runs when its time is over."""

    def __init__(self, connection: psycopg.Connection[Any], limit_s: float) -> None:
        self._connection = connection
        self._timer = threading.Timer(limit_s, self._ring)
        self._timer.daemon = True
        self.rang = False

    def _ring(self) -> None:
        self.rang = True
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=5)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()  # a request under way must not hit the next statement


def _one(sql: str) -> Statement:
    statements: Sequence[Statement] = split(sql)
    if len(statements) != 1:
        raise ValueError(f"a probe must be one statement; this one is {len(statements)}: {sql}")
    return statements[0]
