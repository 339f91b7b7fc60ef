"""The cached cases; and all of floors, stack, loading and cached run, on real servers."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import ExitStack
from itertools import pairwise

import pytest
from bench_case_support import a_ground
from psycopg.rows import dict_row

from pglab.bench import Case, Options, Variant, run
from pglab.bench.cache_findings import break_even_lines
from pglab.bench.cases import cached, floors, loading, stack
from pglab.bench.cases._reading import Reading
from pglab.bench.operations import positional
from pglab.bench.size_run import parameters_of
from pglab.bench.words import duration

pytestmark = pytest.mark.server

CASES = (*floors.CASES, *stack.CASES, *loading.CASES, *cached.CASES)
NAMES = [case.name for case in CASES]
SIZE = 2_000
OPTIONS = Options(rounds=2, round_seconds=0.005, warm_up_seconds=0.05)
MIXES = [case for case in cached.CASES if case.picture == "hit_ratio"]


def case_named(name):
    return next(case for case in CASES if case.name == name)


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def result(lab_home):
    return run(CASES, sizes=[SIZE], options=OPTIONS, progress=False)


@pytest.fixture(scope="module")
def ground(lab_home):
    with a_ground(SIZE) as opened:
        yield opened


@pytest.fixture
def places(ground):
    """Return what opens a variant's place; all are closed with the test."""
    with ExitStack() as stack_:
        yield lambda case, variant: stack_.enter_context(ground.place(case, variant))


@pytest.mark.parametrize(
    ("read", "draw"),
    [
        (cached._SESSION, "SELECT name FROM instances"),
        (cached._MESSAGE, "SELECT id FROM messages"),
        (cached._PAGE, cached._PAGES),
        (cached._INBOX, cached._INBOXES),
    ],
    ids=["session", "message", "page", "inbox"],
)
def test_what_a_cache_returns_is_what_the_database_returned(ground, read, draw):
    seen = {}
    with ground.connect() as connection, connection.transaction(force_rollback=True):
        # Columns that are hardly ever filled: a wrong type would not show on NULL.
        connection.execute(
            "UPDATE messages SET edited_at = sent_at, deleted_at = sent_at, sender_jid = 'x' "
            "WHERE id % 3 = 0; UPDATE instances SET state_changed_at = now(), phone_number = "
            "'51987650001'; UPDATE sessions SET key_id = 'k'"
        )
        cursor = connection.cursor(row_factory=dict_row)
        for parameters in cursor.execute(draw).fetchall():
            rows = cursor.execute(read.sql, parameters).fetchall()
            assert read.decode(read.encode(rows)) == rows
            for row in rows:
                seen |= {name: value for name, value in row.items() if value is not None}
    assert set(seen) == set(read.row.__annotations__)  # each column with a value, once at least


def keys_of(ground, prefix):
    with ground.servers.redis() as client:
        return {key: client.pttl(key) for key in client.scan_iter(match=f"{prefix}:*")}


def asked(places, case, variant):
    """Return what does reading number i of a cached variant, its counts, and its place."""
    place = places(case, variant)
    ask, through = variant.operation.asked(place, parameters_of(case, place, OPTIONS))
    return ask, through, place


def from_the_database(place, case):
    """Return what PostgreSQL answers to reading number i, asked without any code of the cases."""
    read = case.baseline.operation.read
    given = parameters_of(case, place, OPTIONS)
    names = positional(read.sql)[1]

    def answer(i):
        cursor = place.connection.cursor(row_factory=dict_row)
        row = dict(zip(names, given[i % len(given)], strict=True))
        return cursor.execute(read.sql, row).fetchall()

    return answer


@pytest.mark.parametrize("name", NAMES)
def test_every_case_runs(result, name):
    found = result.case(name)
    case = case_named(name)
    assert [variant.name for variant in found.at(SIZE).variants] == [
        variant.name for variant in case.variants
    ]
    for variant in found.at(SIZE).variants:
        assert len(variant.rounds) == OPTIONS.rounds
        assert all(each.rows >= each.operations for each in variant.rounds)
    assert str(result)


def test_every_case_belongs_to_its_module():
    for module in (floors, stack, loading, cached):
        group = module.__name__.rpartition(".")[2]
        assert {case.group for case in module.CASES} == {group}
    assert len(set(NAMES)) == len(NAMES)


def test_what_asks_the_database_has_its_plan_looked_at(result):
    for case in cached.CASES:
        for variant in result.case(case.name).at(SIZE).variants:
            assert (variant.plan is None) == variant.name.endswith(" hit")
    for case in stack.CASES:
        plans = [variant.plan for variant in result.case(case.name).at(SIZE).variants]
        assert len({plan.nodes for plan in plans}) == 1
        assert all(plan.claim for plan in plans)


# The caches.


@pytest.mark.parametrize("name", [c.name for c in cached.CASES if c not in MIXES])
def test_hits_are_all_hits_and_misses_all_misses(result, name):
    counted = 0
    for variant in result.case(name).at(SIZE).variants:
        if variant.name.endswith((" hit", " miss")):
            counted += 1
            assert variant.measures["hit_ratio"] == variant.name.endswith(" hit")
            assert ("miss_us" in variant.measures) == variant.name.endswith(" miss")
        else:
            assert "hit_ratio" not in variant.measures
    assert counted >= 2


@by_name(MIXES)
def test_a_mix_counts_its_own_rounds_only(result, case):
    for variant in result.case(case.name).at(SIZE).variants[1:]:
        assert 0 < variant.measures["hit_ratio"] <= 1
        # What warms a cache up is no reading of a round.
        total = variant.measures["hit_ratio"] * sum(each.operations for each in variant.rounds)
        assert total == pytest.approx(round(total))


