"""Above which hit rate a cache pays."""

from __future__ import annotations

import math

from pglab.errors import BenchError

__all__ = ["break_even_hit_rate"]


def break_even_hit_rate(hit_us: float, miss_us: float, direct_us: float) -> float | None:
    """Return the hit rate above which a cache is faster than none.

    The rate h at which h × hit + (1 − h) × miss = direct.

    Args:
        hit_us: µs of a look-up that the cache answers.
        miss_us: µs of one that it does not: asking it, the database, and storing the answer.
        direct_us: µs of asking the database alone.

    Returns:
        From 0 (even a miss costs no more than asking directly) to below 1; None if no rate
        suffices, because a hit is no faster than asking directly.

    Raises:
        BenchError: a latency is not a finite number above 0.
    """
    for name, value in (("hit_us", hit_us), ("miss_us", miss_us), ("direct_us", direct_us)):
        if not (math.isfinite(value) and value > 0):
            raise BenchError(f"{name}={value}; a latency is a finite number above 0: measure again")
    if hit_us >= direct_us:
        return None
    return max((miss_us - direct_us) / (miss_us - hit_us), 0.0) if miss_us > hit_us else 0.0
