"""Random numbers that any platform and any NumPy computes alike, for any row, in any order."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

U64: TypeAlias = NDArray[np.uint64]
I64: TypeAlias = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HEX = np.array([f"{byte:02X}" for byte in range(256)], dtype="S2")


def mix(values: U64) -> U64:
    """Scramble 64-bit integers, one to one.

    The finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, with the constants of Stafford's variant 13. Each step can be undone,
    so that different inputs never meet: identifiers made from it are unique by construction.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Stream:
    """One independent sequence of 64-bit numbers, addressed by index instead of drawn in turn.

    NumPy's own generators promise no stable output across versions, and a sequence that must be
    drawn in turn cannot start in the middle. Here element i is a hash of i, so that row nine
    million costs what row one costs. Only integers are used: no platform's libm takes part.
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.sha256(f"pglab:{seed}:{name}".encode()).digest()
        self._key = np.uint64(int.from_bytes(digest[:8], "big"))

    def bits(self, index: ArrayLike) -> U64:
        """Return 64 random bits for each index."""
        counter = np.atleast_1d(np.asarray(index)).astype(np.uint64)
        return mix(counter * _GOLDEN + self._key)

    def below(self, index: ArrayLike, bound: int | NDArray[np.integer]) -> I64:
        """Return an integer in [0, bound) for each index; bounds lie below 2**32.

        Multiply and shift (Lemire, "Fast random integer generation in an interval", 2019) without
        the rejection step: its bias is below bound / 2**32, which no lesson can see.
        """
        limit = np.asarray(bound).astype(np.uint64)
        return (((self.bits(index) >> np.uint64(32)) * limit) >> np.uint64(32)).astype(np.int64)

    def chance(self, index: ArrayLike, per_mille: int | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return True for about ``per_mille`` of a thousand indexes."""
        return np.asarray(self.below(index, 1000) < per_mille)

    def choose(self, index: ArrayLike, weights: ArrayLike) -> I64:
        """Return a position in ``weights`` (integers) for each index, as often as they say."""
        thresholds = np.cumsum(np.asarray(weights, dtype=np.int64))
        drawn = self.below(index, int(thresholds[-1]))
        return np.searchsorted(thresholds, drawn, side="right").astype(np.int64)


def hexadecimal(values: U64) -> NDArray[np.bytes_]:
    """Write each number as 16 upper-case hexadecimal digits."""
    octets = np.ascontiguousarray(values, dtype=">u8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(_HEX[octets]).view("S16").reshape(-1)
