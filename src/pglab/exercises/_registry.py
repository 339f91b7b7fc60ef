"""Find problems: each module of this package whose name has no underscore in front is a lesson."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pglab.exercises._failures import UnknownProblemError
from pglab.exercises._problem import Problem

__all__ = ["find", "lessons", "problems_of"]


def lessons() -> tuple[str, ...]:
    """Return the names of the lessons that have problems; none is imported."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return tuple(sorted(module.name for module in found if not module.name.startswith("_")))


@cache
def problems_of(lesson: str) -> Sequence[Problem]:
    """Return a lesson's problems, in order.

    Raises:
        UnknownProblemError: there is no such lesson.
    """
    if lesson not in lessons():
        raise UnknownProblemError(
            f"no lesson {lesson!r} has exercises; these have: {', '.join(lessons())}"
        )
    module = importlib.import_module(f"pglab.exercises.{lesson}")
    problems: Sequence[Problem] = module.PROBLEMS
    return problems


def find(name: str) -> Problem:
    """Return a problem by its id, such as ``indexes.3``.

    Raises:
        UnknownProblemError: there is none; the message lists near ones.
    """
    lesson, _, number = re.sub(r"^\d\d-", "", name.strip()).replace("-", "_").partition(".")
    if lesson not in lessons():
        near = difflib.get_close_matches(lesson, lessons(), n=3, cutoff=0.5) or lessons()
        raise UnknownProblemError(
            f"there is no exercise {name!r}; exercises are called like {near[0]}.1, and there are "
            f"some for {', '.join(near)}"
        )
    problems = problems_of(lesson)
    for problem in problems:
        if problem.id == f"{lesson}.{number}":
            return problem
    raise UnknownProblemError(
        f"there is no exercise {name!r}; lesson {lesson} has {', '.join(p.id for p in problems)}"
    )
