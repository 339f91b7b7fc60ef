"""Closed and open loops on plain functions: they start together, count right, and always end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from bench_load_support import (
    UnportableError,
    computes,
    dies,
    fails,
    fails_strangely,
    fails_to_close,
    fails_to_open,
    fails_twice,
    fails_unsendably,
    hangs,
    meets,
    tells_what_is_seen,
    waits,
)
from scipy import stats

from pglab.bench.clients import harness_limit, wait_until
from pglab.bench.closed_loop import closed_loop
from pglab.bench.open_loop import intended_starts, open_loop
from pglab.errors import BenchError

BOTH = pytest.mark.parametrize("mode", ["threads", "processes"])
LONG = 120.0  # seconds that no run here may last: far more than any does, far less than a hang
QUICK = {"seconds": 0.2, "warm_up_seconds": 0.05}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever happened, no client is left, and the garbage collector is as it was."""
    yield
    assert clients_left() == []
    assert gc.isenabled()


def clients_left() -> list[str]:
    threads = [each.name for each in threading.enumerate() if "pglab-client" in each.name]
    return threads + [each.name for each in multiprocessing.active_children()]


class Hanging:
    """One client's operation that hangs in this process until the test lets it go."""

    def __init__(self, at: int) -> None:
        self.release = threading.Event()
        self.at = at

    @contextmanager
    def __call__(self, number: int):
        def once(i: int) -> int:
            if i == self.at:
                self.release.wait()
            time.sleep(0.001)
            return 1

        yield once

    def let_go(self) -> None:
        """Let it go, and wait until its thread is gone."""
        self.release.set()
        for thread in threading.enumerate():
            if "pglab-client" in thread.name:
                thread.join(LONG)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging(at=3)
    yield hanging
    hanging.let_go()


# Closed loop.


@BOTH
def test_counts_add_up(mode):
    found = closed_loop(waits, clients=3, mode=mode, **QUICK)
    assert found.mode == mode
    assert [each.rows for each in found.clients] == [
        each.operations * (number + 1) for number, each in enumerate(found.clients)
    ]
    assert found.operations == sum(each.operations for each in found.clients)
    assert found.operations == len(found.latencies_ns) == found.latencies.count
    assert found.rows == sum(each.rows for each in found.clients)
    assert found.latencies_ns.dtype == np.int64
    assert found.latencies_ns.min() >= 1_000_000  # each slept for 1 ms
    assert all(each.finished and each.operations > 0 for each in found.clients)
    # A client that sleeps 1 ms each time cannot do more than 1,000 a second.
    assert 0 < found.operations_per_second <= 3 * 1_000
    assert found.unfinished == 0


@BOTH
def test_the_time_of_operations_fills_the_time_of_clients(mode):
    found = closed_loop(waits, clients=2, mode=mode, **QUICK)
    for each in found.clients:
        assert each.seconds >= QUICK["seconds"] * 0.5
        assert each.latencies_ns.sum() / 1e9 <= each.seconds


def test_the_warm_up_is_done_and_not_counted():
    seen: list[int] = []

    @contextmanager
    def notes(number: int):
        yield lambda i: seen.append(i) or time.sleep(0.001) or 1

    warm = closed_loop(notes, clients=1, seconds=0.1, warm_up_seconds=0.1)
    assert seen == list(range(len(seen)))  # the numbers go on
    assert 0 < warm.operations == warm.rows < len(seen)
    seen.clear()
    cold = closed_loop(notes, clients=1, seconds=0.1, warm_up_seconds=0)
    assert cold.operations == len(seen)


@BOTH
def test_all_clients_work_at_the_same_time(mode, tmp_path):
    found = closed_loop(
        partial(meets, folder=tmp_path, clients=4), clients=4, mode=mode, warm_up_seconds=0,
        seconds=0.01, grace_seconds=LONG,
    )  # fmt: skip
    assert found.operations >= 4
    assert found.unfinished == 0


def test_an_operation_longer_than_the_run_is_still_measured():
    found = closed_loop(partial(waits, seconds=0.2), clients=1, seconds=0.01, warm_up_seconds=0)
    assert found.operations == 1
    assert found.latencies_ns[0] >= 200_000_000


