"""Reading through a cache: asked first, filled from the database when it does not know.

Only what the benchmarks time; what lesson 07 and applications need besides (invalidation, many who
miss at once, a cache that is down) is not here.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, get_type_hints

import msgspec
from cachetools import TTLCache
from psycopg.rows import dict_row

if TYPE_CHECKING:
    import psycopg
    from redis import Redis

__all__ = ["Cache", "Database", "LocalCache", "Read", "ReadThrough", "RedisCache", "Rows"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Read:
    """What an application asks for.

    Attributes:
        sql: with named placeholders.
        row: a dataclass with its columns, as in :mod:`pglab.queries`: JSON has no moments and no
            identifiers, and what is decoded has the types that are written there.
    """

    sql: str
    row: type[Any]

    def encode(self, rows: Rows) -> bytes:
        """Return rows as JSON: moments in ISO 8601, identifiers as text.

        Raises:
            TypeError: a value has no form in JSON.
        """
        return _encode(rows)

    def decode(self, text: bytes) -> Rows:
        """Return the rows that were encoded, equal to what the database returned.

        Raises:
            msgspec.ValidationError: they are not of these types.
        """
        return _decoder(self.row)(text)  # type: ignore[arg-type]  # a class is hashable


_encode: Final = msgspec.json.Encoder().encode


@cache
def _decoder(row: type[Any]) -> Callable[[bytes], Rows]:
    # Rows are dictionaries, as the cursor's; types that are made at run time a checker cannot know.
    columns: Any = TypedDict(row.__name__, get_type_hints(row))  # type: ignore[misc]
    rows: Any = GenericAlias(list, (columns,))
    return msgspec.json.Decoder(rows).decode


class Database:
    """The database alone: a prepared statement, rows as dictionaries of Python's values."""

    def __init__(self, connection: psycopg.Connection[Any], read: Read) -> None:
        self._cursor = connection.cursor(row_factory=dict_row)
        self._sql = read.sql.encode()

    def __call__(self, parameters: Mapping[str, Any]) -> Rows:
        """Ask it."""
        return self._cursor.execute(self._sql, parameters, prepare=True).fetchall()


class Cache(Protocol):
    """Where rows are kept for a while."""

    def get(self, key: str) -> Rows | None:
        """Return what is kept under a key; None if nothing is."""
        ...

    def set(self, key: str, rows: Rows) -> None:
        """Keep rows under a key."""
        ...


class RedisCache:
    """Redis: a round trip and JSON for each reading, shared by all processes.

    Args:
        client: redis-py's.
        read: knows how its rows become text, and rows again.
        ttl_ms: after which a key goes, milliseconds.
    """

    def __init__(self, client: Redis, read: Read, ttl_ms: int) -> None:
        self._client = client
        self._read = read
        self._ttl_ms = ttl_ms

    def get(self, key: str) -> Rows | None:
        """Return what is kept under a key, in objects of the caller's own."""
        found: Any = self._client.get(key)
        return None if found is None else self._read.decode(found)

    def set(self, key: str, rows: Rows) -> None:
        """Keep rows, until the TTL has passed."""
        self._client.set(key, self._read.encode(rows), px=self._ttl_ms)


class LocalCache:
    """A dictionary in this process, bounded in keys and in time; the least recently used go first.

    What it returns are the very objects that were kept, for all to read and nobody to change.

    Args:
        most: keys that it keeps.
        ttl_ms: after which one goes, milliseconds.
    """

    def __init__(self, most: int, ttl_ms: int) -> None:
        self._kept: TTLCache[str, Rows] = TTLCache(most, ttl_ms / 1e3)
        # cachetools' caches are not safe for threads, and a server of requests has several.
        self._lock = threading.Lock()

    def get(self, key: str) -> Rows | None:
        """Return what is kept under a key."""
        with self._lock:
            return self._kept.get(key)

    def set(self, key: str, rows: Rows) -> None:
        """Keep rows, until the TTL has passed or their place is needed."""
        with self._lock:
            self._kept[key] = rows


class ReadThrough:
    """A cache in front of the database, with a count of what it could answer.

    Attributes:
        hits: readings that the cache answered.
        misses_ns: what each of the others took: asking the cache, the database, and storing.
    """

    def __init__(self, cache: Cache, database: Callable[[Mapping[str, Any]], Rows]) -> None:
        self._cache = cache
        self._database = database
        self.hits = 0
        self.misses_ns: list[int] = []

    def __call__(self, key: str, parameters: Mapping[str, Any]) -> Rows:
        """Return the rows, from the cache if it has them."""
        began = time.perf_counter_ns()
        rows = self._cache.get(key)
        if rows is not None:
            self.hits += 1
            return rows
        rows = self._database(parameters)
        self._cache.set(key, rows)
        self.misses_ns.append(time.perf_counter_ns() - began)
        return rows

    def forget(self) -> None:
        """Begin to count anew."""
        self.hits = 0
        self.misses_ns = []

    def measures(self) -> Mapping[str, float]:
        """Return ``hit_ratio`` (0 to 1) and ``miss_us`` (median), as far as anything was asked."""
        found = {}
        if asked := self.hits + len(self.misses_ns):
            found["hit_ratio"] = self.hits / asked
        if self.misses_ns:
            found["miss_us"] = statistics.median(self.misses_ns) / 1e3
        return found
