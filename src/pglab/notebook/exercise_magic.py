"""The ``%%exercise`` magic: run the cell as an answer to a problem and show the verdict."""

from __future__ import annotations

import re
from collections.abc import Callable

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display as show

from pglab.exercises import ExerciseUsageError, check, problem

display: Callable[[object], object] = show  # IPython has no types for it

__all__ = ["ExerciseMagics"]

_LINE = re.compile(r"\s*([\w-]+\.\d+)\s*(?:#.*|--.*)?")


@magics_class
class ExerciseMagics(Magics):
    """Judges cells."""

    # Without no_var_expand IPython would replace {names} and $names in the line.
    @no_var_expand
    @line_cell_magic
    def exercise(self, line: str, cell: str | None = None) -> None:
        """Judge the cell below as the answer to a problem; as a line, show the problem."""
        found = _LINE.fullmatch(line)
        if not found:
            raise ExerciseUsageError(
                f"%%exercise: {line.strip()!r} names no exercise. Write its id, as in "
                "%%exercise schema.1, and your answer on the lines below"
            )
        if cell is None:
            display(problem(found[1]))
            return
        display(check(found[1], cell, first_line=2))
