"""Watching a Redis (or Valkey): INFO, SLOWLOG, and which keys take the memory."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as LateError

from pglab.errors import ConfigError, ServerUnreachableError
from pglab.monitor.measure import Finding, Measure, Reading, Row
from pglab.monitor.units import count, duration, percent, size

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["REDIS_MEASURES", "look_at_redis", "pattern_of"]

_SLOW_SHOWN: Final = 20
_KEYS: Final = 2_000
_SECONDS: Final = 0.25
_PAGE: Final = 200

# What tells keys of one kind apart: a UUID, a JID's number, any run of digits, long hexadecimal.
_VARIABLE: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}|\d+", re.IGNORECASE
)


def pattern_of(key: bytes | str) -> str:
    r"""Return the kind of a key: what varies from key to key becomes a star.

    ``session:0b5c…-…:7`` and ``session:77aa…-…:12`` are both ``session:*:*``. Bytes that are not
    UTF-8 show as ``\x…``.
    """
    text = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
    return _VARIABLE.sub("*", text)


def look_at_redis(client: Redis, name: str) -> Reading:
    """Ask one measure of a Redis.

    Args:
        client: any redis-py client; one that decodes answers does as well.
        name: of ``REDIS_MEASURES``: "redis_info", "redis_slowlog", "redis_memory".

    Raises:
        ConfigError: there is no such measure.
        ServerUnreachableError: it does not answer.
    """
    if name not in REDIS_MEASURES:
        raise ConfigError(f"no measure is called {name!r}; choose of: {', '.join(REDIS_MEASURES)}")
    measure, question = REDIS_MEASURES[name], _QUESTIONS[name]
    now = datetime.now(UTC)
    began = time.perf_counter()
    try:
        rows = tuple(question(client))
    except NoPermissionError as error:
        needs = f"{error}; an administrator says: ACL SETUSER {_user(client)} {_RIGHTS[name]}"
        return Reading(measure=measure, skipped=needs, at=now)
    except ResponseError as error:
        return Reading(measure=measure, skipped=str(error), at=now)
    except (LostError, LateError) as error:
        raise ServerUnreachableError(f"Redis does not answer ({error})") from error
    took_ms = 1000 * (time.perf_counter() - began)
    return Reading(measure=measure, rows=rows, took_ms=took_ms, at=now)


def _user(client: Redis) -> str:
    """Return who asks, as ACL SETUSER names him."""
    try:
        name = client.acl_whoami()
    except RedisError:  # everybody may ask, unless that was taken from him, too
        name = client.connection_pool.connection_kwargs.get("username") or "default"
    return _text(name)


def _info(client: Redis) -> list[dict[str, Any]]:
    said: dict[str, Any] = client.info("everything")
    hits, misses = said.get("keyspace_hits", 0), said.get("keyspace_misses", 0)
    databases = [value for key, value in said.items() if re.fullmatch(r"db\d+", key)]
    return [
        {
            "version": said.get("valkey_version") or said.get("redis_version"),
            "up_s": float(said["uptime_in_seconds"]),
            "role": said.get("role"),
            "clients": said["connected_clients"],
            "blocked_clients": said["blocked_clients"],
            "rejected_connections": said["rejected_connections"],
            "commands": said["total_commands_processed"],
            "commands_per_s": float(said["instantaneous_ops_per_sec"]),
            "keys": sum(each["keys"] for each in databases),
            "keys_that_expire": sum(each["expires"] for each in databases),
            "hits": hits,
            "misses": misses,
            "hit_ratio": hits / (hits + misses) if hits + misses else None,
            "memory_bytes": said["used_memory"],
            "max_memory_bytes": said.get("maxmemory", 0) or None,
            "policy": said.get("maxmemory_policy"),
            "resident_bytes": said["used_memory_rss"],
            "evicted": said["evicted_keys"],
            "expired": said["expired_keys"],
            "unsaved_changes": said.get("rdb_changes_since_last_save"),
            "last_save_ok": said.get("rdb_last_bgsave_status") == "ok",
            "appends_to_file": bool(said.get("aof_enabled")),
        }
    ]


def _judge_info(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        memory, most = row["memory_bytes"], row["max_memory_bytes"]
        if most is None:
            found.append(
                Finding(
                    "note",
                    f"no limit for memory ({size(memory)} now): it grows until the system ends it",
                    "CONFIG SET maxmemory, and a maxmemory-policy such as allkeys-lru",
                )
            )
        elif memory >= 0.9 * most:
            found.append(
                Finding(
                    "fault" if row["policy"] == "noeviction" else "warning",
                    f"{percent(memory, most)} of maxmemory are used ({row['policy']})",
                    "see redis_memory for what takes it",
                )
            )
        if row["evicted"]:
            found.append(
                Finding(
                    "note",
                    f"{count(row['evicted'], 'key')} gave way to others since the start",
                    "what must not vanish belongs elsewhere",
                )
            )
        if row["rejected_connections"]:
            found.append(
                Finding(
                    "warning",
                    f"{count(row['rejected_connections'], 'connection')} refused (maxclients)",
                    "use a pool; look for clients that never close",
                )
            )
        if not row["last_save_ok"]:
            found.append(Finding("fault", "the last save to disk failed", "look into its log"))
    return found


def _slowlog(client: Redis) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = client.slowlog_get(_SLOW_SHOWN)
    return [
        {
            "at": datetime.fromtimestamp(entry["start_time"], UTC),
            "took_ms": entry["duration"] / 1000,
            "command": _command(entry["command"]),
            "client": _text(entry.get("client_address", "")),
        }
        for entry in entries
    ]


def _command(words: bytes | str | list[Any]) -> str:
    """Return a command and its first argument; values may be secret, and are left out."""
    text = _text(b" ".join(map(_bytes, words))) if isinstance(words, list) else _text(words)
    parts = text.split(" ")
    if parts[0].upper() in {"AUTH", "HELLO", "ACL", "CONFIG", "MIGRATE"}:
        return f"{parts[0]} …"
    return " ".join(parts[:2])[:100] + (" …" if len(parts) > 2 else "")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _judge_slowlog(rows: Sequence[Row]) -> list[Finding]:
    if not rows:
        return []
    worst = max(rows, key=lambda row: row["took_ms"])
    return [
        Finding(
            "note",
            f"the slowest of the last {count(len(rows), 'slow command')} took "
            f"{duration(worst['took_ms'] / 1000)}: {worst['command']}; all others waited for it",
            "one thread runs all commands: no KEYS, no large ranges; SCAN in their place",
        )
    ]


def _memory(client: Redis) -> list[dict[str, Any]]:
    """Walk over keys in the order of their hashes, which is as good as drawing them by lot."""
    total: int = client.dbsize()
    seen: dict[tuple[str, str], list[tuple[int, bool]]] = defaultdict(list)
    looked = 0
    cursor = 0
    end = time.monotonic() + _SECONDS
    while True:
        cursor, keys = client.scan(cursor, count=_PAGE)
        # One page, one way there and back.
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.memory_usage(key, samples=5)
            pipeline.ttl(key)
            pipeline.type(key)
        answers = pipeline.execute()
        for place, key in enumerate(keys):
            taken, lives_s, kind = answers[3 * place : 3 * place + 3]
            if taken is not None:  # it expired on the way
                seen[pattern_of(key), _text(kind)].append((taken, lives_s < 0))
                looked += 1
        if cursor == 0 or looked >= _KEYS or time.monotonic() > end:
            break
    grown = total / looked if looked and cursor != 0 else 1.0
    rows: list[dict[str, Any]] = [
        {
            "pattern": pattern,
            "type": kind,
            "keys_seen": len(each),
            "estimated_keys": round(len(each) * grown),
            "mean_bytes": sum(taken for taken, _ in each) / len(each),
            "estimated_bytes": round(sum(taken for taken, _ in each) * grown),
            "without_ttl": sum(forever for _, forever in each) / len(each),
            "sampled_share": 1 / grown,
        }
        for (pattern, kind), each in seen.items()
    ]
    return sorted(rows, key=lambda row: (-row["estimated_bytes"], row["pattern"]))[:50]


def _judge_memory(rows: Sequence[Row]) -> list[Finding]:
    if not rows:
        return []
    every = sum(row["estimated_bytes"] for row in rows)
    first = rows[0]
    found = [
        Finding(
            "note",
            f"keys like {first['pattern']} take {percent(first['estimated_bytes'], every)} of the "
            f"memory of all keys: {count(first['estimated_keys'], 'key')}, "
            f"{size(first['mean_bytes'])} each",
        )
    ]
    found += [
        Finding(
            "note",
            f"{percent(row['without_ttl'], 1)} of the keys like {row['pattern']} never expire",
            "a cache entry without a TTL stays for ever: SET … EX",
        )
        for row in rows
        if row["without_ttl"] >= 0.5 and row["estimated_keys"] >= 1_000
    ]
    return found


# What each question needs, as ACL SETUSER takes it. Memory is asked of each key that is found.
_RIGHTS: Final = {
    "redis_info": "+info",
    "redis_slowlog": "+slowlog|get",
    "redis_memory": "+dbsize +scan +memory|usage +ttl +type %R~*",
}

_QUESTIONS: Final[dict[str, Callable[[Any], list[dict[str, Any]]]]] = {
    "redis_info": _info,
    "redis_slowlog": _slowlog,
    "redis_memory": _memory,
}

REDIS_MEASURES: Final = {
    measure.name: measure
    for measure in (
        Measure(
            name="redis_info",
            title="Redis",
            question="How much does it hold, how well does it serve, and is it at a limit?",
            variants=(),
            columns={
                "version": "of Redis or Valkey",
                "up_s": "seconds since its start",
                "role": "master or slave",
                "clients": "connections",
                "blocked_clients": "waiting in BLPOP and the like",
                "rejected_connections": "beyond maxclients, since the start",
                "commands": "since the start",
                "commands_per_s": "just now",
                "keys": "in all its databases",
                "keys_that_expire": "of them with a TTL",
                "hits": "look-ups that found a key",
                "misses": "look-ups that did not",
                "hit_ratio": "0 to 1; of all look-ups by whomever, not of your cache's",
                "memory_bytes": "used",
                "max_memory_bytes": "maxmemory; NULL: no limit",
                "policy": "what goes when it is reached",
                "resident_bytes": "as the system sees it, with fragmentation",
                "evicted": "keys that gave way, since the start",
                "expired": "keys whose time was over, since the start",
                "unsaved_changes": "since the last save to disk",
                "last_save_ok": "false: a save failed",
                "appends_to_file": "appendonly yes",
            },
            rule="no maxmemory, or 90 % of it used; evictions; refused connections; a failed save",
            judge=_judge_info,
            scope="server",
            counters=("commands", "hits", "misses", "evicted", "expired"),
        ),
        Measure(
            name="redis_slowlog",
            title="Slow commands in Redis",
            question="Which commands held up all others?",
            variants=(),
            columns={
                "at": "when",
                "took_ms": "in the server, without the way there",
                "command": "with its first argument only: values may be secret",
                "client": "whose",
            },
            rule="names the slowest of the last 20",
            judge=_judge_slowlog,
            scope="server",
        ),
        Measure(
            name="redis_memory",
            title="Memory by kind of key",
            question="Which kinds of keys take the memory, and which of them never expire?",
            variants=(),
            columns={
                "pattern": "the key with a star for what varies",
                "type": "string, hash, list, …",
                "keys_seen": "in the sample",
                "estimated_keys": "in the whole database",
                "mean_bytes": "of one, with its overhead",
                "estimated_bytes": "of all of them",
                "without_ttl": "of them, 0 to 1",
                "sampled_share": "of all keys that were looked at, 0 to 1",
            },
            rule="names the largest; 1,000 keys of a kind, half of which never expire",
            judge=_judge_memory,
            slow=True,
        ),
    )
}
