"""What a Redis that is too small throws away, by its ``maxmemory-policy``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["POLICIES", "compare_policies", "eviction_trial"]

POLICIES: Final = (
    "noeviction", "volatile-ttl", "volatile-lru", "allkeys-random", "allkeys-lru", "allkeys-lfu",
)  # fmt: skip

_VALUE: Final = b"x" * 1_000
_BATCH: Final = 25
# Redis counts the memory of its clients, too.
_ROOM_BYTES: Final = 1_500_000


def zipf_requests(keys: int, count: int, *, exponent: float = 1.0, seed: int = 7) -> list[int]:
    """Return numbers of keys, drawn by Zipf's law: key number i is asked for as 1 / i^exponent."""
    weights = list(accumulate(1 / rank**exponent for rank in range(1, keys + 1)))
    chance = random.Random(seed)  # noqa: S311 - no secret depends on it
    return chance.choices(range(keys), cum_weights=weights, k=count)


def eviction_trial(
    redis: Redis, policy: str, *, keys: int = 4_000, requests: int = 12_000, precious: int = 100
) -> dict[str, Any]:
    """Read through a Redis that holds a part of the keys only; return what came of it.

    It gets ``precious`` keys first that are no copies of anything (a queue's, say) and have no
    TTL. Then come requests by Zipf's law, copies with a TTL of 1 to 10 minutes; halfway, one run
    reads every key once, as a nightly report does.

    Args:
        redis: a server of its own; it is emptied, and its memory is limited.
        policy: what it does when it is full.
        keys: how many objects there are, 1 kB each.
        requests: how many are drawn.
        precious: keys without a TTL.
    """
    redis.config_set("maxmemory", 0)
    # Else the memory is freed some time later, and does not count as room.
    redis.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]
    redis.config_resetstat()
    redis.config_set("maxmemory-policy", policy)
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + _ROOM_BYTES)
    redis.mset({f"precious:{number}": _VALUE for number in range(precious)})
    drawn = zipf_requests(keys, requests)
    half = requests // 2
    chance = random.Random(11)  # noqa: S311 - no secret depends on it
    hits = _run(redis, drawn[:half], chance)[0]
    report = _run(redis, range(keys), chance)
    after = _run(redis, drawn[half:], chance)
    refused = report[1] + after[1]
    left = redis.exists(*[f"precious:{number}" for number in range(precious)])
    return {
        "policy": policy,
        "hit ratio %": round(100 * (hits + after[0]) / requests, 1),
        "copies held": redis.dbsize() - left,
        "evicted": redis.info("stats")["evicted_keys"],
        "writes refused": refused,
        f"precious left of {precious}": left,
    }


def compare_policies(redis: Redis, policies: Sequence[str] = POLICIES) -> list[dict[str, Any]]:
    """Return a row of :func:`eviction_trial` for each policy."""
    return [eviction_trial(redis, policy) for policy in policies]


def _run(redis: Redis, numbers: Sequence[int], chance: random.Random) -> tuple[int, int]:
    """Read, and store what is not there; return hits and refused writes."""
    hits = refused = 0
    for start in range(0, len(numbers), _BATCH):
        names = [f"copy:{number}" for number in numbers[start : start + _BATCH]]
        found = redis.mget(names)
        hits += sum(value is not None for value in found)
        pipeline = redis.pipeline(transaction=False)
        for name, value in zip(names, found, strict=True):
            if value is None:
                pipeline.set(name, _VALUE, ex=chance.randint(60, 600))
        if pipeline.command_stack:
            answers = pipeline.execute(raise_on_error=False)
            refused += sum(isinstance(answer, Exception) for answer in answers)
    return hits, refused
