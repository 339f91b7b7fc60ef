"""Errors of the exercises.

ShownError (PglabError)
├── UnknownProblemError (LookupError)   there is no problem with this id
├── ExerciseUsageError (ValueError)     the magic's line cannot be used
└── CannotCheckError (RuntimeError)     raised in place of the verdict, where tests ask for it
"""

from __future__ import annotations

from pglab.notebook.failures import ShownError

__all__ = ["CannotCheckError", "ExerciseUsageError", "UnknownProblemError"]


class UnknownProblemError(ShownError, LookupError):
    """There is no problem with this id; the message lists near ones."""


class ExerciseUsageError(ShownError, ValueError):
    """The line of ``%%exercise`` cannot be used; nothing was run."""


class CannotCheckError(ShownError, RuntimeError):
    """An answer could not be checked, through no fault of the learner's."""
