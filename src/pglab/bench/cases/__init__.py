"""The cases that pglab ships, by group; each module has its own in ``CASES``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Final

from pglab.bench.case import Case
from pglab.errors import BenchError

__all__ = ["GROUPS", "find", "shipped"]

GROUPS: Final = {
    "floors": "What nothing can be faster than",
    "indexes": "Indexed against unindexed",
    "jsonb": "Containment in JSONB",
    "inbox": "The inbox, four ways",
    "writes": "What indexes and keys cost a write",
    "cached": "Cached against uncached",
    "encryption": "What encryption and row-level security cost",
    "loading": "Loading rows",
    "stack": "The same look-up through each layer",
}
"""Name of each group's module, and its heading."""


def shipped() -> tuple[Case, ...]:
    """Return all cases, group by group."""
    found: list[Case] = []
    for group in GROUPS:
        found += import_module(f"pglab.bench.cases.{group}").CASES
    return tuple(found)


def find(names: Iterable[str]) -> tuple[Case, ...]:
    """Return the cases that are named, each once, in the order in which they are shipped.

    Args:
        names: of cases or groups; ``*`` and ``?`` stand for letters; ``all`` for everything.

    Raises:
        BenchError: a name fits nothing; the message names the nearest.
    """
    cases = shipped()
    chosen = set()
    for name in names:
        hits = [
            case for case in cases if name in ("all", case.group) or fnmatchcase(case.name, name)
        ]
        if not hits:
            known = [*(case.name for case in cases), *GROUPS]
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see: pglab bench list"
            raise BenchError(f"there is no case or group {name!r}; {hint}")
        chosen.update(hits)
    return tuple(case for case in cases if case in chosen)