def test_more_keys_hit_more_often(result):
    found = result.case("mix-inbox").at(SIZE).variants
    ratios = [v.measures["hit_ratio"] for v in found if v.name.startswith("in-process, ")]
    assert len(ratios) == 3
    assert all(fewer < more for fewer, more in pairwise(ratios))


@by_name(cached.CASES)
def test_every_variant_gives_what_the_database_has(places, case):
    answer = None
    for variant in case.variants:
        ask, through, place = asked(places, case, variant)
        answer = answer or from_the_database(place, case)
        for i in (0, 1, 7, 7):  # the last of them is a hit, unless the TTL has passed
            rows = ask(i)
            assert rows == answer(i)
            assert [list(map(type, row.values())) for row in rows] == [
                list(map(type, row.values())) for row in answer(i)
            ]
            assert rows
        if through is not None and variant.operation.ttl_ms > 60_000:
            assert through.hits == 4 if variant.operation.answer == "hit" else through.hits >= 1


def test_a_hit_comes_from_the_cache_and_a_miss_from_the_database(ground, places):
    for cache in ("Redis", "in-process"):
        variant = Variant("mix", Reading(cached._MESSAGE, cache, "mix", ttl_ms=60_000))
        case = Case(
            name="one-message",
            question="Which of them is it?",
            variants=(Variant("alone", Reading(cached._MESSAGE)), variant),
            parameters=case_named("cached-message").parameters,
        )
        ask, through, place = asked(places, case, variant)
        was = ask(0)
        place.connection.execute("UPDATE messages SET body = 'edited'")
        assert ask(0) == was
        assert (through.hits, len(through.misses_ns)) == (1, 1)
        now = from_the_database(place, case)(0)
        assert now[0]["body"] == "edited" != was[0]["body"]
        if cache == "Redis":
            (key,) = keys_of(ground, place.prefix)
            with ground.servers.redis() as client:
                client.delete(key)
            assert ask(0) == now
            assert (through.hits, len(through.misses_ns)) == (1, 2)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_the_hit_ratio_is_that_of_an_lru_cache(places, most):
    case = case_named("mix-page")
    variant = Variant("sized", Reading(cached._PAGE, "in-process", "mix", most=most))
    ask, through, place = asked(places, case, variant)
    given = parameters_of(case, place, OPTIONS)
    # The same requests on a list: those that fill it, and those that are counted.
    kept: OrderedDict[object, None] = OrderedDict()
    hits = 0
    for number, key in enumerate([*given[-4 * most :], *given[:400]]):
        if key in kept:
            hits += number >= 4 * most
            kept.move_to_end(key)
        else:
            kept[key] = None
            if len(kept) > most:
                kept.popitem(last=False)
    for i in range(400):
        ask(i)
    assert through.hits == hits > 0
    assert through.measures()["hit_ratio"] == hits / 400


def test_the_hit_ratio_rises_with_the_ttl(places):
    case = case_named("mix-page")
    ratios = []
    for cache in ("Redis", "in-process"):
        for ttl_ms in (2, 60_000):
            variant = Variant("timed", Reading(cached._PAGE, cache, "mix", ttl_ms=ttl_ms))
            ask, through, _ = asked(places, case, variant)
            for i in range(100):
                if i % 10 == 0:
                    time.sleep(0.004)
                ask(i)
            ratios.append(through.measures()["hit_ratio"])
        short, long = ratios[-2:]
        assert short < long
        given = parameters_of(case, places(case, case.baseline), OPTIONS)[:100]
        assert long == 1 - len(set(given)) / 100


def test_every_key_is_the_places_own_and_has_a_ttl(ground, places):
    case = case_named("cached-page")
    for variant in case.variants:
        ask, _, place = asked(places, case, variant)
        for i in range(5):
            ask(i)
        found = keys_of(ground, place.prefix)
        assert bool(found) == (variant.operation.cache == "Redis")
        assert all(0 < ttl <= variant.operation.ttl_ms for ttl in found.values())
    assert place.prefix.startswith("pglab:")


def test_a_run_leaves_no_key_behind(result, ground):
    # Keys of a run begin with its token; only those of this file's ground are there still.
    with ground.servers.redis() as client:
        left = [key.decode() for key in client.scan_iter(match="pglab:*bench:*")]
    ours = ground.servers.prefix
    assert [key for key in left if key.startswith(f"{ours}:")] == left


def test_two_openings_do_not_share_their_misses(places):
    case = case_named("cached-message")
    variant = next(v for v in case.variants if v.name == "Redis miss")
    place = places(case, variant)
    given = parameters_of(case, place, OPTIONS)
    for _ in range(2):
        opened = variant.operation.open(place, given)
        for i in range(10):
            assert opened.once(i) == 1
        assert opened.measures()["hit_ratio"] == 0.0


def test_break_even_is_computed_from_the_rounds(result):
    for name in ("cached-session", "cached-page", "in-process-message"):
        found = result.case(name)
        lines = break_even_lines(found)
        caches = [v.removesuffix(" miss") for v in found.variants if v.endswith(" miss")]
        assert len(lines) == len(caches)
        for line, cache in zip(lines, caches, strict=True):
            assert cache in line
            medians = sorted(found.at(SIZE).variant(f"{cache} miss").medians_us)
            assert f"a miss {duration(sum(medians) / 2)}" in line
    assert break_even_lines(result.case("mix-page")) == []
