"""A hot key whose entry expires again and again under readers who never stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pglab.cache.aside import CacheAside
from pglab.cache.experiments.readers import Loads, most_at_once, run_together
from pglab.cache.keys import KeySpace

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["HOT_KEY_POLICIES", "hot_key"]

HOT_KEY_POLICIES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "none": {"protection": "none"},
        "lock": {"protection": "lock"},
        "early": {"protection": "early"},
        "stale": {"protection": "lock", "stale_s": 5.0},
    }
)
"""What :func:`hot_key` compares: settings of ``CacheAside`` by a name."""


def hot_key(
    redis: Redis,
    *,
    readers: int = 20,
    ttl_s: float = 0.4,
    load_s: float = 0.05,
    seconds: float = 2.0,
    pause_s: float = 0.002,
    policies: Mapping[str, Mapping[str, Any]] = HOT_KEY_POLICIES,
    prefix: str = "hot-key",
) -> list[dict[str, Any]]:
    """Let readers ask for one key for a while, under each policy; return a row for each.

    Args:
        redis: where the entry is.
        readers: threads, each asking again and again.
        ttl_s: of the entry, seconds, without jitter.
        load_s: what a load takes, seconds; the loader only waits.
        seconds: for how long, each policy.
        pause_s: of a reader after each answer, seconds.
        policies: settings of :class:`pglab.cache.CacheAside` by a name.
        prefix: of the keys.

    Returns:
        ``policy``, ``reads``, ``loads``, ``at once`` (loads in flight at one moment, at most),
        ``waited`` (reads that took at least half a load), ``longest wait ms``.
    """
    return [
        {"policy": name}
        | _under(redis, settings, KeySpace(name, prefix=prefix), readers=readers, ttl_s=ttl_s,
                 load_s=load_s, seconds=seconds, pause_s=pause_s)
        for name, settings in policies.items()
    ]  # fmt: skip


def _under(
    redis: Redis,
    settings: Mapping[str, Any],
    keys: KeySpace,
    *,
    readers: int,
    ttl_s: float,
    load_s: float,
    seconds: float,
    pause_s: float,
) -> dict[str, Any]:
    def load(key: str) -> dict[str, str]:
        time.sleep(load_s)
        return {"key": key}

    loads = Loads(load)
    stop = threading.Event()
    waits: list[float] = []
    redis.delete(keys.name("hot"))
    with CacheAside[str, Any](
        redis, loads, keys=keys, value_type=Any, ttl_s=ttl_s, jitter=0.0, timeout_s=10.0, **settings
    ) as cache:
        cache.get("hot")
        loads.spans.clear()
        timer = threading.Timer(seconds, stop.set)
        timer.daemon = True
        timer.start()
        try:
            run_together([_reader(lambda: cache.get("hot"), waits, stop, pause_s)] * readers)
        finally:
            stop.set()
            timer.cancel()
    return {
        "reads": len(waits),
        "loads": len(loads.spans),
        "at once": most_at_once(loads.spans),
        "waited": sum(wait >= load_s / 2 for wait in waits),
        "longest wait ms": round(max(waits) * 1e3, 1),
    }


def _reader(
    read: Callable[[], object], waits: list[float], stop: threading.Event, pause_s: float
) -> Callable[[], None]:
    def run() -> None:
        while not stop.is_set():
            began = time.monotonic()
            read()
            waits.append(time.monotonic() - began)
            stop.wait(pause_s)

    return run
