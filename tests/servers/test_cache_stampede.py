"""Many who miss at once: one load for each key, threads and processes alike, and nobody left over.

What the numbers promise (nobody waits longer than the load and 100 ms) is printed: run with -s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import psycopg
import pytest
from cache_support import Loader, together, wait_until

from pglab.cache import CacheAside, KeySpace
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server

NAME = "thing:v1:a"
LOAD_S = 0.05
# Far from the 100 ms that are promised: the machine may be busy with anything.
WIDE_S = 10


@pytest.fixture(scope="module")
def server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def redis(server):
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def loader():
    return Loader(takes_s=LOAD_S)


@pytest.fixture
def make(redis, loader):
    made = []

    def open_cache(**settings: Any):
        given = {"keys": KeySpace("thing"), "value_type": dict[str, int], "timeout_s": 5}
        made.append(CacheAside(redis, loader, **{**given, **settings}))
        return made[-1]

    yield open_cache
    for cache in made:
        cache.close()


def test_200_threads_on_one_expired_key_load_it_once(make, loader, redis):
    cache = make()
    cache.get("a")
    redis.pexpire(NAME, 1)
    wait_until("expired", lambda: redis.get(NAME) is None)
    loader.calls.clear()
    got, took = together(200, lambda: cache.get("a"))
    print(f"\n200 threads: {len(loader.calls)} load, longest wait {max(took) * 1e3:.0f} ms")
    assert got == [{"n": 1}] * 200
    assert loader.calls == ["a"]
    assert max(took) < LOAD_S + WIDE_S
    assert cache.metrics.reads == 201


@pytest.mark.parametrize("protection", ["early", "none"])
def test_without_the_lock_each_loads_for_itself(make, loader, protection):
    got, _ = together(20, lambda: make(protection=protection).get("a"))
    assert got == [{"n": 1}] * 20
    assert loader.most > 1
    assert len(loader.calls) > 1


def test_caches_that_know_nothing_of_each_other_load_once(make, loader):
    caches = [make() for _ in range(8)]
    turns = iter(caches * 5)
    lock = threading.Lock()

    def read():
        with lock:
            cache = next(turns)
        return cache.get("a")

    got, _ = together(40, read)
    assert got == [{"n": 1}] * 40
    assert loader.calls == ["a"]


def test_other_keys_do_not_wait(make, loader):
    loader.rows |= {f"k{i}": {"n": i} for i in range(20)}
    loader.takes_s, cache = 0.5, make()
    keys = iter(loader.rows)
    lock = threading.Lock()

    def read():
        with lock:
            key = next(keys)
        return cache.get(key)

    began = time.perf_counter()
    together(len(loader.rows), read)
    assert time.perf_counter() - began < 0.5 * len(loader.rows) / 2
    assert (len(loader.calls), loader.most) == (21, 1)


def test_all_who_wait_get_the_error(make, loader):
    loader.error = LookupError("away")
    cache = make()
    got, _ = together(50, lambda: cache.get("a"))
    assert {type(error) for error in got} == {LookupError}
    assert len(loader.calls) < 50


def test_other_processes_do_not_queue_up_behind_a_load_that_fails(make, loader):
    loader.error, loader.takes_s = LookupError("away"), 0.3
    caches = iter([make() for _ in range(8)])
    lock = threading.Lock()

    def read():
        with lock:
            cache = next(caches)
        return cache.get("a")

    got, took = together(8, read)
    assert {type(error) for error in got} == {LookupError}
    assert max(took) < 8 * 0.3 - 0.3  # one after another, the last would wait for all


def test_what_is_too_large_makes_nobody_queue_up(make, loader):
    loader.takes_s = 0.3
    caches = iter([make(max_bytes=20) for _ in range(8)])
    lock = threading.Lock()

    def read():
        with lock:
            cache = next(caches)
        return cache.get("a")

    got, took = together(8, read)
    assert got == [{"n": 1}] * 8
    assert max(took) < 8 * 0.3 - 0.3


def test_when_the_holder_of_the_lease_dies_the_next_loads(make, loader, redis):
    redis.set(NAME, "0123456789abcdef", px=300)  # somebody's, who is no more
    got, took = together(10, lambda: make(lease_s=5).get("a"))
    assert got == [{"n": 1}] * 10
    assert loader.calls == ["a"]
    assert max(took) < 0.3 + LOAD_S + WIDE_S


def test_one_thread_asks_for_all_of_its_process(make, loader, redis):
    cache = make()
    together(20, lambda: cache.get("warm"))
    redis.set(NAME, "0123456789abcdef", px=500)
    redis.config_resetstat()
    together(20, lambda: cache.get("a"))
    asked = redis.info("commandstats")["cmdstat_set"]["calls"]
    assert loader.calls == ["warm", "a"]
    assert asked < 20 * 3 + 500 / 3  # 20 threads that poll would make 1,700


def test_nobody_waits_for_longer_than_a_lease(make, loader, redis):
    redis.set(NAME, "0123456789abcdef", px=60_000)
    cache = make(lease_s=0.3)
    got, _ = together(10, lambda: cache.get("a"))
    assert got == [{"n": 1}] * 10
    assert set(loader.calls) == {"a"}


def test_an_interrupted_load_leaves_nobody_waiting(make, loader):
    cache = make()
    first = threading.Event()

    def interrupt():
        if not first.is_set():
            first.set()
            time.sleep(0.2)
            raise KeyboardInterrupt

    loader.meanwhile = interrupt
    failed = []

    def read():
        try:
            cache.get("a")
        except KeyboardInterrupt:
            failed.append(1)

    thread = threading.Thread(target=read)
    thread.start()
    assert first.wait(30)
    got, _ = together(10, lambda: cache.get("a"))
    thread.join()
    assert (got, failed) == ([{"n": 1}] * 10, [1])


def test_only_the_holder_gives_a_lease_back(make, redis):
    shelf = make()._shelf
    token, other = b"0123456789abcdef", b"fedcba9876543210"
    assert shelf.lease("lock", token, 60_000) is None
    assert shelf.lease("lock", other, 60_000) == token
    shelf.release("lock", other)
    assert redis.get("lock") == token
    assert not shelf.store("lock", other, other + b"entry", 1_000)
    assert redis.get("lock") == token
    shelf.release("lock", token)
    assert redis.get("lock") is None


PROCESS = """
import json, sys, threading, time
import psycopg, redis
from pglab.cache import CacheAside, KeySpace
socket, conninfo = sys.stdin.readline().split(" ", 1)

