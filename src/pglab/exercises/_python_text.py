"""Read an answer in Python, without running it."""

from __future__ import annotations

import ast
import warnings
from typing import Final

from pglab.exercises._play import CELL
from pglab.exercises._verdict import Fault

__all__ = ["is_attempted", "syntax_fault"]

_SQL_VERBS: Final = frozenset(
    ["ALTER", "BEGIN", "CREATE", "DELETE", "GRANT", "INSERT", "MERGE", "REVOKE", "SELECT", "UPDATE"]
)


def syntax_fault(text: str, first_line: int) -> Fault | None:
    """Return what keeps a text from being Python, or None; nothing is run."""
    try:
        _tree(text)
    except SyntaxError as error:
        number = error.lineno or 1
        lines = text.splitlines()
        line = lines[number - 1].strip() if number <= len(lines) else ""
        seen = f"line {number + first_line - 1}: {line}\n{type(error).__name__}: {error.msg}"
        return Fault(f"This is no Python yet, so nothing was run.{_advice(text)}", verbatim=seen)
    except (ValueError, RecursionError, MemoryError) as error:
        return Fault(f"This cannot be read as Python, so nothing was run: {error}.")
    return None


def _advice(text: str) -> str:
    first = text.strip()[:1]
    if first in {"%", "!"}:
        return " A %magic or a !command belongs into a cell of its own."
    if text.strip().startswith("--") or _first_word(text) in _SQL_VERBS:
        return " It looks like SQL; this exercise is answered in Python."
    return ""


def _first_word(text: str) -> str:
    return (text.split() or [""])[0].upper()


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is no reason to interrupt
        return ast.parse(text, CELL)


def is_attempted(text: str, starter: str) -> bool:
    """Tell whether a text has code that the starter has not."""
    body = _tree(text).body
    if all(isinstance(node, ast.Pass) or _is_constant(node) for node in body):
        return False
    return ast.dump(_tree(text)) != ast.dump(_tree(starter))


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
