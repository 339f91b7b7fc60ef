"""The encryption cases on a real server: they run, and what they time is what they say."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest
from bench_case_support import a_ground, measured

from pglab.bench import Options, run
from pglab.bench.cases import encryption
from pglab.bench.cases._encrypted import Value, payload
from pglab.bench.cases._guarded import Guarded
from pglab.bench.cases._search import Search, phone
from pglab.bench.operations import Query
from pglab.bench.size_run import parameters_of
from pglab.errors import PlanMismatchError

pytestmark = pytest.mark.server

# Enough people that an index on them is worth reading.
SIZE = 10_000
OPTIONS = Options(rounds=2, round_seconds=0.005, warm_up_seconds=0.05)
CASES = {case.name: case for case in encryption.CASES}
VALUES = [
    pytest.param(case, variant, id=f"{case.name}-{variant.name}")
    for case in encryption.CASES
    for variant in case.variants
    if isinstance(variant.operation, Value) and variant.operation.size <= 100_000
]


@pytest.fixture(scope="module")
def result(lab_home):
    return run(encryption.CASES, sizes=[SIZE], options=OPTIONS, progress=False)


@pytest.fixture(scope="module")
def ground(lab_home):
    with a_ground(SIZE) as opened:
        yield opened


@pytest.fixture
def places(ground):
    """Return what opens a variant's place; all are closed with the test."""
    with ExitStack() as stack:
        yield lambda case, variant: stack.enter_context(ground.place(case, variant))


def one(place, query):
    return place.connection.execute(query).fetchone()[0]


def variant_of(case, name):
    return next(each for each in CASES[case].variants if each.name == name)


@pytest.mark.parametrize("name", CASES)
def test_every_case_runs(result, name):
    at = result.case(name).at(SIZE)
    assert [each.name for each in at.variants] == [each.name for each in CASES[name].variants]
    for variant in at.variants:
        assert len(variant.rounds) == OPTIONS.rounds
        assert all(each.rows >= each.operations for each in variant.rounds)
    assert str(result)


@pytest.mark.parametrize(("case", "variant"), VALUES)
def test_what_is_stored_is_read_again_and_lies_there_as_it_should(places, case, variant):
    place, value = places(case, variant), variant.operation
    opened = value.open(place, [])
    if value.write:
        opened.before(0, 3)
        assert [opened.once(i) for i in range(3)] == [1, 1, 1]
    assert [value.asked(place)(i) for i in (0, 1, 2)] == [payload(value.size, i) for i in (0, 1, 2)]
    text = payload(value.size, 1).encode()
    found = one(place, b"SELECT count(*) FROM secrets WHERE position('%s' IN content) > 0" % text)
    assert found == (1 if value.how == "plaintext" else 0)


def test_each_value_is_encrypted_anew():
    assert payload(1_000, 1) != payload(1_000, 2)
    assert payload(1_000, 1) == payload(1_000, 1)
    assert [len(payload(size)) for size in (100, 1_000, 10_001)] == [100, 1_000, 10_001]


@pytest.mark.parametrize("word", ["100b", "1kb", "10kb", "100kb", "1mb"])
def test_what_encryption_adds_to_the_size_is_little_and_constant(result, word):
    for direction in ("write", "read"):
        variants = result.case(f"encrypted-{direction}-{word}").at(SIZE).variants
        stored = {each.name: each.measures["stored_bytes"] for each in variants}
        assert all(0 < each - stored["plaintext"] < 250 for each in list(stored.values())[1:])


def test_a_second_opening_leaves_the_values_as_they_are(places):
    for name in ("encrypted-read-1kb", "blind-index"):
        for variant in CASES[name].variants:
            if not isinstance(variant.operation, Value | Search):
                continue
            place = places(CASES[name], variant)
            variant.operation.open(place, [])
            table = next(iter(CASES[name].twins))
            whole = f"SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM {table} AS t"
            before = one(place, whole), one(place, f"SELECT pg_relation_filenode('{table}')")
            variant.operation.open(place, [])
            after = one(place, whole), one(place, f"SELECT pg_relation_filenode('{table}')")
            assert before == after


