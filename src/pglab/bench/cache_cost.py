"""What ``CacheAside`` adds: to a bare GET and its decoding, and to the load that a miss wraps.

    python -m pglab.bench.cache_cost

A page of 50 messages, and a tenant's inbox, of the course's own rows; the same by hand (GET, load,
SET) beside it, which is the least that a miss can cost. The variants take turns in short rounds, so
that a hiccup of the machine meets them all, and of the rounds the median counts.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from pglab.lab import Lab

__all__ = ["cost"]

# One operation's turns in a round, and the promises in shared numbers of the course.
_TURNS: Final = 100
_MOST_HIT: Final = 1.35
_MOST_MISS: Final = 1.15


def cost(lab: Lab, *, rounds: int = 60, **settings: Any) -> dict[str, float]:
    """Return microseconds of each variant, medians of interleaved rounds.

    Args:
        lab: with messages in it (size ``tiny`` or larger).
        rounds: of 100 operations each.
        settings: of :class:`pglab.cache.CacheAside`.
    """
    from pglab.cache import CacheAside, KeySpace
    from pglab.queries import Page, chat_page, inbox

    serialization = settings.setdefault("serialization", "json")
    module = msgspec.json if serialization == "json" else msgspec.msgpack
    decode, encode = module.Decoder(Page).decode, module.Encoder().encode
    with lab.connection(autocommit=True) as connection, lab.redis_client() as redis:
        rows = connection.execute(
            "SELECT instance_id, chat_id FROM messages GROUP BY 1, 2 HAVING count(*) >= 50 "
            "ORDER BY count(*) DESC LIMIT 64"
        ).fetchall()
        number = itertools.count()

        def load(key: int) -> Page:
            return chat_page(connection, *rows[key % len(rows)])

        def load_inbox(key: int) -> list[Any]:
            return inbox(connection, rows[key % len(rows)][0])

        with CacheAside[int, Page](
            redis, load, keys=KeySpace("page", prefix=lab.key("cost")), value_type=Page, **settings
        ) as cache, CacheAside[int, Any](
            redis, load_inbox,
            keys=KeySpace("inbox", prefix=lab.key("cost")), value_type=list[Any], **settings
        ) as inboxes:  # fmt: skip
            page = load(0)
            cache.get(0)
            plain = lab.key("cost", "plain")
            redis.set(plain, encode(page))
            misses = itertools.count(1_000)

            def by_hand(load: Callable[[int], object], key: int) -> None:
                redis.get(f"{plain}:{key}")
                redis.set(f"{plain}:{key}", encode(load(key)), px=60_000)

            variants: dict[str, Callable[[], object]] = {
                "GET and decode": lambda: decode(redis.get(plain)),
                "CacheAside, hit": lambda: cache.get(0),
                "load of a page": lambda: load(next(number)),
                "CacheAside, page, miss": lambda: cache.get(next(misses)),
                "by hand, page, miss": lambda: by_hand(load, next(misses)),
                "load of an inbox": lambda: load_inbox(next(number)),
                "CacheAside, inbox, miss": lambda: inboxes.get(next(misses)),
                "by hand, inbox, miss": lambda: by_hand(load_inbox, next(misses)),
            }
            took = _in_turns(variants, rounds)
            for key in redis.scan_iter(match=lab.key("cost", "*"), count=1_000):
                redis.unlink(key)
    return took


def _in_turns(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in variants}
    for once in variants.values():
        for _ in range(_TURNS):
            once()
    order = list(variants)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            once = variants[name]
            turns = _TURNS if "inbox" not in name else _TURNS // 10
            began = time.perf_counter()
            for _ in range(turns):
                once()
            times[name].append((time.perf_counter() - began) / turns * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print both ratios beside what was promised."""
    from pglab.lab import open_lab

    parser = argparse.ArgumentParser(prog="python -m pglab.bench.cache_cost", description=__doc__)
    parser.add_argument("--size", default="small")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--serialization", choices=["json", "msgpack"], default="json")
    parser.add_argument("--protection", choices=["lock", "early", "none"], default="lock")
    given = parser.parse_args(arguments)
    with open_lab("cache_cost", given.size, progress=False) as lab:
        took = cost(
            lab, rounds=given.rounds, serialization=given.serialization,
            protection=given.protection,
        )  # fmt: skip
    for name, us in took.items():
        print(f"{name:<26}{us:>9.1f} µs")
    hit = took["CacheAside, hit"] / took["GET and decode"]
    print(f"hit over GET and decode    {hit:>9.2f}     at most {_MOST_HIT}")
    ratios = []
    for what, load in (("page", "load of a page"), ("inbox", "load of an inbox")):
        ratios.append(took[f"CacheAside, {what}, miss"] / took[load])
        least = took[f"by hand, {what}, miss"] / took[load]
        print(
            f"miss over {load:<17}{ratios[-1]:>9.2f}     at most {_MOST_MISS}; by hand {least:.2f}"
        )
    # By hand it is two round trips to Redis, which no load makes shorter.
    for how in ("CacheAside", "by hand"):
        added = took[f"{how}, page, miss"] - took["load of a page"]
        print(
            f"{how}: a miss adds {added:.0f} µs to a page's load, which is "
            f"{_MOST_MISS - 1:.0%} or less of loads from {added / (_MOST_MISS - 1) / 1e3:.1f} ms on"
        )
    return 0 if hit <= _MOST_HIT and ratios[-1] <= _MOST_MISS else 1


if __name__ == "__main__":
    sys.exit(main())
