"""What hit ratio to expect: of a full cache by Che's approximation, of a TTL cache exactly.

Requests are independent, and object i is asked for with the probability ``popularity[i]``.

H. Che, Y. Tung, Z. Wang: Hierarchical Web Caching Systems: Modeling, Design and Experimental
Results. IEEE JSAC 20(7), 2002: an LRU of C objects acts as if each stayed for one and the same
time after its last request, the time in which C different objects are asked for. Why that is as
good as it is: C. Fricker, P. Robert, J. Roberts: A Versatile and Accurate Approximation for LRU
Cache Performance. ITC 24, 2012.
RANDOM and FIFO, which forget whom they used: E. Gelenbe: A Unified Approach to the Evaluation of a
Class of Replacement Algorithms. IEEE Transactions on Computers C-22(6), 1973.
N. Choungmo Fofack, P. Nain, G. Neglia, D. Towsley: Analysis of TTL-based Cache Networks.
VALUETOOLS 2012: the renewal argument for caches with a TTL.
L. Breslau, P. Cao, L. Fan, G. Phillips, S. Shenker: Web Caching and Zipf-like Distributions:
Evidence and Implications. INFOCOM 1999: the popularity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from pglab.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Popularity = NDArray[np.float64]

__all__ = [
    "characteristic_time",
    "lru_hit_ratio",
    "random_hit_ratio",
    "ttl_hit_ratio",
    "zipf_popularity",
]

_STEPS: Final = 200  # halvings of an interval: until two floats are neighbours


def zipf_popularity(objects: int, exponent: float) -> Popularity:
    """Return how likely each object is asked for: proportional to ``1 / rank ** exponent``.

    Args:
        objects: how many there are, from 1.
        exponent: 0 is the same for all; 0.6 to 1.1 is usual.

    Returns:
        Shape (objects,), descending, the sum is 1.

    Raises:
        ConfigError: there are no objects, or the exponent is negative or not a number.
    """
    if objects < 1:
        raise ConfigError(f"objects is {objects}; give 1 or more")
    if not 0 <= exponent < math.inf:
        raise ConfigError(f"exponent is {exponent}; give a number from 0")
    weights = np.arange(1, objects + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def characteristic_time(popularity: ArrayLike, size: float) -> float:
    """Return in how many requests ``size`` different objects are asked for, on average.

    It solves ``sum(1 - exp(-p * t)) = size``.

    Args:
        popularity: shape (objects,); what each is asked for in a request, the sum is 1.
        size: objects; from 0. It need not be whole: a measured average will do.

    Returns:
        Requests; infinite if all objects that are ever asked for fit.

    Raises:
        ConfigError: see above.
    """
    return _time_until_full(_checked(popularity), size, _there_since_last)


def lru_hit_ratio(popularity: ArrayLike, size: float) -> float:
    """Return the share of requests that an LRU cache answers (Che's approximation).

    Args:
        popularity: shape (objects,), the sum is 1.
        size: how many objects the cache holds.

    Returns:
        From 0 to 1. Compulsory misses, the first of each object, are not counted.

    Raises:
        ConfigError: as :func:`characteristic_time`.
    """
    return _hit_ratio(_checked(popularity), size, _there_since_last)


def random_hit_ratio(popularity: ArrayLike, size: float) -> float:
    """Return the share of requests that a cache answers that evicts whichever object.

    What Redis's LRU comes down to for objects that were used within the same second, for its clock
    ticks once a second. The approximation is Che's with a stay counted from the load (Fricker,
    Robert, Roberts); FIFO has the same hit ratio (Gelenbe).

    Args:
        popularity: shape (objects,), the sum is 1.
        size: how many objects the cache holds.

    Returns:
        From 0 to 1.

    Raises:
        ConfigError: as :func:`characteristic_time`.
    """
    return _hit_ratio(_checked(popularity), size, _there_since_load)


def ttl_hit_ratio(
    popularity: ArrayLike,
    rate: float,
    ttl_s: float,
    *,
    jitter: float = 0.0,
    renewed: bool = False,
) -> float:
    """Return the share of requests that a cache answers whose entries leave by their TTL only.

    Requests are a Poisson process, so each object is asked for at ``popularity * rate`` a second.
    Counted from its load (cache-aside), a cycle of an object is one miss and the requests of the
    TTL, which hit, λT on average: ``λT / (1 + λT)``; this needs no more of T than its mean. Counted
    from each request anew, a request hits if the one before is no older: ``1 - exp(-λT)``.

    Args:
        popularity: shape (objects,), the sum is 1.
        rate: requests a second, of all objects.
        ttl_s: seconds.
        jitter: up to this share of the TTL is taken off by chance, as ``CacheAside`` does.
        renewed: whether each request, and not the load, begins the TTL anew.

    Returns:
        From 0 to 1.

    Raises:
        ConfigError: a number is out of its range, or ``jitter`` comes with ``renewed``.
    """
    p = _checked(popularity)
    if not (0 <= rate < math.inf and 0 <= ttl_s < math.inf and 0 <= jitter < 1):
        raise ConfigError(
            f"rate={rate}, ttl_s={ttl_s}, jitter={jitter}; give numbers from 0, a jitter below 1"
        )
    if renewed and jitter:
        raise ConfigError("the formula for a renewed TTL has no jitter; give one of the two")
    requests = rate * ttl_s * (1 - jitter / 2)
    return float(p @ (_there_since_last if renewed else _there_since_load)(p, requests))


def _hit_ratio(
    p: Popularity, size: float, there: Callable[[Popularity, float], Popularity]
) -> float:
    requests = _time_until_full(p, size, there)
    return 1.0 if math.isinf(requests) else float(p @ there(p, requests))


def _there_since_last(p: Popularity, requests: float) -> Popularity:
    """Return how likely each is there if it stays for so many requests after its last one."""
    return np.asarray(-np.expm1(-p * requests))


def _there_since_load(p: Popularity, requests: float) -> Popularity:
    """Return how likely each is there if it stays for so many requests after its load."""
    return np.asarray(p * requests / (1 + p * requests))


def _time_until_full(
    p: Popularity, size: float, there: Callable[[Popularity, float], Popularity]
) -> float:
    """Return for how many requests objects stay if ``size`` of them are there, on average."""
    if not size >= 0:
        raise ConfigError(f"size is {size}; give a number of objects from 0")
    if size >= np.count_nonzero(p):
        return math.inf
    if not size:
        return 0.0
    # More are there the longer they stay: doubling finds a bound, halving the time.
    low, high = 0.0, 1.0
    while there(p, high).sum() < size:
        low, high = high, high * 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if there(p, middle).sum() < size else (low, middle)
    return high


def _checked(popularity: ArrayLike) -> Popularity:
    p = np.asarray(popularity, dtype=np.float64)
    if p.ndim != 1 or not p.size or not (p >= 0).all() or not math.isclose(p.sum(), 1.0):
        raise ConfigError(
            f"popularity has the shape {p.shape} and the sum {p.sum():g}; give probabilities of "
            "which the sum is 1, such as zipf_popularity(1000, 0.9)"
        )
    return p
