"""The parts of a cache that need no server: settings, early refresh, shared loads, the guard."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time

import pytest

from pglab.cache import Policy, refresh_now
from pglab.cache.flights import AbandonedError, Flights
from pglab.cache.guard import Guard
from pglab.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ttl_s", 0),
        ("ttl_s", -1),
        ("ttl_s", math.inf),
        ("ttl_s", math.nan),
        ("negative_ttl_s", 0),
        ("lease_s", 0),
        ("timeout_s", 0),
        ("stale_s", -1),
        ("jitter", 1),
        ("jitter", -0.1),
        ("max_bytes", 0),
        ("beta", 0),
        ("protection", "hope"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        Policy(**{setting: value})


def test_a_lock_needs_leases():
    with pytest.raises(ConfigError, match="leases are off"):
        Policy(leases=False)
    assert not Policy(leases=False, protection="none").leases


def test_the_oldest_an_entry_gets():
    assert Policy(ttl_s=60, negative_ttl_s=90, stale_s=5, lease_s=10).max_age_s == 105


def test_ttls_are_spread_below_the_ttl():
    policy = Policy(ttl_s=100, jitter=0.2, negative_ttl_s=1)
    ttls = [policy.ttl_ms(negative=False) for _ in range(2_000)]
    assert 80_000 <= min(ttls) < 81_000
    assert 99_000 < max(ttls) <= 100_000
    assert 800 <= policy.ttl_ms(negative=True) <= 1_000
    assert {Policy(jitter=0).ttl_ms(negative=False) for _ in range(10)} == {300_000}


def test_an_early_refresh_is_as_likely_as_xfetch_says():
    # t before the end: exp(-t / (beta * load)); here t = 100 ms, load = 50 ms, beta = 1.
    draws = [(i + 0.5) / 10_000 for i in range(10_000)]
    share = sum(refresh_now(900, 1_000, 50_000, 1, draw) for draw in draws) / len(draws)
    assert share == pytest.approx(math.exp(-2), abs=1e-3)
    share = sum(refresh_now(900, 1_000, 50_000, 2, draw) for draw in draws) / len(draws)
    assert share == pytest.approx(math.exp(-1), abs=1e-3)
    assert refresh_now(1_000, 1_000, 0, 1)
    assert not refresh_now(999, 1_000, 0, 1)


def together(number, function):
    """Run a function in several threads that begin together; return what each gave or raised."""
    barrier, given = threading.Barrier(number), []

    def run():
        barrier.wait()
        try:
            given.append(function())
        except Exception as error:  # noqa: BLE001 - that is what was asked for
            given.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def test_loads_are_shared():
    flights, loads = Flights(), []

    def load():
        loads.append(1)
        time.sleep(0.1)
        return "value"

    got = together(20, lambda: flights.share("key", load, wait_s=10))
    assert len(loads) == 1
    assert sorted(got) == [("value", False)] + [("value", True)] * 19
    assert flights.share("key", load, wait_s=10) == ("value", False)
    assert len(loads) == 2


def test_an_error_is_shared_and_not_kept():
    flights = Flights()

    def load():
        time.sleep(0.1)
        raise LookupError("gone")

    got = together(20, lambda: flights.share("key", load, wait_s=10))
    assert len({id(error) for error in got}) == 1
    assert isinstance(got[0], LookupError)
    assert flights.share("key", lambda: 1, wait_s=10) == (1, False)


def test_an_interrupt_is_not_shared():
    flights, begun = Flights(), threading.Event()

    def load():
        begun.set()
        time.sleep(0.1)
        raise KeyboardInterrupt

    def interrupted():
        with pytest.raises(KeyboardInterrupt):
            flights.share("key", load, wait_s=10)

    first = threading.Thread(target=interrupted)
    first.start()
    begun.wait()
    with pytest.raises(AbandonedError):
        flights.share("key", load, wait_s=10)
    first.join()


def test_nobody_joins_a_detached_load():
    flights = Flights()
    old, _ = flights.join("key")
    flights.detach("key")
    assert flights.share("key", lambda: "new", wait_s=10) == ("new", False)
    flights.land("key", old, value="old")
    assert old.result() == "old"


class Remote:
    """What a guard removes keys from: here or away."""

    def __init__(self):
        self.here = True
        self.removed = []

    def remove(self, names):
        if not self.here:
            raise ConnectionError("away")
        self.removed += names


@pytest.fixture
def redis():
    return Remote()


@pytest.fixture
def make_guard(redis):
    made = []

    def make(**settings):
        given = {"failures": 3, "reset_s": 0.05, "horizon_s": 100, "most": 10, **settings}
        made.append(Guard(redis.remove, told=lambda *_: None, **given))
        return made[-1]

    yield make
    for guard in made:
        guard.close()


def wait_until(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_failures_in_a_row_open_the_breaker_and_it_recovers_by_itself(redis, make_guard):
    guard = make_guard()
    redis.here = False
    for _ in range(2):
        guard.failed(ConnectionError())
    guard.succeeded()
    for _ in range(2):
        guard.failed(ConnectionError())
    assert guard.trusted
    guard.failed(ConnectionError())
    assert (guard.trusted, guard.state) == (False, "open")
    time.sleep(0.3)
    assert not guard.trusted
    redis.here = True
    wait_until(lambda: guard.trusted)
    assert guard.state == "closed"


def test_nothing_is_believed_until_what_is_pending_was_removed(redis, make_guard):
    guard = make_guard()
    redis.here = False
    guard.remember(["a", "b"])
    assert (guard.trusted, guard.pending) == (False, 2)
    assert not guard.recover_once()
    assert guard.pending == 2
    redis.here = True
    wait_until(lambda: guard.trusted)
    assert sorted(redis.removed) == ["a", "b"]
    assert guard.pending == 0


def test_a_key_that_is_invalidated_again_meanwhile_stays_pending(redis, make_guard):
    guard = make_guard(reset_s=100)
    remove, redis.here = redis.remove, False
    guard.close()  # no thread: this test takes the steps
    guard.remember(["a"])

    def slowly(names):
        redis.here = True
        remove(names)
        if len(redis.removed) == 1:
            guard.remember(["a"])

    guard._remove = slowly
    assert not guard.recover_once()
    assert guard.pending == 1
    assert guard.recover_once()
    assert redis.removed == ["a", "a"]


def test_too_many_pending_keys_are_waited_out(redis, make_guard):
    guard = make_guard(most=3, horizon_s=0.4)
    redis.here = False
    guard.remember(str(i) for i in range(4))
    assert guard.pending == 0
    redis.here = True
    began = time.monotonic()
    assert not guard.recover_once()
    wait_until(lambda: guard.trusted)
    assert time.monotonic() - began > 0.3
    assert redis.removed == []


def test_importing_pglab_imports_no_cache():
    code = (
        "import pglab, pglab.lab, sys, json; "
        "print(json.dumps([m for m in ('redis', 'pybreaker', 'msgspec') if m in sys.modules]))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == []
