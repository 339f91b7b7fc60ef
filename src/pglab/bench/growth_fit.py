"""How latency grows with the size of the table: an exponent, and what theory predicts.

A cost of c × size^e is a straight line of slope e on log axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from pglab.bench.bootstrap import RESAMPLES, Floats, checked, interval, log_medians, student_t
from pglab.errors import BenchError

__all__ = ["THEORY", "Growth", "expected_exponent", "growth_exponent", "growth_sentence"]

THEORY: Final[Mapping[str, Callable[[Floats], Floats]]] = MappingProxyType(
    {
        "O(1)": np.ones_like,
        "O(log n)": np.log,
        "O(n)": np.positive,
        "O(n log n)": lambda n: n * np.log(n),
        # The rows asked for, which are as many in a small table as in a large one.
        "O(k)": np.ones_like,
    }
)
"""Cost up to a factor, for sizes as an array."""

AGREES: Final = 0.05
"""Exponents this near are the same to whoever plans for ten times the data: a factor of 1.12."""


@dataclass(frozen=True)
class Growth:
    """A variant's cost as a power of the size.

    Attributes:
        exponent: slope of the least-squares line through the points, on log axes.
        low, high: ends of its interval.
        points: size and median over rounds, by size.
    """

    exponent: float
    low: float
    high: float
    points: tuple[tuple[int, float], ...]

    def at(self, size: float) -> float:
        """Return the median that the fitted line has at a size, in the unit of the rounds."""
        x, y = np.log(np.array(self.points, dtype=np.float64)).T
        return math.exp(float(y.mean() + self.exponent * (math.log(size) - x.mean())))


def growth_exponent(
    sizes: Sequence[int],
    rounds: Sequence[Sequence[float]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Growth:
    """Return the exponent with which medians grow with the size, and its interval.

    Least squares of log(median) on log(size). The interval is the wider of two. The first asks how
    the noise of rounds moves the slope: rounds are drawn again at each size by itself. The second,
    from three sizes on, asks how well a straight line fits at all: Student's t on the residuals,
    with two degrees of freedom fewer than sizes. With three sizes that is one, and a small bend
    makes a wide interval: use four or more.

    Args:
        sizes: of the table, at least two different ones.
        rounds: for each size a variant's median in each round.
        seed: of the drawing.
        resamples: how often rounds are drawn again.
        confidence: of the interval.

    Raises:
        BenchError: fewer than two sizes, one twice or below 1, unlike numbers of sizes and series,
            or rounds that ``paired_ratio`` would refuse.
    """
    if len(sizes) != len(rounds):
        raise BenchError(f"{len(sizes)} sizes and {len(rounds)} series of rounds; give one a size")
    x = _logs_of(sizes)
    series = [checked(each, f"size {size:,}") for size, each in zip(sizes, rounds, strict=True)]
    medians = [float(np.median(each)) for each in series]
    y = np.log(medians)
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    exponent = float(weights @ y)

    # A seed for each size: rounds at one have nothing to do with rounds at another.
    slopes = weights @ [
        log_medians(each, seed=seed + place, resamples=resamples)
        for place, each in enumerate(series)
    ]
    fewest = min(len(each) for each in series)
    low, high = interval(exponent, slopes, rounds=fewest, confidence=confidence)
    if freedom := len(sizes) - 2:
        residuals = y - y.mean() - exponent * (x - x.mean())
        error = math.sqrt(float(residuals @ residuals) / freedom * float(weights @ weights))
        reach = student_t(confidence, freedom) * error
        low, high = min(low, exponent - reach), max(high, exponent + reach)
    points = sorted(zip(map(int, sizes), medians, strict=True))
    return Growth(exponent, low, high, tuple(points))


def expected_exponent(theory: str, sizes: Sequence[int]) -> float:
    """Return the exponent that would be found if costs grew exactly as theory says.

    The same fit over the same sizes: O(log n) is no power of n, and its slope on log axes is 0.09
    from 10,000 to 1,000,000 and falls further up.

    Args:
        theory: a key of ``THEORY``.
        sizes: at least two different ones.

    Raises:
        BenchError: an unknown theory, or sizes that ``growth_exponent`` would refuse.
    """
    if theory not in THEORY:
        raise BenchError(f"{theory!r} is no theory of growth; use one of {', '.join(THEORY)}")
    x = _logs_of(sizes)
    cost = THEORY[theory](np.asarray(sizes, dtype=np.float64))
    deviations = x - x.mean()
    return float(deviations @ np.log(cost) / (deviations @ deviations))


def growth_sentence(growth: Growth, theory: str) -> str:
    """Return a sentence that puts the exponent found beside the one that theory predicts.

    Args:
        growth: what was found.
        theory: a key of ``THEORY``; empty: nothing is predicted.

    Raises:
        BenchError: an unknown theory.
    """
    found = f"grows as size^{growth.exponent:.2f} ({growth.low:.2f} to {growth.high:.2f})"
    if not theory:
        return found
    expected = expected_exponent(theory, [size for size, _ in growth.points])
    predicts = f"{theory} predicts {expected:.2f} over these sizes"
    if growth.low <= expected <= growth.high or abs(growth.exponent - expected) <= AGREES:
        return f"{found}, as {predicts.replace('predicts', 'predicts:', 1)}"
    if growth.exponent > expected:
        return f"{found}, more steeply than theory: {predicts}"
    return f"{found}, less steeply than theory: {predicts}"


def _logs_of(sizes: Sequence[int]) -> Floats:
    if len(set(sizes)) < 2:
        raise BenchError(
            f"growth over {len(set(sizes))} size; an exponent needs two sizes or more, and is "
            "worth something from four on: run it again with more sizes"
        )
    if len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise BenchError(f"sizes {list(sizes)}; each is a number of rows, and given once")
    return np.log(np.asarray(sizes, dtype=np.float64))
