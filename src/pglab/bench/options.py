"""How a run measures, and at which sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pglab.bench.case import check_sizes
from pglab.bench.placement import Mode, check_mode
from pglab.errors import BenchError

if TYPE_CHECKING:
    from pglab.bench.case import Case

__all__ = ["QUICK_SIZES", "Options", "sizes_of"]

QUICK_SIZES: Final = (10_000, 31_600)


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        rounds: of each variant, interleaved; an interval needs two, and is trustworthy from about
            ten on.
        round_seconds: least duration of a variant's round; a single long operation is a round.
        warm_up_seconds: after which a variant that does not settle is measured all the same.
        placement: see ``pglab.bench.placement``.
        seed: of data, parameters and the order of variants.
    """

    rounds: int = 15
    round_seconds: float = 0.1
    warm_up_seconds: float = 2.0
    placement: Mode = "auto"
    seed: int = 22

    def __post_init__(self) -> None:
        if type(self.rounds) is not int or self.rounds < 1:  # True is an int, too
            raise BenchError(f"rounds={self.rounds!r}; at least 1 is needed, and 10 say more")
        for name in ("round_seconds", "warm_up_seconds"):
            value = getattr(self, name)
            if type(value) not in {int, float} or not (math.isfinite(value) and value > 0):
                raise BenchError(f"{name}={value!r}; it must be a number above 0")
        if type(self.seed) is not int or self.seed < 0:
            raise BenchError(f"seed={self.seed!r}; it must be a whole number, 0 or more")
        check_mode(self.placement)

    @classmethod
    def quick(cls, **changes: Any) -> Options:
        """Return what lessons and CI use: enough to see a factor, not a per cent."""
        return replace(cls(rounds=9, round_seconds=0.02, warm_up_seconds=0.3), **changes)


def sizes_of(case: Case, *, largest: int | None = None, quick: bool = False) -> tuple[int, ...]:
    """Return the sizes at which a case is run.

    Args:
        case: has sizes of its own.
        largest: leave out larger ones; if the case has no smaller one, this is the size.
        quick: the small ones.

    Raises:
        BenchError: ``largest`` is no size.
    """
    if largest is not None:
        check_sizes([largest], whose="largest")
    bound = min(largest or max(case.sizes), QUICK_SIZES[-1] if quick else max(case.sizes))
    chosen = tuple(sorted(size for size in set(case.sizes) if size <= bound)) or (bound,)
    return chosen[-len(QUICK_SIZES) :] if quick else chosen
