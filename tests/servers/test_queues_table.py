"""The queue in PostgreSQL: claimed in the transaction or by a time-out, and nothing is lost."""

from __future__ import annotations

import threading
from collections import Counter

import psycopg
import pytest
from cache_support import wait_until

from pglab.errors import ConfigError, LabError
from pglab.queues import TableQueue, TableState, create_tables, first_time
from pglab.queues.killed import killed_table_consumer
from pglab.queues.statements import WAITING

pytestmark = pytest.mark.server

EFFECT = "INSERT INTO effects VALUES (%s)"


@pytest.fixture
def connection(database):
    with psycopg.connect(database, autocommit=True) as connection:
        create_tables(connection)
        create_tables(connection)  # again is nothing
        connection.execute("CREATE TABLE effects (message text NOT NULL)")
        yield connection


@pytest.fixture
def other(database, connection):
    with psycopg.connect(database, autocommit=True) as other:
        yield other


@pytest.fixture
def queue(connection):
    return TableQueue(connection, "hooks")


def fill(queue, count):
    return [queue.publish({"n": n}, key=f"k{n}") for n in range(count)]


def effects(connection):
    return Counter(row[0] for row in connection.execute("SELECT message FROM effects"))


def drain(queue, connection):
    """Receive, work and acknowledge until nothing is left."""
    while (state := queue.state()).waiting or state.later:
        for message in queue.receive(10):
            connection.execute(EFFECT, (message.id,))
            assert queue.acknowledge(message)


def test_in_order_and_done_when_acknowledged(queue):
    ids = fill(queue, 5)
    assert queue.state() == TableState(waiting=5, later=0, dead=0, done=0)
    first = queue.receive(2)
    assert [(m.id, m.body, m.key, m.attempts) for m in first] == [
        (ids[0], {"n": 0}, "k0", 1),
        (ids[1], {"n": 1}, "k1", 1),
    ]
    assert queue.state() == TableState(waiting=3, later=2, dead=0, done=0)
    assert queue.acknowledge(first[0])
    assert not queue.acknowledge(first[0])
    assert queue.state() == TableState(waiting=3, later=1, dead=0, done=1)
    assert [m.body["n"] for m in queue.receive(10)] == [2, 3, 4]
    assert queue.receive() == []
    assert queue.purge(older_than_s=0) == 1


def test_a_message_stands_or_falls_with_its_transaction(queue, connection, other):
    with connection.transaction(force_rollback=True):
        queue.publish({"n": 1})
    assert queue.state().waiting == 0
    with connection.transaction():
        queue.publish({"n": 2})
        assert TableQueue(other, "hooks").receive() == []
    assert [m.body for m in TableQueue(other, "hooks").receive()] == [{"n": 2}]


@pytest.mark.parametrize("worked", [True, False])
def test_killed_after_a_claim_by_time_out(connection, worked):
    queue = TableQueue(connection, "hooks", visible_s=0.05)
    ids = fill(queue, 20)
    done = killed_table_consumer(
        connection, "hooks", after=3, worked=worked, effect=EFFECT, visible_s=2.0
    )
    assert done == ids[: 4 if worked else 3]
    assert queue.state() == TableState(waiting=16, later=1, dead=0, done=3)
    drain(queue, connection)
    assert set(effects(connection)) == set(ids)
    twice = [message for message, times in effects(connection).items() if times > 1]
    assert twice == ([ids[3]] if worked else [])


@pytest.mark.parametrize("worked", [True, False])
def test_killed_in_the_transaction_of_the_claim(queue, connection, worked):
    ids = fill(queue, 20)
    done = killed_table_consumer(
        connection, "hooks", after=3, worked=worked, how="working", effect=EFFECT
    )
    assert done == ids[: 4 if worked else 3]
    assert queue.state() == TableState(waiting=17, later=0, dead=0, done=3)
    # Its work was rolled back with its claim, and neither was counted.
    drain(queue, connection)
    assert effects(connection) == Counter(ids)
    assert queue.state() == TableState(waiting=0, later=0, dead=0, done=20)


def test_a_slow_consumer_is_told_that_his_time_was_up(connection, other):
    slow, quick = TableQueue(connection, "hooks", visible_s=0.01), TableQueue(other, "hooks")
    fill(slow, 1)
    (late,) = slow.receive()
    got = []
    wait_until("visible", lambda: got.extend(quick.receive()) or got)
    assert got[0].attempts == 2
    assert not slow.keep(late)
    assert not slow.acknowledge(late)
    assert slow.reject(late, "late") == "lost"
    # With its work in one transaction, the late one has no effect.
    with connection.transaction() as transaction:
        connection.execute(EFFECT, (late.id,))
        if not slow.acknowledge(late):
            raise psycopg.Rollback(transaction)
    assert effects(connection) == Counter()
    assert quick.keep(got[0])
    assert quick.acknowledge(got[0])


