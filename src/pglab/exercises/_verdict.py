"""What the learner is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import Any, Final

from pglab.exercises._problem import Problem
from pglab.framed import framed
from pglab.notebook.tables import STYLE, Table

__all__ = ["ELSEWHERE", "Fault", "Status", "Verdict", "not_attempted", "praise"]

ELSEWHERE: Final = (
    "Right on the data that you see, and wrong on other data in the same tables: there, something "
    "else must come out. A value that was copied from the output would explain it.\n"
)


class Status(StrEnum):
    """How an answer fared."""

    SOLVED = "solved"
    NOT_YET = "not yet"
    NOT_ATTEMPTED = "not attempted"
    CANNOT_CHECK = "cannot check"


_MARKS = {
    Status.SOLVED: "✔",
    Status.NOT_YET: "✘",
    Status.NOT_ATTEMPTED: "○",
    Status.CANNOT_CHECK: "⚠",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong, in words, with the rows that show it.

    Attributes:
        message: sentences; a line break begins a new line.
        tables: the first difference.
        verbatim: what the server said, or a plan: shown as it is.
    """

    message: str
    tables: Sequence[Table] = ()
    verbatim: str = ""


@dataclass(frozen=True)
class Verdict:
    """A verdict; it shows itself in a notebook.

    Attributes:
        status: solved, not yet, not attempted, or cannot check.
        message: what is right or wrong, in words.
        tables: the first difference.
        result: what the answer returned, as a table.
        remark: one more line, such as what to do next.
    """

    problem: Problem
    status: Status
    message: str
    tables: Sequence[Table] = field(default=(), repr=False)
    verbatim: str = ""
    result: Table | None = None
    remark: str = ""

    @property
    def solved(self) -> bool:
        """Tell whether the answer passed every check."""
        return self.status is Status.SOLVED

    def text(self) -> str:
        """Return everything in words, for terminals and screen readers."""
        parts = [self.result.text()] if self.result else []
        parts.append(f"{_MARKS[self.status]} {self._title()}: {self.message}")
        parts += [self.verbatim] if self.verbatim else []
        parts += [table.text() for table in self.tables]
        parts += [self.problem.prompt] if self.status is Status.NOT_ATTEMPTED else []
        return "\n".join([*parts, self.remark] if self.remark else parts)

    def html(self) -> str:
        """Return the same as HTML."""
        parts = [self.result.html()] if self.result else []
        words = "<br>".join(escape(line) for line in self.message.splitlines())
        title = f"{_MARKS[self.status]} {escape(self._title())}"
        parts.append(f"<div><strong>{title}</strong>: {words}</div>")
        if self.verbatim:
            parts.append(f'<pre class="e">{escape(self.verbatim)}</pre>')
        parts += [table.html() for table in self.tables]
        parts += [f"<div>{escape(self.remark)}</div>"] if self.remark else []
        return STYLE + framed("".join(parts))

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        if self.status is Status.NOT_ATTEMPTED:  # the prompt is Markdown
            lines = [
                f"**{_MARKS[self.status]} {self._title()}**: {self.message}",
                self.problem.prompt,
                self.remark,
            ]
            return {"text/markdown": "\n\n".join(lines), "text/plain": self.text()}
        return {"text/html": self.html(), "text/plain": self.text()}

    def _title(self) -> str:
        return f"{self.problem.id} {self.status}"


def not_attempted(problem: Problem, message: str) -> Verdict:
    """Return the verdict on a cell without an answer, which shows the task again."""
    return Verdict(
        problem,
        Status.NOT_ATTEMPTED,
        message,
        remark=f'A hint: hint("{problem.id}"). A worked solution: solution("{problem.id}").',
    )


def praise(*, elsewhere: bool) -> str:
    """Return what is said of a right answer; ``elsewhere``: on the hidden data, too."""
    where = ", here and on other data that you cannot see" if elsewhere else ""
    return f"everything that is asked for is right{where}."