# The search.


def test_all_ways_find_the_same_person(places):
    case = CASES["blind-index"]
    for variant in case.variants:
        place = places(case, variant)
        drawn = parameters_of(case, place, OPTIONS)
        opened = variant.operation.open(place, drawn)
        assert [opened.once(i) for i in range(5)] == [1] * 5
        if isinstance(variant.operation, Search):
            ask = variant.operation.asked(place)
            found = [ask(i) for i in range(5)]
            assert found == [[phone(i * 7_919 % (SIZE // 20) + 1)] for i in range(5)]
    assert phone(7) == "+51 900000007"


def test_the_blind_index_touches_few_pages_and_the_others_all(result):
    pages = {each.name: each.plan.buffers for each in result.case("blind-index").at(SIZE).variants}
    assert pages["blind index"] <= 4
    assert pages["decrypt all here"] > 3 * pages["blind index"]
    assert pages["decrypt all in pgcrypto"] > 3 * pages["blind index"]


@pytest.mark.parametrize(
    ("name", "variant", "left_out"),
    [
        ("blind-index", "plaintext, index", "people_phone"),
        ("blind-index", "blind index", "people_blind"),
        ("rls-page", "WHERE", "messages_instance_id_sent_at"),
        ("rls-page", "policy", "messages_instance_id_sent_at"),
        ("rls-page", "policy, tenant by transaction", "messages_instance_id_sent_at"),
    ],
)
def test_without_its_index_a_variant_is_refused(ground, name, variant, left_out):
    claimed = variant_of(name, variant)
    bare = replace(claimed, setup=tuple(sql for sql in claimed.setup if left_out not in sql))
    assert len(bare.setup) == len(claimed.setup) - 1
    # What asks with values of its own is asked with none of the case's.
    draw = CASES[name].parameters if isinstance(bare.operation, Query) else None
    alone = replace(CASES[name], variants=(bare,), parameters=draw)
    with pytest.raises(PlanMismatchError, match=rf"case '{name}', variant '{variant}'"):
        measured(ground, alone)


# Row-level security.


@pytest.mark.parametrize("name", ["rls-page", "rls-scan"])
def test_a_policy_shows_the_tenants_rows_and_no_others(places, name):
    answers = set()
    for variant in CASES[name].variants:
        place, operation = places(CASES[name], variant), variant.operation
        assert isinstance(operation, Guarded)
        total = one(place, "SELECT count(*) FROM messages")
        tenant = one(place, operation.whose)
        opened = operation.open(place, [])
        assert one(place, "SELECT current_user") == "pg_read_all_data"
        assert opened.once(0) == opened.once(1)
        seen = one(
            place, f"SELECT count(*) FROM messages WHERE instance_id = '{tenant}'"
        ), one(place, "SELECT count(*) FROM messages")  # fmt: skip
        assert 0 < seen[0] < total
        # Without a policy the role sees everybody's.
        assert seen[1] == (total if operation.tenant == "none" else seen[0])
        rows = place.connection.execute(
            operation.sql.encode(), (tenant,) if operation.tenant == "none" else None
        ).fetchall()
        answers.add(str(rows))
    assert len(answers) == 1


def test_without_its_policy_nothing_is_seen(places):
    case = CASES["rls-scan"]
    policy = case.variants[1]
    bare = replace(policy, setup=tuple(sql for sql in policy.setup if "POLICY" not in sql))
    place = places(case, bare)
    bare.operation.open(place, [])
    assert one(place, "SELECT count(*) FROM messages") == 0


def test_a_policy_by_an_index_touches_no_further_page(result):
    pages = {each.plan.buffers for each in result.case("rls-page").at(SIZE).variants}
    assert len(pages) == 1


def test_the_setting_is_read_once_where_that_is_claimed(result):
    plans = {each.name: each.plan.nodes for each in result.case("rls-scan").at(SIZE).variants}
    once = [name for name, nodes in plans.items() if any("Result" in node for node in nodes)]
    assert once == ["policy, evaluated once"]