def test_a_message_that_kills_its_consumers(connection):
    queue = TableQueue(connection, "hooks", visible_s=0.05, max_attempts=2)
    (poison,) = fill(queue, 1)
    for _ in range(2):
        wait_until("visible", lambda: queue.state().waiting)
        settings = {"visible_s": 0.05, "max_attempts": 2}
        assert killed_table_consumer(connection, "hooks", worked=False, **settings) == []
    wait_until("visible", lambda: queue.state().waiting)
    assert queue.receive() == []
    (letter,) = queue.dead_letters()
    assert (letter.id, letter.body, letter.key, letter.attempts) == (poison, {"n": 0}, "k0", 2)
    assert letter.reason == "no answer to 2 deliveries"
    assert queue.revive(letter)
    assert not queue.revive(letter)
    assert queue.receive()[0].attempts == 1
    assert queue.dead_letters() == []


def test_a_dead_letter_does_not_stand_in_the_way(connection):
    queue = TableQueue(connection, "hooks", visible_s=0.01, max_attempts=1)
    fill(queue, 1)
    assert len(queue.receive()) == 1
    wait_until("visible", lambda: queue.state().waiting)
    second = queue.publish({"n": 1})
    assert [m.id for m in queue.receive()] == [second]
    assert queue.state().dead == 1


def test_in_a_transaction_such_a_message_is_tried_for_ever(connection):
    queue = TableQueue(connection, "hooks", max_attempts=2)
    fill(queue, 1)
    for _ in range(3):
        killed_table_consumer(connection, "hooks", how="working", max_attempts=2)
    assert queue.state() == TableState(waiting=1, later=0, dead=0, done=0)
    assert queue.receive()[0].attempts == 1


def test_work_that_fails_is_rolled_back_counted_and_given_up(connection):
    queue = TableQueue(connection, "hooks", max_attempts=2)
    fill(queue, 1)
    attempts = []

    def fail():
        with queue.working() as message:
            attempts.append(message.attempts)
            connection.execute(EFFECT, (message.id,))
            raise ValueError("the hook answered 500\0")

    for _ in range(2):
        with pytest.raises(ValueError, match="500"):
            fail()
    assert attempts == [1, 2]
    assert effects(connection) == Counter()
    with queue.working() as message:
        assert message is None
    (letter,) = queue.dead_letters()
    assert (letter.attempts, letter.reason) == (2, "ValueError: the hook answered 500")


def test_two_work_at_a_time_on_different_messages(queue, other):
    ids = fill(queue, 2)
    second = TableQueue(other, "hooks")
    with queue.working() as mine, second.working() as theirs:
        assert [mine.id, theirs.id] == ids
    assert queue.state().done == 2


def test_what_is_rejected_is_put_off_and_then_given_up(connection):
    queue = TableQueue(connection, "hooks", max_attempts=2, retry_s=60)
    fill(queue, 1)
    (message,) = queue.receive()
    assert queue.reject(message, "500") == "again"
    assert queue.state() == TableState(waiting=0, later=1, dead=0, done=0)
    connection.execute("UPDATE queue_messages SET visible_at = now()")
    assert queue.reject(queue.receive()[0], "500") == "dead"
    assert queue.state() == TableState(waiting=0, later=0, dead=1, done=0)


def test_the_same_key_is_one_message_and_waits_for_nobody(queue, other):
    (first,) = fill(queue, 1)
    with queue.working():
        other.execute("SET statement_timeout = '5s'")
        assert TableQueue(other, "hooks").publish({}, key="k0") == first
    assert queue.publish({}, key="k0") == first  # it is done, and known
    assert queue.state() == TableState(waiting=0, later=0, dead=0, done=1)
    assert TableQueue(other, "another").publish({}, key="k0") != first
    assert queue.publish({}) != queue.publish({})
    queue.purge(older_than_s=0)
    assert queue.publish({}, key="k0") != first


def test_many_consumers_claim_each_message_once(database, queue):
    ids = fill(queue, 200)
    got, threads = [], []

    def consume():
        with psycopg.connect(database, autocommit=True) as connection:
            mine = TableQueue(connection, "hooks")
            while messages := mine.receive(3):
                assert len(messages) <= 3
                got.extend(m.id for m in messages)

    for _ in range(6):
        threads.append(threading.Thread(target=consume))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert Counter(got) == Counter(ids)


