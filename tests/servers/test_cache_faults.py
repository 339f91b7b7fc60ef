"""Redis away, stopped, full or mad: no reader notices more than a delay, and it mends itself."""

from __future__ import annotations

import socketserver
import threading
import time
from typing import Any

import pytest
from cache_support import Loader, together, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import OutOfMemoryError

from pglab.bench.cache_soak import soak
from pglab.cache import CacheAside, KeySpace
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server

NAME = "thing:v1:a"


@pytest.fixture(scope="module")
def the_server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def server(the_server):
    with the_server.client() as client:
        client.flushall()
    yield the_server
    the_server.resume()
    the_server.start()


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def make(loader):
    made = []

    def open_cache(client: Redis, **options: Any):
        given: dict[str, Any] = {
            "keys": KeySpace("thing"),
            "value_type": dict[str, int],
            "timeout_s": 2,
            "reset_s": 0.1,
            "load_many": loader.many,
        }
        made.append(CacheAside(client, loader, **{**given, **options}))
        return made[-1]

    yield open_cache
    for cache in made:
        cache.close()


def test_a_killed_redis_is_not_noticed_and_its_return_is(make, loader, server):
    cache = make(server.client())
    cache.get("a")
    server.kill()
    assert [cache.get("a") for _ in range(50)] == [{"n": 1}] * 50
    assert cache.get_many(["a", "no"]) == {"a": {"n": 1}, "no": None}
    counts = cache.metrics
    assert counts.breaker != "closed"
    assert (counts.fallthrough, counts.loads) == (52, 1 + 51)
    assert counts.errors <= 6  # then it is not asked any more
    server.start()
    wait_until("it recovers", lambda: cache.metrics.breaker == "closed" and cache._guard.trusted)
    loader.calls.clear()
    assert [cache.get("a") for _ in range(3)] == [{"n": 1}] * 3
    assert loader.calls == ["a"]


def test_connections_from_before_a_restart_are_replaced(make, loader, server):
    cache = make(server.client())
    together(8, lambda: cache.get("a"))
    server.kill()
    server.start()
    together(8, lambda: cache.get("a"))
    assert cache.metrics.errors == 0
    assert cache.metrics.fallthrough == 0


def test_without_redis_the_database_is_still_protected(make, loader, server):
    loader.takes_s = 0.2
    cache = make(server.client(), reset_s=60)
    server.kill()
    for _ in range(5):
        cache.get("a")
    loader.calls.clear()
    got, _ = together(50, lambda: cache.get("a"))
    assert got == [{"n": 1}] * 50
    assert len(loader.calls) < 10
    assert loader.most == 1


def test_a_stopped_redis_costs_a_few_time_outs_and_no_more(make, loader, server):
    cache = make(server.client(), timeout_s=0.05, failures=3)
    cache.get("a")
    server.pause()
    assert [cache.get("a") for _ in range(200)] == [{"n": 1}] * 200
    assert cache.metrics.errors == 3
    server.resume()
    wait_until("it recovers", lambda: cache._guard.trusted)
    assert cache.get("a") == {"n": 1}
    assert cache.metrics.hits == 1


def test_an_entry_is_not_believed_before_its_invalidation_has_arrived(make, loader, server):
    cache = make(server.client(), timeout_s=0.05)
    bystander = make(server.client())
    cache.get("a")
    server.pause()
    loader.rows["a"] = {"n": 2}
    assert cache.invalidate("a") is False
    assert cache.metrics.pending == 1
    assert cache.get("a") == {"n": 2}
    server.resume()
    while not cache._guard.trusted:
        assert cache.get("a") == {"n": 2}
    assert cache.get("a") == {"n": 2}
    assert bystander.get("a") == {"n": 2}
    assert cache.metrics.pending == 0


