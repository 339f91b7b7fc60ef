"""The queue in Redis: nothing is lost when a consumer is killed, and losses are counted."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from cache_support import wait_until

from pglab.errors import ConfigError, LabError
from pglab.queues import QueueFullError, StreamQueue, StreamState
from pglab.queues.killed import killed_stream_consumer
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server

SOON_S = 0.05


@pytest.fixture(scope="module")
def server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def redis(server):
    with server.client(socket_timeout=10) as client:
        client.flushall()
        yield client


@pytest.fixture
def queue(redis):
    return StreamQueue(redis, "hooks")


def fill(queue, count):
    return [queue.publish({"n": n}, key=f"k{n}") for n in range(count)]


def drain(queue):
    """Receive and acknowledge until nothing is left; return the messages."""
    got = []
    while (state := queue.state()).waiting or state.pending:
        for message in queue.receive(10):
            got.append(message)
            assert queue.acknowledge(message)
    return got


def test_in_order_and_gone_when_acknowledged(queue, redis):
    ids = fill(queue, 5)
    assert queue.state() == StreamState(waiting=5, pending=0, dead=0, trimmed=0)
    first = queue.receive(2)
    assert [(m.id, m.body, m.key, m.attempts) for m in first] == [
        (ids[0], {"n": 0}, "k0", 1),
        (ids[1], {"n": 1}, "k1", 1),
    ]
    assert queue.state() == StreamState(waiting=3, pending=2, dead=0, trimmed=0)
    assert queue.acknowledge(first[0])
    assert not queue.acknowledge(first[0])
    assert queue.state() == StreamState(waiting=3, pending=1, dead=0, trimmed=0)
    assert redis.xlen(queue.stream) == 4
    assert [m.body["n"] for m in queue.receive(10)] == [2, 3, 4]
    assert queue.receive() == []


def test_a_body_comes_back_as_it_was(queue):
    body = {"text": 'ñ "quoted" 🙂\n', "list": [1, None, 2.5], "deep": {"a": True}}
    queue.publish(body)
    (message,) = queue.receive()
    assert (message.body, message.key) == (body, "")


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}])
def test_any_kind_of_client_will_do(server, redis, options):
    with server.client(**options) as client:
        queue = StreamQueue(client, "hooks", idle_s=0.001, max_attempts=1)
        (first, _) = fill(queue, 2)
        (message,) = queue.receive()
        assert (message.id, message.body, message.key) == (first, {"n": 0}, "k0")
        wait_until(
            "idle", lambda: client.xpending_range(queue.stream, "workers", "-", "+", 1, idle=1)
        )
        (second,) = queue.receive()
        assert queue.acknowledge(second)
        assert [letter.id for letter in queue.dead_letters()] != []
        assert queue.revive(queue.dead_letters()[0])
        assert queue.state() == StreamState(waiting=1, pending=0, dead=0, trimmed=0)


def test_two_consumers_share_the_work(redis):
    one, other = StreamQueue(redis, "hooks"), StreamQueue(redis, "hooks")
    fill(one, 10)
    got = [*one.receive(5), *other.receive(5)]
    assert sorted(m.body["n"] for m in got) == list(range(10))


def test_a_consumer_waits_for_a_message(queue):
    timer = threading.Timer(0.1, queue.publish, [{"n": 7}])
    timer.start()
    assert [m.body for m in queue.receive(block_s=5)] == [{"n": 7}]
    timer.join()
    assert queue.receive(block_s=0.01) == []


@pytest.mark.parametrize("worked", [True, False])
def test_a_consumer_killed_in_mid_message_loses_nothing(redis, worked):
    ids = fill(StreamQueue(redis, "hooks"), 20)
    done = killed_stream_consumer(redis, "hooks", after=3, worked=worked)
    assert done == ids[: 4 if worked else 3]
    queue = StreamQueue(redis, "hooks", idle_s=SOON_S)
    assert queue.state() == StreamState(waiting=16, pending=1, dead=0, trimmed=0)
    again = drain(queue)
    work = Counter(done + [message.id for message in again])
    assert set(work) == set(ids)
    twice = [message for message, times in work.items() if times > 1]
    assert twice == ([ids[3]] if worked else [])
    assert [m.id for m in again if m.attempts == 2] == [ids[3]]


def names(redis, queue):
    return {each["name"].decode() for each in redis.xinfo_consumers(queue.stream, "workers")}


def test_who_leaves_is_forgotten_and_only_when_his_work_is_done(redis):
    one, other = StreamQueue(redis, "hooks"), StreamQueue(redis, "hooks")
    fill(one, 2)
    (message,) = one.receive()
    other.receive()
    assert one.leave() == 0  # its message would be forgotten with it
    assert one.acknowledge(message)
    assert names(redis, one) == {one.consumer, other.consumer}
    assert one.leave() == 1
    assert names(redis, one) == {other.consumer}
    assert one.receive() == []  # and may come back
    assert one.consumer in names(redis, one)


def test_the_killed_are_forgotten_once_their_work_was_taken_over(redis):
    queue = StreamQueue(redis, "hooks", idle_s=SOON_S)
    fill(queue, 3)
    killed_stream_consumer(redis, "hooks", after=0)
    assert len(names(redis, queue)) == 1
    drain(queue)
    wait_until("idle", lambda: redis.xinfo_consumers(queue.stream, "workers")[0]["idle"] > 0)
    late = StreamQueue(redis, "hooks", idle_s=0.001)
    threading.Event().wait(0.02)
    assert late.leave() == 2
    assert names(redis, queue) == set()


def test_leaving_a_queue_that_is_not_there_is_harmless(redis):
    assert StreamQueue(redis, "never").leave() == 0


def test_killed_again_and_again(redis):
    ids = fill(StreamQueue(redis, "hooks"), 12)
    work = Counter()
    for _ in range(4):
        done = killed_stream_consumer(redis, "hooks", after=1, idle_s=0.001)
        work.update(done)
    work.update(m.id for m in drain(StreamQueue(redis, "hooks", idle_s=0.001)))
    assert set(work) == set(ids)
    # Each of four was killed after its work: so many were done twice, at most.
    assert sum(work.values()) - len(ids) == 4


def test_a_message_in_the_hands_of_the_living_is_left_alone(redis):
    one, other = StreamQueue(redis, "hooks"), StreamQueue(redis, "hooks")
    fill(one, 1)
    assert len(one.receive()) == 1
    assert other.receive() == []


def test_who_says_that_he_still_works_keeps_it(redis):
    one, other = (StreamQueue(redis, "hooks", idle_s=0.3) for _ in range(2))
    fill(one, 1)
    (message,) = one.receive()
    for _ in range(5):
        threading.Event().wait(0.1)
        assert one.keep(message)
    assert redis.xpending_range(one.stream, "workers", "-", "+", 1)[0]["times_delivered"] == 1
    taken = []
    wait_until("taken over", lambda: taken.extend(other.receive()) or taken)
    assert taken[0].attempts == 2  # what was kept is no delivery
    assert not one.keep(message)


def test_a_message_that_kills_its_consumers_becomes_a_dead_letter(redis):
    queue = StreamQueue(redis, "hooks", idle_s=0.001, max_attempts=2)
    (poison,) = fill(queue, 1)
    for _ in range(2):
        settings = {"idle_s": 0.001, "max_attempts": 2}
        assert killed_stream_consumer(redis, "hooks", worked=False, **settings) == []
    later = queue.publish({"n": 99})
    wait_until("idle", lambda: redis.xpending_range(queue.stream, "workers", "-", "+", 1, idle=1))
    assert [m.id for m in queue.receive(5)] == [later]
    (letter,) = queue.dead_letters()
    assert (letter.body, letter.key, letter.attempts) == ({"n": 0}, "k0", 2)
    assert letter.reason == "no answer to 2 deliveries"
    assert queue.state() == StreamState(waiting=0, pending=1, dead=1, trimmed=0)
    assert queue.revive(letter)
    assert not queue.revive(letter)
    (message,) = [m for m in queue.receive(5) if m.id != later]
    assert (message.body, message.attempts) == ({"n": 0}, 1)
    assert message.id != poison


def test_what_is_rejected_comes_again_and_then_no_more(redis):
    queue = StreamQueue(redis, "hooks", idle_s=0.001, max_attempts=2)
    fill(queue, 1)
    (message,) = queue.receive()
    assert queue.reject(message, "the hook answered 500") == "again"
    got = []
    wait_until("again", lambda: got.extend(queue.receive()) or got)
    assert queue.reject(got[0], "the hook answered 500") == "dead"
    assert [letter.reason for letter in queue.dead_letters()] == ["the hook answered 500"]
    assert queue.receive() == []


def test_the_same_key_is_one_message(redis, queue):
    first = queue.publish({"n": 1}, key="3EB0")
    assert queue.publish({"n": 1}, key="3EB0") == first
    queue.acknowledge(queue.receive()[0])
    assert queue.publish({"n": 1}, key="3EB0") == first
    assert queue.state() == StreamState(0, 0, 0, 0)
    assert queue.publish({"n": 1}) != queue.publish({"n": 1})
    short = StreamQueue(redis, "short", remember_s=0.01)
    known = short.publish({}, key="a")
    wait_until("forgotten", lambda: short.publish({}, key="a") != known)


def test_the_same_key_from_many_at_once(queue):
    ids, threads = [], []
    for _ in range(10):
        threads.append(threading.Thread(target=lambda: ids.append(queue.publish({}, key="x"))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(ids) == 10
    assert len(set(ids)) == 1
    assert queue.state().waiting == 1


def test_trimming_loses_the_oldest_even_in_mid_work_and_counts_them(redis):
    queue = StreamQueue(redis, "hooks", max_length=5, idle_s=0.001)
    ids = fill(queue, 5)
    (held,) = queue.receive()
    more = [queue.publish({"n": n}) for n in (5, 6)]
    assert queue.state().trimmed == 2
    assert not queue.acknowledge(held)
    assert [m.id for m in drain(queue)] == [*ids[2:], *more]


def test_a_trimmed_message_is_not_handed_out_as_rubbish(redis):
    queue = StreamQueue(redis, "hooks", max_length=1, idle_s=0.001)
    fill(queue, 1)
    queue.receive()
    kept = queue.publish({"n": 1})
    assert queue.state() == StreamState(waiting=1, pending=0, dead=0, trimmed=1)
    assert [m.id for m in queue.receive(5)] == [kept]
    assert queue.state() == StreamState(waiting=0, pending=1, dead=0, trimmed=1)


def test_a_queue_may_refuse_instead(redis):
    queue = StreamQueue(redis, "hooks", max_length=2, when_full="refuse")
    fill(queue, 2)
    with pytest.raises(QueueFullError, match="holds 2 messages"):
        queue.publish({"n": 2}, key="k2")
    assert queue.publish({"n": 1}, key="k1")  # it is there already
    queue.acknowledge(queue.receive()[0])
    queue.publish({"n": 2}, key="k2")
    assert queue.state() == StreamState(waiting=2, pending=0, dead=0, trimmed=0)


def test_redis_forgets_and_the_queue_goes_on(server, redis):
    queue = StreamQueue(redis, "hooks")
    fill(queue, 3)
    queue.receive()
    server.kill()
    server.start()
    redis.connection_pool.disconnect()
    assert queue.state() == StreamState(0, 0, 0, 0)  # that is the loss
    fill(queue, 1)
    assert [m.body for m in queue.receive(5)] == [{"n": 0}]


def test_queues_and_prefixes_are_apart(redis):
    queues = [StreamQueue(redis, "a"), StreamQueue(redis, "b"), StreamQueue(redis, "a", prefix="l")]
    for number, queue in enumerate(queues):
        queue.publish({"n": number}, key="same")
    assert [queue.receive()[0].body["n"] for queue in queues] == [0, 1, 2]
    for queue in queues:
        queue.delete()
    assert {key for key in map(str, redis.keys()) if ":key:" not in key} == set()


@pytest.mark.parametrize(
    "settings",
    [{"max_length": 0}, {"max_attempts": 0}, {"idle_s": 0}, {"remember_s": 0}, {"when_full": "x"}],
)
def test_settings_that_cannot_be(redis, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        StreamQueue(redis, "hooks", **settings)


@pytest.mark.parametrize(
    "body",
    [{"a": object()}, {"a": float("nan")}, {"a": "\0"}, {"a": "\ud800"}, {"a": {"b\0": 1}}],
)
def test_a_body_that_is_no_json(queue, body):
    with pytest.raises(ConfigError, match="a message"):
        queue.publish(body)
    assert queue.state().waiting == 0


def test_a_backslash_before_u0000_is_text(queue):
    queue.publish({"a": "\\u0000"})
    assert queue.receive()[0].body == {"a": "\\u0000"}


def test_a_consumer_that_was_not_killed_is_an_error(redis, capfd):
    with pytest.raises(LabError, match="ended with 1 instead of being killed"):
        killed_stream_consumer(redis, "empty")
    assert "Traceback" in capfd.readouterr().err


def test_what_its_owner_acknowledges_while_it_is_claimed_is_not_handed_out(redis, monkeypatch):
    slow = StreamQueue(redis, "hooks", idle_s=0.05)
    quick = StreamQueue(redis, "hooks", idle_s=0.05)
    slow.publish({"n": 1})
    (message,) = slow.receive()
    time.sleep(0.1)
    attempts = quick._attempts

    def asked_too_late(entry):
        assert slow.acknowledge(message)
        return attempts(entry)

    monkeypatch.setattr(quick, "_attempts", asked_too_late)
    assert quick.receive() == []


def test_what_was_acknowledged_cannot_be_kept(queue):
    queue.publish({"n": 1})
    (message,) = queue.receive()
    assert queue.keep(message)
    assert queue.acknowledge(message)
    assert not queue.keep(message)
