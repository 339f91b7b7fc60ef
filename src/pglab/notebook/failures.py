"""Errors of the notebook, which IPython shows as plain words without a Python traceback.

PglabError
└── ShownError                            its text is all that a learner sees
    ├── SqlUsageError (ValueError)        the cell or its options cannot be used; nothing ran
    ├── NoLabError (RuntimeError)         %%sql before any pglab.open
    ├── StatementError (RuntimeError)     the server refused a statement
    ├── SessionLostError (ConnectionError)  the connection broke in mid-statement
    ├── ResultTooLargeError (ValueError)  more rows than --to may keep
    ├── UnexpectedOutcomeError (AssertionError)  --expect was not met
    └── StatementInterrupted (KeyboardInterrupt)  Ctrl-C, or the stop button

A message is a fact, the value, and the remedy.
"""

from __future__ import annotations

from pglab.errors import PglabError

__all__ = [
    "NoLabError",
    "ResultTooLargeError",
    "SessionLostError",
    "ShownError",
    "SqlUsageError",
    "StatementError",
    "StatementInterrupted",
    "UnexpectedOutcomeError",
]


class ShownError(PglabError):
    """An error whose message is written for the learner; tools such as nbmake still see it."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback."""
        return str(self).splitlines()


class SqlUsageError(ShownError, ValueError):
    """The cell or its options cannot be used; nothing was run."""


class NoLabError(ShownError, RuntimeError):
    """There is no lab yet on which a statement could run."""


class StatementError(ShownError, RuntimeError):
    """The server refused a statement.

    Attributes:
        sqlstate: PostgreSQL's five-character code, such as ``23505``.
        condition: its name, such as ``unique_violation``; empty if unknown.
    """

    def __init__(self, message: str, *, sqlstate: str, condition: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.condition = condition


class SessionLostError(ShownError, ConnectionError):
    """The connection broke while a statement ran; whether it was executed is unknown."""


class ResultTooLargeError(ShownError, ValueError):
    """A result has more rows than may be kept; nothing was kept."""


class UnexpectedOutcomeError(ShownError, AssertionError):
    """A cell announced an error with --expect, and it did not occur or another did."""


class StatementInterrupted(ShownError, KeyboardInterrupt):  # noqa: N818 (as KeyboardInterrupt)
    """The learner stopped a statement, and so did the server."""
