"""A stampede: many readers, in several processes, of one key that has just expired."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pglab.cache.experiments.readers import address_of, most_at_once
from pglab.cache.keys import KeySpace
from pglab.errors import LabError

if TYPE_CHECKING:
    from redis import Redis

    from pglab.cache.policy import Protection

__all__ = ["stampede_of_processes"]

# Far above what a command takes, even if all readers want the processor: Redis is not the subject.
_TIMEOUT_S = 10.0


def stampede_of_processes(
    redis: Redis,
    *,
    processes: int = 8,
    threads: int = 4,
    load_s: float = 0.1,
    protections: Sequence[Protection] = ("none", "lock"),
    prefix: str = "stampede-processes",
) -> list[dict[str, Any]]:
    """Let processes, with some threads each, read one key that has just expired.

    Args:
        redis: where the entry is; each process makes a client of its own to the same server.
        processes: how many.
        threads: of each.
        load_s: what a load takes, seconds; the loader only waits.
        protections: of :class:`pglab.cache.CacheAside`, tried one after another. XFetch
            (``early``) does not help here: it works before the end of an entry.
        prefix: of the keys.

    Returns:
        ``protection``, ``processes``, ``readers``, ``loads``, ``at once`` (loads in flight at one
        moment, at most), ``load ms`` (the longest), ``median wait ms``, ``longest wait ms``.

    Raises:
        LabError: a process ended without an answer.
    """
    rows = []
    for protection in protections:
        order = {
            "redis": address_of(redis), "prefix": prefix, "protection": protection,
            "threads": threads, "load_s": load_s, "timeout_s": _TIMEOUT_S,
        }  # fmt: skip
        answers = _ask_processes(processes, order, redis, KeySpace(protection, prefix=prefix))
        spans = [(began, ended) for answer in answers for began, ended in answer["spans"]]
        waits = sorted(wait for answer in answers for wait in answer["waits_s"])
        readers = processes * threads
        rows.append(
            {"protection": protection, "processes": processes, "readers": readers}
            | _row(spans, waits)
        )
    return rows


def _row(spans: Sequence[tuple[float, float]], waits: Sequence[float]) -> dict[str, Any]:
    return {
        "loads": len(spans),
        "at once": most_at_once(spans),
        "load ms": round(max(ended - began for began, ended in spans) * 1e3, 1),
        "median wait ms": round(statistics.median(waits) * 1e3, 1),
        "longest wait ms": round(max(waits) * 1e3, 1),
    }


def _ask_processes(
    count: int, order: dict[str, Any], redis: Redis, keys: KeySpace
) -> list[dict[str, Any]]:
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "pglab.cache.experiments.stampede_reader"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    try:
        for child in children:
            _say(child, json.dumps(order))
        for child in children:
            _hear(child)  # it is ready
        redis.delete(keys.name("hot"))  # the same as its expiry, for those who come now
        for child in children:
            _say(child, "go")
        return [json.loads(_hear(child)) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _say(child: subprocess.Popen[str], words: str) -> None:
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    try:
        child.stdin.write(f"{words}\n")
        child.stdin.flush()
    except BrokenPipeError:  # its silence is noticed, and named, when it is listened to
        return


def _hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    line = child.stdout.readline()
    if not line:
        raise LabError(
            f"a reader's process ended with {child.wait(10)} and no answer; its words are above"
        )
    return line
