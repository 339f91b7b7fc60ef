"""Whether the harness measures what pgbench measures: the same statements, by turns.

Both sides get the same statement, server, socket, database, search path, session settings and
distribution of parameters; in every round each has a new connection, whose first operations are
dropped. The plan is fixed to the general one: left alone, PostgreSQL decides after the first five
values whether to plan each time anew, and the two sides draw other values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psycopg
from psycopg.types.numeric import Int8

from pglab.bench import machine, measure
from pglab.bench.faults import as_raised
from pglab.bench.fidelity_results import Compared, Fidelity
from pglab.bench.fidelity_statements import CASE, STATEMENTS, Statement
from pglab.bench.ground import Ground, Place
from pglab.bench.guard import Guard
from pglab.bench.operations import Meter, Query
from pglab.bench.pgbench import Pgbench, find_pgbench, median_us
from pglab.bench.placement import Mode, check_mode, is_here, placed
from pglab.bench.run_servers import Servers
from pglab.bench.size_run import checkpoint
from pglab.errors import BenchError
from pglab.load.progress import bar

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Compared", "Fidelity", "fidelity"]

PLACEMENTS: Final = ("one-core", "two-cores")
SIZE: Final = 30_000
"""Messages. The scan reads 13 MB: at 100,000 messages it reads 44 MB, about what a processor's last
cache holds, and takes 3.4 ms or 18 ms, whatever the other tenants of that cache leave it."""
SESSION: Final = {"plan_cache_mode": "force_generic_plan"}
METERS: Final[tuple[Meter, ...]] = ("libpq", "cursor")

_FEWEST_COUNTED: Final = 10
_FEWEST_DROPPED: Final = 5


def fidelity(
    *,
    size: int = SIZE,
    rounds: int | None = None,
    quick: bool = False,
    placements: Sequence[str] | None = None,
    progress: bool = True,
    seed: int = 22,
    round_seconds: float | None = None,
) -> Fidelity:
    """Hold our meters against pgbench, by turns.

    Args:
        size: messages, at least 10,000.
        rounds: of each; 15, or 7 if quick.
        quick: fewer and shorter rounds.
        placements: where client and server run; one that this system does not allow is noted.
            When omitted, on one core and on two: left to the system they run on one for a while
            and on two for another, and pgbench and our meters not at the same times. Where nothing
            can be placed, it is left to the system after all.
        progress: show a bar.
        seed: of data, parameters and the order in rounds.
        round_seconds: about how long a meter's round lasts; 0.15, or 0.05 if quick.

    Returns:
        What was found. After Ctrl-C it is what was finished until then, and says so.

    Raises:
        BenchError: there is no pgbench, it fails, or no placement is possible.
        PlanMismatchError: a statement's plan is another than meant.
        ServerError: there is no server, or it died.
    """
    if rounds is None:
        rounds = 7 if quick else 15
    if rounds < 2:
        raise BenchError(f"rounds={rounds}; an interval needs at least 2, and 10 say more")
    if size < 10_000:
        raise BenchError(f"size={size}; chats have whole pages from 10,000 messages on")
    modes = [check_mode(name) for name in (PLACEMENTS if placements is None else placements)]
    if "auto" in modes or not modes:
        raise BenchError("name the placements to compare at: one-core, two-cores, unpinned")
    round_s = round_seconds or (0.05 if quick else 0.15)
    servers = Servers()
    try:
        pgbench = Pgbench(find_pgbench(servers.postgres), servers.postgres, SESSION)
        with Ground.opened(servers, size, seed, len(CASE.variants), progress=False) as ground:
            return _Run(ground, pgbench, rounds, round_s, seed).all(
                modes, progress, otherwise="unpinned" if placements is None else None
            )
    except psycopg.Error as error:
        raise as_raised(error, None) from error
    finally:
        servers.close()


class _Run:
    """The state of a run."""

    def __init__(
        self, ground: Ground, pgbench: Pgbench, rounds: int, round_s: float, seed: int
    ) -> None:
        self.ground = ground
        self.pgbench = pgbench
        self.rounds = rounds
        self.round_s = round_s
        self.rng = np.random.default_rng(seed)
        self.watcher: psycopg.Connection[Any]
        self.cores: set[int] = set()

    def all(
        self, modes: Sequence[Mode], progress: bool, *, otherwise: Mode | None = None
    ) -> Fidelity:
        """Compare every statement at every placement; ``otherwise`` where none is possible."""
        found: list[Compared] = []
        where: dict[str, str] = {}
        stopped = ""
        with ExitStack() as stack:
            places = {
                variant.name: stack.enter_context(self.ground.place(CASE, variant))
                for variant in CASE.variants
            }
            self.watcher = stack.enter_context(self.ground.connect())
            why_not = {mode: self._why_not(mode) for mode in modes}
            possible = [mode for mode in modes if not why_not[mode]]
            if not possible and otherwise is not None:
                possible = [otherwise]
            if not possible:
                raise BenchError("; ".join(why_not.values()))
            steps = stack.enter_context(
                bar(len(possible) * len(STATEMENTS) * self.rounds, "fidelity", wanted=progress)
            )
            steps.unit = " rounds"
            checkpoint(self.watcher)
            began = machine.background(self.watcher)
            try:
                for mode in possible:
                    with self._placed(mode) as where[mode]:
                        for statement in STATEMENTS:
                            steps.set_description(f"{statement.name}, {mode}")
                            place = places[statement.variant.name]
                            found += self._compare(statement, place, mode, steps)
            except KeyboardInterrupt:
                stopped = "Ctrl-C ended it; what was finished until then is kept"
            notes = machine.background_notes(began, machine.background(self.watcher))
            described = machine.describe(self.ground.servers, self.watcher)
        postgres = described["postgres"]
        return Fidelity(
            size=self.ground.size,
            rounds=self.rounds,
            compared=tuple(found),
            pgbench=self.pgbench.version(),
            server=f"{postgres['version'].partition(' on ')[0]}, {postgres['connection']}",
            placements=where,
            own_cost_ns=round(measure.own_cost_ns(), 1),
            clock_cost_ns=round(machine.clock_cost_ns(), 1),
            environment=described,
            notes=(*(f"not measured: {why}" for why in why_not.values() if why), *notes),
            stopped=stopped,
        )

    def _compare(
        self, statement: Statement, place: Place, mode: Mode, steps: tqdm[Any]
    ) -> list[Compared]:
        (largest,) = place.connection.execute(statement.largest.encode()).fetchone() or (0,)
        count = self._count(statement, place, largest)
        dropped = max(_FEWEST_DROPPED, count // 10)
        sides: tuple[Meter | None, ...] = (None, *METERS)
        medians: dict[Meter | None, list[float]] = {side: [] for side in sides}
        for number in range(1, self.rounds + 1):
            for turn, index in enumerate(self.rng.permutation(len(sides)), 1):
                side = sides[index]
                if side is None:
                    times = self._pgbench(statement, place, largest, dropped + count)
                    median = median_us(times[dropped:])
                else:
                    with self._opened(statement, side, place, largest, dropped + count) as once:
                        for i in range(dropped):
                            once(i)
                        with measure.quiet():
                            median = measure.timed_round(
                                once, dropped, count, number=number, place=turn
                            ).median_us
                medians[side].append(median)
            steps.update()
        return [
            Compared(
                statement=statement.name, placement=mode, meter=meter,
                limits=statement.limits(meter, mode), operations=count,
                pgbench_us=tuple(medians[None]), meter_us=tuple(medians[meter]),
            )
            for meter in METERS
        ]  # fmt: skip

    def _count(self, statement: Statement, place: Place, largest: int) -> int:
        with self._opened(statement, "libpq", place, largest, 1_024) as once, measure.quiet():
            warm = measure.warm_up(once, 0, batch_s=self.round_s / 4, limit_s=1.0)
        return max(_FEWEST_COUNTED, measure.calibrate(warm.median_s, self.round_s))

    @contextmanager
    def _opened(
        self, statement: Statement, meter: Meter, place: Place, largest: int, draws: int
    ) -> Iterator[Callable[[int], int]]:
        """Yield our operation on a connection of its own; look at its plan afterwards."""
        # As bigint, which the columns are: psycopg gives small numbers another type than large
        # ones, and would prepare the statement once for each.
        numbers = self.rng.integers(1, largest + 1, draws).tolist()
        parameters = [(Int8(number),) for number in numbers]
        with closing(self.ground.connection(place.schema)) as connection:
            for name, value in SESSION.items():
                connection.execute("SELECT set_config(%s, %s, false)", [name, value])
            self._place_backend(connection.info.backend_pid)
            opened = Query(statement.sql, meter).open(
                replace(place, connection=connection), parameters
            )
            yield opened.once
            Guard(
                CASE.name, f"{statement.name} through {meter}", statement.variant.claim, opened,
                list(parameters)).check()  # fmt: skip

    def _pgbench(
        self, statement: Statement, place: Place, largest: int, transactions: int
    ) -> list[int]:
        return self.pgbench.run(
            statement.script(largest),
            transactions,
            database=self.ground.database,
            schema=place.schema,
            table="messages",
            seed=int(self.rng.integers(2**31)),
            watcher=self.watcher,
            # pgbench itself runs where this process does; a child inherits that.
            started=lambda _, backend: self._place_backend(backend),
        )

    @contextmanager
    def _placed(self, mode: Mode) -> Iterator[str]:
        """Place this process and, from now on, the server's processes of new connections."""
        endpoint = self.ground.servers.postgres
        backend = self.watcher.info.backend_pid
        if mode != "unpinned" and (
            endpoint.source == "containers" or not is_here(endpoint.host, endpoint.socket_directory)
        ):
            raise BenchError(
                f"--placement {mode}: the server's processes are not this machine's; "
                "use --placement unpinned"
            )
        with placed(mode, [backend]) as where:
            self.cores = os.sched_getaffinity(backend) if mode != "unpinned" else set()
            yield where

    def _why_not(self, mode: Mode) -> str:
        try:
            with self._placed(mode):
                return ""
        except BenchError as error:
            return str(error)

    def _place_backend(self, pid: int) -> None:
        if self.cores:
            os.sched_setaffinity(pid, self.cores)
