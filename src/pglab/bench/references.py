"""Reference results, kept in ``data/benchmarks/`` with the machine they were measured on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pglab.bench.files import load
from pglab.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pglab.bench.results import Result

__all__ = ["FOLDER", "reference", "with_reference"]

FOLDER: Final = Path(__file__).parents[3] / "data" / "benchmarks"
"""In a checkout; a package that was installed without one has no references."""


def reference(case: str, folder: Path = FOLDER) -> Result:
    """Return the reference result that has this case; of several, the last by file name.

    Raises:
        BenchError: there is none.
        ResultError: a file is spoilt.
    """
    for path in sorted(folder.glob("*.json"), reverse=True):
        found = load(path)
        if any(each.name == case for each in found.cases):
            return found
    raise BenchError(
        f"no reference result has the case {case!r}; they lie in data/benchmarks of a checkout, "
        "and `pglab bench run` makes more"
    )


def with_reference(result: Result, case: str | None = None, folder: Path = FOLDER) -> Figure:
    """Draw a case's curve over the one of the reference.

    Args:
        result: the learner's own.
        case: its name; may be left out where the result has only one.
        folder: where references lie.

    Raises:
        BenchError: there is no such case, or no reference that has it.
    """
    from pglab.bench.pictures import learner_over_reference
    from pglab.bench.words import machine_name

    own = result.case(case)
    found = reference(own.name, folder)
    return learner_over_reference(
        own, found.case(own.name), machine=machine_name(found.environment)
    )
