"""Reading an object through a cache: what the cached cases time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from pglab.bench.cache_reads import (
    Cache,
    Database,
    LocalCache,
    Read,
    ReadThrough,
    RedisCache,
    Rows,
)
from pglab.bench.operations import Opened, Parameters, positional, values

if TYPE_CHECKING:
    from pglab.bench.ground import Place

__all__ = ["HOUR_MS", "MISS_TTL_MS", "Reading"]

HOUR_MS: Final = 3_600_000
"""TTL of what is to outlast any run."""
MISS_TTL_MS: Final = 1_000
"""TTL of what is stored after a miss, and never read: Redis holds a second's misses at a time."""

Ask = Callable[[int], Rows]


@dataclass(frozen=True)
class Reading:
    """Reading an object through a cache, or from the database alone.

    Keys are made beforehand; making one costs less than 2 µs.

    Attributes:
        read: what is read.
        cache: in which cache it is looked for; None: in none.
        answer: ``hit``: all that is asked for is there before the first round; ``miss``: every
            operation asks under a key that nobody has used; ``mix``: the cache holds what it has
            come to hold after as many requests as fill it, or after one TTL to two.
        ttl_ms: of the cache's keys, milliseconds.
        most: keys that the in-process cache holds.
    """

    read: Read
    cache: Literal["Redis", "in-process"] | None = None
    answer: Literal["hit", "miss", "mix"] = "hit"
    ttl_ms: int = HOUR_MS
    most: int = 16_384

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:
        """Connect, and fill the cache."""
        ask, through = self.asked(place, parameters)
        asks_database = self.cache is None or self.answer != "hit"
        return Opened(
            lambda i: len(ask(i)),
            before=None
            if through is None or self.answer != "mix"
            else self._before(ask, through, place.seed),
            statement=positional(self.read.sql)[0] if asks_database else "",
            check=self.read.sql if asks_database else "",
            connection=place.connection,
            measures=None if through is None else through.measures,
        )

    def asked(
        self, place: Place, parameters: Sequence[Parameters]
    ) -> tuple[Ask, ReadThrough | None]:
        """Return what does reading number i, and its count of hits (None without a cache)."""
        names = positional(self.read.sql)[1]
        given = [dict(zip(names, values(each, names), strict=True)) for each in parameters]
        count, database = len(given), Database(place.connection, self.read)
        if self.cache is None:
            return (lambda i: database(given[i % count])), None
        cache: Cache = (
            RedisCache(place.redis(), self.read, self.ttl_ms)
            if self.cache == "Redis"
            else LocalCache(self.most, self.ttl_ms)
        )
        through = ReadThrough(cache, database)
        if self.answer == "miss":
            # Another client, or a second opening, must not find these.
            unused = f"{place.prefix}:{secrets.token_hex(4)}"
            return (lambda i: through(f"{unused}:{i}", given[i % count])), through
        keys = [":".join([place.prefix, *map(str, each.values())]) for each in given]

        def ask(i: int) -> Rows:
            return through(keys[i % count], given[i % count])

        if self.answer == "hit":
            for i in range(count):
                ask(i)
        elif self.cache == "in-process" and self.ttl_ms == HOUR_MS:
            # Requests from the end of the row: the rounds begin at its beginning.
            for i in range(max(0, count - 4 * self.most), count):
                ask(i)
        through.forget()
        return ask, through

    def _before(self, ask: Ask, through: ReadThrough, seed: int) -> Callable[[int, int], object]:
        """Return what a mix does before each round: reach the state that its TTL leads to."""
        rng = np.random.default_rng(seed)
        rounds = 0

        def before(first: int, count: int) -> None:
            nonlocal rounds
            counted = through.hits, list(through.misses_ns)
            if self.ttl_ms < HOUR_MS:
                # The other variants' rounds were longer than a TTL. Not just one TTL: all that was
                # asked for at the beginning would go at the moment when the round begins.
                until = time.perf_counter() + rng.uniform(1, 2) * self.ttl_ms / 1e3
                i = first + count + int(rng.integers(1 << 20))
                while time.perf_counter() < until:
                    ask(i)
                    i += 1
            through.hits, through.misses_ns = counted
            rounds += 1
            if rounds == 2:  # what came first was the warm-up
                through.forget()

        return before
