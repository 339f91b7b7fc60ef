"""Redis watched: what it holds, what was slow, which keys take the memory."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pglab.errors import ConfigError, ServerUnreachableError
from pglab.monitor import REDIS_MEASURES, look_at_redis
from pglab.servers.scratch import ScratchRedis

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("monitor-redis")]


@pytest.fixture(scope="module")
def scratch() -> Iterator[ScratchRedis]:
    with ScratchRedis({"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}) as made:
        yield made


@pytest.fixture(autouse=True)
def _empty(scratch: ScratchRedis) -> None:
    with scratch.client() as client:
        client.flushall()
        client.config_resetstat()
        client.slowlog_reset()


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("name", REDIS_MEASURES)
def test_it_answers_with_the_columns_that_it_describes(
    scratch: ScratchRedis, name: str, decoded: bool
) -> None:
    with scratch.client(decode_responses=decoded) as client:
        client.set("session:1", "x")
        client.config_set("slowlog-log-slower-than", 0)
        client.get("session:1")
        reading = look_at_redis(client, name)
        client.config_set("slowlog-log-slower-than", 10_000)
    assert reading.rows
    assert reading.skipped == ""
    assert list(reading.rows[0]) == list(reading.measure.columns)
    json.dumps(reading.to_json(), default=str)


def test_what_info_counts(scratch: ScratchRedis) -> None:
    with scratch.client() as client:
        for n in range(10):
            client.set(f"k{n}", n, ex=100 if n < 4 else None)
        for n in range(20):
            client.get(f"k{n}")
        (row,) = look_at_redis(client, "redis_info").rows
    assert (row["keys"], row["keys_that_expire"]) == (10, 4)
    assert (row["hits"], row["misses"], row["hit_ratio"]) == (10, 10, 0.5)
    assert row["max_memory_bytes"] == 64 * 1024**2
    assert row["policy"] == "allkeys-lru"
    assert row["evicted"] == 0


def test_memory_by_kind_of_key(scratch: ScratchRedis) -> None:
    with scratch.client() as client, client.pipeline() as pipeline:
        for n in range(300):
            pipeline.set(f"session:{n}", "x" * 1000, ex=100)
            pipeline.hset(f"contact:5191{n:07}@s.whatsapp.net", "name", "Ana")
        pipeline.rpush(b"queue:\xff", *range(10))
        pipeline.execute()
        taken = client.memory_usage("session:7")
        rows = {r["pattern"]: r for r in look_at_redis(client, "redis_memory").rows}
    assert next(iter(rows)) == "session:*"
    assert rows["session:*"]["estimated_keys"] == 300
    assert rows["session:*"]["without_ttl"] == 0
    assert rows["session:*"]["mean_bytes"] == pytest.approx(taken, rel=0.02)
    assert rows["contact:*@s.whatsapp.net"]["type"] == "hash"
    assert rows["contact:*@s.whatsapp.net"]["without_ttl"] == 1
    assert rows["queue:\\xff"]["type"] == "list"


def test_many_keys_are_sampled_and_the_rest_is_estimated(scratch: ScratchRedis) -> None:
    with scratch.client() as client:
        for first in range(0, 40_000, 10_000):
            client.mset({f"a:{n}": "x" * 50 for n in range(first, first + 7_500)})
            client.mset({f"b:{n}": "x" * 50 for n in range(first + 7_500, first + 10_000)})
        reading = look_at_redis(client, "redis_memory")
    rows = {row["pattern"]: row for row in reading.rows}
    assert rows["a:*"]["sampled_share"] < 0.2
    assert rows["a:*"]["keys_seen"] < 10_000
    assert rows["a:*"]["estimated_keys"] == pytest.approx(30_000, rel=0.1)
    assert rows["b:*"]["estimated_keys"] == pytest.approx(10_000, rel=0.2)
    assert any("never expire" in finding.text for finding in reading.findings)


def test_a_slow_command_is_named_without_its_values(scratch: ScratchRedis) -> None:
    with scratch.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.set("session:1", "a secret")
        client.config_set("slowlog-log-slower-than", 10_000)
        reading = look_at_redis(client, "redis_slowlog")
    assert "SET session:1 …" in [row["command"] for row in reading.rows]
    assert "secret" not in json.dumps(reading.to_json(), default=str)
    assert reading.findings[0].text.startswith("the slowest of the last ")


def test_a_user_who_may_not_is_told(scratch: ScratchRedis) -> None:
    with scratch.client() as admin:
        admin.acl_setuser(
            "watcher", enabled=True, passwords=["+a password"], commands=["+info", "+hello"],
            categories=["-@all"],
        )  # fmt: skip
        try:
            with scratch.client(username="watcher", password="a password") as client:
                assert look_at_redis(client, "redis_info").rows
                reading = look_at_redis(client, "redis_slowlog")
                assert reading.rows == ()
                assert "no permissions" in reading.skipped.lower()
                # The remedies, as they are told, are enough, and each asks for no more than it is.
                for name in ("redis_slowlog", "redis_memory"):
                    said = look_at_redis(client, name).skipped.partition("ACL SETUSER ")[2]
                    assert said.startswith("watcher +")
                    assert "@" not in said
                    admin.execute_command("ACL", "SETUSER", *said.split())
                    assert look_at_redis(client, name).skipped == ""
        finally:
            admin.acl_deluser("watcher")


def test_a_redis_that_is_gone(scratch: ScratchRedis) -> None:
    with ScratchRedis() as other:
        client = other.client()
        other.kill()
        with pytest.raises(ServerUnreachableError, match="Redis does not answer"):
            look_at_redis(client, "redis_info")
        client.close()


def test_an_unknown_name(scratch: ScratchRedis) -> None:
    with scratch.client() as client, pytest.raises(ConfigError, match="choose of: redis_info"):
        look_at_redis(client, "info")