def test_who_waits_is_woken(queue, other):
    consumer = TableQueue(other, "hooks")
    assert not consumer.wait(0.01)
    timer = threading.Timer(0.1, queue.publish, [{"n": 1}])
    timer.start()
    assert consumer.wait(20)
    timer.join()
    assert consumer.receive()[0].body == {"n": 1}
    queue.publish({"n": 2})  # before anybody waits
    assert consumer.wait(20)
    other_queue = TableQueue(queue._connection, "another")
    consumer.receive()
    list(other.notifies(timeout=0.1))
    other_queue.publish({})
    assert not consumer.wait(0.1)


def test_the_partial_index_serves_a_claim(queue, connection):
    connection.execute(
        "INSERT INTO queue_messages (queue, body, done_at) "
        "SELECT 'hooks', '{}', now() FROM generate_series(1, 5000)"
    )
    fill(queue, 3)
    connection.execute("ANALYZE queue_messages")
    plan = connection.execute(
        "EXPLAIN (FORMAT JSON)" + WAITING, {"queue": "hooks", "count": 10}
    ).fetchone()
    assert "queue_messages_waiting_idx" in str(plan)


def test_what_needs_its_own_transaction_says_so(queue, connection, database):
    with connection.transaction():
        for call in (queue.receive, lambda: queue.wait(1), lambda: queue.working().__enter__()):
            with pytest.raises(ConfigError, match="a transaction is open"):
                call()
    with (
        psycopg.connect(database) as plain,
        pytest.raises(ConfigError, match="autocommit=True"),
    ):
        TableQueue(plain, "hooks").wait(1)


def test_without_autocommit_each_step_is_committed(database, queue):
    with psycopg.connect(database) as plain:
        mine = TableQueue(plain, "hooks")
        mine.publish({"n": 1})
        (message,) = mine.receive()
        assert queue.receive() == []
        assert mine.acknowledge(message)
        assert queue.state().done == 1


@pytest.mark.parametrize("settings", [{"max_attempts": 0}, {"visible_s": 0}, {"retry_s": -1}])
def test_settings_that_cannot_be(connection, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        TableQueue(connection, "hooks", **settings)
    with pytest.raises(ConfigError, match="57 bytes"):
        TableQueue(connection, "ñ" * 40)


def test_a_body_that_is_no_json(queue):
    with pytest.raises(ConfigError, match="NUL"):
        queue.publish({"a": "\0"})
    assert queue.state().waiting == 0


def test_a_consumer_that_was_not_killed_is_an_error(connection):
    with pytest.raises(LabError, match="ended with 0 instead of being killed"):
        killed_table_consumer(connection, "empty", how="working")


def test_seen_for_the_first_time(connection, other):
    with connection.transaction():
        assert first_time(connection, "billing", "m1")
        assert not first_time(connection, "billing", "m1")
    assert not first_time(other, "billing", "m1")
    assert first_time(other, "audit", "m1")
    with connection.transaction(force_rollback=True):
        assert first_time(connection, "billing", "m2")  # undone, as its effects
    assert first_time(other, "billing", "m2")


def test_a_failure_is_counted_before_another_worker_can_take_the_message(connection, other):
    """Else it would be handed out at once, whatever ``retry_s`` says, and once too often."""
    queue = TableQueue(connection, "hooks", retry_s=60)
    rival = TableQueue(other, "hooks")
    queue.publish({"n": 1})
    count, seen = queue._count_failure, []

    def count_after_the_rival(message, error):
        with rival.working() as taken:
            seen.append(taken)
        count(message, error)

    queue._count_failure = count_after_the_rival
    with pytest.raises(ZeroDivisionError), queue.working():
        raise ZeroDivisionError
    assert seen == [None]
    with rival.working() as taken:
        assert taken is None
    assert queue.state() == TableState(waiting=0, later=1, dead=0, done=0)


def test_a_failure_at_the_commit_is_counted_too(queue, connection):
    connection.execute(
        "CREATE TABLE late (n integer CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO late VALUES (1)"
    )
    queue.publish({"n": 1})
    with pytest.raises(psycopg.errors.UniqueViolation), queue.working():
        connection.execute("INSERT INTO late VALUES (1)")
    with queue.working() as again:
        assert again.attempts == 2


def test_what_another_works_on_is_not_announced(queue, other):
    queue.publish({"n": 1})
    assert queue.wait(0.05)
    with TableQueue(other, "hooks").working() as message:
        assert message is not None
        queue.wait(0.05)  # hears of what was published before it listened
        assert not queue.wait(0.05)


def test_a_message_in_hand_has_no_claim_to_extend(queue):
    queue.publish({"n": 1})
    with queue.working() as message:
        with pytest.raises(ConfigError, match="held by working"):
            queue.keep(message)
        with pytest.raises(ConfigError, match="held by working"):
            queue.reject(message, "no")
