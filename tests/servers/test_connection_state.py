"""The connection's state: live while somebody vouches for it, PostgreSQL's last known otherwise."""

from __future__ import annotations

import datetime as dt
import time
from uuid import UUID

import psycopg
import pytest
from cache_support import wait_until

from pglab import schema
from pglab.connection_state import Change, ConnectionStates, Known, expiry_events
from pglab.errors import ConfigError
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server

LIMA, CUSCO, NOBODY = (UUID(int=number) for number in (1, 2, 99))
NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(seconds=1)


@pytest.fixture(scope="module")
def server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def redis(server):
    server.start()
    with server.client(socket_timeout=5) as client:
        client.flushall()
        yield client


@pytest.fixture
def connection(database):
    with psycopg.connect(database, autocommit=True) as connection:
        schema.create(connection)
        connection.cursor().executemany(
            "INSERT INTO instances (id, name) VALUES (%s, %s)", [(LIMA, "lima"), (CUSCO, "cusco")]
        )
        yield connection


@pytest.fixture
def states(redis, connection):
    states = ConnectionStates(redis, connection)
    yield states
    states.close()


def saved(connection, instance=LIMA):
    return connection.execute(
        "SELECT connection_state::text, state_changed_at FROM instances WHERE id = %s", (instance,)
    ).fetchone()


def test_what_is_reported_is_live_and_saved(states, connection, redis):
    assert states.read(LIMA) == Known("close", None, stale=True, reason="expired")
    assert states.report(LIMA, "open", at=NOON)
    assert states.read(LIMA) == Known("open", NOON, stale=False)
    assert states.read(str(LIMA)) == states.read(LIMA)
    assert saved(connection) == ("open", NOON)
    assert 0 < redis.pttl(f"connection:v1:{LIMA}") <= 30_000
    assert states.read(NOBODY) is None
    assert states.read_many([LIMA, NOBODY, CUSCO, LIMA]) == {
        LIMA: Known("open", NOON, stale=False),
        CUSCO: Known("close", None, stale=True, reason="expired"),
    }
    assert states.read_many([]) == {}


def test_a_beat_puts_the_expiry_off_and_leaves_postgresql_alone(redis, connection):
    states = ConnectionStates(redis, connection, ttl_s=60)
    states.report(LIMA, "open", at=NOON)
    before = connection.execute("SELECT xmin, ctid FROM instances").fetchall()
    redis.pexpire(f"connection:v1:{LIMA}", 20_000)
    assert states.beat() == 1
    assert redis.pttl(f"connection:v1:{LIMA}") > 20_000
    assert connection.execute("SELECT xmin, ctid FROM instances").fetchall() == before


def test_a_beat_does_not_even_ask_postgresql(redis, connection, database):
    with psycopg.connect(database) as gone:
        states = ConnectionStates(redis, gone)
        states.report(LIMA, "open", at=NOON)
    assert gone.closed
    assert states.beat() == 1


def test_without_redis_postgresql_keeps_the_order_too(server, redis, connection):
    one, other = (ConnectionStates(redis, connection) for _ in range(2))
    server.kill()
    assert one.report(LIMA, "close", at=LATER) is False
    assert other.report(LIMA, "open", at=NOON) is False
    assert saved(connection) == ("close", LATER)


def test_without_beats_the_word_expires(redis, connection):
    states = ConnectionStates(redis, connection, ttl_s=0.05)
    states.report(LIMA, "open", at=NOON)
    wait_until("expired", lambda: states.read(LIMA).stale)
    assert states.read(LIMA) == Known("open", NOON, stale=True, reason="expired")


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        (("open", NOON), ("close", LATER), ("close", LATER)),
        (("close", LATER), ("open", NOON), ("close", LATER)),
        # At one moment, the later in the type's order, whichever comes last.
        (("open", NOON), ("close", NOON), ("open", NOON)),
        (("close", NOON), ("open", NOON), ("open", NOON)),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_events_may_come_in_any_order(redis, connection, first, second, wins, processes):
    one = ConnectionStates(redis, connection)
    other = one if processes == 1 else ConnectionStates(redis, connection)
    one.report(LIMA, first[0], at=first[1])
    other.report(LIMA, second[0], at=second[1])
    for states in (one, other):
        states.beat()
        assert states.read(LIMA) == Known(*wins, stale=False)
    assert saved(connection) == wins
    # One goes on vouching for it: whose word counts.
    assert sum(states.beat() for states in {one, other}) == 1


def test_microseconds_do_not_make_the_two_disagree(states, connection):
    states.report(LIMA, "close", at=NOON.replace(microsecond=1_900))
    states.report(LIMA, "open", at=NOON.replace(microsecond=1_100))
    assert states.read(LIMA).state == saved(connection)[0] == "open"


def test_another_zone_is_the_same_moment(states, connection):
    states.report(LIMA, "open", at=NOON.astimezone(dt.timezone(dt.timedelta(hours=-5))))
    assert states.read(LIMA).at == NOON == saved(connection)[1]


