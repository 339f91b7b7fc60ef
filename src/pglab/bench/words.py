"""Quantities as a reader wants them: three digits, the unit that suits, words where words do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pglab.bench.statistics import Ratio
__all__ = [
    "UNKNOWN",
    "article",
    "digits",
    "duration",
    "factor",
    "interval",
    "machine_name",
    "messages",
    "plural",
    "short_count",
]

UNKNOWN = "–"
"""Shown where there is nothing to show."""


def digits(value: float) -> str:
    """Return a number with three digits that count: 0.0123, 1.23, 12.3, 123, 12,345."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    places = 2 if size == 0 else max(0, 2 - _magnitude(size))
    return f"{value:.{places}f}"


def duration(us: float | None) -> str:
    """Return a duration with its unit, ns, µs, ms or s; given in µs."""
    if us is None:
        return UNKNOWN
    for limit, scale, unit in ((0.9995, 1e3, "ns"), (999.5, 1, "µs"), (999_500, 1e-3, "ms")):
        if us < limit:
            return f"{digits(us * scale)} {unit}"
    return f"{digits(us / 1e6)} s"


def short_count(value: float) -> str:
    """Return a count with three digits at most, as pictures have room for: 31.6 k, 1 M."""
    for scale, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= scale * 0.9995:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def messages(size: int) -> str:
    """Return a table's size in words."""
    return f"{size:,} message{'' if size == 1 else 's'}"


def article(unit: str) -> str:
    """Return what one operation is with its article: a look-up, an inbox."""
    return f"{'an' if unit[:1] in 'aeiou' and unit else 'a'} {unit}"


def plural(unit: str) -> str:
    """Return the plural of what one operation is: look-ups, queries, boxes."""
    if unit.endswith("y") and unit[-2:-1] not in "aeiou":
        return f"{unit[:-1]}ies"
    return f"{unit}es" if unit.endswith(("s", "x", "ch", "sh")) else f"{unit}s"


def factor(value: float) -> str:
    """Return how many times, with the digits that a reader can use: 1.04, 24.7, 612."""
    return digits(value)


def interval(ratio: Ratio) -> str:
    """Return a ratio's interval: ``590 to 640``."""
    return f"{factor(ratio.low)} to {factor(ratio.high)}"


def machine_name(environment: Mapping[str, Any]) -> str:
    """Return a machine in words, as far as it is known: processor, cores, memory, system."""
    machine = environment.get("machine")
    if not isinstance(machine, Mapping) or not machine:
        return "a machine that is not named"
    memory = machine.get("memory_bytes")
    parts = [
        str(machine.get("cpu") or ""),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{memory / 2**30:.0f} GiB" if isinstance(memory, int | float) and memory else "",
        " ".join(str(machine[key]) for key in ("system",) if machine.get(key)),
    ]
    return ", ".join(part for part in parts if part) or "a machine that is not named"


def _magnitude(size: float) -> int:
    return int(f"{size:.2e}".partition("e")[2])