@BOTH
@pytest.mark.parametrize(
    ("factory", "words", "cause"),
    [
        (fails, "client 1 failed at operation 20: ValueError: boom", ValueError),
        (fails_to_open, "client 1 could not be opened: ConnectionRefusedError", OSError),
        (fails_to_close, "client 1 could not be closed: OSError: cannot close", OSError),
        (fails_twice, "failed at operation 0: ValueError: the operation's", ValueError),
    ],
)
def test_an_error_of_one_client_ends_all(mode, factory, words, cause):
    seconds = 0.1 if factory is fails_to_close else 10 * LONG
    began = time.monotonic()
    with pytest.raises(BenchError, match=words) as caught:
        closed_loop(factory, clients=3, seconds=seconds, warm_up_seconds=0, mode=mode)
    assert time.monotonic() - began < LONG
    assert isinstance(caught.value.__cause__, cause)
    assert clients_left() == []
    if mode == "processes":
        assert "Traceback" in "".join(caught.value.__cause__.__notes__)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (
            partial(fails, kind=UnportableError, arguments=("one", "two")),
            "UnportableError: one two",
        ),
        (fails_unsendably, "ValueError: boom"),
        (fails_strangely, "StrangeError: boom"),
    ],
)
def test_an_error_that_cannot_be_sent_is_told_in_words(factory, words):
    with pytest.raises(BenchError, match=rf"at operation \d+: RuntimeError: {words}") as caught:
        closed_loop(factory, clients=2, seconds=10 * LONG, warm_up_seconds=0, mode="processes")
    assert "Traceback" in "".join(caught.value.__cause__.__notes__)


SCRIPT = """
from contextlib import contextmanager
from pglab.bench.closed_loop import closed_loop

@contextmanager
def own(number):
    yield lambda i: 1

GUARD
    try:
        print(closed_loop(own, clients=2, seconds=0.1, mode="processes").mode)
    except Exception as error:
        print(error)
        raise SystemExit(1)
"""


def script(folder: Path, guard: str) -> str:
    """Run a script with a factory of its own; return what it printed, its clients as well."""
    path = folder / "script.py"
    path.write_text(SCRIPT.replace("GUARD", guard))
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=LONG
    ).stdout


def test_a_script_can_have_a_factory_of_its_own(tmp_path):
    assert script(tmp_path, 'if __name__ == "__main__":') == "processes\n"


def test_a_script_that_forgets_its_guard_is_told_of_it(tmp_path):
    said = script(tmp_path, "if True:")
    hint = 'a script has to start a load below if __name__ == "__main__":'
    assert f"a client tried to start the load that it is of; {hint}" in said
    assert f"ended before it was open ({hint})" in said


def test_a_process_that_dies_ends_all():
    with pytest.raises(BenchError, match=r"client 1 ended without a word: .*exit code 3"):
        closed_loop(dies, clients=2, seconds=10 * LONG, mode="processes")


def test_clients_that_never_open_are_not_waited_for_ever(monkeypatch):
    monkeypatch.setattr("pglab.bench.clients._READY_SECONDS", 0.2)
    release = threading.Event()

    @contextmanager
    def opens_late(number: int):
        if number == 1:
            release.wait()
        yield lambda i: 1

    try:
        with pytest.raises(BenchError, match="client 1 was not open after 0 s; use fewer clients"):
            closed_loop(opens_late, clients=2, seconds=1, mode="threads")
    finally:
        release.set()
        for thread in threading.enumerate():
            if "pglab-client" in thread.name:
                thread.join(LONG)


def test_clients_that_the_system_cannot_start(monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BenchError, match=r"not all of 2 clients can be started.*; use fewer"):
        closed_loop(waits, clients=2, seconds=1, mode="threads")


def test_without_psutil_nobody_tells_what_was_idle(monkeypatch):
    assert closed_loop(waits, clients=1, **QUICK).idle_share is not None
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert closed_loop(waits, clients=1, **QUICK).idle_share is None


def test_threads_that_hang_are_left(hanging):
    began = time.monotonic()
    found = closed_loop(
        hanging, clients=1, seconds=0.1, warm_up_seconds=0, grace_seconds=0.1, mode="threads"
    )
    assert time.monotonic() - began < LONG
    assert (found.unfinished, found.operations, found.rows) == (1, 3, 3)
    assert not found.clients[0].finished
    assert found.clients[0].cpu_share is None
    assert "1 operations had not ended" in found.notes[-1]


def test_processes_that_hang_are_killed_and_what_they_had_is_kept():
    began = time.monotonic()
    found = closed_loop(
        hangs, clients=2, seconds=0.1, warm_up_seconds=0, grace_seconds=0.1, mode="processes"
    )
    assert time.monotonic() - began < LONG
    assert [each.finished for each in found.clients] == [False, True]
    assert found.clients[0].operations == 3
    assert clients_left() == []


