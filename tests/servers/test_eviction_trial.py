"""What a full Redis throws away: as its policy says, and the trial tells."""

from __future__ import annotations

import pytest

from pglab.notebook.eviction_trial import POLICIES, compare_policies, eviction_trial, zipf_requests
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def rows():
    with ScratchRedis() as server, server.client() as client:
        return {row["policy"]: row for row in compare_policies(client)}


def test_each_policy_has_a_row(rows):
    assert tuple(rows) == POLICIES


def test_only_noeviction_refuses_to_write_and_evicts_nothing(rows):
    for policy, row in rows.items():
        assert (row["writes refused"] > 1_000) == (policy == "noeviction")
        assert (row["evicted"] == 0) == (policy == "noeviction")


def test_all_keys_policies_throw_away_what_is_no_copy(rows):
    for policy, row in rows.items():
        left = row["precious left of 100"]
        assert left < 50 if policy.startswith("allkeys") else left == 100


def test_all_hold_a_part_and_hit_often(rows):
    for row in rows.values():
        assert 500 < row["copies held"] < 2_000
        assert 50 < row["hit ratio %"] < 95


def test_frequency_beats_chance(rows):
    assert rows["allkeys-lfu"]["hit ratio %"] > rows["allkeys-random"]["hit ratio %"] + 2


def test_it_begins_anew_each_time():
    with ScratchRedis() as server, server.client() as client:
        client.set("from before", "x")
        row = eviction_trial(client, "noeviction", keys=50, requests=200, precious=5)
        assert client.exists("from before") == 0
        assert (row["copies held"], row["precious left of 5"], row["writes refused"]) == (50, 5, 0)


def test_zipf_requests_are_seeded_and_fall():
    drawn = zipf_requests(100, 5_000)
    assert drawn == zipf_requests(100, 5_000)
    assert drawn.count(0) > 3 * drawn.count(9) > 0
    assert set(drawn) <= set(range(100))
