"""What a cached case says in words: what hits and misses cost, and from where on caching pays."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from pglab.bench.break_even import break_even_hit_rate
from pglab.bench.words import duration, messages

if TYPE_CHECKING:
    from pglab.bench.results import CaseResult, SizeResult

__all__ = ["ALONE", "break_even_lines"]

ALONE: Final = "PostgreSQL"
"""Name of the variant without a cache."""
_HIT: Final = " hit"
_MISS: Final = " miss"


def break_even_lines(case: CaseResult) -> list[str]:
    """Return a sentence for each size and cache: a hit, a miss, neither, and the break-even.

    A cache is known by two variants, such as ``Redis hit`` and ``Redis miss``; the one without is
    ``PostgreSQL``. Medians over rounds; no sentences where one of the three is missing.
    """
    return [
        _line(at, name.removesuffix(_HIT))
        for at in case.sizes
        for name in _names(at)
        if name.endswith(_HIT) and {name.removesuffix(_HIT) + _MISS, ALONE} <= _names(at).keys()
    ]


def _names(at: SizeResult) -> dict[str, float]:
    return {each.name: median(each.medians_us) for each in at.variants if each.rounds}


def _line(at: SizeResult, cache: str) -> str:
    found = _names(at)
    hit_us, miss_us, direct_us = found[cache + _HIT], found[cache + _MISS], found[ALONE]
    rate = break_even_hit_rate(hit_us, miss_us, direct_us)
    if rate is None:
        verdict = "caching does not pay at any hit rate, since a hit is no faster"
    elif rate == 0:
        verdict = "caching pays at any hit rate, as far as this run can tell a miss from asking"
    else:
        verdict = f"caching pays above a hit rate of {rate:.1%}".replace("%", " %")
    return (
        f"{messages(at.size)}, {cache}: a hit {duration(hit_us)}, a miss {duration(miss_us)}, "
        f"{ALONE} alone {duration(direct_us)}: {verdict}"
    )