def test_a_run_in_which_nothing_ends_is_an_error(hanging):
    hanging.at = 0
    with pytest.raises(BenchError, match=r"no operation ended within 0\.2 s"):
        closed_loop(
            hanging, clients=1, seconds=0.1, warm_up_seconds=0, grace_seconds=0.1, mode="threads"
        )


def test_nothing_that_a_process_is_given_is_in_its_command_line():
    factory = partial(tells_what_is_seen, secret="correct horse")
    found = closed_loop(factory, clients=2, mode="processes", **QUICK)
    assert found.operations > 0
    assert found.rows == 0


def test_the_garbage_collector_is_off_in_threads():
    factory = partial(tells_what_is_seen, secret="correct horse")
    assert closed_loop(factory, clients=2, mode="threads", **QUICK).rows == 0


# Which clients.


def test_auto_takes_threads_where_operations_wait():
    found = closed_loop(partial(waits, seconds=0.02), clients=2, **QUICK)
    assert found.mode == "threads"
    assert "they mostly wait" in found.reason


def test_auto_takes_processes_where_threads_would_wait_for_one_another():
    # Six, so that it is clear even if this machine's cores are busy with something else.
    found = closed_loop(computes, clients=6, **QUICK)
    assert found.mode == "processes"
    assert "as threads they would wait" in found.reason


def test_auto_takes_a_thread_for_one_client():
    assert closed_loop(computes, clients=1, **QUICK).mode == "threads"


def test_a_factory_that_no_other_process_can_import():
    secret = "correct horse"
    with pytest.raises(BenchError, match="at the top of a module") as caught:
        closed_loop(partial(lambda number, _: waits(number), _=secret), clients=2, seconds=1,
                    mode="processes")  # fmt: skip
    assert secret not in f"{caught.value} {caught.value.__cause__}"


def test_auto_does_with_threads_what_processes_cannot_import():
    found = closed_loop(lambda number, **_: computes(number), clients=6, **QUICK)
    assert found.mode == "threads"
    assert "processes would be better" in found.reason


NOTEBOOK = """
from contextlib import contextmanager
from pglab.bench.closed_loop import closed_loop

@contextmanager
def mine(number):
    yield lambda i: 1

try:
    closed_loop(mine, clients=2, seconds=0.1, mode="processes")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_factory_of_a_notebook_gets_an_error_that_says_so():
    # As a notebook's kernel has it: __main__ has no file that another process could import.
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, timeout=LONG
    )
    assert done.stdout.startswith("BenchError the factory was defined in a notebook")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("mode", "shares", "idle", "words"),
    [
        ("threads", [0.5, 0.45], 0.5, "its 2 threads computed for 95%"),
        ("threads", [0.93], 0.5, "client 0 computed for 93%"),
        ("processes", [0.3, 0.97], 0.5, "client 1 computed for 97%"),
        ("processes", [0.8] * (os.cpu_count() or 1), 0.02, "cores were busy, for 82%"),
        ("processes", [0.1], 0.0, None),  # busy, but not with the clients
        ("processes", [0.8, 0.8], None, None),
        ("threads", [0.4, 0.4], 0.5, None),
    ],
)
def test_when_the_harness_is_the_limit(mode, shares, idle, words):
    said = harness_limit(mode, shares, idle)
    assert (said is None) if words is None else (words in said)


# Ended from outside.

ENDLESS = """
    import signal
    import time
    from contextlib import contextmanager
    from pathlib import Path
    from pglab.bench.closed_loop import closed_loop

    HERE = Path(__file__).parent

    @contextmanager
    def hangs(number):
        def once(i):
            (HERE / f"at-work-{number}").touch()
            time.sleep(1_000)
        yield once

    if __name__ == "__main__":
        # A shell lets what it starts in the background ignore Ctrl-C; here it counts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        closed_loop(hangs, clients=2, seconds=1_000, mode="MODE")
    elif "WHEN" == "importing":
        for number in range(2):
            (HERE / f"importing-{number}").touch()
        time.sleep(5)
