"""The seed document's comparison of databases, re-judged by running one workload on each.

    python -m pglab.comparison                # print the table, with claim, run, seen and verdict
    python -m pglab.comparison --keep FOLDER  # and keep it as a reference

    from pglab.comparison import compare
    compare()                                 # the same in a notebook, to be expanded cell by cell

PostgreSQL, SQLite and MariaDB run where their programs are, MongoDB where a URL or an image leads
to one; in its place SecantusDB, which speaks its protocol, may run, and is called what it is. What
cannot run here shows what a reference machine saw, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pglab.comparison.result import Comparison
    from pglab.comparison.running import compare

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    # Late: a worker imports this package too, and needs one driver only.
    if name == "compare":
        from pglab.comparison.running import compare

        return compare
    if name == "Comparison":
        from pglab.comparison.result import Comparison

        return Comparison
    raise AttributeError(name)
