"""What a cache did: counters to read at any time, and an event for each step."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal, get_args

__all__ = ["STEPS", "Counts", "Event", "Metrics", "Step"]

Step = Literal[
    "hit",  # Redis had it, and it was fresh
    "negative",  # a hit, too: Redis knew that there is no such object
    "stale",  # a hit, too: past its time, served while somebody refreshes it
    "miss",  # Redis did not have it
    "load",  # the loader was asked
    "load_error",  # … and raised
    "coalesced",  # another reader's load was waited for, here or in another process
    "early",  # a fresh entry is loaded anew before its time (XFetch)
    "store",  # a value went into Redis
    "refused",  # … or not: it was invalidated while it was being loaded
    "oversize",  # … or not: it is too large, or cannot be written
    "poisoned",  # what stood under the key was not its entry; it was removed
    "error",  # Redis did not answer, or refused
    "fallthrough",  # the loader was asked because Redis could not be
    "invalidate",  # keys were removed from Redis
    "pending",  # … or are still to be removed, because Redis could not be asked
    "repaired",  # pending invalidations were applied
    "breaker",  # the circuit breaker changed its state
]
STEPS: Final[tuple[Step, ...]] = get_args(Step)


@dataclass(frozen=True, slots=True)
class Event:
    """One step.

    Attributes:
        step: what happened.
        key: its name in Redis; empty where it concerns no single one.
        seconds: what it took, where that is known.
        detail: further words, such as an error's.
    """

    step: Step
    key: str = ""
    seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one moment.

    Each read is exactly one of ``hits``, ``negative``, ``stale``, ``misses`` or ``fallthrough``.

    Attributes:
        hits: reads that a fresh entry answered.
        negative: reads that a remembered absence answered.
        stale: reads that an entry past its time answered, while it was being refreshed.
        misses: reads of what Redis did not have.
        fallthrough: reads that did not get as far, because Redis was not to be asked.
        loads: times that the loader was asked.
        load_errors: times that it raised.
        coalesced: misses and fallthroughs that waited for somebody else's load.
        early: refreshes before the time.
        stores: values that went into Redis.
        refused: values that did not, because they had been invalidated meanwhile.
        oversize: … because they were too large or could not be written.
        poisoned: wrong entries that were found and removed.
        errors: commands that Redis did not answer or refused.
        invalidated: keys that were removed from Redis.
        pending: keys that are still to be removed.
        breaker: ``closed`` (Redis is asked), ``open`` or ``half-open``.
    """

    hits: int = 0
    negative: int = 0
    stale: int = 0
    misses: int = 0
    fallthrough: int = 0
    loads: int = 0
    load_errors: int = 0
    coalesced: int = 0
    early: int = 0
    stores: int = 0
    refused: int = 0
    oversize: int = 0
    poisoned: int = 0
    errors: int = 0
    invalidated: int = 0
    pending: int = 0
    breaker: str = "closed"

    @property
    def reads(self) -> int:
        """All reads."""
        return self.hits + self.negative + self.stale + self.misses + self.fallthrough

    @property
    def hit_ratio(self) -> float:
        """The share of reads that Redis answered, from 0 to 1; 0 before the first."""
        answered = self.hits + self.negative + self.stale
        return answered / self.reads if self.reads else 0.0


class Metrics:
    """Counts steps; many threads may."""

    def __init__(self) -> None:
        # Counted without a lock, because it is in the way of every hit: CPython with its GIL
        # switches threads between lines such as this one's, never within one.
        self.hits = 0
        self._others: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, step: Step, times: int = 1) -> None:
        """Count a step other than a hit."""
        with self._lock:
            self._others[step] += times

    def reset(self) -> None:
        """Begin again at 0."""
        with self._lock:
            self.hits = 0
            self._others.clear()

    def counts(self, *, pending: int, breaker: str) -> Counts:
        """Return the counters as they are now."""
        with self._lock:
            n = self._others.copy()
        return Counts(
            hits=self.hits,
            negative=n["negative"],
            stale=n["stale"],
            misses=n["miss"],
            fallthrough=n["fallthrough"],
            loads=n["load"],
            load_errors=n["load_error"],
            coalesced=n["coalesced"],
            early=n["early"],
            stores=n["store"],
            refused=n["refused"],
            oversize=n["oversize"],
            poisoned=n["poisoned"],
            errors=n["error"],
            invalidated=n["invalidate"],
            pending=pending,
            breaker=breaker,
        )
