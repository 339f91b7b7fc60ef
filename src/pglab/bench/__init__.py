"""Benchmarks that a DBA would believe: indexed against unindexed, cached against uncached.

    from pglab.bench import Case, Claim, Draw, Query, Variant, run

    result = run(case)
    result.plot()

On the command line: ``pglab bench list | run | compare | report``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pglab.bench.case import Case, Claim, Draw, Variant
    from pglab.bench.cases import find, shipped
    from pglab.bench.compare import compare
    from pglab.bench.files import load, save
    from pglab.bench.operations import Call, Opened, Query
    from pglab.bench.options import Options
    from pglab.bench.references import reference, with_reference
    from pglab.bench.results import Result
    from pglab.bench.runner import run

_HOMES = {
    "Call": "operations",
    "Case": "case",
    "Claim": "case",
    "Draw": "case",
    "Opened": "operations",
    "Options": "options",
    "Query": "operations",
    "Result": "results",
    "Variant": "case",
    "compare": "compare",
    "find": "cases",
    "load": "files",
    "reference": "references",
    "run": "runner",
    "save": "files",
    "shipped": "cases",
    "with_reference": "references",
}

__all__ = [
    "Call",
    "Case",
    "Claim",
    "Draw",
    "Opened",
    "Options",
    "Query",
    "Result",
    "Variant",
    "compare",
    "find",
    "load",
    "reference",
    "run",
    "save",
    "shipped",
    "with_reference",
]


def __getattr__(name: str) -> Any:
    # Fetched when first used: a command that lists cases need not load SQLAlchemy or Matplotlib.
    if name not in _HOMES:
        raise AttributeError(f"module 'pglab.bench' has no attribute {name!r}")
    return getattr(import_module(f"pglab.bench.{_HOMES[name]}"), name)
