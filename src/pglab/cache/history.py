"""A checker of what a cache promises: who read and wrote what and when, replayed afterwards.

Every write gives its key the next version, in the database, so that versions are in the order of
the commits. A read is *stale* if it saw an older version than it was promised, *impossible* if it
saw one that nobody had begun to write, and a write is *lost* if it was committed and the database
does not have it. Moments are seconds of ``time.monotonic()``, which all processes of a machine
share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

__all__ = ["History", "Read", "Verdict", "Write", "check"]


@dataclass(frozen=True, slots=True)
class Write:
    """A committed write.

    Attributes:
        key: what was written.
        version: which it then had.
        began: before the transaction.
        acknowledged: when the invalidation after the commit returned.
        applied: what it returned: whether Redis had acknowledged.
        cache: which of several caches it went through.
    """

    key: str
    version: int
    began: float
    acknowledged: float
    applied: bool
    cache: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """A read.

    Attributes:
        key: what was read.
        version: that was seen; None if the read failed.
        began: before the call.
        ended: after it.
        cache: which of several caches it went through.
        error: what was raised; empty if nothing.
    """

    key: str
    version: int | None
    began: float
    ended: float
    cache: int = 0
    error: str = ""


@dataclass
class History:
    """What happened; many threads may append.

    Attributes:
        reads: in no order.
        writes: in no order.
    """

    reads: list[Read] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the replay found.

    Attributes:
        reads: how many there were.
        writes: how many were committed.
        unapplied: of these, whose invalidation Redis did not acknowledge at once.
        errors: reads that failed.
        stale: reads older than promised.
        impossible: reads of a version that nobody had begun to write.
        lost: committed writes that the database does not have.
        late: reads older than the newest acknowledged write, whether or not that was promised.
        latest_s: how long before the read's beginning the first write that it did not see was
            acknowledged, at most.
        examples: the first few that are wrong.
    """

    reads: int
    writes: int
    unapplied: int
    errors: int
    stale: int
    impossible: int
    lost: int
    late: int
    latest_s: float
    examples: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return self.errors == self.stale == self.impossible == self.lost == 0

    def __str__(self) -> str:
        late = f"at most {self.latest_s * 1e3:,.1f} ms"
        lines = [
            f"reads                               {self.reads:>9,}",
            f"  that failed                       {self.errors:>9,}",
            f"  older than promised               {self.stale:>9,}",
            f"  of what nobody had written        {self.impossible:>9,}",
            f"  older than the last acknowledged  {self.late:>9,}   {late}",
            f"writes                              {self.writes:>9,}",
            f"  that PostgreSQL does not have     {self.lost:>9,}",
            f"  while Redis was away              {self.unapplied:>9,}",
            f"promises {'kept' if self.kept else 'BROKEN'}",
        ]
        return "\n".join([*lines, *self.examples])


class _Newest:
    """The highest version up to a moment."""

    def __init__(self, moments: Iterable[tuple[float, int]]) -> None:
        self._moments: list[float] = []
        self._versions: list[int] = []
        highest = 0
        for moment, version in sorted(moments):
            highest = max(highest, version)
            self._moments.append(moment)
            self._versions.append(highest)

    def until(self, moment: float) -> int:
        """Return it; 0 before the first."""
        place = bisect_right(self._moments, moment)
        return self._versions[place - 1] if place else 0


def check(
    history: History,
    stored: Collection[tuple[str, int]],
    *,
    max_age_s: float,
    slack_s: float = 0.0,
) -> Verdict:
    """Replay a history, and count what should not have been.

    Args:
        history: what happened. Versions count from 1; 0 was there before the first write.
        stored: key and version of every write that the database has.
        max_age_s: how old a read through another cache may be while an invalidation is pending,
            seconds (``policy.max_age_s``).
        slack_s: how late any read may be: the longest load that a process without Redis may share,
            seconds.
    """
    began: dict[str, list[tuple[float, int]]] = defaultdict(list)
    acknowledged: dict[str, list[tuple[float, int]]] = defaultdict(list)
    everywhere: dict[str, list[tuple[float, int]]] = defaultdict(list)
    within: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    for write in history.writes:
        began[write.key].append((write.began, write.version))
        acknowledged[write.key].append((write.acknowledged, write.version))
        if not write.applied:
            within[write.key, write.cache].append((write.acknowledged + slack_s, write.version))
        wait_s = slack_s if write.applied else max_age_s
        everywhere[write.key].append((write.acknowledged + wait_s, write.version))
    begun = {key: _Newest(moments) for key, moments in began.items()}
    newest = {key: _Newest(moments) for key, moments in acknowledged.items()}
    due = {key: _Newest(moments) for key, moments in everywhere.items()}
    due_within = {key: _Newest(moments) for key, moments in within.items()}
    nothing = _Newest(())

    stale = impossible = late = errors = 0
    latest_s = 0.0
    examples: list[str] = []
    for read in history.reads:
        if read.version is None:
            errors += 1
            examples.append(f"read of {read.key} failed: {read.error}")
            continue
        promised = max(
            due.get(read.key, nothing).until(read.began),
            due_within.get((read.key, read.cache), nothing).until(read.began),
        )
        if read.version < promised:
            stale += 1
            examples.append(f"{read} should have seen version {promised}")
        if read.version > begun.get(read.key, nothing).until(read.ended):
            impossible += 1
            examples.append(f"{read} saw what nobody had written")
        if read.version < newest.get(read.key, nothing).until(read.began):
            late += 1
            missed = min(m for m, version in acknowledged[read.key] if version > read.version)
            latest_s = max(latest_s, read.began - missed)
    there = set(stored)
    missing = [w for w in history.writes if (w.key, w.version) not in there]
    examples.extend(f"{write} is not in the database" for write in missing)
    return Verdict(
        reads=len(history.reads),
        writes=len(history.writes),
        unapplied=sum(not write.applied for write in history.writes),
        errors=errors,
        stale=stale,
        impossible=impossible,
        lost=len(missing),
        late=late,
        latest_s=latest_s,
        examples=tuple(examples[:5]),
    )
