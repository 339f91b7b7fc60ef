"""Refreshing an entry before it expires, now and then, so that not everybody does so at once.

A. Vattani, F. Chierichetti, K. Lowenstein: Optimal Probabilistic Cache Stampede Prevention. PVLDB
8(8), 2015 (XFetch). Each reader draws for itself; nobody waits and nothing is locked.
"""

from __future__ import annotations

import math
import random

__all__ = ["refresh_now"]


def refresh_now(
    now_ms: float, fresh_until_ms: float, load_us: float, beta: float, draw: float | None = None
) -> bool:
    """Tell whether this reader should load an entry anew although it is still fresh.

    The nearer its end and the longer a load takes, the likelier. A reader ``t`` before the end does
    so with the probability ``exp(-t / (beta * load))``.

    Args:
        now_ms: milliseconds.
        fresh_until_ms: milliseconds, on the same clock.
        load_us: what the last load took, microseconds.
        beta: 1 is the paper's optimum; more refreshes earlier.
        draw: a number from [0, 1); None draws one.
    """
    drawn = random.random() if draw is None else draw  # noqa: S311 - no secret depends on it
    return now_ms - load_us / 1e3 * beta * math.log(1.0 - drawn) >= fresh_until_ms
