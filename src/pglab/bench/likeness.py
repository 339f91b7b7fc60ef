"""Whether two runs are alike enough to be compared: machine, servers, settings, options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pglab.bench.results import Result

__all__ = ["Unlike", "flat", "unlike"]

_MEMORY: Final = 0.1  # a kernel's own share differs, and so does what a container is told
_ABSENT: Final = object()

# Times depend on these: runs that differ in one are not compared.
_MATTERS: Final = re.compile(
    r"machine\.(cpu|architecture|cores|memory_bytes|system|virtual)"
    r"|(postgres|redis)\.(version|server|source|connection|settings\..+)"
    r"|options\.(seed|placement|protocol|session(\..+)?)"
    r"|placement .+"
)
# These differ from run to run, or name a place: nothing follows from them.
_NOTHING: Final = re.compile(
    r"machine\.(load_average|clock_cost_ns)(\..+)?|options\.own_cost_ns"
    r"|(postgres|redis)\.settings\.(port|bind|dir|.*(director(y|ies)|file|listen|cluster_name).*)"
)


@dataclass(frozen=True)
class Unlike:
    """In what two runs differ, each as ``what: a → b``.

    Attributes:
        barring: times cannot be compared.
        notable: times can, and a reader should know.
    """

    barring: tuple[str, ...]
    notable: tuple[str, ...]


def unlike(a: Result, b: Result) -> Unlike:
    """Return in what two runs differ; what only one of them recorded bars nothing."""
    first, second = _facts(a), _facts(b)
    for only in _placements(a).keys() ^ _placements(b).keys():
        first.pop(only, None)
        second.pop(only, None)
    barring: list[str] = []
    notable: list[str] = []
    for what in dict.fromkeys([*first, *second]):
        left, right = first.get(what, _ABSENT), second.get(what, _ABSENT)
        if left == right or _NOTHING.fullmatch(what):
            continue
        if what == "machine.memory_bytes" and _close(left, right):
            continue
        told = f"{what}: {_told(what, left)} → {_told(what, right)}"
        known = left is not _ABSENT and right is not _ABSENT
        (barring if known and _MATTERS.fullmatch(what) else notable).append(told)
    return Unlike(tuple(barring), tuple(notable))


def _facts(result: Result) -> dict[str, Any]:
    found = dict(flat(result.environment))
    found |= {f"options.{what}": value for what, value in flat(result.options)}
    return found | _placements(result)


def _placements(result: Result) -> dict[str, str]:
    return {
        # Which of several like cores it was does not matter.
        f"placement of {case.name} at {at.size:,}": re.sub(r"\bcore \d+", "core N", at.placement)
        for case in result.cases
        for at in case.sizes
        if at.placement
    }


def flat(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is known, each with its path: ``machine.cpu``."""
    for key, each in value.items():
        if isinstance(each, Mapping):
            yield from flat(each, f"{at}{key}.")
        elif each is not None:
            yield f"{at}{key}", list(each) if isinstance(each, tuple) else each


def _close(left: Any, right: Any) -> bool:
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return False
    return abs(left - right) <= _MEMORY * max(left, right)


def _told(what: str, value: Any) -> str:
    if value is _ABSENT:
        return "not recorded"
    if what == "machine.memory_bytes" and isinstance(value, int | float):
        return f"{value / 2**30:.1f} GiB"
    return str(value)
