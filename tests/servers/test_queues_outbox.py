"""From PostgreSQL to Redis through the outbox: nothing lost, each key in order, duplicates told."""

from __future__ import annotations

import threading
from collections import Counter

import psycopg
import pytest
from cache_support import wait_until
from redis.exceptions import RedisError

from pglab.errors import ConfigError
from pglab.queues import Outbox, QueueFullError, Relay, StreamQueue, create_tables, first_time
from pglab.queues.killed import killed_relay
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def redis(server):
    server.start()
    with server.client(socket_timeout=10) as client:
        client.flushall()
        yield client


@pytest.fixture
def connection(database):
    with psycopg.connect(database, autocommit=True) as connection:
        create_tables(connection)
        connection.execute("CREATE TABLE sent (n integer NOT NULL)")
        yield connection


@pytest.fixture
def queue(redis):
    return StreamQueue(redis, "out")


def send(connection, count, keys=("a",)):
    for n in range(count):
        with connection.transaction():
            connection.execute("INSERT INTO sent VALUES (%s)", (n,))
            Outbox(connection).add(keys[n % len(keys)], {"n": n})


def published(queue):
    got = []
    while messages := queue.receive(100):
        for message in messages:
            queue.acknowledge(message)
        got += messages
    return got


def numbers(messages):
    return [message.body["body"]["n"] for message in messages]


def test_what_is_committed_is_published_in_order(connection, queue):
    send(connection, 5)
    relay = Relay(connection, [queue])
    assert relay.waiting() == 5
    assert [relay.run_once(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert relay.waiting() == 0
    got = published(queue)
    assert numbers(got) == [0, 1, 2, 3, 4]
    assert got[0].body == {"key": "a", "body": {"n": 0}}
    assert got[0].key == "outbox:1"
    assert relay.purge(older_than_s=0) == 5


def test_what_is_rolled_back_is_not(connection, queue):
    with connection.transaction(force_rollback=True):
        Outbox(connection).add("a", {"n": 1})
    assert Relay(connection, [queue]).run_once() == 0


def test_outside_a_transaction_it_is_refused(connection, database):
    with pytest.raises(ConfigError, match="no transaction is open"):
        Outbox(connection).add("a", {"n": 1})
    with psycopg.connect(database) as plain:  # execute() opens one here
        Outbox(plain).add("a", {"n": 1})
        plain.rollback()
    assert Relay(connection, [StreamQueue(None, "x")]).waiting() == 0
    with pytest.raises(ConfigError, match="no queue"):
        Relay(connection, [])


@pytest.mark.parametrize("remember_s", [60, 0.001], ids=["remembered", "forgotten"])
def test_a_relay_killed_between_publishing_and_marking(connection, redis, remember_s):
    send(connection, 12, keys=("a", "b"))
    settings = {"remember_s": remember_s}
    assert killed_relay(connection, redis, ["out"], limit=5, **settings) == list("12345")
    queue = StreamQueue(redis, "out", **settings)
    relay = Relay(connection, [queue])
    if remember_s < 1:
        wait_until("forgotten", lambda: not redis.exists("{queue:out}:key:outbox:5"))
    assert relay.waiting() == 12
    assert relay.run_once() == 12
    assert relay.waiting() == 0
    got = published(queue)
    work = Counter(numbers(got))
    assert set(work) == set(range(12))  # nothing is lost
    duplicates = [n for n, times in work.items() if times > 1]
    assert duplicates == ([] if remember_s > 1 else [0, 1, 2, 3, 4])
    # A consumer that notes what it has seen with its effects has each effect once.
    effects = []
    for message in got:
        with connection.transaction():
            if first_time(connection, "hooks", message.key):
                effects.append(message.body["body"]["n"])
    assert effects == list(range(12))


def test_a_redis_that_is_away_changes_nothing(connection, server, redis, queue):
    send(connection, 3)
    server.kill()
    relay = Relay(connection, [queue])
    with server.client(retry=None) as impatient, pytest.raises((RedisError, OSError)):
        Relay(connection, [StreamQueue(impatient, "out")]).run_once()
    assert relay.waiting() == 3
    server.start()
    assert relay.run_once() == 3
    assert numbers(published(queue)) == [0, 1, 2]


def test_a_full_queue_publishes_the_rest_later(connection, redis):
    send(connection, 4)
    queue = StreamQueue(redis, "out", max_length=3, when_full="refuse")
    relay = Relay(connection, [queue])
    with pytest.raises(QueueFullError):
        relay.run_once()
    assert relay.waiting() == 4  # three are in the queue, and will be known there
    got = published(queue)
    assert relay.run_once() == 4
    assert numbers(got + published(queue)) == [0, 1, 2, 3]


def test_one_relay_at_a_time(connection, database, queue):
    send(connection, 3)
    with psycopg.connect(database) as second:
        other = Relay(second, [queue])
        seen = []
        relay = Relay(connection, [queue], between=lambda _: seen.append(other.run_once()))
        assert relay.run_once() == 3
        assert seen == [0]
        assert other.run_once() == 0
    assert numbers(published(queue)) == [0, 1, 2]


def test_a_transaction_that_commits_late_is_not_skipped(connection, database, queue):
    with psycopg.connect(database) as late:
        Outbox(late).add("slow", {"n": 0})
        with connection.transaction():
            Outbox(connection).add("quick", {"n": 1})
        relay = Relay(connection, [queue])
        assert relay.run_once() == 1
        late.commit()
    assert relay.run_once() == 1
    assert numbers(published(queue)) == [1, 0]


def test_transactions_of_one_key_wait_for_each_other(connection, database, queue):
    done = threading.Event()

    def second():
        with psycopg.connect(database) as later:
            Outbox(later).add("a", {"n": 1})
            later.commit()
        done.set()

    with psycopg.connect(database) as first:
        Outbox(first).add("a", {"n": 0})
        thread = threading.Thread(target=second)
        thread.start()
        assert not done.wait(0.3)
        assert Relay(connection, [queue]).run_once() == 0
        first.commit()
    thread.join()
    assert Relay(connection, [queue]).run_once() == 2
    assert numbers(published(queue)) == [0, 1]


def test_a_key_keeps_its_queue_and_its_order(connection, redis):
    keys = [f"chat-{i}" for i in range(7)]
    send(connection, 70, keys=keys)
    queues = [StreamQueue(redis, f"out-{i}") for i in range(3)]
    assert Relay(connection, queues).run_once() == 70
    got = [published(queue) for queue in queues]
    homes = [{message.body["key"] for message in messages} for messages in got]
    assert sum(map(len, homes)) == 7
    assert sum(bool(home) for home in homes) > 1
    for messages in got:
        for key in {message.body["key"] for message in messages}:
            order = numbers([m for m in messages if m.body["key"] == key])
            assert order == sorted(order)
            assert len(order) == 10