def test_an_invalidation_while_redis_is_dead_is_delivered_later(make, loader, server):
    events = []
    cache = make(server.client(), on_event=events.append)
    deliver, gate = cache._guard._remove, threading.Event()
    cache._guard._remove = lambda names: gate.wait(30) and deliver(names)
    cache.get("a")
    server.kill()
    loader.rows["a"] = {"n": 2}
    assert cache.invalidate("a", "b") is False
    server.start()
    with server.client() as client:  # as if it had kept what it held
        raw = cache._codec.encode(
            b"0123456789abcdef", NAME, {"n": 1}, stored_ms=0, ttl_ms=10**13, load_us=0
        )
        client.set(NAME, raw)
    assert [cache.get("a") for _ in range(3)] == [{"n": 2}] * 3
    gate.set()
    wait_until("delivered", lambda: not cache.metrics.pending)
    assert cache.get("a") == {"n": 2}
    assert [event.step for event in events if event.step in {"pending", "repaired"}] == [
        "pending",
        "repaired",
    ]


def test_without_redis_nobody_joins_a_load_from_before_a_write(make, loader, server):
    cache = make(server.client(), reset_s=60, lease_s=60)
    server.kill()
    begun, go_on, got = threading.Event(), threading.Event(), []

    def hold():
        loader.meanwhile = None
        begun.set()
        assert go_on.wait(30)

    loader.meanwhile = hold
    first = threading.Thread(target=lambda: got.append(cache.get("a")))
    first.start()
    assert begun.wait(30)
    loader.rows["a"] = {"n": 2}
    assert cache.invalidate("a") is False
    assert cache.get("a") == {"n": 2}  # while the old load is still under way
    go_on.set()
    first.join()
    assert got == [{"n": 1}]


def test_a_full_redis_serves_what_it_has(make, loader):
    with ScratchRedis({"maxmemory": "3mb", "maxmemory-policy": "noeviction"}) as full:
        cache = make(full.client(), failures=1)
        cache.get("a")
        with full.client() as client:
            with pytest.raises(OutOfMemoryError):  # noqa: PT012
                for i in range(10_000):
                    client.set(f"ballast{i}", "x" * 100_000)
            assert [cache.get("a") for _ in range(3)] == [{"n": 1}] * 3
            assert cache.metrics.hits == 3
            loader.rows["b"] = {"n": 2}
            loader.takes_s = 0.1
            got, _ = together(20, lambda: cache.get("b"))
            assert got == [{"n": 2}] * 20
            assert len(loader.calls) < 20
            assert cache.get_many(["a", "b"]) == {"a": {"n": 1}, "b": {"n": 2}}
            assert cache.metrics.errors > 0
            assert cache.metrics.breaker == "closed"
            loader.rows["a"] = {"n": 3}
            assert cache.invalidate("a")
            assert cache.get("a") == {"n": 3}
            client.flushall()
            # What clients still have in their buffers counts, too, and goes a little later.
            wait_until("it stores again", lambda: cache.get("b") and cache.metrics.hits == 5)
            assert cache.get("b") == {"n": 2}


def test_a_wrong_password_breaks_no_read(make, loader, server):
    with server.client() as client:
        client.config_set("requirepass", "sesame")
        try:
            cache = make(server.client(password="wrong"))
            assert [cache.get("a") for _ in range(10)] == [{"n": 1}] * 10
            assert cache.metrics.breaker != "closed"
            assert make(server.client(password="sesame")).get("a") == {"n": 1}
        finally:
            client.config_set("requirepass", "")


