"""A cache under mixed traffic while its Redis is killed again and again; then the history's replay.

    python -m pglab.bench.cache_soak --seconds 60

Readers and writers go through several caches that know nothing of each other, as several processes
would. Halfway between two killings Redis is stopped for a moment: what it holds survives then, and
invalidations do not reach it, which is the harder case.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pglab.servers.scratch import ScratchRedis

if TYPE_CHECKING:
    from pglab.cache import CacheAside, Counts
    from pglab.cache.history import History, Verdict

__all__ = ["Soak", "soak"]

_SCHEMA: Final = """
CREATE TABLE soaked (key text PRIMARY KEY, version integer NOT NULL);
CREATE TABLE soaked_writes (key text NOT NULL, version integer NOT NULL, PRIMARY KEY (key, version))
"""
_PAUSE_S: Final = 0.4
# Longer than a load may take here, the machine's hiccups included.
_SLACK_S: Final = 0.25


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        verdict: of the replay.
        counts: of each cache.
        kills: how often Redis was killed.
        pauses: how often it was stopped for a moment.
    """

    verdict: Verdict
    counts: tuple[Counts, ...]
    kills: int
    pauses: int

    def __str__(self) -> str:
        lines = [f"Redis killed {self.kills} times, stopped for a moment {self.pauses} times"]
        lines += [f"cache {i}: {counts}" for i, counts in enumerate(self.counts)]
        return "\n".join([*lines, str(self.verdict)])


def soak(
    conninfo: str,
    *,
    seconds: float,
    kill_every_s: float,
    readers: int = 6,
    writers: int = 2,
    caches: int = 2,
    keys: int = 24,
    seed: int = 1,
    **settings: Any,
) -> Soak:
    """Read and write through caches whose Redis is killed; replay what happened.

    Args:
        conninfo: of a database; gets the tables ``soaked`` and ``soaked_writes``.
        seconds: how long.
        kill_every_s: how often, seconds.
        readers: threads for each cache.
        writers: threads for each cache.
        caches: how many, each with connections, breaker and pending invalidations of its own.
        keys: how many objects.
        seed: of what is drawn.
        settings: of :class:`pglab.cache.CacheAside`.
    """
    import psycopg
    from psycopg_pool import ConnectionPool

    from pglab.cache import CacheAside, KeySpace
    from pglab.cache.history import History, check

    names = [f"k{i}" for i in range(keys)]
    with psycopg.connect(conninfo) as connection:
        connection.execute(_SCHEMA)
        connection.cursor().executemany(
            "INSERT INTO soaked VALUES (%s, 0)", [(name,) for name in names]
        )
    history = History()
    stop = threading.Event()
    failures: list[BaseException] = []
    with ExitStack() as stack:
        redis = stack.enter_context(ScratchRedis())
        pool = stack.enter_context(
            ConnectionPool(
                conninfo,
                min_size=2,
                max_size=20,
                kwargs={"autocommit": True, "application_name": "pglab cache soak"},
            )
        )
        chance = random.Random(seed)  # noqa: S311 - no secret depends on it

        def load(key: str) -> int | None:
            with pool.connection() as connection:
                row = connection.execute(
                    "SELECT version FROM soaked WHERE key = %s", (key,)
                ).fetchone()
            time.sleep(chance.expovariate(500))  # time for a write to come between
            return None if row is None else row[0]

        opened = [
            stack.enter_context(
                CacheAside[str, int](
                    redis.client(), load, keys=KeySpace("soaked"), value_type=int,
                    **{"ttl_s": 2.0, "reset_s": 0.3, "lease_s": 2.0, **settings},
                )
            )
            for _ in range(caches)
        ]  # fmt: skip
        work: list[Callable[[], None]] = []
        for number, cache in enumerate(opened):
            work += [_reader(history, number, cache, names, stop) for _ in range(readers)]
            work += [
                _writer(history, number, cache, names, stop, pool=pool) for _ in range(writers)
            ]
        threads = [threading.Thread(target=_noting(each, failures)) for each in work]
        for thread in threads:
            thread.start()
        try:
            kills, pauses = _disturb(redis, seconds, kill_every_s, chance)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]
        with psycopg.connect(conninfo) as connection:
            stored = connection.execute("SELECT key, version FROM soaked_writes").fetchall()
        verdict = check(
            history, stored, max_age_s=opened[0].policy.max_age_s, slack_s=_SLACK_S
        )  # fmt: skip
        return Soak(verdict, tuple(cache.metrics for cache in opened), kills, pauses)


def _noting(work: Callable[[], None], failures: list[BaseException]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is seen
            failures.append(error)

    return run


def _disturb(
    redis: ScratchRedis, seconds: float, kill_every_s: float, chance: random.Random
) -> tuple[int, int]:
    until = time.monotonic() + seconds
    kills = pauses = 0
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, kill_every_s / 2))
        redis.pause()
        pauses += 1
        time.sleep(_PAUSE_S)
        redis.resume()
        time.sleep(max(0.0, min(until - time.monotonic(), kill_every_s / 2 - _PAUSE_S)))
        redis.kill()
        kills += 1
        time.sleep(chance.uniform(0.05, min(1.0, kill_every_s / 3)))
        redis.start()
    return kills, pauses


def _reader(
    history: History,
    number: int,
    cache: CacheAside[str, int],
    names: list[str],
    stop: threading.Event,
) -> Callable[[], None]:
    from pglab.cache.history import Read

    def read() -> None:
        while not stop.is_set():
            # The first keys are read most.
            key = names[min(int(random.expovariate(0.2)), len(names) - 1)]
            version, error = None, ""
            began = time.monotonic()
            try:
                version = cache.get(key)
            except Exception as failure:  # noqa: BLE001 - counted by the checker
                error = f"{type(failure).__name__}: {failure}"
            history.reads.append(Read(key, version, began, time.monotonic(), number, error))
            time.sleep(0.001)

    return read


def _writer(
    history: History,
    number: int,
    cache: CacheAside[str, int],
    names: list[str],
    stop: threading.Event,
    *,
    pool: Any,
) -> Callable[[], None]:
    from pglab.cache import invalidating
    from pglab.cache.history import Write

    def write() -> None:
        while not stop.is_set():
            key = names[min(int(random.expovariate(0.2)), len(names) - 1)]
            began = time.monotonic()
            with pool.connection() as connection, invalidating(connection) as outdated:
                version = connection.execute(
                    "UPDATE soaked SET version = version + 1 WHERE key = %s RETURNING version",
                    (key,),
                ).fetchone()[0]
                connection.execute("INSERT INTO soaked_writes VALUES (%s, %s)", (key, version))
                outdated.add(cache, key)
            history.writes.append(
                Write(key, version, began, time.monotonic(), bool(outdated.applied), number)
            )
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311

    return write


def main(arguments: list[str] | None = None) -> int:
    """Soak a cache on a database of its own, print the counts; return 1 if a promise was broken."""
    from pglab.lab import open_lab

    parser = argparse.ArgumentParser(prog="python -m pglab.bench.cache_soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-leases", action="store_true", help="see what goes wrong then")
    given = parser.parse_args(arguments)
    settings: dict[str, Any] = (
        {"leases": False, "protection": "none"} if given.without_leases else {}
    )
    lab = open_lab("cache_soak", "empty", progress=False)
    try:
        lab.reset()
        done = soak(
            lab.url(reveal=True), seconds=given.seconds, kill_every_s=given.kill_every,
            seed=given.seed, **settings,
        )  # fmt: skip
    finally:
        lab.drop()
    print(done)
    return 0 if done.verdict.kept else 1


if __name__ == "__main__":
    sys.exit(main())
