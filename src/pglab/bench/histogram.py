"""Latencies counted in HdrHistogram's buckets: any number of them in a few kilobytes.

The layout is Gil Tene's (https://hdrhistogram.org), for a lowest value of 1 ns and three
significant digits: values below 2,048 have a bucket each, and every further power of two has 1,024
buckets of equal width, so that no value is off by more than 0.1 %. Bucket number ``i`` and what
is asked of a histogram are the same as in ``hdrh.histogram.HdrHistogram``, which a test proves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pglab.errors import ResultError

__all__ = ["HIGHEST_NS", "Histogram"]

HIGHEST_NS: Final = 2**53 - 1
"""The largest latency that is counted, 104 days: up to here a float holds every integer."""
# 2,048 buckets are the least power of two that gives three digits: 2 × 10³, rounded up.
_HALF: Final = 1_024
_UNIT_BITS: Final = 11

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Histogram:
    """How many latencies fell into each bucket; immutable, and equal by its counts.

    Attributes:
        buckets: numbers of the occupied buckets, rising.
        counts: how many latencies each of them has.
    """

    buckets: _Integers
    counts: _Integers

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Histogram:
        """Count latencies.

        Args:
            values: nanoseconds, in any order; what is not whole is rounded down.

        Raises:
            ValueError: a value is negative, not finite or above ``HIGHEST_NS``.
        """
        given = np.asarray(values)
        if not given.size:
            return cls(_frozen([]), _frozen([]))
        lowest, highest = given.min(), given.max()
        # Written so that NaN, which compares with nothing, is refused as well.
        if not (lowest >= 0 and highest <= HIGHEST_NS):
            raise ValueError(
                f"latencies from {lowest} to {highest} ns; each must be a number from 0 to "
                f"{HIGHEST_NS:,}: check the clock that they were taken with"
            )
        occupied = np.bincount(_bucket_of(given.astype(np.int64).ravel()))
        buckets = np.flatnonzero(occupied)
        return cls(_frozen(buckets), _frozen(occupied[buckets]))

    @classmethod
    def from_json(cls, document: Any) -> Histogram:
        """Read what ``to_json`` wrote.

        Raises:
            ResultError: it is anything else; the message says what.
        """
        if not isinstance(document, Mapping) or set(document) != {"from_ns", "counts"}:
            raise ResultError("a histogram has exactly from_ns and counts; this file has been cut")
        lower = _integers("from_ns", document["from_ns"], 0, HIGHEST_NS)
        counts = _integers("counts", document["counts"], 1, HIGHEST_NS)
        if len(lower) != len(counts):
            raise ResultError(
                f"a histogram has {len(lower)} buckets and {len(counts)} counts; run it again"
            )
        if (lower[1:] <= lower[:-1]).any():
            raise ResultError("a histogram's from_ns do not rise; run it again")
        buckets = _bucket_of(lower)
        odd = lower[_lower_of(buckets) != lower]
        if odd.size:
            raise ResultError(f"no bucket of a histogram begins at {odd[0]} ns; run it again")
        if sum(counts.tolist()) > HIGHEST_NS:
            raise ResultError("a histogram counts more than a run can have; run it again")
        return cls(_frozen(buckets), _frozen(counts))

    def to_json(self) -> dict[str, list[int]]:
        """Return the occupied buckets: where each begins, in ns, and its count."""
        return {"from_ns": _lower_of(self.buckets).tolist(), "counts": self.counts.tolist()}

    def merge(self, *others: Histogram) -> Histogram:
        """Return a histogram of the latencies of all."""
        every = (self, *others)
        buckets, where = np.unique(
            np.concatenate([each.buckets for each in every]), return_inverse=True
        )
        counts = np.zeros(len(buckets), np.int64)
        np.add.at(counts, where, np.concatenate([each.counts for each in every]))
        return Histogram(_frozen(buckets), _frozen(counts))

    def __add__(self, other: Histogram) -> Histogram:
        return self.merge(other)

    @property
    def count(self) -> int:
        """How many latencies were counted."""
        return int(self.counts.sum())

    @property
    def min(self) -> float:
        """Where the lowest occupied bucket begins, in ns; NaN if nothing was counted."""
        return float(_lower_of(self.buckets[:1])[0]) if self.count else math.nan

    @property
    def max(self) -> float:
        """The largest value of the highest occupied bucket, in ns; NaN if nothing was counted."""
        return float(_upper_of(self.buckets[-1:])[0]) if self.count else math.nan

    @property
    def mean(self) -> float:
        """Mean in ns, each latency taken as the middle of its bucket; NaN if there is none."""
        if not self.count:
            return math.nan
        middle = _lower_of(self.buckets) + (_width_of(self.buckets) >> 1)
        return float(np.average(middle, weights=self.counts))

    def percentile(self, q: float) -> float:
        """Return the latency in ns that q percent do not exceed.

        As HdrHistogram does: the upper end of the bucket in which the count reaches q percent of
        all, rounded to a whole number of latencies and at least one; for q = 0 its lower end. NaN
        if nothing was counted.

        Raises:
            ValueError: q does not lie between 0 and 100.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"percentile {q}; use a number from 0 to 100")
        if not self.count:
            return math.nan
        wanted = max(int(q * self.count / 100 + 0.5), 1)
        place = np.searchsorted(np.cumsum(self.counts), wanted)
        bucket = self.buckets[place : place + 1]
        return float((_upper_of(bucket) if q else _lower_of(bucket))[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return np.array_equal(self.buckets, other.buckets) and np.array_equal(
            self.counts, other.counts
        )

    def __hash__(self) -> int:
        return hash((self.buckets.tobytes(), self.counts.tobytes()))

    def __repr__(self) -> str:
        if not self.count:
            return "Histogram(empty)"
        return f"Histogram(count={self.count}, min={self.min:.0f} ns, max={self.max:.0f} ns)"


def _frozen(values: npt.ArrayLike) -> _Integers:
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def _bucket_of(values: _Integers) -> _Integers:
    # frexp's exponent is the length in bits, exactly so below 2**53.
    bits: _Integers = np.frexp(values)[1].astype(np.int64)
    doublings: _Integers = np.maximum(bits - _UNIT_BITS, 0)
    # The upper half of each power of two is new, the lower one belongs to the power below.
    return doublings * _HALF + (values >> doublings)


def _doublings_of(buckets: _Integers) -> _Integers:
    return np.maximum(buckets // _HALF - 1, 0)


def _width_of(buckets: _Integers) -> _Integers:
    return np.left_shift(np.ones_like(buckets), _doublings_of(buckets))


def _lower_of(buckets: _Integers) -> _Integers:
    doublings = _doublings_of(buckets)
    return (buckets - doublings * _HALF) << doublings


def _upper_of(buckets: _Integers) -> _Integers:
    return _lower_of(buckets) + _width_of(buckets) - 1


def _integers(name: str, values: Any, lowest: int, highest: int) -> _Integers:
    if not isinstance(values, list):
        raise ResultError(f"{name} of a histogram is no list; run it again")
    for value in values:
        # A bool is an int to Python, and to nobody else.
        if type(value) is not int or not lowest <= value <= highest:
            raise ResultError(
                f"{name} of a histogram has {value!r}; whole numbers from {lowest} to {highest:,} "
                "are expected: run it again"
            )
    return np.array(values, dtype=np.int64)
