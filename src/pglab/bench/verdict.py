"""What a ratio means, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pglab.bench.statistics import Ratio, width
from pglab.bench.words import digits

__all__ = ["MATTERS", "NARROW", "Verdict", "Word", "judge", "pages_text"]

Word = Literal["faster", "slower", "no difference", "too noisy"]

NARROW: Final = 0.10
"""Width up to which an interval that holds 1 says "no difference", and not "too noisy"."""
MATTERS: Final = 1.02
"""Below this factor nobody notices: a recompiled binary's new layout moves as much."""
_TIMES_FROM: Final = 1.5
_REMEDY: Final = (
    "take more --rounds or longer ones, put client and server on one core (--placement one-core), "
    "and close other programs"
)
_AS: Final = {"faster": "as fast", "slower": "as slow"}


@dataclass(frozen=True)
class Verdict:
    """A finding.

    Attributes:
        word: which of the four it is.
        text: the finding with its interval, to follow the name of a variant and a colon.
    """

    word: Word
    text: str


def judge(ratio: Ratio, *, faster: str = "faster", slower: str = "slower") -> Verdict:
    """Return what a ratio shows.

    "8 % faster" does 8 % more in the same time; "8 % slower" takes 8 % longer. An interval that
    excludes 1, but no value of which matters, is a difference in arithmetic only.

    Args:
        ratio: the baseline's latency over the other's, so that above 1 the other is faster.
        faster: what the text calls a ratio above 1, such as "smaller" for sizes.
        slower: what it calls one below 1.
    """
    low, high = _side(ratio.low, faster, slower), _side(ratio.high, faster, slower)
    if ratio.low <= 1 <= ratio.high:
        if width(ratio) <= NARROW:
            return Verdict(
                "no difference", f"no difference that this run can show ({low} to {high})"
            )
        return Verdict("too noisy", f"too noisy to tell ({low} to {high}): {_REMEDY}")
    if ratio.low > 1:
        found = _with_interval(ratio.value, ratio.low, ratio.high, faster)
    else:
        found = _with_interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, slower)
    if ratio.low >= 1 / MATTERS and ratio.high <= MATTERS:
        return Verdict("no difference", f"no difference that matters: {found}")
    return Verdict("faster" if ratio.low > 1 else "slower", found)


def pages_text(ratio: float) -> str:
    """Return a ratio of pages touched in words; it was counted, so it has no interval.

    Args:
        ratio: the baseline's pages over the other's, above 0.
    """
    if digits(ratio) == "1.00":
        return "as many pages"
    if ratio > 1:
        return f"{digits(ratio)} times fewer pages"
    return f"{digits(1 / ratio)} times the pages"


def _with_interval(value: float, low: float, high: float, called: str) -> str:
    if value >= _TIMES_FROM:
        return f"{digits(value)} times {_AS.get(called, called)} ({digits(low)} to {digits(high)})"
    return f"{_percent(value)} % {called} ({_percent(low)} to {_percent(high)} %)"


def _side(ratio: float, faster: str, slower: str) -> str:
    factor, called = (ratio, faster) if ratio >= 1 else (1 / ratio, slower)
    if factor >= _TIMES_FROM:
        return f"{digits(factor)} times {_AS.get(called, called)}"
    percent = _percent(factor)
    return "0 %" if percent == "0.0" else f"{percent} % {called}"


def _percent(factor: float) -> str:
    percent = (factor - 1) * 100
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"