class Mad(socketserver.ThreadingUnixStreamServer):
    """A server that answers everything with the same bytes.

    Attributes:
        says: those bytes; empty: it hangs up.
    """

    daemon_threads = True
    says = b""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Hung-up clients are the point."""


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(65536) and self.server.says:
            self.request.sendall(self.server.says)


@pytest.fixture(scope="module")
def mad(tmp_path_factory):
    path = tmp_path_factory.mktemp("mad") / "s"
    with Mad(str(path), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server, path
        server.shutdown()
        thread.join()


RUBBISH = [
    b"",
    b"+OK\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$3\r\nabc\r\n",
    b"$40\r\n" + b"x" * 40 + b"\r\n",
    b"$16\r\n0123456789abcdef\r\n",
    b"$17\r\n0123456789abcdef!\r\n",
    b"*2\r\n$1\r\na\r\n:1\r\n",
    b"*1000000\r\n",
    b"-ERR no\r\n",
    b"-WRONGTYPE no\r\n",
    b"-OOM command not allowed\r\n",
    b"-NOSCRIPT no\r\n",
    b"-LOADING later\r\n",
    b"-NOAUTH who\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x00\xff\xfe",
    b"$99999999999999999999\r\n",
    b"+OK\r\n+OK\r\n+OK\r\n",
    b">2\r\n+message\r\n+x\r\n",
    b"%1\r\n+a\r\n+b\r\n",
]


def survive(mad, says, protection="lock"):
    server, path = mad
    server.says = says
    loader = Loader({"a": {"n": 1}})
    client = Redis(unix_socket_path=str(path))
    with CacheAside(
        client, loader, keys=KeySpace("thing"), value_type=dict[str, int], timeout_s=0.05,
        lease_s=0.05, load_many=loader.many, protection=protection, reset_s=0.05,
    ) as cache:  # fmt: skip
        for _ in range(4):
            assert cache.get("a") == {"n": 1}
            assert cache.get("no") is None
        assert cache.get_many(["a", "no"]) == {"a": {"n": 1}, "no": None}
        cache.invalidate("a", "no")
        assert cache.get("a") == {"n": 1}
    client.close()


@pytest.mark.parametrize("says", RUBBISH)
@pytest.mark.parametrize("protection", ["lock", "early", "none"])
def test_rubbish_breaks_no_read(mad, says, protection):
    survive(mad, says, protection)


def test_rubbish_acknowledges_no_invalidation(mad):
    server, path = mad
    server.says = b"+OK\r\n"
    client = Redis(unix_socket_path=str(path))
    with CacheAside(client, Loader(), keys=KeySpace("thing"), value_type=int) as cache:
        assert cache.invalidate("a") is False
        assert cache.metrics.pending == 1
    client.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(says=st.binary(max_size=60) | st.sampled_from(RUBBISH).map(lambda part: part[:-2]))
def test_any_rubbish_breaks_no_read(mad, says):
    survive(mad, says)


def test_mixed_traffic_survives_killings(database):
    done = soak(database, seconds=6, kill_every_s=1.5, readers=3, writers=1)
    print(f"\n{done}")
    assert done.verdict.kept, done
    assert done.kills >= 3
    assert done.verdict.reads > 500
    assert done.verdict.writes > 50
    assert done.verdict.unapplied > 0
    assert sum(counts.hits for counts in done.counts) > 100
    assert sum(counts.fallthrough for counts in done.counts) > 100


def test_time_outs_bound_a_readers_delay(make, loader, server):
    cache = make(server.client(), timeout_s=0.05, failures=1_000)
    server.pause()
    began = time.perf_counter()
    cache.get("a")
    assert 0.04 < time.perf_counter() - began < 5


def test_one_of_many_is_stored_by_a_redis_that_knows_no_script(make, loader, server):
    with server.client() as client:
        client.script_flush()
    cache = make(server.client(), load_many=loader.many)
    assert cache.get_many(["a"]) == {"a": {"n": 1}}
    assert cache.metrics.stores == 1
    assert cache.metrics.errors == 0
    assert cache.get("a") == {"n": 1}
    assert cache.metrics.hits == 1


@pytest.mark.parametrize("many", [False, True])
def test_a_lease_that_redis_takes_for_nobody_is_removed(make, loader, server, many):
    """Redis stops between the look and the lease, and takes the lease when it goes on."""

    def stop(event):
        if event.step == "miss":
            server.pause()

    cache = make(server.client(), timeout_s=0.05, on_event=stop, load_many=loader.many)
    got = cache.get_many(["a"])["a"] if many else cache.get("a")
    assert got == {"n": 1}
    assert cache.metrics.pending == 1
    server.resume()
    wait_until("it recovers", lambda: cache._guard.trusted)
    with server.client() as client:
        assert list(client.scan_iter()) == []
