"""One case at one size: its twins, the warm-up, interleaved rounds, and plans before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg

from pglab.bench import machine, measure
from pglab.bench.draw import Drawn, draw
from pglab.bench.faults import end_of_run, one_line
from pglab.bench.guard import Guard
from pglab.bench.operations import Query, positional
from pglab.bench.placement import drawn_cores, is_here, is_postgres, placed
from pglab.bench.results import SizeResult, VariantResult
from pglab.bench.temperature import FirstLookUps, first_look_ups
from pglab.bench.watch import check_unchanged, fingerprint
from pglab.errors import BenchError, BenchStoppedError

if TYPE_CHECKING:
    import numpy as np

    from pglab.bench.case import Case, Variant
    from pglab.bench.ground import Ground, Place
    from pglab.bench.operations import Opened
    from pglab.bench.options import Options
    from pglab.bench.progress import Progress
    from pglab.bench.results import PlanRecord, Round

__all__ = ["SETTLED", "SizeRun", "checkpoint", "parameters_of"]

SETTLED: Final = 12
"""Executions after which the plan is settled: psycopg prepares a statement at its sixth (at the
first if asked to), and PostgreSQL makes five plans for given values before it weighs a general
one."""


@dataclass
class _Running:
    """A variant that is being measured."""

    variant: Variant
    place: Place
    opened: Opened
    guard: Guard
    before: Mapping[str, Sequence[Any]]
    plan: PlanRecord | None = None
    warm: measure.WarmUp | None = None
    count: int = 1
    following: int = 0
    rounds: list[Round] = field(default_factory=list)
    refused: bool = False
    checked: bool = False
    first: FirstLookUps | None = None

    def result(self) -> VariantResult:
        notes: list[str] = []
        measures: dict[str, float] = {}
        if self.opened.measures is not None:
            try:
                measures.update(self.opened.measures())
            except Exception as error:  # noqa: BLE001 - the server may be gone; rounds are kept
                notes.append(f"what it counted is lost: {one_line(error)}")
        if not self.checked:
            notes.append("the run ended before its plan and tables were looked at once more")
        warm = self.warm or measure.WarmUp(0, 0.0, stable=False)
        if not warm.stable:
            notes.append("its times still moved when the warm-up ended: give it more --warm-up")
        if self.first is not None:
            notes += self.first.notes
            measures.update(self.first.measures())
        return VariantResult(
            name=self.variant.name,
            theory=self.variant.theory,
            about=self.variant.about,
            rounds=tuple(self.rounds),
            plan=self.plan,
            warm_up_operations=warm.operations,
            stable=warm.stable,
            measures=measures,
            notes=tuple(notes),
        )


class SizeRun:
    """A case at a size; as a context manager it makes the twins, and removes them.

    Args:
        ground: of the size.
        case: what is compared.
        options: how to measure.
        rng: for the order of variants within each round.
        bar: is told what is being done.
    """

    def __init__(
        self, ground: Ground, case: Case, options: Options, rng: np.random.Generator, bar: Progress
    ) -> None:
        self._ground = ground
        self._case = case
        self._options = options
        self._rng = rng
        # Of its own, so that the order of variants does not depend on the placement.
        self._core_rng = rng.spawn(1)[0]
        self._bar = bar
        self._stack = ExitStack()
        self._variants: list[_Running] = []
        self._parameters = Drawn([], [], 0)
        self._redis_run: str | None = None
        self._placement = ""
        self._background: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            places = []
            for variant in self._case.variants:
                self._say(f"making {variant.name}")
                places.append(stack.enter_context(self._ground.place(self._case, variant)))
            self._watcher = stack.enter_context(self._ground.connect())
            checkpoint(self._watcher)
            self._shared = fingerprint(self._watcher, "public")
            self._parameters = parameters_of(self._case, places[0], self._options)
            for variant, place in zip(self._case.variants, places, strict=True):
                self._variants.append(self._open(variant, place, stack))
            # Only now, that an error above leaves nothing behind.
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # What operations count must be asked for while they are still open.
            self._found = SizeResult(
                self._ground.size,
                tuple(each.result() for each in self._variants if each.rounds and not each.refused),
                self._placement,
                self._background,
            )
        finally:
            self._stack.close()

    def result(self) -> SizeResult:
        """Return what was finished, once the block has ended."""
        return getattr(self, "_found", SizeResult(self._ground.size, ()))

    def measure(self) -> None:
        """Warm up, look at the plans, run the rounds, look again.

        Raises:
            PlanMismatchError: a plan is not the one claimed.
            BenchStoppedError: an operation raised.
            BenchError: an operation finds nothing, or somebody changed a table.
            psycopg.OperationalError: the server went away.
        """
        with placed(self._options.placement, self._server_pids()) as self._placement:
            began = machine.background(self._watcher)
            self._check_redis()
            try:
                with measure.quiet():
                    self._say("warming up")
                    for running in self._variants:
                        with _naming(running, "the warm-up"):
                            self._warm(running)
                        running.plan = running.guard.check()
                    for number in range(1, self._options.rounds + 1):
                        self._round(number)
                        self._bar.round(self._case.name, self._ground.size)
            except BenchError:
                # Rows that are not found may have been there, and a table, until just now.
                for running in self._variants:
                    with suppress(psycopg.Error):
                        self._check_tables(running)
                self._check_redis()
                raise
            self._background = machine.background_notes(began, machine.background(self._watcher))
        self._check_again()

    def first_look_ups(self) -> None:
        """Measure first operations on new connections, with caches full and emptied."""
        if self._case.writes:
            return
        for running in self._variants:
            self._say(f"first look-ups, {running.variant.name}")
            running.first = first_look_ups(
                self._ground, running.place, running.variant.operation, self._parameters
            )

    def _say(self, what: str) -> None:
        self._bar.say(f"{self._case.name} at {self._ground.size:,}: {what}")

    def _open(self, variant: Variant, place: Place, stack: ExitStack) -> _Running:
        try:
            opened = variant.operation.open(place, self._parameters)
        except psycopg.Error as error:
            if end_of_run(error) is not None:
                raise
            raise BenchError(
                f"case {self._case.name!r}: {variant.name!r} cannot be prepared: {one_line(error)}"
            ) from error
        if opened.after is not None:
            stack.callback(opened.after)
        if opened.before is not None and self._case.operations is None:
            raise BenchError(
                f"case {self._case.name!r}: something is done before each round of "
                f"{variant.name!r}, so it must be known for how many operations; "
                "give the case operations=…"
            )
        guard = Guard(
            self._case.name, variant.name, variant.claim, opened, list(self._parameters),
        )  # fmt: skip
        return _Running(variant, place, opened, guard, fingerprint(self._watcher, place.schema))

    def _warm(self, running: _Running) -> None:
        once, options = running.opened.once, self._options
        if self._case.operations is not None:
            # An operation that is a whole load, say: one round of them is warm-up enough.
            running.count = self._case.operations
            if running.opened.before is not None:
                running.opened.before(0, running.count)
            warm = measure.warm_up(once, 0, batch_s=0.0, limit_s=0.0, fewest=running.count)
            # Their number is the case's, and more of them nobody can ask for.
            running.warm = replace(warm, stable=True)
        else:
            running.warm = measure.warm_up(
                once, 0, batch_s=options.round_seconds / 4, limit_s=options.warm_up_seconds,
                fewest=SETTLED if running.opened.statement else 1,
            )  # fmt: skip
            running.count = measure.calibrate(running.warm.median_s, options.round_seconds)
        running.following = running.warm.operations

    def _round(self, number: int) -> None:
        pids = self._server_pids() if self._placement.startswith("unpinned") else []
        with drawn_cores(pids, self._core_rng):
            for turn, index in enumerate(self._rng.permutation(len(self._variants)), 1):
                running = self._variants[index]
                first, count = running.following, running.count
                with _naming(running, f"round {number}"):
                    if running.opened.before is not None:
                        running.opened.before(first, count)
                    found = measure.timed_round(
                        running.opened.once, first, count, number=number, place=turn,
                        misses=(
                            None if self._case.writes else self._parameters.misses(first, count)
                        ),
                    )  # fmt: skip
                running.rounds.append(found)
                running.following += count
        self._check_redis(number)

    def _check_again(self) -> None:
        """Look at every variant's plan and tables once more; drop what does not stand."""
        errors = []
        for running in self._variants:
            try:
                running.plan = running.guard.check(running.plan)
                self._check_tables(running)
                running.checked = True
            except BenchError as error:
                running.refused = True
                errors.append(error)
        if errors:
            raise errors[0]

    def _check_redis(self, number: int = 0) -> None:
        """Notice that Redis was restarted, after which clients go on with an empty cache."""
        run = self._ground.servers.redis_run()
        if self._redis_run not in {None, run}:
            for running in self._variants:
                running.rounds = [each for each in running.rounds if each.number != number]
            raise BenchStoppedError(
                "Redis was restarted during the run, and what it held is lost; run it again"
            )
        self._redis_run = run

    def _check_tables(self, running: _Running) -> None:
        if self._case.writes:
            return
        own = fingerprint(self._watcher, running.place.schema)
        shared = fingerprint(self._watcher, "public")
        try:
            check_unchanged(running.before, own, whose=f"of the variant {running.variant.name!r}")
            check_unchanged(self._shared, shared, whose="that all variants read")
        except BenchError:
            running.refused = True
            raise

    def _server_pids(self) -> list[int]:
        servers = self._ground.servers
        endpoint = servers.postgres
        redis_pid = servers.redis_pid()
        # A server of which only one half could be placed would not be where the results say.
        if servers.redis_used and redis_pid is None:
            return []
        if endpoint.source == "containers" or not is_here(endpoint.host, endpoint.socket_directory):
            return []
        connections = [one for each in self._variants for one in each.place.connections]
        pids = {connection.info.backend_pid for connection in connections}
        # A server of the learner's own may be in a container: its numbers mean other processes.
        if not endpoint.managed and not all(map(is_postgres, pids)):
            return []
        return sorted(pids | ({redis_pid} if redis_pid else set()))


@contextmanager
def _naming(running: _Running, when: str) -> Iterator[None]:
    """Say whose operation raised, and when."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        raise BenchStoppedError(
            f"the operation of {running.variant.name!r} raised {type(error).__name__} in {when}: "
            f"{one_line(error)}"
        ) from error


def parameters_of(case: Case, place: Place, options: Options) -> Drawn:
    """Return what a case's operations are asked with, drawn from a place's tables."""
    operation = case.baseline.operation
    names = isinstance(operation, Query) and any(positional(operation.sql)[1])
    try:
        return draw(
            place.connection, case.parameters, names=names, seed=options.seed, size=place.size
        )
    except psycopg.Error as error:
        if end_of_run(error) is not None:
            raise
        raise BenchError(
            f"the parameters of case {case.name!r} cannot be drawn: {one_line(error)}; correct "
            "Draw.query or Draw.absent"
        ) from error


def checkpoint(connection: psycopg.Connection[Any]) -> None:
    """Write out what the set-up changed, lest the server do it in the middle of a round."""
    # Who may not is told afterwards of one that came in the middle.
    with suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("CHECKPOINT")