"""


@contextmanager
def a_run(folder: Path, mode: str, when: str = "at-work") -> Iterator[subprocess.Popen[str]]:
    """Start a load as a terminal does, where Ctrl-C reaches a whole group; wait for its clients."""
    path = folder / "endless.py"
    path.write_text(textwrap.dedent(ENDLESS).replace("MODE", mode).replace("WHEN", when))
    with subprocess.Popen(
        [sys.executable, str(path)], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            until = time.monotonic() + LONG
            while len(list(folder.glob(f"{when}-*"))) < 2:
                assert time.monotonic() < until, "the clients never came so far"
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("when", ["importing", "at-work"])
def test_ctrl_c_leaves_no_process(tmp_path, when):
    with a_run(tmp_path, "processes", when) as run:
        found = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=LONG)
        gone, alive = psutil.wait_procs(found, timeout=LONG)
    assert alive == []
    assert len(gone) >= 2
    assert errors.count("KeyboardInterrupt") == 1  # the parent's; the clients were quiet
    assert run.returncode != 0


def test_clients_do_not_outlive_a_parent_that_was_killed(tmp_path):
    with a_run(tmp_path, "processes") as run:
        found = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        gone, alive = psutil.wait_procs(found, timeout=20)
        for process in alive:
            process.kill()
    assert alive == []
    assert len(gone) >= 2


def test_ctrl_c_ends_threads(tmp_path):
    with a_run(tmp_path, "threads") as run:
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=LONG)
    assert errors.rstrip().endswith("KeyboardInterrupt")


# Open loop.


def test_constant_starts_are_evenly_spread():
    starts = intended_starts(200, 3, "constant")
    assert len(starts) == 600
    assert starts.dtype == np.int64
    assert starts[0] == 0
    assert set(np.diff(starts).tolist()) <= {4_999_999, 5_000_000, 5_000_001}


def test_poisson_starts_are_a_poisson_process():
    rate, seconds = 500, 20
    starts = intended_starts(rate, seconds, "poisson", seed=7)
    assert len(starts) == rate * seconds
    assert starts.dtype == np.int64
    assert starts[0] >= 0
    assert starts[-1] < seconds * 1e9
    gaps = np.diff(starts)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1e9 / rate, rel=0.02)
    assert stats.kstest(gaps, "expon", args=(0, 1e9 / rate)).pvalue > 0.05
    assert stats.kstest(starts / 1e9, "uniform", args=(0, seconds)).pvalue > 0.05
    # Counts in equal intervals have a variance equal to their mean: no clumps, no rhythm.
    counts = np.histogram(starts, bins=500, range=(0, seconds * 1e9))[0]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.25)
    # The same tests tell another process apart.
    even = np.diff(intended_starts(rate, seconds, "constant"))
    assert stats.kstest(even, "expon", args=(0, 1e9 / rate)).pvalue < 1e-6


def test_poisson_starts_are_seeded():
    first, again, other = (intended_starts(100, 5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_schedule_has_at_least_one_start_and_fits_into_memory():
    assert len(intended_starts(0.1, 1)) == 1
    with pytest.raises(BenchError, match="1,000,000,000 operations"):
        intended_starts(1e6, 1_000)


def test_each_operation_is_done_once_and_timed_from_both_starts():
    seen: list[int] = []
    clients: set[int] = set()

    @contextmanager
    def notes(number: int):
        def once(i: int) -> int:
            seen.append(i)
            clients.add(number)
            time.sleep(0.002)
            return 2

        yield once

    found = open_loop(notes, rate=400, seconds=0.5, clients=4, seed=3)
    assert sorted(seen) == list(range(200))
    assert clients == {0, 1, 2, 3}
    assert (found.scheduled, found.finished, found.missed, found.unfinished) == (200, 200, 0, 0)
    assert found.rows == 400
    assert np.array_equal(found.response_ns, found.service_ns + found.lag_ns)
    assert (found.lag_ns >= 0).all()  # never early
    assert found.service_ns.min() >= 2_000_000
    assert found.response.count == found.service.count == 200
    assert found.achieved_rate <= 400
    assert found.latency_summary.startswith("response time p50 ")
    assert "; service time p50 " in found.latency_summary


def test_a_stall_shows_in_the_response_and_hides_in_the_service():
    """What coordinated omission is, without a server: one operation of 400 sleeps for a second."""
    factory = partial(hangs, at=100, seconds=1.0)
    found = open_loop(factory, rate=200, seconds=5, clients=1, arrivals="constant")
    assert found.missed == 0
    assert found.response.percentile(95) > 500e6
    assert found.service.percentile(95) < 200e6
    assert found.service.max >= 1e9
    assert "operations began more than 1 ms late" in found.behind
    assert found.achieved_rate <= 200


def test_a_system_that_cannot_keep_up_is_ended_at_twice_the_time():
    began = time.monotonic()
    found = open_loop(partial(waits, seconds=0.05), rate=1_000, seconds=0.5, clients=2)
    assert time.monotonic() - began < LONG
    # Two clients, 50 ms each, for a second: 40 at most, and one more for each.
    assert found.finished <= 42
    assert found.missed == found.scheduled - found.finished
    assert found.achieved_rate <= 42
    assert f"{found.missed:,} were never started" in found.behind
    # Those are not left out: half of the users had waited a quarter of the time, and more.
    assert found.response.count == 500
    assert found.response.percentile(50) > 0.4e9


def test_an_open_loop_whose_operations_hang_ends(hanging):
    began = time.monotonic()
    found = open_loop(hanging, rate=100, seconds=0.3, clients=1, grace_seconds=0.1)
    assert time.monotonic() - began < LONG
    assert (found.finished, found.unfinished, found.missed) == (3, 1, 26)
    assert found.scheduled == 30
    assert found.rows == 3
    assert "26 were never started and 1 had not ended" in found.behind
    assert found.response.max >= 0.3e9
    assert len(found.service_ns) == 3


def test_an_open_loop_in_which_nothing_ended_says_so(hanging):
    hanging.at = 0
    found = open_loop(hanging, rate=100, seconds=0.1, clients=1, grace_seconds=0.05)
    assert (found.finished, found.achieved_rate) == (0, 0)
    assert found.latency_summary.endswith("service time of no operation")


def test_an_error_of_one_client_ends_an_open_loop():
    @contextmanager
    def fails_at(number: int):
        def once(i: int) -> int:
            if i == 20:
                raise ValueError("boom")
            return 1

        yield once

    with pytest.raises(BenchError, match=r"client \d failed at operation 20: ValueError: boom"):
        # Without the error it would take a long time: the next operations are seconds away.
        open_loop(fails_at, rate=10, seconds=10 * LONG, clients=3, arrivals="constant")


def test_an_open_loop_that_is_itself_the_limit_says_so():
    found = open_loop(computes, rate=200_000, seconds=0.3, clients=1)
    assert found.behind is not None
    # On a machine whose cores are busy a client cannot compute all the time.
    if found.limit is not None:
        assert "use processes" not in found.limit


def test_waiting_is_never_early_and_can_be_stopped():
    stop = threading.Event()
    for ahead in (0, 50_000, 150_000, 1_000_000):
        when = time.perf_counter_ns() + ahead
        assert wait_until(when, stop)
        assert time.perf_counter_ns() >= when
    stop.set()
    assert not wait_until(time.perf_counter_ns() + 10**12, stop)


# Bad arguments.

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [0, -1, NAN, INF])
@pytest.mark.parametrize("name", ["seconds", "rate"])
def test_impossible_times_and_rates(name, value):
    good = {"rate": 10, "seconds": 1, "clients": 1}
    with pytest.raises(BenchError, match=f"{name}={value}; give a number above 0"):
        open_loop(waits, **(good | {name: value}))
    if name == "seconds":
        with pytest.raises(BenchError, match=f"seconds={value}; give a number above 0"):
            closed_loop(waits, clients=1, seconds=value)


@pytest.mark.parametrize("value", [0, -1, 1.5, NAN, True, "2"])
def test_impossible_numbers_of_clients(value):
    with pytest.raises(BenchError, match=r"clients=.*; give a whole number, at least 1"):
        closed_loop(waits, clients=value, seconds=1)
    with pytest.raises(BenchError, match=r"clients=.*; give a whole number, at least 1"):
        open_loop(waits, rate=1, seconds=1, clients=value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"warm_up_seconds": -1}, "warm_up_seconds=-1; give 0 or more"),
        ({"grace_seconds": NAN}, "grace_seconds=nan; give 0 or more"),
        ({"mode": "fibres"}, "mode='fibres'; use auto, threads, processes"),
    ],
)
def test_other_impossible_arguments(arguments, words):
    with pytest.raises(BenchError, match=words):
        closed_loop(waits, clients=1, seconds=1, **arguments)


def test_impossible_arrivals():
    with pytest.raises(BenchError, match="arrivals='bursts'; use poisson or constant"):
        open_loop(waits, rate=1, seconds=1, clients=1, arrivals="bursts")
