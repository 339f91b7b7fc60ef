"""Closed and open loops on a real PostgreSQL server, one that stalls among them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import psutil
import psycopg
import pytest
from bench_load_support import asks

from pglab.bench.closed_loop import closed_loop
from pglab.bench.open_loop import open_loop
from pglab.errors import BenchError

pytestmark = pytest.mark.server

BOTH = pytest.mark.parametrize("mode", ["threads", "processes"])
STALL_SECONDS = 1.0
WAIT = 60.0


class Stall:
    """Stops one backend for a second, soon after the test has opened it; it always goes on."""

    def __init__(self) -> None:
        self.happened = threading.Event()
        self._thread: threading.Thread | None = None

    def opened(self, pid: int) -> None:
        """Be told the backend of a connection that the test itself opened."""
        backend = psutil.Process(pid)
        assert "postgres" in backend.name()
        self._thread = threading.Thread(target=self._stop_and_go_on, args=(backend,))
        self._thread.start()

    def _stop_and_go_on(self, backend: psutil.Process) -> None:
        time.sleep(0.7)
        # The connection may have been closed meanwhile; psutil refuses another process's signal.
        with suppress(psutil.NoSuchProcess):
            try:
                backend.suspend()
                self.happened.set()
                time.sleep(STALL_SECONDS)
            finally:
                backend.resume()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(WAIT)


@pytest.fixture
def stall() -> Iterator[Stall]:
    stall = Stall()
    yield stall
    stall.join()


@BOTH
def test_a_closed_loop_asks_the_server_as_often_as_it_says(database, mode):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE asked")
        found = closed_loop(
            partial(asks, conninfo=database, query="SELECT nextval('asked'), 'row' FROM "
                    "generate_series(1, 1) UNION ALL SELECT 0, 'another'"),
            clients=2, seconds=0.5, warm_up_seconds=0, mode=mode,
        )  # fmt: skip
        (last,) = connection.execute("SELECT last_value FROM asked").fetchone()
    assert found.mode == mode
    assert found.operations == last > 2
    assert found.rows == 2 * found.operations
    assert found.latencies.count == found.operations
    assert found.latencies.percentile(50) > 0
    assert found.operations_per_second > 0
    assert all(0 < each.cpu_share <= 1.1 for each in found.clients)
    assert found.idle_share is None or 0 <= found.idle_share <= 1


def test_auto_decides_for_a_real_statement(database):
    found = closed_loop(partial(asks, conninfo=database, query="SELECT 1"), clients=2, seconds=0.3)
    assert found.mode in {"threads", "processes"}
    assert "a client alone computes for" in found.reason
    assert found.rows == found.operations > 0


def test_an_open_loop_on_a_server_that_keeps_up(database):
    factory = partial(asks, conninfo=database, query="SELECT 1")
    found = open_loop(factory, rate=50, seconds=2, clients=2)
    assert (found.scheduled, found.finished, found.rows) == (100, 100, 100)
    assert (found.missed, found.unfinished) == (0, 0)


@BOTH
def test_a_connection_that_is_lost_ends_the_load(database, mode):
    factory = partial(asks, conninfo=f"{database} application_name=load", query="SELECT 1")
    stop = threading.Event()

    def end_them() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not stop.wait(0.1):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                    "datname = current_database() AND application_name = 'load' "
                    "AND query = 'SELECT 1'"
                )

    thread = threading.Thread(target=end_them)
    thread.start()
    try:
        with pytest.raises(BenchError, match=r"client \d failed at operation [\d,]+: ") as caught:
            closed_loop(factory, clients=2, seconds=10 * WAIT, warm_up_seconds=0, mode=mode)
    finally:
        stop.set()
        thread.join(WAIT)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


@BOTH
def test_a_server_that_nobody_is_at_ends_the_load(tmp_path, mode):
    factory = partial(asks, conninfo=f"host={tmp_path} password=hunter2", query="SELECT 1")
    with pytest.raises(BenchError, match="could not be opened: OperationalError") as caught:
        closed_loop(factory, clients=2, seconds=10 * WAIT, mode=mode)
    notes = getattr(caught.value.__cause__, "__notes__", [])
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {notes}"


def test_an_open_loop_sees_a_stall_that_a_service_time_hides(database, stall):
    """Coordinated omission: the backend stands still for one second of four.

    Of 400 operations about 100 should have begun meanwhile. One was on its way: it alone has the
    second in its service time, and one in 400 is none of p99's affair.
    """
    factory = partial(asks, conninfo=database, query="SELECT 1", opened=stall.opened)
    found = open_loop(factory, rate=100, seconds=4, clients=1)
    assert stall.happened.is_set()
    assert found.missed == found.unfinished == 0
    assert found.response.percentile(99) > 500e6
    assert found.service.percentile(99) < 250e6
    assert found.service.max > 900e6  # the one that was on its way
    assert (found.response_ns > 250e6).sum() > 30
    assert 1 <= (found.service_ns > 250e6).sum() < 4
    assert "operations began more than 1 ms late" in found.behind


def test_a_closed_loop_hides_the_same_stall(database, stall):
    factory = partial(asks, conninfo=database, query="SELECT 1", opened=stall.opened)
    found = closed_loop(factory, clients=1, seconds=4, warm_up_seconds=0)
    assert stall.happened.is_set()
    assert found.operations > 400
    assert found.latencies.max > 900e6
    assert found.latencies.percentile(99) < 250e6
    assert 1 <= (found.latencies_ns > 250e6).sum() < 4