def test_redis_away_and_back(server, redis, states, connection):
    states.report(LIMA, "open", at=NOON)
    server.kill()
    assert states.read(LIMA) == Known("open", NOON, stale=True, reason="no answer")
    assert states.report(CUSCO, "open", at=NOON) is False
    assert saved(connection, CUSCO) == ("open", NOON)
    assert states.beat() == 0
    server.start()  # and it has lost everything
    assert states.read(LIMA) == Known("open", NOON, stale=True, reason="expired")
    assert states.beat() == 2
    assert states.read_many([LIMA, CUSCO]) == {
        LIMA: Known("open", NOON, stale=False),
        CUSCO: Known("open", NOON, stale=False),
    }


def test_a_redis_that_is_full_or_holds_something_else(redis, states, connection):
    redis.set(f"connection:v1:{LIMA}", "a string")
    assert states.read(LIMA).reason == "no answer"
    assert states.report(LIMA, "open", at=NOON) is False
    assert saved(connection) == ("open", NOON)
    redis.flushall()
    redis.config_set("maxmemory", 1)
    assert states.report(LIMA, "close", at=LATER) is False
    redis.config_set("maxmemory", 0)
    assert states.beat() == 1
    assert states.read(LIMA) == Known("close", LATER, stale=False)


def test_a_redis_that_does_not_answer(server, redis, connection):
    states = ConnectionStates(redis, connection, timeout_s=0.1)
    server.pause()
    assert states.read(LIMA) == Known("close", None, stale=True, reason="no answer")
    server.resume()
    assert states.read(LIMA).reason == "expired"


def test_postgresql_is_told_by_the_next_beat(redis, connection, database, server_url):
    with psycopg.connect(database, autocommit=True) as other:
        states = ConnectionStates(redis, other)
        with connection.transaction():
            connection.execute("SELECT FROM instances WHERE id = %s FOR UPDATE", (LIMA,))
            other.execute("SET lock_timeout = '10ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                states.report(LIMA, "open", at=NOON)
            assert states.read(LIMA) == Known("open", NOON, stale=False)
        assert saved(connection) == ("close", None)
        assert states.beat() == 1
        assert saved(connection) == ("open", NOON)


def test_an_instance_that_does_not_exist(states, redis):
    with pytest.raises(ConfigError, match=r"no instance 0{8}-.*insert it"):
        states.report(NOBODY, "open", at=NOON)
    assert redis.keys() == []
    assert states.beat() == 0


@pytest.mark.parametrize(
    ("state", "at", "words"),
    [("OPEN", NOON, "state is 'OPEN'"), ("open", NOON.replace(tzinfo=None), "without a time zone")],
)
def test_what_cannot_be_reported(states, redis, state, at, words):
    with pytest.raises(ConfigError, match=words):
        states.report(LIMA, state, at=at)
    assert redis.keys() == []


def test_a_ttl_that_cannot_be(redis, connection):
    with pytest.raises(ConfigError, match="ttl_s is 0"):
        ConnectionStates(redis, connection, ttl_s=0)


def test_released_is_not_vouched_for(states):
    states.report(LIMA, "open", at=NOON)
    states.release(LIMA)
    assert states.beat() == 0


def test_a_change_is_heard_once_and_beats_are_not(states):
    with states.watch() as watcher:
        states.report(LIMA, "open", at=NOON)
        states.beat()
        states.report(LIMA, "open", at=LATER)  # said again: no change
        states.report(LIMA, "close", at=LATER + dt.timedelta(seconds=1))
        assert watcher.next(5) == Change("changed", LIMA, "open", NOON)
        assert watcher.next(5).state == "close"
        assert watcher.next(0.05) is None


def test_an_expiry_is_heard(redis, connection):
    states = ConnectionStates(redis, connection, ttl_s=0.05, prefix="lesson")
    assert redis.config_get("notify-keyspace-events") == {"notify-keyspace-events": ""}
    with expiry_events(redis), states.watch(expiry=True) as watcher:
        redis.set("another", "key", px=20)
        states.report(LIMA, "open", at=NOON)
        assert watcher.next(5) == Change("changed", LIMA, "open", NOON)
        assert watcher.next(10) == Change("expired", LIMA)
    assert redis.config_get("notify-keyspace-events") == {"notify-keyspace-events": ""}


def test_flags_that_are_there_stay(redis):
    redis.config_set("notify-keyspace-events", "KEA")
    with expiry_events(redis):
        flags = redis.config_get("notify-keyspace-events")["notify-keyspace-events"]
        assert set(flags) == set("AKE")
    redis.config_set("notify-keyspace-events", "")


def test_a_gap_is_told(server, redis, connection):
    states = ConnectionStates(redis, connection)
    with states.watch() as watcher:
        server.kill()
        began = time.monotonic()
        assert watcher.next(0.3) is None
        assert time.monotonic() - began < 10
        server.start()
        assert watcher.next(10) == Change("gap")
        states.report(LIMA, "open", at=NOON)
        assert watcher.next(5) == Change("changed", LIMA, "open", NOON)
