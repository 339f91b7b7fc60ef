"""Cases under load: several clients without a pause, or a fixed rate whatever the server does.

Nothing is pinned here: several clients on one core would only measure the queue for it. What
limits the load is said with the results, also where it is the harness itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pglab.bench import machine
from pglab.bench.case import Case, Variant, check_sizes
from pglab.bench.clients import check_count, check_seconds
from pglab.bench.closed_loop import closed_loop
from pglab.bench.faults import as_raised, end_of_run, told
from pglab.bench.ground import SESSION, Ground, Place
from pglab.bench.guard import Guard
from pglab.bench.open_loop import open_loop
from pglab.bench.options import Options
from pglab.bench.progress import Progress
from pglab.bench.results import CaseResult, Result, Round, SizeResult, VariantResult
from pglab.bench.run_servers import Servers
from pglab.bench.runner import case_result
from pglab.bench.size_run import SETTLED, checkpoint, parameters_of
from pglab.errors import BenchError

if TYPE_CHECKING:
    from pglab.bench.crew import Once
    from pglab.bench.draw import Drawn
    from pglab.bench.operations import Operation

__all__ = ["DEFAULT_SIZE", "run"]

DEFAULT_SIZE: Final = 100_000
_ROUNDS: Final = 3
_WARM_UP: Final = 0.5  # seconds, at most
_OPEN_LOOP_CLIENTS: Final = 8


def run(
    cases: Case | Sequence[Case],
    *,
    size: int | None = None,
    clients: Sequence[int] = (1, 2, 4, 8),
    rate: float | None = None,
    seconds: float = 3.0,
    options: Options | None = None,
    progress: bool = True,
) -> Result:
    """Run cases under load.

    Args:
        cases: one or several, that only read; each client has a connection of its own.
        size: messages.
        clients: for the closed loop, how many at a time; one after the other, interleaved.
        rate: operations a second; makes it an open loop, with eight clients to serve it.
        seconds: that each load lasts.
        options: seed, warm-up and rounds; at most three rounds are run, as each is long.
        progress: show a bar.

    Returns:
        A result whose variants are named ``variant, 4 clients``; their measures have ``clients``.

    Raises:
        BenchError: a case writes, an argument makes no sense, or an operation raised or found
            nothing. What was finished is in its ``result``; None if nothing was.
        BenchStoppedError: the server went away after a round was finished; so is it here.
        ServerError: there is no server.
    """
    cases = (cases,) if isinstance(cases, Case) else tuple(cases)
    if not cases:
        raise BenchError("there is no case to run; name one, or see: pglab bench list")
    if rate is not None:
        check_seconds("rate", rate)
    elif not clients:
        raise BenchError("clients=(): give numbers of clients, such as (1, 2, 4)")
    for count in clients:
        check_count("clients", count)
    check_seconds("seconds", seconds)
    if size is not None:
        check_sizes([size], whose="run()")
    for case in cases:
        if case.writes:
            raise BenchError(
                f"case {case.name!r} writes, and several clients would write into one another's "
                "rows; run it without --clients and --rate"
            )
    options = options or Options()
    hard = (
        [_Load(_OPEN_LOOP_CLIENTS, rate)]
        if rate is not None
        else [_Load(count, None) for count in clients]
    )
    servers = Servers()
    try:
        return _Run(servers, options, hard, seconds).all(cases, size or DEFAULT_SIZE, progress)
    finally:
        servers.close()


@dataclass(frozen=True)
class _Load:
    """How hard: so many clients, at a rate if there is one."""

    clients: int
    rate: float | None

    def named(self, variant: str) -> str:
        if self.rate is not None:
            return f"{variant}, {self.rate:g}/s"
        return f"{variant}, {self.clients} client{'' if self.clients == 1 else 's'}"


class _Kept:
    """What is known about one variant under one load."""

    def __init__(self, name: str, variant: Variant, load: _Load, plan: Any) -> None:
        self.name = name
        self.variant = variant
        self.load = load
        self.plan = plan
        self.rounds: list[Round] = []
        self.measures: dict[str, float] = {"clients": load.clients}
        self.notes: dict[str, None] = {}

    def measure(
        self, client: Client, number: int, turn: int, *, seconds: float, options: Options
    ) -> None:
        """Run one load; ``turn`` is its place in the round."""
        if self.load.rate is None:
            closed = closed_loop(
                client,
                clients=self.load.clients,
                seconds=seconds,
                warm_up_seconds=min(_WARM_UP, options.warm_up_seconds),
            )
            latencies, rows = closed.latencies, closed.rows
            # So that operations a second are those of all clients together.
            elapsed = closed.operations / closed.operations_per_second
            self.notes.update(dict.fromkeys(closed.notes))
            if not self.rounds:
                self.notes[f"clients are {closed.mode}: {closed.reason}"] = None
        else:
            opened = open_loop(
                client, rate=self.load.rate, seconds=seconds, clients=self.load.clients,
                seed=options.seed + number,
            )  # fmt: skip
            latencies, rows, elapsed = opened.response, opened.rows, opened.elapsed_seconds
            self.measures |= {
                "rate": self.load.rate,
                "achieved_rate": opened.achieved_rate,
                "service_p50_us": opened.service.percentile(50) / 1e3,
                "service_p99_us": opened.service.percentile(99) / 1e3,
            }
            said = [
                "times are response times, from the intended starts",
                opened.latency_summary,
                opened.behind,
                opened.limit,
            ]
            self.notes.update(dict.fromkeys(note for note in said if note))
        if not latencies.count:
            raise BenchError(
                f"{self.name!r}: no operation ended in {seconds:g} s; give more --seconds, or find "
                "out what it waits for"
            )
        if not rows and not all(client.parameters.absent or [False]):
            raise BenchError(
                f"{self.name!r}: {latencies.count} operations found no rows; what is looked up "
                "must be there: correct the statement or Draw.query"
            )
        self.rounds.append(
            Round(number, turn, elapsed, latencies.percentile(50) / 1e3, rows, latencies)
        )

    def result(self) -> VariantResult:
        """Return what was found."""
        return VariantResult(
            name=self.name,
            theory="",
            about=self.variant.about,
            rounds=tuple(self.rounds),
            plan=self.plan,
            measures=self.measures,
            notes=tuple(self.notes),
        )


class _Run:
    """What is found as the run goes on."""

    def __init__(
        self, servers: Servers, options: Options, loads: Sequence[_Load], seconds: float
    ) -> None:
        self.servers = servers
        self.options = options
        self.loads = loads
        self.seconds = seconds
        self.rounds = min(options.rounds, _ROUNDS)
        self.created_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.environment: dict[str, Any] = {}
        self.found: list[CaseResult] = []

    def all(self, cases: Sequence[Case], size: int, progress: bool) -> Result:
        """Run every case."""
        twins = max(len(case.variants) for case in cases)
        steps = [(case.name, size, len(case.variants) * len(self.loads)) for case in cases]
        try:
            with (
                Progress(steps, rounds=self.rounds, wanted=progress) as bar,
                Ground.opened(self.servers, size, self.options.seed, twins, progress=False) as here,
            ):
                with here.connect() as connection:
                    self.environment = machine.describe(self.servers, connection)
                for case in cases:
                    self._case(here, case, bar)
                with here.connect() as connection:  # Redis may have come into use
                    self.environment = machine.describe(self.servers, connection)
        except KeyboardInterrupt:
            return self.result("Ctrl-C ended it; what was finished until then is kept")
        except Exception as error:  # noqa: BLE001 - whatever it was, rounds are kept
            why = told(end_of_run(error) or error)
            raised = as_raised(error, self.result(why) if self.found else None)
            raise raised from raised.__cause__
        return self.result()

    def result(self, stopped: str = "") -> Result:
        """Return all that was found so far."""
        options = {
            **asdict(self.options),
            "rounds": self.rounds,
            "placement": "unpinned",
            "seconds": self.seconds,
            "session": dict(SESSION),
        }
        return Result(self.created_at, self.environment, options, tuple(self.found), stopped)

    def _case(self, ground: Ground, case: Case, bar: Progress) -> None:
        rng = np.random.default_rng(self.options.seed)
        kept: list[tuple[_Kept, Client]] = []
        try:
            with ExitStack() as stack:
                places = [
                    stack.enter_context(ground.place(case, variant)) for variant in case.variants
                ]
                with ground.connect() as watcher:
                    checkpoint(watcher)
                drawn = parameters_of(case, places[0], self.options)
                for variant, place in zip(case.variants, places, strict=True):
                    kept += self._opened(ground, case, variant, place, drawn, stack=stack)
                for number in range(1, self.rounds + 1):
                    for turn, index in enumerate(rng.permutation(len(kept)), 1):
                        keep, client = kept[index]
                        bar.say(f"{case.name}: {keep.name}")
                        keep.measure(
                            client, number, turn, seconds=self.seconds, options=self.options
                        )
                    bar.round(case.name, ground.size)
        finally:
            finished = tuple(each.result() for each, _ in kept if each.rounds)
            if finished:
                at = SizeResult(ground.size, finished, "unpinned, several clients")
                self.found.append(case_result(case, [at]))

    def _opened(
        self,
        ground: Ground,
        case: Case,
        variant: Variant,
        place: Place,
        drawn: Drawn,
        *,
        stack: ExitStack,
    ) -> list[tuple[_Kept, Client]]:
        """Look at a variant's plan; return it with its client once for each load."""
        try:
            opened = variant.operation.open(place, drawn)
            if opened.after is not None:
                stack.callback(opened.after)
            for i in range(SETTLED):
                opened.once(i)
        except Exception as error:
            if isinstance(error, BenchError) or end_of_run(error) is not None:
                raise
            raise BenchError(
                f"case {case.name!r}: {variant.name!r} cannot be run: {told(error)}"
            ) from error
        if opened.before is not None:
            raise BenchError(
                f"case {case.name!r}: something is done before each round of "
                f"{variant.name!r}, and a load has no rounds between which to do it; run it "
                "without --clients and --rate"
            )
        plan = Guard(case.name, variant.name, variant.claim, opened, list(drawn)).check()
        client = Client(
            ground.servers.token, ground.size, ground.seed, place.schema, place.prefix,
            variant.operation, drawn,
        )  # fmt: skip
        return [
            (_Kept(load.named(variant.name), variant, load, plan), client) for load in self.loads
        ]


@dataclass(frozen=True)
class Client:
    """What opens one client, in a thread or in another process; it carries no password.

    A process finds the running server by itself, as a notebook's kernel does.
    """

    token: str
    size: int
    seed: int
    schema: str
    prefix: str
    operation: Operation
    parameters: Drawn

    @contextmanager
    def __call__(self, number: int) -> Iterator[Once]:
        """Open client ``number``'s connection and yield its operation."""
        servers = Servers(token=self.token)
        try:
            ground = Ground(servers, self.size, self.seed)
            with ground.connect(self.schema) as connection:
                place = Place(connection, self.schema, self.size, self.seed, self.prefix, ground)
                opened = self.operation.open(place, self.parameters)
                # Each client begins elsewhere in the same parameters.
                first = number * len(self.parameters) // 7
                try:
                    yield lambda i: opened.once(first + i)
                finally:
                    if opened.after is not None:
                        opened.after()
                    place.release()
        finally:
            servers.release()
