"""Say what the server said about a failed statement, at the right place of the learner's text."""

from __future__ import annotations

import re

import psycopg
from psycopg.errors import Diagnostic
from wcwidth import wcswidth

from pglab.notebook.statements import Statement

__all__ = ["condition_name", "describe", "known_condition"]

_CONTEXT_LINES = 4
_WINDOW = 100  # characters shown of a long line, around the caret

# What a learner can do about errors whose own words do not tell.
_REMEDIES = {
    "25P02": "an earlier error has failed this transaction. ROLLBACK ends it (or ROLLBACK TO a "
    "savepoint); only then are statements accepted again",
    "25001": "this statement cannot run inside a transaction: COMMIT or ROLLBACK first",
    "55P03": "another session holds the lock: end its transaction, or wait",
    "42P02": "%%sql fills in no parameters: write the value itself in place of $1",
}


def condition_name(sqlstate: str) -> str:
    """Return PostgreSQL's name of an error code: ``unique_violation`` of ``23505``."""
    try:
        name = psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return ""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def known_condition(name: str) -> bool:
    """Tell whether a SQLSTATE or a condition name exists."""
    if re.fullmatch(r"[0-9A-Z]{5}", name):
        return bool(condition_name(name))
    camel = "".join(part.capitalize() for part in name.split("_"))
    return any(
        isinstance(getattr(psycopg.errors, candidate, None), type)
        and getattr(getattr(psycopg.errors, candidate), "sqlstate", None)
        for candidate in (camel, f"{camel}_")
    )


def describe(error: psycopg.Error, statement: Statement, cell: str, first_line: int) -> list[str]:
    """Return the lines that explain an error.

    Args:
        error: what psycopg made of the server's answer.
        statement: the statement that failed.
        cell: the text that the statement was cut from.
        first_line: the number of its first line in the editor.
    """
    diagnostic = error.diag
    state = error.sqlstate or ""
    severity = diagnostic.severity or "ERROR"
    message = diagnostic.message_primary or str(error)
    head = " ".join(part for part in (severity, state, condition_name(state)) if part)
    lines = [f"{head}: {message}"]
    if diagnostic.statement_position:
        at = statement.offset + int(diagnostic.statement_position) - 1
        lines += _caret(cell, at, first_line, "line ")
    if diagnostic.internal_query:
        lines.append("in the statement that the server ran inside it:")
        at = int(diagnostic.internal_position or 1) - 1
        lines += _caret(diagnostic.internal_query, at, 1, "  line ")
    lines += [f"{label}: {text}" for label, text in _details(diagnostic) if text]
    if state in _REMEDIES:
        lines.append(f"What to do: {_REMEDIES[state]}.")
    return lines


def _details(diagnostic: Diagnostic) -> list[tuple[str, str | None]]:
    context = (diagnostic.context or "").splitlines()
    if len(context) > _CONTEXT_LINES:
        more = len(context) - _CONTEXT_LINES
        context = [*context[:_CONTEXT_LINES], f"… and {more} more"]
    return [
        ("DETAIL", diagnostic.message_detail),
        ("HINT", diagnostic.message_hint),
        ("CONTEXT", "\n         ".join(context)),
    ]


def _caret(text: str, position: int, first_line: int, label: str) -> list[str]:
    """Return the line of ``text`` that holds ``position``, and a caret below that character."""
    position = min(position, len(text))
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    number = first_line + text.count("\n", 0, position)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ").rstrip("\r")
    column = position - start
    left = max(0, column - _WINDOW // 2) if len(line) > _WINDOW else 0
    shown = line[left : left + _WINDOW]
    before, after = "…" if left else "", "…" if left + _WINDOW < len(line) else ""
    head = f"{label}{number}: {before}"
    width = wcswidth(head + shown[: column - left])
    return [head + shown + after, " " * max(width, 0) + "^"]
