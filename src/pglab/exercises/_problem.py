"""What a lesson's author writes: a problem is data, and every part of it is proven by tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pglab.exercises._behaves import Behaves

if TYPE_CHECKING:
    from pglab.exercises._checks import Check

__all__ = ["STARTER", "AnswerKind", "Problem", "Solution", "Wrong"]

AnswerKind = Literal["query", "write", "schema", "script", "statements", "python"]

STARTER = "-- your statement here"

_ID = re.compile(r"[a-z][a-z0-9_]*\.[1-9][0-9]*")


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An answer that is right.

    Attributes:
        sql: passes every check, on the visible and on the hidden data.
        python: the same where the answer is Python.
        why: the reasoning, in Markdown: how one gets there, and why this and not the obvious.
    """

    sql: str = ""
    python: str = ""
    why: str

    @property
    def text(self) -> str:
        """Return the answer, whichever language it is in."""
        return self.python or self.sql


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A planted wrong answer: what a learner will really try.

    Attributes:
        sql: must not pass.
        python: the same where the answer is Python.
        says: words that its feedback must contain, as the learner reads them.
    """

    sql: str = ""
    python: str = ""
    says: str

    @property
    def text(self) -> str:
        """Return the answer, whichever language it is in."""
        return self.python or self.sql


@dataclass(frozen=True, kw_only=True, eq=False)  # compared by identity: two of one id are two
class Problem:
    """An exercise.

    Attributes:
        id: ``lesson.number``; the lesson is the module's name, numbers count from 1.
        title: a few words, for the list of what is done.
        prompt: the task in Markdown, precise about columns, their names and the order of rows
            wherever a check looks at them.
        answer: what is asked for.
            ``query``: one statement that returns rows and changes nothing (it runs READ ONLY).
            ``write``: one INSERT, UPDATE, DELETE or MERGE.
            ``schema``: one statement of any kind, such as CREATE INDEX or ALTER TABLE.
            ``script``: several statements, in a transaction of ours that is rolled back, so that
            they may also make roles and grant them something; no BEGIN and no COMMIT.
            ``statements``: one or several, with BEGIN and COMMIT if the learner likes; they run as
            in psql, on a copy that is thrown away.
            ``python``: a function or a class, which the checks (each a ``Behaves``) put to work in
            a process of its own.
        checks: from cheap to expensive; the first that fails is what the learner reads.
        solutions: at least one. The first is the reference that results are compared with.
        wrong: at least three.
        hints: at least two, from a nudge to nearly the answer, in Markdown.
        starter: what the cell holds at first; unchanged (or only comments) is "not attempted".
            Python needs one: imports, and the head of what is to be written with ``...`` below.
        setup: SQL (several statements) that runs before the answer, on the same copy, such as
            ``CREATE SCHEMA mine; SET search_path TO mine, public; CREATE TABLE …``. Every answer
            starts from the lesson's data as they are after ``lab.reset()``, whatever the learner
            has done to his own; what it needs beyond them belongs here.
        hidden: also check on other data (the same tables and instances; other chats, messages and
            numbers). Plans are looked at on the visible data only.
            A Python answer is tried on other data only if a check asks for the database.
        limit_s: seconds that a statement of the answer may take; a whole scenario, in Python.
    """

    id: str
    title: str
    prompt: str
    answer: AnswerKind
    checks: Sequence[Check | Behaves]
    solutions: Sequence[Solution]
    wrong: Sequence[Wrong]
    hints: Sequence[str]
    starter: str = STARTER
    setup: str = ""
    hidden: bool = True
    limit_s: float = 5.0

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"problem id {self.id!r} must be like 'indexes.3'")
        for name in ("checks", "solutions"):
            if not getattr(self, name):
                raise ValueError(f"problem {self.id} has no {name}")
        if len(self.behaviours) != (len(self.checks) if self.is_python else 0):
            raise ValueError(
                f"problem {self.id}: Behaves is for answer='python', every other check for SQL"
            )

        if self.is_python and self.starter == STARTER:
            raise ValueError(f"problem {self.id} has no starter; STARTER is SQL")

    @property
    def is_python(self) -> bool:
        """Tell whether the answer is Python, not SQL."""
        return self.answer == "python"

    @property
    def is_several(self) -> bool:
        """Tell whether the answer may have several statements."""
        return self.answer in {"script", "statements"}

    @property
    def behaviours(self) -> Sequence[Behaves]:
        """Return the checks of a Python answer."""
        return [check for check in self.checks if isinstance(check, Behaves)]

    @property
    def sql_checks(self) -> Sequence[Check]:
        """Return the checks of an SQL answer."""
        return [check for check in self.checks if not isinstance(check, Behaves)]

    @property
    def lesson(self) -> str:
        """Return the lesson's name: the part of the id before the dot."""
        return self.id.partition(".")[0]

    @property
    def number(self) -> int:
        """Return the number within the lesson, from 1."""
        return int(self.id.partition(".")[2])
