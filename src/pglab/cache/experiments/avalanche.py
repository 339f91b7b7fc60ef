"""An avalanche: entries that were stored together expire together, unless their TTLs differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pglab.cache.aside import CacheAside
from pglab.cache.experiments.readers import Loads
from pglab.cache.keys import KeySpace
from pglab.errors import ConfigError

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["avalanche"]


def avalanche(
    redis: Redis,
    *,
    jitters: Sequence[float] = (0.0, 0.5),
    keys: int = 200,
    ttl_s: float = 1.0,
    seconds: float = 3.0,
    slot_s: float = 0.1,
    prefix: str = "avalanche",
) -> list[dict[str, Any]]:
    """Fill a cache for each jitter at once, read all of it in turn, and count loads by time.

    Args:
        redis: where the entries are; one that is not busy otherwise.
        jitters: shares of the TTL that are taken off by chance, at most.
        keys: of each cache.
        ttl_s: of each entry before the jitter, seconds.
        seconds: for how long they are read.
        slot_s: width of a slot of time, seconds.
        prefix: of the keys.

    Returns:
        A row for each jitter and slot: ``jitter``, ``at_s`` (the slot's beginning, since the
        filling began), ``loads``. The first load of each key is not among them.

    Raises:
        ConfigError: there are no slots, or more than 10,000.
    """
    slots = round(seconds / slot_s) if slot_s > 0 else 0
    if not 1 <= slots <= 10_000:
        raise ConfigError(
            f"{seconds} s in slots of {slot_s} s are {slots} slots; give from 1 to 10,000"
        )
    noted = [Loads(lambda key: {"key": key}) for _ in jitters]
    with ExitStack() as stack:
        caches = [
            stack.enter_context(
                CacheAside[int, Any](
                    redis, loads, keys=KeySpace(f"j{number}", prefix=prefix), value_type=Any,
                    ttl_s=ttl_s, jitter=jitter, timeout_s=10.0,
                )
            )
            for number, (jitter, loads) in enumerate(zip(jitters, noted, strict=True))
        ]  # fmt: skip
        for cache in caches:  # whatever an earlier run left
            cache.invalidate(*range(keys))
        began = time.monotonic()
        for key in range(keys):
            for cache in caches:
                cache.get(key)
        for loads in noted:
            loads.spans.clear()
        while time.monotonic() - began < seconds:
            for key in range(keys):
                for cache in caches:
                    cache.get(key)
    rows = []
    for jitter, loads in zip(jitters, noted, strict=True):
        counts = [0] * slots
        for _, ended in loads.spans:
            slot = int((ended - began) / slot_s)
            if slot < slots:  # the last round of reads ends after the last slot
                counts[slot] += 1
        rows += [
            {"jitter": jitter, "at_s": round(slot * slot_s, 6), "loads": count}
            for slot, count in enumerate(counts)
        ]
    return rows
