"""Running cases: variants by turns, round by round, on real twins, with their plans looked at.

What makes a run honest is in the order of things here. All variants of a size are set up and warm
before the first round; each round runs every variant once, in an order drawn anew, so that whatever
the machine goes through meets all of them; plans are looked at before and after, outside the
timing; what was finished when a run ends early is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from pglab.bench import machine, measure
from pglab.bench.case import Case, check_sizes
from pglab.bench.faults import as_raised, end_of_run, told
from pglab.bench.ground import SESSION, Ground
from pglab.bench.options import Options, sizes_of
from pglab.bench.progress import Progress
from pglab.bench.results import CaseResult, Result, SizeResult
from pglab.bench.run_servers import Servers
from pglab.bench.size_run import SizeRun
from pglab.errors import (
    BenchError,
    BenchStoppedError,
    DiskFullError,
    PglabError,
    ServerUnreachableError,
)

__all__ = ["case_result", "run"]

_LITTLE: Final = 32 << 20  # two segments of PostgreSQL's log, without room for which it ends


def run(
    cases: Case | Sequence[Case],
    *,
    sizes: Sequence[int] | None = None,
    largest: int | None = None,
    quick: bool = False,
    cold: bool = False,
    options: Options | None = None,
    progress: bool = True,
    on_case: Callable[[Result], object] | None = None,
) -> Result:
    """Measure cases and return what was found.

    Args:
        cases: one, or several.
        sizes: messages; each case's own when omitted.
        largest: leave out the cases' own sizes above this one.
        quick: small sizes, few and short rounds.
        cold: look at first look-ups as well: with warm caches, and with emptied ones.
        options: how to measure.
        progress: show a bar with the time left, where somebody can see it.
        on_case: is given all that was found so far whenever a case has finished a size; not
            before there is anything.

    Returns:
        The result. After Ctrl-C it is what was finished until then, and says so (``stopped``).

    Raises:
        PlanMismatchError: the server chose another plan than the one claimed.
        BenchStoppedError: the run ended early.
        BenchError: a case cannot be run as it is. As with the two above, what was finished is in
            its ``result``; None if nothing was.
        DiskFullError: a size does not fit the disk.
        ServerError: there is no server.
    """
    wanted = (cases,) if isinstance(cases, Case) else tuple(cases)
    if not wanted:
        raise BenchError("there is no case to run; name one, or see: pglab bench list")
    names = [case.name for case in wanted]
    if len(set(names)) < len(set(wanted)):
        twice = next(name for name in names if names.count(name) > 1)
        raise BenchError(f"two cases are named {twice!r}; rename one of them")
    if sizes is not None:
        check_sizes(sizes, whose="run()")
    options = options or (Options.quick() if quick else Options())
    planned = {
        case: tuple(sorted(set(sizes)))
        if sizes is not None
        else sizes_of(case, largest=largest, quick=quick)
        for case in wanted
    }
    servers = Servers()
    try:
        return _Run(servers, planned, options, cold=cold, progress=progress, on_case=on_case).all()
    finally:
        servers.close()


class _Run:
    """The state of a run: what is planned, what is found."""

    def __init__(
        self,
        servers: Servers,
        planned: Mapping[Case, Sequence[int]],
        options: Options,
        *,
        cold: bool,
        progress: bool,
        on_case: Callable[[Result], object] | None,
    ) -> None:
        self.cold = cold
        self.servers = servers
        self.planned = planned
        self.options = options
        self.progress = progress
        self.on_case = on_case
        self.created_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.environment: dict[str, Any] = {}
        self.found: dict[Case, list[SizeResult]] = {case: [] for case in planned}
        self.failed: dict[Case, Exception] = {}
        self.rng = np.random.default_rng(options.seed)

    def all(self) -> Result:
        """Run everything; sizes outermost, so that each is loaded once."""
        steps = [(size, case) for case, sizes in self.planned.items() for size in sizes]
        with Progress(
            [(case.name, size, len(case.variants)) for size, case in steps],
            rounds=self.options.rounds, wanted=self.progress,
        ) as bar:  # fmt: skip
            try:
                for size, group in itertools.groupby(
                    sorted(steps, key=lambda step: step[0]), key=lambda step: step[0]
                ):
                    self._size(size, [case for _, case in group], bar)
            except KeyboardInterrupt:
                return self.result("Ctrl-C ended it; what was finished until then is kept")
            except Exception as error:  # noqa: BLE001 - whatever it was, rounds are kept
                raised = self._ended(error, told(end_of_run(error) or error))
                raise raised from raised.__cause__
        return self._finished()

    def _size(self, size: int, cases: Sequence[Case], bar: Progress) -> None:
        cases = [case for case in cases if case not in self.failed]
        if not cases:
            return
        twins = max(len(case.variants) for case in cases)
        bar.say(f"loading {size:,} messages")
        with Ground.opened(self.servers, size, self.options.seed, twins, progress=False) as ground:
            for case in cases:
                try:
                    with self._kept(case, SizeRun(ground, case, self.options, self.rng, bar)) as at:
                        self._describe(ground)
                        at.measure()
                        if self.cold:
                            at.first_look_ups()
                except Exception as error:  # a case's fault must not end the others
                    if end_of_run(error) is not None:
                        raise
                    self.failed[case] = error
                if self.on_case is not None and any(self.found.values()):
                    self.on_case(self.result("it is still running"))

    def _describe(self, ground: Ground) -> None:
        # Before anything is measured: what is kept of a run that ends early needs it, too.
        known = self.environment
        if not known or (self.servers.redis_used and known["redis"] is None):
            with ground.connect() as connection:
                self.environment = machine.describe(self.servers, connection)

    @contextmanager
    def _kept(self, case: Case, at: SizeRun) -> Iterator[SizeRun]:
        """Keep what was finished, however the block ends."""
        try:
            with at:
                yield at
        finally:
            found = at.result()
            if found.variants:
                self.found[case].append(found)

    def result(self, stopped: str = "") -> Result:
        """Return all that was found so far."""
        return Result(
            created_at=self.created_at,
            environment=self.environment,
            options={
                **asdict(self.options),
                "session": dict(SESSION),
                "own_cost_ns": round(measure.own_cost_ns(), 1),
            },
            cases=tuple(case_result(case, sizes) for case, sizes in self.found.items() if sizes),
            stopped=stopped,
        )

    def _finished(self) -> Result:
        if not self.failed:
            return self.result()
        first = next(iter(self.failed.values()))
        if len(self.planned) == 1:
            raised = self._ended(first, told(first))
            raise raised from raised.__cause__
        why = "; ".join(f"{case.name}: {told(error)}" for case, error in self.failed.items())
        raise self._ended(BenchStoppedError(why), why) from first

    def _ended(self, error: Exception, why: str) -> PglabError:
        free = self.servers.free_bytes()
        if isinstance(end_of_run(error), ServerUnreachableError) and (free or _LITTLE) < _LITTLE:
            why = f"the disk of the PostgreSQL server is full, and {why}; make room first"
            full = DiskFullError(why)
            full.__cause__ = error
            error = full
        return as_raised(error, self.result(why) if any(self.found.values()) else None)


def case_result(case: Case, sizes: Sequence[SizeResult]) -> CaseResult:
    """Return a case's results."""
    return CaseResult(
        name=case.name,
        question=case.question,
        unit=case.unit,
        group=case.group,
        picture=case.picture,
        baseline=case.baseline.name,
        sizes=tuple(sizes),
        rows=case.rows,
        expected=case.expected,
    )
