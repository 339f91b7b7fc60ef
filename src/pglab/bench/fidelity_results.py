"""What came of holding the harness against pgbench: numbers, limits, and what they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pglab.bench.operations import Meter
from pglab.bench.statistics import Ratio, paired_ratio

__all__ = ["Compared", "Fidelity", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Between what the ratio to pgbench must lie."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"≤ {self.high:g}" if not self.low else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Compared:
    """One of our meters held against pgbench.

    Attributes:
        statement: its name.
        placement: ``one-core`` or ``unpinned``.
        meter: ``libpq`` or ``cursor``.
        limits: between what the ratio must lie.
        operations: in each round, of each of the two.
        pgbench_us, meter_us: median of each round, in µs; place i is the same round.
    """

    statement: str
    placement: str
    meter: Meter
    limits: Limits
    operations: int
    pgbench_us: tuple[float, ...]
    meter_us: tuple[float, ...]

    @property
    def ratio(self) -> Ratio:
        """How many times longer our meter's operations take, with its interval."""
        return paired_ratio(self.meter_us, self.pgbench_us)

    @property
    def passed(self) -> bool:
        """Tell whether the ratio lies within its limits."""
        return self.limits.low <= self.ratio.value <= self.limits.high

    @property
    def verdict(self) -> str:
        """``ok``, ``over`` or ``under``; with a question mark if the interval allows another."""
        ratio = self.ratio
        word = "over" if ratio.value > self.limits.high else "under"
        word = "ok" if self.passed else word
        sure = (
            self.limits.low <= ratio.low and ratio.high <= self.limits.high
            if self.passed
            else ratio.low > self.limits.high or ratio.high < self.limits.low
        )
        return word if sure else f"{word}?"


@dataclass(frozen=True)
class Fidelity:
    """What came of holding the harness against pgbench.

    Attributes:
        size: messages.
        rounds: of each.
        compared: every statement, placement and meter.
        pgbench: its version.
        server: PostgreSQL's version, and how it was reached.
        placements: for each in words where client and server ran.
        own_cost_ns: what the harness's loop takes for an operation, outside of what it times.
        clock_cost_ns: of one reading of the clock; an operation's time holds one.
        environment: the machine, versions and settings, as ``machine.describe`` has them.
        notes: what the reader should know.
        stopped: why it ended early, in words; empty if it did not.
    """

    size: int
    rounds: int
    compared: tuple[Compared, ...]
    pgbench: str
    server: str
    placements: Mapping[str, str]
    own_cost_ns: float
    clock_cost_ns: float
    environment: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    stopped: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether all was measured, and every ratio lies within its limits."""
        return not self.stopped and all(each.passed for each in self.compared)

    def text(self) -> str:
        """Return a table, and a sentence on what it shows."""
        head = (
            "statement",
            "placement",
            "pgbench",
            "meter",
            "µs",
            "ratio",
            "interval",
            "limit",
            "",
        )
        rows = [head]
        for each in self.compared:
            ratio = each.ratio
            rows.append((
                each.statement, each.placement, f"{np.median(each.pgbench_us):,.1f}",
                each.meter, f"{np.median(each.meter_us):,.1f}", f"{ratio.value:.3f}",
                f"{ratio.low:.3f} to {ratio.high:.3f}", str(each.limits), each.verdict,
            ))  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        right = {2, 4, 5}
        lines = [
            "  ".join(
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        title = (
            f"{self.pgbench} -M prepared against our meters: {self.size:,} messages, "
            f"{self.rounds} interleaved rounds, medians in µs; {self.server}"
        )
        cost = (
            f"The harness's own loop takes {self.own_cost_ns:.0f} ns an operation, and reading the "
            f"clock {self.clock_cost_ns:.0f} ns."
        )
        where = [
            words if words.startswith(name) else f"{name}: {words}"
            for name, words in self.placements.items()
        ]
        return "\n".join([title, *where, "", *lines, "", cost, *self.notes, self.finding])

    @property
    def finding(self) -> str:
        """What it shows, in a sentence."""
        if self.stopped:
            return f"NOT passed: {self.stopped}."
        beyond = [each for each in self.compared if not each.passed]
        if not beyond:
            unsure = sum(each.verdict.endswith("?") for each in self.compared)
            rest = f"; of {unsure} the interval reaches beyond (?)" if unsure else ""
            return f"Passed: all {len(self.compared)} ratios lie within their limits{rest}."
        listed = ", ".join(
            f"{each.statement} through {each.meter} ({each.placement}): {each.ratio.value:.3f}, "
            f"not {each.limits}"
            for each in beyond
        )
        return f"NOT passed: {len(beyond)} of {len(self.compared)} ratios are off. {listed}."

    def to_json(self) -> dict[str, Any]:
        """Return everything, every round's medians among it, as JSON has it."""
        return {
            **asdict(self),
            "placements": dict(self.placements),
            "compared": [
                {**asdict(each), "ratio": asdict(each.ratio), "verdict": each.verdict,
                 "passed": each.passed}
                for each in self.compared
            ],
            "passed": self.passed,
            "finding": self.finding,
        }  # fmt: skip
