"""What each node of a plan cost by itself.

PostgreSQL counts time and pages of a node together with those of the nodes that it called. A
node's own share is the difference; three things make this more than a subtraction:

- Below Gather several processes work at the same time. Their pages add up; of their time, the mean
  is taken, which is what passed on the clock.
- An InitPlan or a CTE is listed below the node that owns it, but runs inside the node that first
  asks for its rows, so it is taken off that node.
- A CTE that writes and that nobody reads runs after all others, inside none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Buffers", "Cost", "costs"]

Raw = Mapping[str, Any]

# Clocks are read at different moments, so a part may seem a little longer than the whole.
_SLACK_SHARE, _SLACK_MS = 0.1, 0.05


@dataclass(frozen=True)
class Buffers:
    """Pages of 8 kB that were used; those of temporary tables are counted like any others.

    Attributes:
        hit: found in shared_buffers.
        read: asked of the operating system, which may have them in its cache.
        dirtied: changed here for the first time since they were last written.
        written: written out to make room.
        temp_read, temp_written: of temporary files, as a sort on disk makes them.
    """

    hit: int = 0
    read: int = 0
    dirtied: int = 0
    written: int = 0
    temp_read: int = 0
    temp_written: int = 0

    @classmethod
    def from_json(cls, raw: Raw) -> Buffers:
        """Read the counters of a node, of planning or of serialization; missing ones are 0."""

        def both(what: str) -> int:
            return int(raw.get(f"Shared {what} Blocks", 0)) + int(
                raw.get(f"Local {what} Blocks", 0)
            )

        return cls(
            both("Hit"),
            both("Read"),
            both("Dirtied"),
            both("Written"),
            int(raw.get("Temp Read Blocks", 0)),
            int(raw.get("Temp Written Blocks", 0)),
        )

    @property
    def touched(self) -> int:
        """Pages of tables and indexes, wherever they were found: the measure that repeats."""
        return self.hit + self.read

    @property
    def temp(self) -> int:
        """Pages of temporary files, read and written."""
        return self.temp_read + self.temp_written

    def covers(self, other: Buffers) -> bool:
        """Tell whether the other can be a part of this."""
        return all(getattr(self, f.name) >= getattr(other, f.name) for f in fields(self))

    def __add__(self, other: Buffers) -> Buffers:
        return Buffers(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Buffers) -> Buffers:
        # Never below 0: a page is counted where it was asked for, if by a node that was just ended.
        return Buffers(
            *(max(0, getattr(self, f.name) - getattr(other, f.name)) for f in fields(self))
        )


@dataclass(frozen=True)
class Cost:
    """Time on the clock in milliseconds, and pages."""

    ms: float = 0.0
    buffers: Buffers = Buffers()

    def covers(self, other: Cost) -> bool:
        """Tell whether the other can be a part of this."""
        enough_time = self.ms * (1 + _SLACK_SHARE) + _SLACK_MS >= other.ms
        return enough_time and self.buffers.covers(other.buffers)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.ms + other.ms, self.buffers + other.buffers)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(max(0.0, self.ms - other.ms), self.buffers - other.buffers)


def costs(root: Raw) -> dict[int, tuple[Cost, Cost]]:
    """Return for ``id(node)`` of each raw node its cost with all below it, and its own."""
    total = dict(_totals(root, processes=1.0))
    own = {
        id(node): total[id(node)] - sum((total[id(c)] for c in _inputs(node)), Cost())
        for node in walk(root)
    }
    for owner in walk(root):
        for plan in owner.get("Plans", ()):
            if plan.get("Parent Relationship") == "InitPlan":
                _take_off(plan, owner, root, total[id(plan)], own)
    return {key: (total[key], own[key]) for key in total}


def walk(node: Raw) -> Iterator[Raw]:
    """Yield a raw node and all below it, in the order in which PostgreSQL lists them."""
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def _inputs(node: Raw) -> list[Raw]:
    return [c for c in node.get("Plans", ()) if c.get("Parent Relationship") != "InitPlan"]


def _totals(node: Raw, processes: float) -> Iterator[tuple[int, Cost]]:
    loops = node.get("Actual Loops", 0)
    ms = node.get("Actual Total Time", 0.0) * loops / processes
    yield id(node), Cost(ms, Buffers.from_json(node))
    for child in node.get("Plans", ()):
        among = processes
        is_input = child.get("Parent Relationship") == "Outer"
        if node["Node Type"] in {"Gather", "Gather Merge"} and is_input:
            # One loop for each process that took part, the leader among them if it did.
            among = max(1.0, processes * child.get("Actual Loops", 0) / max(loops, 1))
        yield from _totals(child, among)


def _take_off(plan: Raw, owner: Raw, root: Raw, cost: Cost, own: dict[int, Cost]) -> None:
    """Take the cost of an InitPlan or CTE off the nodes that ran it."""
    name = plan.get("Subplan Name", "")
    if name.startswith("CTE "):
        readers = [n for n in walk(root) if n.get("CTE Name") == name.removeprefix("CTE ")]
        readers = [n for n in readers if n["Node Type"] == "CTE Scan"]
        for reader in sorted(readers, key=lambda n: -own[id(n)].ms):
            before = own[id(reader)]
            own[id(reader)] = before - cost
            cost = cost - before
        return
    inside = {id(node) for node in walk(plan)}
    others = [node for node in walk(root) if id(node) not in inside]
    below = [node for node in walk(owner) if id(node) not in inside]
    # Who names its result in a condition; or else, as in a SELECT list that is not shown, whoever
    # can have had the time and the pages.
    for node in [*(n for n in others if _mentions(n, name)), *below]:
        if node.get("Actual Loops") and own[id(node)].covers(cost):
            own[id(node)] = own[id(node)] - cost
            return


def _mentions(node: Raw, name: str) -> bool:
    # "InitPlan 1" is written (InitPlan 1).col1 since version 17, and $0 before, where its name is
    # "InitPlan 1 (returns $0)".
    marks = re.findall(r"\$\d+", name)
    pattern = "|".join(rf"\{mark}(?!\d)" for mark in marks) or rf"\({re.escape(name)}\)\."
    texts = [
        value for key, value in node.items() if isinstance(value, str) and key != "Subplan Name"
    ]
    texts += [
        part
        for value in node.values()
        if isinstance(value, list)
        for part in value
        if isinstance(part, str)
    ]
    return any(re.search(pattern, text) for text in texts)
