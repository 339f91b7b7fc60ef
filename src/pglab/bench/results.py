"""What a run found: plain records, every round's raw numbers among them.

``pglab.bench.files`` writes and reads them, and documents the format.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pglab.bench.histogram import Histogram
from pglab.bench.statistics import (
    Growth,
    Ratio,
    growth_exponent,
    paired_ratio,
    percentiles,
)
from pglab.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["CaseResult", "PlanRecord", "Result", "Round", "SizeResult", "VariantResult"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Round:
    """One variant's share of one interleaved round.

    Attributes:
        number: of the round, from 1; the other variants' rounds of this number are its neighbours.
        place: in which turn this variant came within the round, from 1.
        seconds: on the clock for all its operations, with the harness's own loop.
        median_us: of one operation, exact.
        rows: that came, or were written.
        latencies: of all operations, in nanoseconds.
    """

    number: int
    place: int
    seconds: float
    median_us: float
    rows: int
    latencies: Histogram

    @property
    def operations(self) -> int:
        """How many operations the round had."""
        return self.latencies.count


@dataclass(frozen=True)
class PlanRecord:
    """The plan that was seen before the timing, and again after.

    Attributes:
        claim: in words; empty if the variant claims none.
        nodes: the plan's nodes, indented, as they were before.
        buffers: pages of 8 kB that one operation touches, cached or not; the median over several
            parameters.
        generic, custom: how often the server planned for any value, and for these values, by its
            own count (``pg_prepared_statements``); None if the statement is not prepared.
    """

    claim: str
    nodes: tuple[str, ...]
    buffers: float
    generic: int | None = None
    custom: int | None = None


@dataclass(frozen=True)
class VariantResult:
    """All that was found about one variant at one size.

    Attributes:
        warm_up_operations: before anything was counted.
        stable: whether the warm-up ended because the medians no longer moved.
        measures: further numbers by name, such as ``hit_ratio`` (0 to 1), ``wal_bytes``,
            ``miss_us``, ``clients``.
        notes: sentences that whoever reads the numbers should know.
    """

    name: str
    theory: str
    about: str
    rounds: tuple[Round, ...]
    plan: PlanRecord | None = None
    warm_up_operations: int = 0
    stable: bool = True
    measures: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    notes: tuple[str, ...] = ()

    @cached_property
    def latencies(self) -> Histogram:
        """All rounds' latencies together, in nanoseconds."""
        return Histogram.of([]).merge(*(each.latencies for each in self.rounds))

    @property
    def medians_us(self) -> list[float]:
        """The median of each round, in µs: what variants are compared by."""
        return [each.median_us for each in self.rounds]

    @property
    def percentiles_us(self) -> Mapping[str, float | None]:
        """p50, p95, p99 and p99.9 in µs; None where there are too few operations for it."""
        return percentiles(self.latencies)

    @property
    def operations_per_second(self) -> float:
        """Operations a second of one client, the harness's own loop included."""
        seconds = sum(each.seconds for each in self.rounds)
        return self.latencies.count / seconds

    @property
    def rows_per_second(self) -> float:
        """Rows a second of one client."""
        return sum(each.rows for each in self.rounds) / sum(each.seconds for each in self.rounds)


