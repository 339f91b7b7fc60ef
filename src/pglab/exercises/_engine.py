"""Judge an answer: the same steps for every problem, from the text to the plan."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import psycopg

from pglab.errors import PglabError
from pglab.exercises import _player
from pglab.exercises._failures import CannotCheckError
from pglab.exercises._problem import Problem
from pglab.exercises._sandbox import Data, Sandbox, sandbox
from pglab.exercises._scene import AnswerFailedError, Scene, TooSlowError, scene, undo_answer
from pglab.exercises._verdict import ELSEWHERE, Fault, Status, Verdict, not_attempted, praise
from pglab.notebook.explain_error import describe
from pglab.notebook.failures import SqlUsageError
from pglab.notebook.statements import Statement, split
from pglab.notebook.tables import Table

__all__ = ["STRICT", "judge"]

STRICT: Final = "PGLAB_EXERCISES_STRICT"
"""Set to 1, "cannot check" is raised instead of shown: for tests and for CI."""


@dataclass(frozen=True)
class _Answer:
    """What the learner wrote."""

    statements: list[Statement]
    text: str
    first_line: int


@dataclass(frozen=True)
class _Reference:
    """What is right on one data set: for each check, what it noted after the reference."""

    database: str
    notes: tuple[Any, ...]
    rows: int


def judge(
    problem: Problem, text: str, *, strict: bool | None = None, first_line: int = 1
) -> Verdict:
    """Return the verdict on an answer; nothing but "cannot check" under ``strict`` is raised.

    Args:
        problem: which.
        text: the learner's cell.
        strict: raise CannotCheckError in place of that verdict; the environment's
            PGLAB_EXERCISES_STRICT decides when omitted.
        first_line: the number of the text's first line in the learner's editor.
    """
    if strict is None:
        strict = os.environ.get(STRICT, "") not in {"", "0"}
    try:
        return _judge(problem, text, first_line)
    except (PglabError, psycopg.Error, OSError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        advice = "Run pglab doctor in a terminal: it says what is wrong. Your answer is not judged."
        cause: Exception = error
    except Exception as error:  # noqa: BLE001 - a bug in a problem must not end a learner's lesson
        reason = f"{type(error).__name__}: {error}"
        advice = "That is a fault of this exercise, not yours: please report it, and go on."
        cause = error
    if strict:
        raise CannotCheckError(f"{problem.id} cannot be checked: {reason}") from cause
    return Verdict(problem, Status.CANNOT_CHECK, reason, remark=advice)


def _judge(problem: Problem, text: str, first_line: int) -> Verdict:
    if problem.is_python:
        return _player.judge(problem, text, first_line)
    try:
        statements = split(text)
    except SqlUsageError as error:
        return Verdict(problem, Status.NOT_YET, str(error))
    if not statements or _texts(statements) == _texts(split(problem.starter)):
        return not_attempted(
            problem, "the cell is as it was." if statements else "there is no statement here yet."
        )
    fault = _shape(problem, statements)
    if fault is not None:
        return Verdict(problem, Status.NOT_YET, fault.message)
    answer = _Answer(statements, text, first_line)
    fault, result = _try_on("visible", problem, answer)
    if fault is None and problem.hidden:
        elsewhere, _ = _try_on("hidden", problem, answer)
        if elsewhere is not None:
            # Its rows would tell the next constant to copy.
            fault = Fault(ELSEWHERE + elsewhere.message)
    if fault is not None:
        return Verdict(
            problem,
            Status.NOT_YET,
            fault.message,
            fault.tables,
            fault.verbatim,
            result,
            f'Stuck? hint("{problem.id}")',
        )
    remark = "" if problem.answer == "query" else "It ran on a copy: your own tables are as before."
    return Verdict(
        problem, Status.SOLVED, praise(elsewhere=problem.hidden), result=result, remark=remark
    )


def _texts(statements: list[Statement]) -> list[str]:
    return [re.sub(r"\s+", " ", statement.text) for statement in statements]


# What a transaction cannot undo, and a copy cannot contain: the server's other databases.
_BEYOND: Final = {"DATABASE", "SYSTEM", "TABLESPACE", "ROLE", "USER", "GROUP"}
# What would end the transaction in which a script makes its roles, and so leave them behind.
_TRANSACTION: Final = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE"}


def _shape(problem: Problem, statements: list[Statement]) -> Fault | None:
    if not problem.is_several and len(statements) > 1:
        return Fault(
            f"One statement is asked for; there are {len(statements)} here. None of them was run."
        )
    for statement in statements:
        if statement.copies_through_client:
            return Fault("COPY from or to the client is not possible in a cell; nothing was run.")
        if problem.answer == "script" and statement.verb in _TRANSACTION:
            return Fault(
                f"Leave out {statement.verb}: your statements run in one transaction already, "
                "which is undone afterwards. Nothing was run."
            )
        if problem.answer == "statements" and _reaches_beyond(statement):
            return Fault(
                f"{' '.join(statement.words[:2])} reaches beyond this exercise's copy of the data, "
                "to the whole server; nothing was run."
            )
    return None


def _reaches_beyond(statement: Statement) -> bool:
    verb, *rest = (*statement.words[:2], "")
    return verb in {"CREATE", "ALTER", "DROP", "REASSIGN"} and rest[0] in _BEYOND


def _try_on(data: Data, problem: Problem, answer: _Answer) -> tuple[Fault | None, Table | None]:
    """Run the answer on one data set; return the first fault, and the result as a table."""
    right = _reference(data, problem)
    with sandbox(data, throw_away=problem.answer == "statements") as box:
        if box.database != right.database:  # the data were made anew by another version of pglab
            _reference.cache_clear()
            raise CannotCheckError("the exercises' data have changed meanwhile; check again")
        with scene(box, problem, answer.statements) as made:
            fault = _run(made, problem, right.rows, answer)
            if made.connection.closed:
                return fault, None
            if fault is None:
                fault = _examine(data, made, problem, right)
            return fault, _shown(made)


def _shown(made: Scene) -> Table | None:
    result = made.result
    if result is None or not result.columns:
        return None
    seen = f"more than {result.seen - 1:,}" if result.stopped else f"{result.seen:,}"
    caption = f"your result: {seen} row{'' if seen == '1' else 's'}"
    return result.table(result.rows, caption, 10, result.seen)


def _run(made: Scene, problem: Problem, rows: int, answer: _Answer) -> Fault | None:
    try:
        made.answer(rows)
    except TooSlowError:
        return Fault(
            f"Your statement was cancelled after {problem.limit_s:g} s, its limit here. "
            "A right answer takes a small part of that."
        )
    except AnswerFailedError as failure:
        return _failed(made, problem, failure, answer)
    except psycopg.OperationalError as error:
        if not made.connection.closed and made.connection.pgconn.status == psycopg.pq.ConnStatus.OK:
            raise
        made.connection.close()
        return Fault(f"Your statement ended the connection to the server ({_first_line(error)}).")
    if not made.left_transaction:
        return None
    if problem.answer == "statements":
        return Fault("Your transaction is still open at the end: COMMIT (or ROLLBACK) is missing.")
    return Fault(
        f"{made.tag or 'Your statement'} ends a transaction; here is none of yours to end. "
        "What was done so was done on a copy, and is gone."
    )


def _failed(
    made: Scene, problem: Problem, failure: AnswerFailedError, answer: _Answer
) -> Fault | None:
    error = failure.error
    if _wants_an_error(problem):
        made.error = error
        undo_answer(made)
        return None
    said = "\n".join(describe(error, failure.statement, answer.text, answer.first_line))
    if error.sqlstate == "25006" and problem.answer == "query":
        return Fault(
            "Your statement changes something; a query that only reads is asked for.", (), said
        )
    if error.sqlstate == "25001":
        return Fault(
            "Answers to this exercise run in a transaction, so that they can be undone, and this "
            "statement cannot: leave out what keeps it from that, such as CONCURRENTLY.",
            (),
            said,
        )
    return Fault("The server refuses your statement.", (), said)


def _wants_an_error(problem: Problem) -> bool:
    from pglab.exercises._checks import Fails

    return any(isinstance(check, Fails) for check in problem.sql_checks)


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]


def _examine(data: Data, made: Scene, problem: Problem, right: _Reference) -> Fault | None:
    for check, note in zip(problem.sql_checks, right.notes, strict=True):
        if data == "hidden" and check.visible_only:
            continue
        try:
            fault = check.examine(made, note)
        except TooSlowError:
            fault = Fault(
                f"A look at what your statement did was cancelled after {problem.limit_s:g} s."
            )
        if fault is not None:
            return fault
    return None


@cache
def _reference(data: Data, problem: Problem) -> _Reference:
    """Run the reference solution, once a process."""
    statements = split(problem.solutions[0].text)
    roomy = replace(problem, limit_s=max(60.0, problem.limit_s))
    with sandbox(data, throw_away=problem.answer == "statements") as box:
        return _noted(data, box, roomy, statements)


def _noted(data: Data, box: Sandbox, problem: Problem, statements: list[Statement]) -> _Reference:
    from pglab.exercises._scene import MOST_ROWS

    with scene(box, problem, statements) as made:
        try:
            made.answer(MOST_ROWS)
        except AnswerFailedError as failure:
            if not _wants_an_error(problem):
                raise ValueError(f"the reference solution fails: {failure}") from failure
            made.error = failure.error
            undo_answer(made)
        if made.left_transaction:
            raise ValueError("the reference solution ends the transaction, or leaves one open")
        notes = tuple(
            None if data == "hidden" and check.visible_only else check.reference(made)
            for check in problem.sql_checks
        )
        rows = len(made.result.rows) if made.result else 0
    return _Reference(box.database, notes, rows)
