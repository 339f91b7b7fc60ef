"""Loading and the stack: every way stores the same rows, every layer gives the same rows."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from bench_case_support import a_ground

from pglab.bench import Options, Query
from pglab.bench.cases import loading, stack
from pglab.bench.guard import Guard
from pglab.bench.size_run import parameters_of

pytestmark = pytest.mark.server

SIZE = 2_000
OPTIONS = Options()


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def ground(lab_home):
    with a_ground(SIZE) as opened:
        yield opened


@pytest.fixture
def places(ground):
    """Return what opens a variant's place; all are closed with the test."""
    with ExitStack() as stack_:
        yield lambda case, variant: stack_.enter_context(ground.place(case, variant))


# Loading.


def stored(place, table="messages", limit=SIZE):
    """Return how many rows there are, and a checksum of their values.

    Of the values, not of their text: -77.210 came as Python's -77.21, which is the same number.
    """
    return place.connection.execute(
        "SELECT count(*), sum(hash_record_extended(m, 0)) "
        f"FROM (SELECT * FROM {table} ORDER BY id LIMIT {limit}) AS m"
    ).fetchone()


@pytest.mark.parametrize("bound", [100_000, 1_500])
def test_every_way_stores_the_same_rows(places, monkeypatch, bound):
    monkeypatch.setattr(loading, "MOST_ROWS", bound)
    (case,) = loading.CASES
    expected = None
    for variant in case.variants:
        place = places(case, variant)
        opened = variant.operation.open(place, [])
        for i in range(2):  # the second finds an empty table again
            opened.before(i, 1)
            assert stored(place) == (0, None)
            assert opened.once(i) == min(bound, SIZE)
        expected = expected or stored(place, "public.messages", min(bound, SIZE))
        assert stored(place) == expected
        assert expected[0] == min(bound, SIZE)
        keys = place.connection.execute(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = 'messages'::regclass "
            "AND contype = 'p' AND connamespace = %s::regnamespace",
            [place.schema],
        ).fetchone()
        assert keys == (1,)


def test_variants_share_their_rows_and_let_them_go(ground):
    (case,) = loading.CASES
    with ExitStack() as opened:
        kept = []
        for variant in case.variants:
            place = opened.enter_context(ground.place(case, variant))
            kept.append(variant.operation.open(place, []))
        assert len(loading._made) == 1
    kept.clear()
    assert len(loading._made) == 0


# The stack.


@by_name(stack.CASES)
def test_all_layers_give_the_same_rows(places, case):
    counts = {}
    for variant in case.variants:
        place = places(case, variant)
        given = parameters_of(case, place, OPTIONS)
        opened = variant.operation.open(place, given)
        counts[variant.name] = [opened.once(i) for i in range(20)]
        if isinstance(variant.operation, stack.Orm):
            ask = variant.operation.asked(place, given)
            sql = case.baseline.operation.sql
            for i in range(20):
                rows = place.connection.execute(sql, given[i]).fetchall()
                assert [tuple(getattr(m, c) for c in stack.COLUMNS) for m in ask(i)] == rows
    assert len(set(map(tuple, counts.values()))) == 1
    assert len(counts) == 6
    assert set(counts["libpq"]) == ({1} if case.name == "stack-message" else {50})


@by_name(stack.CASES)
def test_the_orm_asks_the_server_each_time(places, case):
    for variant in case.variants:
        if not isinstance(variant.operation, stack.Orm):
            continue
        place = places(case, variant)
        given = parameters_of(case, place, OPTIONS)
        ask = variant.operation.asked(place, given)
        was = ask(0)[0].body
        before = ask(0)[0]
        assert before is not ask(0)[0]
        with place.connection.transaction(force_rollback=True):
            # Another connection does not see it; the table is locked, and the look-up must wait.
            place.connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            session = place.connections[-1]
            session.execute("SET lock_timeout = '50ms'")
            if not session.autocommit:
                session.commit()
            with pytest.raises(Exception, match="lock timeout"):
                ask(0)
        assert ask(1)
        assert was == before.body


def test_a_layers_connections_are_the_places_own(places):
    case = stack.CASES[0]
    for variant in case.variants[-2:]:
        place = places(case, variant)
        variant.operation.open(place, parameters_of(case, place, OPTIONS))
        pids = {connection.info.backend_pid for connection in place.connections}
        assert len(pids) == 2


@pytest.mark.parametrize("meter", ["libpq", "cursor"])
def test_looking_at_the_plan_leaves_the_statement_prepared(places, meter):
    case = stack.CASES[0]
    place = places(case, case.baseline)
    # psycopg prepares one statement for small integers and another for large ones.
    given = [{"n": n} for n in (1, 2, 100_000, 3, 40_000)]
    opened = Query("SELECT %(n)s::bigint AS n", meter=meter).open(place, given)
    for i in range(20):
        opened.once(i)

    def prepared():
        return place.connection.execute(
            "SELECT name, parameter_types::text FROM pg_prepared_statements "
            "WHERE statement LIKE 'SELECT $1::bigint%' ORDER BY 1",
            prepare=False,
        ).fetchall()

    before = prepared()
    assert len(before) == (1 if meter == "libpq" else 2)
    record = Guard("case", "variant", None, opened, given).check()
    assert prepared() == before
    assert record.nodes == ("Result",)
    # Both statements' executions, and none of the guard's own.
    assert record.generic + record.custom == 20
    assert opened.once(2) == 1
