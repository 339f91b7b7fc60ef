"""What is said about latencies: percentiles, and how many times one is another, with intervals.

The unit of observation is the interleaved round, never the operation: operations within a round
share the machine's mood, and counting each as evidence finds differences between a thing and itself
(21 false positives in 25 trials; over rounds, 1).

Two variants are compared within each round, and the median of these ratios is the finding. The
ratio of the two medians over all rounds is another number where the mood changes between rounds:
with rounds at full clock and rounds at half, each variant's median may come from another kind. In
60 runs of a look-up against itself, 15 rounds each, the intervals of the median ratio were 1.5 %
wide and those of the ratio of medians 2.6 % with client and server on one core, and 2.7 % and 9.6 %
where cores were drawn anew for each round; 57 and 59 of 60 held 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from pglab.bench.bootstrap import RESAMPLES, checked, interval, log_medians, medians_of_log_ratios
from pglab.bench.break_even import break_even_hit_rate
from pglab.bench.growth_fit import (
    THEORY,
    Growth,
    expected_exponent,
    growth_exponent,
    growth_sentence,
)
from pglab.bench.histogram import Histogram
from pglab.errors import BenchError

__all__ = [
    "NEEDED",
    "THEORY",
    "Growth",
    "Interval",
    "Ratio",
    "break_even_hit_rate",
    "expected_exponent",
    "growth_exponent",
    "growth_sentence",
    "median_interval",
    "paired_ratio",
    "percentiles",
    "width",
]

NEEDED: Final[Mapping[float, int]] = MappingProxyType({50: 1, 95: 200, 99: 1_000, 99.9: 10_000})
"""Latencies that a percentile needs: ten beyond it, or one slow operation would be the finding."""


@dataclass(frozen=True)
class Ratio:
    """How many times one variant's median latency is another's.

    Attributes:
        value: median over rounds of the ratio of the two medians of a round.
        low, high: ends of its interval.
        confidence: share of such intervals that hold the true ratio.
        rounds: how many pairs of medians this rests on.
    """

    value: float
    low: float
    high: float
    confidence: float
    rounds: int


@dataclass(frozen=True)
class Interval:
    """A median over rounds, with the ends of its interval, all in the unit of the rounds."""

    value: float
    low: float
    high: float


def percentiles(histogram: Histogram) -> Mapping[str, float | None]:
    """Return p50, p95, p99 and p99.9 in µs; None where fewer latencies than ``NEEDED`` allow it."""
    return {
        f"p{q:g}": histogram.percentile(q) / 1_000 if histogram.count >= needed else None
        for q, needed in NEEDED.items()
    }


def paired_ratio(
    numerator: Sequence[float],
    denominator: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Ratio:
    """Return how many times one variant's median is another's, with a bootstrap interval.

    The ratio is taken within each round, whose mood both sides share, and its median over rounds
    is the value; on a logarithmic scale, so that swapping the sides inverts value and interval.
    Rounds are resampled; how the interval is widened for few of them, and what it then covers:
    ``pglab.bench.bootstrap``.

    Args:
        numerator: one variant's median in each round, in any unit of time.
        denominator: the other's, in the same unit; place i is the same interleaved round.
        seed: of the drawing; the same seed and rounds give the same interval.
        resamples: how often the rounds are drawn again.
        confidence: of the interval.

    Raises:
        BenchError: fewer than two rounds, unlike numbers of them, or a median that is not a finite
            number above 0.
    """
    above, below = checked(numerator, "the numerator"), checked(denominator, "the denominator")
    if len(above) != len(below):
        raise BenchError(
            f"the numerator has {len(above)} rounds and the denominator {len(below)}; compare the "
            "rounds that both finished"
        )
    value, drawn = medians_of_log_ratios(above, below, seed=seed, resamples=resamples)
    low, high = interval(value, drawn, rounds=len(above), confidence=confidence)
    return Ratio(math.exp(value), math.exp(low), math.exp(high), confidence, len(above))


def median_interval(
    values: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Return one variant's median over rounds, with an interval made as a ratio's is.

    Args:
        values: its median in each round.
        seed: of the drawing.
        resamples: how often the rounds are drawn again.
        confidence: of the interval.

    Raises:
        BenchError: fewer than two rounds, or a median that is not a finite number above 0.
    """
    rounds = checked(values, "the variant")
    value = float(np.median(rounds))
    logs = log_medians(rounds, seed=seed, resamples=resamples)
    low, high = interval(math.log(value), logs, rounds=len(rounds), confidence=confidence)
    return Interval(value, math.exp(low), math.exp(high))


def width(ratio: Ratio) -> float:
    """Return the interval's relative width: 0.02 if its upper end is 2 % above its lower."""
    return ratio.high / ratio.low - 1