def load(key):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        began = "INSERT INTO loads (key) VALUES (%s) RETURNING id"
        number = connection.execute(began, (key,)).fetchone()[0]
        time.sleep(0.05)
        connection.execute("UPDATE loads SET ended = clock_timestamp() WHERE id = %s", (number,))
    return {"n": 1}

cache = CacheAside(redis.Redis(unix_socket_path=socket), load, keys=KeySpace("thing"),
                   value_type=dict[str, int], timeout_s=5)
cache.get("warm")
took, wrong, barrier = [], [], threading.Barrier(26)

def read():
    barrier.wait()
    began = time.perf_counter()
    value = cache.get("a")
    took.append(time.perf_counter() - began)
    if value != {"n": 1}:
        wrong.append(value)

threads = [threading.Thread(target=read) for _ in range(25)]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
barrier.wait()
for thread in threads:
    thread.join()
cache.close()
print(json.dumps([max(took), wrong, cache.metrics.errors]), flush=True)
"""


def test_8_processes_on_one_key_load_it_once(server, redis, database):
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE loads (id serial PRIMARY KEY, key text, "
            "began timestamptz DEFAULT clock_timestamp(), ended timestamptz)"
        )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    try:
        for process in processes:
            process.stdin.write(f"{server.socket} {database}\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = [json.loads(process.stdout.readline()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    longest_s = max(took for took, _, _ in said)
    with psycopg.connect(database) as connection:
        loads, in_flight = connection.execute(
            "SELECT count(*), max((SELECT count(*) FROM loads AS other WHERE other.key = one.key "
            "AND other.began <= one.began AND other.ended > one.began)) "
            "FROM loads AS one WHERE key = 'a'"
        ).fetchone()
    print(f"\n8 processes of 25 threads: {loads} load, longest wait {longest_s * 1e3:.0f} ms")
    assert (loads, in_flight) == (1, 1)
    assert [rest for _, *rest in said] == [[[], 0]] * 8
    assert longest_s < LOAD_S + WIDE_S
