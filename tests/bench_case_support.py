"""Small cases, and operations that tell what was done with them or meddle with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psycopg
import pytest
from servers.faults import wait_until
from support.outside import Outside, open_directory

from pglab.bench import Case, Claim, Draw, Options, Query, Variant
from pglab.bench.ground import Ground, Place
from pglab.bench.operations import Opened
from pglab.bench.progress import Progress
from pglab.bench.results import SizeResult
from pglab.bench.run_servers import Servers
from pglab.bench.size_run import SizeRun
from pglab.config import Settings
from pglab.servers import lifecycle

SIZE = 1_000
QUICK = Options(rounds=2, round_seconds=0.005, warm_up_seconds=0.05, placement="unpinned")
BY_ID = "SELECT id, body FROM messages WHERE id = %(id)s"
IDS = Draw("SELECT id FROM messages ORDER BY id", count=32)
INDEX = ("CREATE INDEX look_up ON messages (id)",)
INDEXED = Claim(index="look_up")


def a_case(*variants: Variant, name: str = "small", **more: Any) -> Case:
    """A case; by default the look-up of a message with and without an index."""
    given = {"question": "Does it help?", "parameters": IDS, "sizes": (SIZE,), **more}
    return Case(name=name, variants=variants or (plain(), indexed()), **given)


def plain(operation: Any = None, **more: Any) -> Variant:
    """The baseline: a table without an index."""
    given = {"claim": Claim(scan=("Seq Scan",)), "theory": "O(n)", **more}
    return Variant("plain", operation or Query(BY_ID), **given)


def indexed(operation: Any = None, **more: Any) -> Variant:
    """The look-up by an index."""
    given = {"setup": INDEX, "claim": INDEXED, **more}
    return Variant("indexed", operation or Query(BY_ID), **given)


@dataclass
class Noted:
    """An operation of no work that writes down its numbers, for all variants in one log."""

    name: str
    log: list[tuple[str, int]]
    rows: int = 1
    given: list[Any] = field(default_factory=list)

    def open(self, place: Place, parameters: Sequence[Any]) -> Opened:
        self.given.append(list(parameters))
        return Opened(self.once)

    def once(self, i: int) -> int:
        self.log.append((self.name, i))
        return self.rows


@dataclass
class Meddled:
    """A query before whose round ``at`` (0 is the warm-up) something happens.

    The case must have ``operations``.
    """

    happens: Callable[[Place], object]
    at: int = 2
    sql: str = BY_ID

    def open(self, place: Place, parameters: Sequence[Any]) -> Opened:
        rounds = itertools.count()

        def before(first: int, count: int) -> None:
            if next(rounds) == self.at:
                self.happens(place)

        return replace(Query(self.sql).open(place, parameters), before=before)


def someone_else(sql: str) -> Callable[[Place], object]:
    """Something that happens: another connection does this to the variant's tables."""

    def happens(place: Place) -> None:
        with place._ground.connect(place.schema) as connection:
            connection.execute(sql.encode())

    return happens


def raising(error: BaseException) -> Callable[[Place], object]:
    """Something that happens: an error."""

    def happens(place: Place) -> None:
        raise error

    return happens


@contextmanager
def a_ground(size: int = SIZE) -> Iterator[Ground]:
    """Rows for many cases, that each need not load its own."""
    servers = Servers()
    try:
        with Ground.opened(servers, size, 22, 2, progress=False) as ground:
            yield ground
    finally:
        servers.close()


def size_run(ground: Ground, case: Case, options: Options = QUICK) -> SizeRun:
    """A case at the ground's size, not yet begun."""
    bar = Progress(
        [(case.name, ground.size, len(case.variants))], rounds=options.rounds, wanted=False
    )
    return SizeRun(ground, case, options, np.random.default_rng(options.seed), bar)


def measured(ground: Ground, case: Case, options: Options = QUICK) -> SizeResult:
    """Measure a case at the ground's size."""
    with size_run(ground, case, options) as at:
        at.measure()
    return at.result()


def scratch_databases(url: str) -> list[str]:
    """Return the names of the databases that benchmarks have on a server at this moment."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datname ~ '^pglab_.*bench_[0-9a-f]{8}_[0-9]+$' "
            "OR datname LIKE 'pglab\\_building\\_%' ORDER BY 1"
        )
        return [row[0] for row in rows]


@contextmanager
def servers_in_memory() -> Iterator[str]:
    """Give servers of one's own, in memory where that can be: databases come and go quickly.

    PGLAB_HOME says where they are meanwhile. Yields the URL of a superuser.
    """
    with open_directory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGLAB_HOME", str(place / "lab"))
        patch.setenv("PGLAB_IDLE_MINUTES", "2")
        kernels = Outside(place / "lab")
        servers = Servers()
        url = servers.postgres.url(reveal=True)
        try:
            yield url
        finally:
            servers.close()
            # PostgreSQL that is told to end while it recovers from a crash may wait for 30 s.
            with suppress(AssertionError):
                wait_until("it recovers", lambda: _answers(url), timeout_s=10)
            for unit in lifecycle.units(Settings.from_environment()):
                lifecycle.stop(unit)
            kernels.clear()


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(url).close()
        return True
    return False
