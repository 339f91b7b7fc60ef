"""Reading through a cache, and what is said about it, without a server."""

from __future__ import annotations

import datetime as dt
import pickle
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from unit.bench_support import case, variant

from pglab.bench.cache_findings import break_even_lines
from pglab.bench.cache_reads import LocalCache, Read, ReadThrough
from pglab.bench.cases import cached, floors, loading, stack
from pglab.bench.words import duration


@dataclass
class Row:
    id: uuid.UUID | None
    sent_at: dt.datetime | None
    body: str
    settings: dict[str, Any]
    n: int
    yes: bool
    nothing: None


READ = Read("SELECT …", Row)
ROWS = [
    {
        "id": uuid.UUID(int=7),
        "sent_at": dt.datetime(2026, 2, 16, 0, 21, 56, 125, tzinfo=dt.UTC),
        "body": 'tildes ¿é?, "quotes", 📵 and a line\nbreak',
        "settings": {"bot": {"minutes": 10}, "empty": []},
        "n": 1,
        "yes": True,
        "nothing": None,
    },
    {
        "id": None,
        "sent_at": None,
        "body": "",
        "settings": {},
        "n": 0,
        "yes": False,
        "nothing": None,
    },
]


def test_what_is_decoded_equals_what_was_encoded():
    found = READ.decode(READ.encode(ROWS))
    assert found == ROWS
    for row, was in zip(found, ROWS, strict=True):
        assert list(map(type, row.values())) == list(map(type, was.values()))
    assert READ.decode(READ.encode([])) == []


def test_moments_are_iso_text():
    assert b'"2026-02-16T00:21:56.000125Z"' in READ.encode(ROWS)


def test_a_value_that_json_has_no_form_for_is_refused():
    with pytest.raises(TypeError, match="complex is unsupported"):
        READ.encode([{"id": 1j}])


def test_a_value_of_another_type_than_announced_is_refused():
    text = READ.encode([{**ROWS[0], "id": dt.timedelta(1)}])
    with pytest.raises(msgspec.ValidationError, match=r"Invalid UUID - at `\$\[0\].id`"):
        READ.decode(text)


def test_the_least_recently_used_key_goes_first():
    cache = LocalCache(2, 60_000)
    cache.set("a", [{"n": 1}])
    cache.set("b", [{"n": 2}])
    assert cache.get("a") == [{"n": 1}]
    cache.set("c", [{"n": 3}])
    assert cache.get("b") is None
    assert cache.get("a") == [{"n": 1}]
    assert cache.get("c") == [{"n": 3}]


def test_a_key_goes_when_its_ttl_has_passed():
    cache = LocalCache(2, 20)
    cache.set("a", ROWS)
    assert cache.get("a") is ROWS
    time.sleep(0.03)
    assert cache.get("a") is None


def test_the_database_is_asked_for_misses_only_and_they_are_counted():
    asked = []

    def database(parameters):
        asked.append(parameters["id"])
        return [{"id": parameters["id"]}]

    through = ReadThrough(LocalCache(10, 60_000), database)
    assert through.measures() == {}
    for key in (1, 2, 1, 1):
        assert through(str(key), {"id": key}) == [{"id": key}]
    assert asked == [1, 2]
    assert through.measures()["hit_ratio"] == 0.5
    assert through.measures()["miss_us"] > 0
    through.forget()
    assert through.measures() == {}
    through("1", {"id": 1})
    assert through.measures() == {"hit_ratio": 1.0}


def test_that_there_are_no_rows_is_kept_too():
    through = ReadThrough(LocalCache(10, 60_000), lambda _: [])
    assert through("x", {}) == through("x", {}) == []
    assert through.hits == 1


def test_operations_can_be_sent_to_other_processes():
    for module in (cached, floors, loading, stack):
        for shipped in module.CASES:
            for each in shipped.variants:
                copy = pickle.loads(pickle.dumps(each.operation))
                assert copy == each.operation


def one_case(*variants):
    return case({100_000: variants}, picture="bars")


def exactly(name, median_us):
    """A variant whose every round has this median."""
    made = variant(name, median_us)
    return replace(made, rounds=tuple(replace(each, median_us=median_us) for each in made.rounds))


@pytest.mark.parametrize(
    ("latencies", "said"),
    [
        ((117, 481, 122), "caching pays above a hit rate of 98.6 %"),
        ((36, 191, 56), "caching pays above a hit rate of 87.1 %"),
        ((130, 481, 122), "caching does not pay at any hit rate, since a hit is no faster"),
        ((2, 100, 122), "caching pays at any hit rate, as far as this run can tell"),
    ],
)
def test_the_break_even_hit_rate_is_said(latencies, said):
    names = ("Redis hit", "Redis miss", "PostgreSQL")
    (line,) = break_even_lines(one_case(*map(exactly, names, latencies)))
    hit, miss, alone = (duration(float(us)) for us in latencies)
    assert f"Redis: a hit {hit}, a miss {miss}, PostgreSQL alone {alone}: {said}" in line


def test_each_cache_of_a_case_has_a_sentence_and_nothing_else_has():
    alone = variant("PostgreSQL", 100.0)
    redis = [variant("Redis hit", 50.0), variant("Redis miss", 300.0)]
    local = [variant("in-process hit", 1.0), variant("in-process miss", 110.0)]
    assert len(break_even_lines(one_case(alone, *redis, *local))) == 2
    assert len(break_even_lines(one_case(redis[0], *local, alone))) == 1
    assert break_even_lines(one_case(*redis)) == []
    assert break_even_lines(one_case(alone, redis[0])) == []
    assert break_even_lines(one_case(alone, variant("Redis, TTL 5 ms", 20.0))) == []
