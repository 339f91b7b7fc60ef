"""The hit ratio of a real cache under a Zipf stream, beside what theory says.

A hit is what the metrics of :class:`pglab.cache.CacheAside` count. The stream is drawn beforehand,
from a seed; what Redis evicts and when entries expire is up to the server and the clock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pglab.cache.aside import CacheAside
from pglab.cache.keys import KeySpace

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["measure_lru", "measure_ttl"]

_HOUR_S: Final = 3600.0
_LOOK_S: Final = 0.1
_STEADY_LOOKS: Final = 5
_STEADY_BYTES: Final = 4_096
_MOST_LOOKS: Final = 50


def measure_ttl(
    redis: Redis,
    *,
    exponent: float = 0.9,
    ttls_s: Sequence[float] = (0.05, 0.2, 0.5, 1.0),
    objects: int = 500,
    rate: float = 1_500.0,
    seconds: float = 1.5,
    seed: int = 7,
    prefix: str = "hit-ratio-ttl",
) -> list[dict[str, Any]]:
    """Measure the hit ratio for each TTL, under requests that come as a Poisson process.

    Args:
        redis: with memory enough for all objects.
        exponent: of the popularity, see :func:`pglab.cache.che.zipf_popularity`.
        ttls_s: seconds; each takes itself and ``seconds``, for a TTL passes before one counts.
        objects: how many there are.
        rate: requests a second, as many as this machine can make; what came of it is measured.
        seconds: for how long is counted.
        seed: of what is drawn.
        prefix: of the keys.

    Returns:
        A row for each TTL: ``exponent``, ``ttl_s``, ``requests``, ``rate`` (as it was, a second),
        ``measured`` and ``theory``, from 0 to 1.
    """
    import numpy as np

    from pglab.cache.che import ttl_hit_ratio, zipf_popularity

    popularity = zipf_popularity(objects, exponent)
    draw = np.random.default_rng(seed)
    rows = []
    for number, ttl_s in enumerate(ttls_s):
        count = max(1, round(rate * (ttl_s + seconds)))
        stream = draw.choice(objects, size=count, p=popularity).tolist()
        due = np.cumsum(draw.exponential(1 / rate, size=count)).tolist()
        keys = KeySpace(f"t{number}", prefix=prefix)
        with CacheAside[int, Any](
            redis, _load, keys=keys, value_type=Any, ttl_s=ttl_s, jitter=0.0, timeout_s=10.0
        ) as cache:
            cache.invalidate(*range(objects))
            warm = sum(moment < ttl_s for moment in due)
            began = time.monotonic()
            _ask(cache.get, stream[:warm], due[:warm], began)
            cache.reset_metrics()
            counting = time.monotonic()
            _ask(cache.get, stream[warm:], due[warm:], began)
            took_s = time.monotonic() - counting
            counts = cache.metrics
            cache.invalidate(*range(objects))
        as_it_was = counts.reads / took_s
        rows.append(
            {
                "exponent": exponent,
                "ttl_s": ttl_s,
                "requests": counts.reads,
                "rate": round(as_it_was),
                "measured": round(counts.hit_ratio, 4),
                "theory": round(ttl_hit_ratio(popularity, as_it_was, ttl_s), 4),
            }
        )
    return rows


def measure_lru(
    redis: Redis,
    *,
    exponent: float = 0.9,
    rooms_bytes: Sequence[int] = (200_000, 400_000, 800_000),
    objects: int = 3_000,
    requests: int = 6_000,
    seed: int = 7,
) -> list[dict[str, Any]]:
    """Measure the hit ratio of a Redis that is too small, with ``allkeys-lru``.

    Redis takes ``maxmemory`` in bytes: how many objects it held is counted, and theory is told.
    Its LRU is a rough one: it looks at ``maxmemory-samples`` keys, whose last use it knows to the
    second. In a run as short as this most look alike, and it is nearer to eviction at random.

    Args:
        redis: a server of its own: it is emptied, and ``maxmemory``, ``maxmemory-policy`` are set,
            and set back at the end.
        exponent: of the popularity.
        rooms_bytes: of memory for entries, one row each.
        objects: how many there are, about 0.5 kB each in Redis.
        requests: how many are counted; as many come before, to fill it.
        seed: of what is drawn.

    Returns:
        A row for each size: ``exponent``, ``objects held`` (on average), ``requests``,
        ``evicted``; ``measured``, ``theory, LRU`` and ``theory, random``, from 0 to 1.
    """
    import numpy as np

    from pglab.cache.che import lru_hit_ratio, random_hit_ratio, zipf_popularity

    popularity = zipf_popularity(objects, exponent)
    draw = np.random.default_rng(seed)
    before: dict[str, str] = redis.config_get("maxmemory*")  # type: ignore[assignment]
    rows = []
    try:
        for room in rooms_bytes:
            stream = draw.choice(objects, size=2 * requests, p=popularity).tolist()
            redis.config_set("maxmemory", 0)
            redis.flushall()
            redis.config_set("maxmemory-policy", "allkeys-lru")
            with CacheAside[int, Any](
                redis, _load_large, keys=KeySpace("l", prefix="hit-ratio"), value_type=Any,
                ttl_s=_HOUR_S, timeout_s=10.0,
            ) as cache:  # fmt: skip
                cache.get(0)  # its connection counts as memory, too
                redis.config_set("maxmemory", _steady_memory(redis) + room)
                for key in stream[:requests]:
                    cache.get(key)
                cache.reset_metrics()
                redis.config_resetstat()
                held = []
                for number, key in enumerate(stream[requests:]):
                    cache.get(key)
                    if number % 100 == 0:
                        held.append(redis.dbsize())
                counts = cache.metrics
            size = float(np.mean(held))
            rows.append(
                {
                    "exponent": exponent,
                    "objects held": round(size),
                    "requests": counts.reads,
                    "evicted": redis.info("stats")["evicted_keys"],
                    "measured": round(counts.hit_ratio, 4),
                    "theory, LRU": round(lru_hit_ratio(popularity, size), 4),
                    "theory, random": round(random_hit_ratio(popularity, size), 4),
                }
            )
    finally:
        for name in ("maxmemory", "maxmemory-policy"):
            redis.config_set(name, before[name])
        redis.flushall()
    return rows


def _steady_memory(redis: Redis) -> int:
    """Return the memory that is used once the buffers of clients that were here are let go.

    Redis does that by and by, some times a second; what it frees later would be room for entries.
    """
    looks: deque[int] = deque(maxlen=_STEADY_LOOKS)
    for _ in range(_MOST_LOOKS):
        looks.append(redis.info("memory")["used_memory"])
        if len(looks) == _STEADY_LOOKS and max(looks) - min(looks) < _STEADY_BYTES:
            break
        time.sleep(_LOOK_S)
    return looks[-1]


def _load(key: int) -> dict[str, int]:
    return {"key": key}


def _load_large(key: int) -> dict[str, Any]:
    return {"key": key, "padding": "x" * 300}


def _ask(
    read: Callable[[int], object], stream: Sequence[int], due: Sequence[float], began: float
) -> None:
    for key, moment in zip(stream, due, strict=True):
        wait_s = began + moment - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        read(key)
