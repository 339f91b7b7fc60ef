"""Judge an answer in Python: play its scenarios, each in a process of its own."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pglab.exercises import _nursery
from pglab.exercises._failures import CannotCheckError
from pglab.exercises._play import REPORT, Job, Report
from pglab.exercises._problem import Problem
from pglab.exercises._python_text import is_attempted, syntax_fault
from pglab.exercises._sandbox import Data, Sandbox, sandbox
from pglab.exercises._verdict import ELSEWHERE, Fault, Status, Verdict, not_attempted, praise
from pglab.notebook.statements import split

if TYPE_CHECKING:
    from pglab.exercises._behaves import Behaves

__all__ = ["judge"]

# Beyond the scenario's own limit: to start, to end, and for code that lets no other thread run.
_SPARE_S: Final = 15.0


def judge(problem: Problem, text: str, first_line: int) -> Verdict:
    """Return the verdict on a cell.

    Raises:
        PglabError: there is no server, or one failed.
        CannotCheckError: the exercise itself is faulty.
    """
    fault, printed = syntax_fault(text, first_line), ""
    if fault is None and not is_attempted(text, problem.starter):
        return not_attempted(problem, "there is no code of yours here yet.")
    if fault is None:
        fault, printed = _fault_on("visible", problem, text, first_line)
    elsewhere = problem.hidden and any(check.database for check in problem.behaviours)
    if fault is None and elsewhere:
        fault, printed = _fault_on("hidden", problem, text, first_line)
        if fault is not None:
            fault = replace(fault, message=ELSEWHERE + fault.message)
    output = f"Your code printed:\n{printed.rstrip()}" if printed.strip() else ""
    if fault is None:
        remark = "It ran in a process of its own; your own data and Redis are as before."
        said = praise(elsewhere=elsewhere)
        return Verdict(problem, Status.SOLVED, said, verbatim=output, remark=remark)
    return Verdict(
        problem,
        Status.NOT_YET,
        fault.message,
        verbatim="\n\n".join(filter(None, [fault.verbatim, output])),
        remark=f'Stuck? hint("{problem.id}")',
    )


def _fault_on(data: Data, problem: Problem, text: str, first_line: int) -> tuple[Fault | None, str]:
    """Play every scenario on one data set; return the first fault, and what was printed."""
    printed = ""
    for check in problem.behaviours:
        report = _played(data, problem, check, text, first_line)
        printed = report.printed or printed
        if report.kind == "stumbled" and not _reference_passes(data, problem, check):
            raise CannotCheckError(f"its own solution fails: {report.message}")
        fault = _fault(report, problem)
        if fault is not None:
            return fault, printed
    return None, printed


@cache
def _reference_passes(data: Data, problem: Problem, check: Behaves) -> bool:
    report = _played(data, problem, check, problem.solutions[0].text, 1)
    return report.kind == "passed"


def _fault(report: Report, problem: Problem) -> Fault | None:
    match report.kind:
        case "passed":
            return None
        case "not yet":
            return Fault(report.message, verbatim=report.seen)
        case "raised":
            message = "Your code raises an error."
        case "asked":
            message = "input() waits for somebody who types, and here nobody does."
        case "left":
            message = "Your code ends the program (SystemExit) instead of returning."
        case "too slow":
            where = " It was here" if report.seen else ""
            message = f"Your code was stopped after {problem.limit_s:g} s, its limit here.{where}"
            message += ":" if where else ""
        case "ended":
            message = f"Your code ended its process ({report.message}) before it could be checked."
        case "stumbled":
            message = f"What your code gave back cannot be used: {report.message}."
        case _:
            raise CannotCheckError(report.message)
    return Fault(message, verbatim=report.seen)


def _played(data: Data, problem: Problem, check: Behaves, text: str, first_line: int) -> Report:
    job = Job(
        module=check.scenario.__module__,
        scenario=check.scenario.__qualname__,
        path=sys.path,
        source=text,
        first_line=first_line,
        data=data,
        limit_s=problem.limit_s,
    )
    if not check.database:
        return _run(job)
    with sandbox(data, throw_away=True) as box:
        _set_up(box, problem)
        return _run(replace(job, database=box.endpoint.parameters(box.database)))


def _set_up(box: Sandbox, problem: Problem) -> None:
    with box.connection() as connection:
        for statement in split(problem.setup):
            connection.execute(statement.text.encode(), prepare=False)


def _run(job: Job) -> Report:
    with tempfile.TemporaryDirectory(prefix="pglab-", ignore_cleanup_errors=True) as directory:
        # By standard input, not in the arguments: it holds the password.
        order = json.dumps(asdict(replace(job, directory=directory))).encode() + b"\n"
        code = _nursery.play(order, job.limit_s + _SPARE_S)
        if code is None:
            return Report("too slow")
        try:
            return Report(**json.loads(Path(directory, REPORT).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            if code == -signal.SIGXCPU:
                return Report("too slow")
            return Report("ended", _ending(code))


def _ending(code: int) -> str:
    try:
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    except ValueError:
        return f"signal {-code}"