@dataclass(frozen=True)
class SizeResult:
    """All variants at one size.

    Attributes:
        size: messages in the table.
        placement: on which cores client and servers ran, in words.
        background: what else happened meanwhile: checkpoints, autovacuum, other clients.
    """

    size: int
    variants: tuple[VariantResult, ...]
    placement: str = ""
    background: tuple[str, ...] = ()

    def variant(self, name: str) -> VariantResult:
        """Return a variant by its name.

        Raises:
            BenchError: there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        raise BenchError(f"there is no variant {name!r} at {self.size:,} messages; use {known}")


@dataclass(frozen=True)
class CaseResult:
    """What came of a case; ``unit``, ``rows``, ``group`` and ``picture`` as in ``Case``."""

    name: str
    question: str
    unit: str
    group: str
    picture: str
    baseline: str
    sizes: tuple[SizeResult, ...]
    rows: str = ""
    expected: str = ""

    def at(self, size: int | None = None) -> SizeResult:
        """Return the results at a size; at the largest if none is given.

        Raises:
            BenchError: this size was not run.
        """
        if not self.sizes:
            raise BenchError(f"{self.name} has no finished size; run it again")
        wanted = max(each.size for each in self.sizes) if size is None else size
        for each in self.sizes:
            if each.size == wanted:
                return each
        known = ", ".join(f"{each.size:,}" for each in self.sizes)
        raise BenchError(f"{self.name} was not run at {wanted:,} messages; use {known}")

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, the baseline first."""
        return tuple(dict.fromkeys(v.name for each in self.sizes for v in each.variants))

    def ratio(self, variant: str, size: int | None = None, *, over: str | None = None) -> Ratio:
        """Return how many times faster a variant is than the baseline, or than ``over``.

        Above 1 the variant is faster. Only rounds that both finished are compared.

        Raises:
            BenchError: no such variant or size, or fewer than two rounds.
        """
        at = self.at(size)
        slow = {each.number: each.median_us for each in at.variant(over or self.baseline).rounds}
        fast = {each.number: each.median_us for each in at.variant(variant).rounds}
        both = sorted(slow.keys() & fast.keys())
        return paired_ratio([slow[n] for n in both], [fast[n] for n in both])

    def buffer_ratio(self, variant: str, size: int | None = None) -> float | None:
        """Return how many times fewer pages a variant touches than the baseline.

        It needs no clock. None where a plan was not recorded, or touches nothing.
        """
        at = self.at(size)
        base, other = at.variant(self.baseline).plan, at.variant(variant).plan
        if base is None or other is None or not other.buffers:
            return None
        return base.buffers / other.buffers

    def growth(self, variant: str, *, since: int = 0) -> Growth:
        """Return the exponent with which a variant's median grows with the size.

        Args:
            variant: its name.
            since: leave out smaller sizes, where fixed costs hide what grows.

        Raises:
            BenchError: fewer than two sizes.
        """
        found = [each for each in self.sizes if each.size >= since]
        return growth_exponent(
            [each.size for each in found], [each.variant(variant).medians_us for each in found]
        )

    def page_growth(self, variant: str) -> float:
        """Return the exponent with which the pages that a variant touches grow with the size.

        They were counted, not timed, so it has no interval.

        Raises:
            BenchError: fewer than two sizes whose plans were recorded.
        """
        points = [
            (each.size, plan.buffers)
            for each in self.sizes
            if (plan := each.variant(variant).plan) is not None and plan.buffers
        ]
        if len(points) < 2:
            raise BenchError(
                f"{variant!r} has the pages of {len(points)} size(s); growth needs two: run it "
                "with more sizes"
            )
        size, pages = zip(*points, strict=True)
        return statistics.linear_regression(
            [math.log(n) for n in size], [math.log(n) for n in pages]
        ).slope


@dataclass(frozen=True, repr=False)
class Result:
    """One run.

    Attributes:
        created_at: ISO 8601, UTC.
        environment: the machine, its kernel, versions, the servers' settings, the commit.
        options: how it was measured: rounds, seconds, placement, seed.
        cases: what was found.
        stopped: why the run ended early, in words; empty if it did not.
    """

    created_at: str
    environment: Mapping[str, Any]
    options: Mapping[str, Any]
    cases: tuple[CaseResult, ...]
    stopped: str = ""

    @property
    def complete(self) -> bool:
        """Tell whether the run came to its end."""
        return not self.stopped

    def case(self, name: str | None = None) -> CaseResult:
        """Return a case's results; without a name, the only one's.

        Raises:
            BenchError: there is none of this name, or several and no name.
        """
        known = ", ".join(each.name for each in self.cases) or "none"
        if name is None:
            if len(self.cases) == 1:
                return self.cases[0]
            raise BenchError(f"name a case; this run has {known}")
        for each in self.cases:
            if each.name == name:
                return each
        raise BenchError(f"there is no case {name!r} in this run; it has {known}")

    def plot(self, name: str | None = None) -> Figure:
        """Draw a case's picture; without a name, the only one's."""
        from pglab.bench import pictures

        return pictures.draw(self.case(name))

    def frame(self) -> pd.DataFrame:
        """Return a table: a row for each case, size and variant."""
        from pglab.bench import tables

        return tables.frame(self.cases)

    def __repr__(self) -> str:
        names = ", ".join(each.name for each in self.cases) or "no case"
        return f"<Result of {self.created_at}: {names}{', stopped early' if self.stopped else ''}>"

    def _repr_html_(self) -> str:
        from pglab.bench import tables

        return tables.html(self)

    def __str__(self) -> str:
        from pglab.bench import tables

        return tables.text(self)


def merged(results: Sequence[Result]) -> Result:
    """Return one result with the cases of several runs of the same machine and options."""
    first = results[0]
    return Result(
        first.created_at,
        first.environment,
        first.options,
        tuple(case for each in results for case in each.cases),
        "; ".join(each.stopped for each in results if each.stopped),
    )
