"""Runs on a real server: what they record, and that nothing of them stays."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading

import psycopg
import pytest
from bench_case_support import (
    IDS,
    INDEXED,
    QUICK,
    SIZE,
    Meddled,
    Noted,
    a_case,
    a_ground,
    indexed,
    measured,
    plain,
    raising,
    scratch_databases,
    servers_in_memory,
)
from psycopg.conninfo import conninfo_to_dict
from servers.faults import Kernel, wait_until

from pglab import databases
from pglab.bench import Call, Draw, Query, Variant, run
from pglab.bench.guard import Guard
from pglab.bench.operations import Opened
from pglab.bench.records import to_json
from pglab.errors import BenchStoppedError, PlanMismatchError

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("bench")]


@pytest.fixture(scope="module", autouse=True)
def server_url():
    """Servers of this module's own, in place of the fixture of this name."""
    with servers_in_memory() as url:
        yield url


@pytest.fixture(scope="module")
def ground(server_url):
    with a_ground() as ground:
        yield ground


@pytest.fixture
def nothing_stays(server_url):
    """Check that the test leaves the same databases that it found."""
    before = scratch_databases(server_url)
    yield
    assert scratch_databases(server_url) == before


# What a run records


ROUNDS = 4


@pytest.fixture(scope="module")
def a_run(server_url):
    """One run of a case with four variants at two sizes, and what was noted meanwhile."""
    log: list[tuple[str, int]] = []
    noted = [Noted("one", log), Noted("two", log, rows=3)]
    case = a_case(
        plain(),
        indexed(about="by an index"),
        *(Variant(each.name, each) for each in noted),
        sizes=(500, SIZE),
    )
    told: list[int] = []
    options = dataclasses.replace(QUICK, rounds=ROUNDS, placement="auto", seed=5)
    result = run(
        case, options=options, progress=False,
        on_case=lambda found: told.append(len(found.case().sizes)),
    )  # fmt: skip
    return result, noted, log, told


def test_every_round_has_every_variant_in_an_order_of_its_own(a_run):
    case = a_run[0].case()
    orders = []
    for at in case.sizes:
        assert [each.name for each in at.variants] == ["plain", "indexed", "one", "two"]
        for each in at.variants:
            assert [one.number for one in each.rounds] == list(range(1, ROUNDS + 1))
        for number in range(ROUNDS):
            places = [each.rounds[number].place for each in at.variants]
            assert sorted(places) == [1, 2, 3, 4]
            orders.append(tuple(places))
    assert len(set(orders)) > 2, "the order is drawn anew for each round"


def test_rounds_really_ran_in_the_order_that_is_recorded(a_run):
    result, _, log, _ = a_run
    at = result.case().at(SIZE)
    one, two = at.variant("one"), at.variant("two")
    # The log of the last size, backwards from its end: first its rounds, then its warm-up.
    ran = [
        (name, len(list(each)))
        for name, each in itertools.groupby(name for name, _ in reversed(log))
    ]
    counted: list[tuple[str, int]] = []
    for number in reversed(range(ROUNDS)):
        both = [("one", one.rounds[number]), ("two", two.rounds[number])]
        both.sort(key=lambda pair: pair[1].place, reverse=True)
        counted += [(name, found.operations) for name, found in both]
    merged = [
        (name, sum(count for _, count in each))
        for name, each in itertools.groupby(counted, key=lambda pair: pair[0])
    ]
    assert ran[: len(merged) - 1] == merged[:-1]  # the last meets the warm-up


def test_numbers_go_on_and_are_never_used_twice(a_run):
    result, _, log, _ = a_run
    for name in ("one", "two"):
        numbers = [number for each, number in log if each == name]
        begin = [at for at, number in enumerate(numbers) if number == 0]
        assert len(begin) == 2, "once for each size"
        for part in (numbers[: begin[1]], numbers[begin[1] :]):
            assert part == list(range(len(part)))
        found = result.case().at(SIZE).variant(name)
        done = found.warm_up_operations + sum(each.operations for each in found.rounds)
        assert done == len(numbers) - begin[1]


def test_all_variants_get_the_same_parameters(a_run):
    _, noted, _, _ = a_run
    assert noted[0].given == noted[1].given
    small, large = noted[0].given
    assert len(small) == len(large) == IDS.count
    assert all(set(each) == {"id"} for each in large)
    assert small != large
    assert len({each["id"] for each in large}) > 16


def test_a_round_has_as_many_operations_as_its_time_takes(ground):
    import time

    slow = Call(lambda place, parameters: lambda i: time.sleep(0.01) or 1)
    found = measured(ground, a_case(Variant("slow", slow), Variant("quick", Noted("quick", []))))
    # 10 ms are more than a round's 5: one is enough. Doing nothing takes well below 50 µs.
    assert {each.operations for each in found.variant("slow").rounds} == {1}
    assert all(each.operations > 100 for each in found.variant("quick").rounds)
    assert len({each.operations for each in found.variant("quick").rounds}) == 1


def test_rows_are_counted(a_run):
    for at in a_run[0].case().sizes:
        for name, rows in (("plain", 1), ("indexed", 1), ("one", 1), ("two", 3)):
            for each in at.variant(name).rounds:
                assert each.rows == rows * each.operations
                assert each.operations == each.latencies.count > 0
                assert each.seconds > 0
                assert each.median_us > 0


def test_plans_are_recorded_with_their_pages_and_the_servers_own_counts(a_run):
    for at in a_run[0].case().sizes:
        scan, read = at.variant("plain"), at.variant("indexed")
        assert scan.plan.nodes == ("Seq Scan on messages",)
        assert scan.plan.claim == "messages read by Seq Scan"
        assert "look_up" in read.plan.nodes[0]
        assert read.plan.claim == "the index look_up"
        assert scan.plan.buffers > read.plan.buffers >= 2
        for each in (scan, read):
            assert each.plan.custom >= 5, "PostgreSQL plans the first five for their values"
            done = each.warm_up_operations + sum(found.operations for found in each.rounds)
            assert done <= each.plan.custom + each.plan.generic <= done + 10
        assert at.variant("one").plan is None
    assert a_run[0].case().buffer_ratio("indexed", SIZE) > 1


@pytest.mark.parametrize(("mode", "generic", "custom"), [("generic", 8, 0), ("custom", 0, 8)])
def test_which_kind_of_plan_the_server_made_is_not_mixed_up(ground, mode, generic, custom):
    case = a_case(plain(), parameters=Draw("SELECT id FROM messages ORDER BY id LIMIT 9"))
    with ground.place(case, case.baseline) as place:
        place.connection.execute(f"SET plan_cache_mode = force_{mode}_plan")
        opened = case.baseline.operation.open(place, [{"id": 1}])
        for i in range(8):
            opened.once(i)
        found = Guard("case", "variant", None, opened, [{"id": 1}]).check()
    assert (found.generic, found.custom) == (generic, custom)


@pytest.mark.parametrize("meter", ["libpq", "cursor", "core", "simple"])
def test_each_meter_counts_rows_and_plan_modes(ground, meter):
    many = "SELECT id FROM messages WHERE id >= %(id)s ORDER BY id LIMIT 3"
    drawn = Draw("SELECT id FROM messages ORDER BY id LIMIT 900")
    case = a_case(indexed(Query(many, meter)), parameters=drawn)
    (found,) = measured(ground, case).variants
    assert all(each.rows == 3 * each.operations for each in found.rounds)
    assert "look_up" in "".join(found.plan.nodes)
    if meter == "simple":
        assert found.plan.generic is found.plan.custom is None, "it prepares nothing"
    else:
        assert found.plan.generic + found.plan.custom > 5


def test_a_meter_counts_written_rows(ground):
    update = "UPDATE messages SET status = status WHERE id = %(id)s"
    for meter in ("libpq", "cursor", "simple"):
        case = a_case(indexed(Query(update, meter)), writes=True, operations=7)
        (found,) = measured(ground, case).variants
        assert [each.rows for each in found.rounds] == [7, 7], meter


def test_the_environment_is_complete_and_keeps_no_secret(a_run, server_url):
    result = a_run[0]
    found = result.environment
    assert set(found) == {"machine", "python", "postgres", "redis", "pglab"}
    machine, postgres = found["machine"], found["postgres"]
    for name in ("cpu", "architecture", "cores", "memory_bytes", "system", "release", "clock"):
        assert machine[name], name
    assert machine["clock_cost_ns"] > 0
    assert {"version", "psycopg", "libpq", "sqlalchemy", "redis"} <= set(found["python"])
    assert postgres["version"].startswith("PostgreSQL ")
    assert postgres["source"] == "embedded"
    assert postgres["connection"] == "unix socket"
    for name in ("shared_buffers", "fsync", "synchronous_commit", "autovacuum", "work_mem"):
        assert postgres["settings"][name], name
    # The measured session's own, not the server's defaults.
    assert postgres["settings"]["jit"] == "off"
    assert postgres["settings"]["max_parallel_workers_per_gather"] == "0"
    assert found["redis"] is None
    assert found["pglab"]["version"]

    password = conninfo_to_dict(server_url)["password"]
    assert len(password) > 8
    said = [repr(result), str(result), result._repr_html_(), json.dumps(to_json(result))]
    assert [text for text in said if password in text] == []


def test_options_are_recorded(a_run):
    options = a_run[0].options
    assert options["rounds"] == ROUNDS
    assert options["seed"] == 5
    assert options["placement"] == "auto"
    assert options["round_seconds"] == QUICK.round_seconds
    assert options["session"]["jit"] == "off"
    assert options["own_cost_ns"] > 0
    assert a_run[0].complete
    assert all(at.placement for at in a_run[0].case().sizes)


def test_whoever_asks_is_told_after_each_size(a_run):
    assert a_run[3] == [1, 2]


def test_the_same_seed_runs_the_same(ground):
    def orders(seed):
        options = dataclasses.replace(QUICK, rounds=6, seed=seed)
        logs = Noted("x", []), Noted("y", [])
        case = a_case(*(Variant(name, each) for name, each in zip("xy", logs, strict=True)))
        found = measured(ground, case, options)
        return logs[0].given, [each.place for each in found.variant("x").rounds]

    assert orders(7) == orders(7)
    assert orders(7) != orders(8)


def test_misses_are_drawn_and_expected(ground):
    drawn = Draw(
        "SELECT id FROM messages ORDER BY id", misses=0.4, absent="SELECT -1 AS id", count=50
    )
    (found,) = measured(ground, a_case(indexed(), parameters=drawn)).variants
    done = sum(each.operations for each in found.rounds)
    assert 0 < sum(each.rows for each in found.rounds) < done


def test_a_twin_of_ones_own_and_braces_in_sql(ground):
    own = Variant(
        "own",
        Query(
            "SELECT doc FROM notes WHERE doc @> '{\"n\": 1}'", before=("SELECT '{count}', '{}'",)
        ),
        setup=("CREATE INDEX ON notes ((doc->>'n')); SELECT '{}'::jsonb",),
        twins={"notes": 'SELECT \'{"n": 1, "size": {size}}\'::jsonb AS doc'},
    )
    found = measured(ground, a_case(own, parameters=None, operations=3)).variants
    assert [each.rows for each in found[0].rounds] == [3, 3]


# Nothing stays


def keys(ground_or_servers):
    with ground_or_servers.redis() as client:
        return sorted(client.scan_iter(match=f"{ground_or_servers.prefix.rpartition(':')[0]}:*"))


def caching(fails: bool):
    def function(place, parameters):
        client = place.redis()
        written = itertools.count()

        def once(i):
            if fails and next(written) > 40:
                raise ValueError("no more")
            return int(client.set(f"{place.prefix}:{i}", i))

        return Opened(once, measures=lambda: {"keys": float(client.dbsize())})

    return Call(function)


@pytest.mark.parametrize("fails", [False, True])
def test_keys_in_redis_go_with_the_run(ground, nothing_stays, fails):
    case = a_case(Variant("cached", caching(fails)), parameters=None, operations=20)
    if fails:
        with pytest.raises(BenchStoppedError, match="raised ValueError in round 2: no more") as no:
            run(case, sizes=[500], options=QUICK, progress=False)
        result = no.value.result
    else:
        result = run(case, sizes=[500], options=QUICK, progress=False)
    (found,) = result.case().at().variants
    assert found.measures["keys"] >= 20, "they had been there"
    assert keys(ground.servers) == []
    redis = result.environment["redis"]
    assert redis["version"]
    assert redis["settings"]


def test_a_lesson_that_is_called_bench_keeps_its_database(server_url, nothing_stays):
    # Its name begins as those of benchmarks do, and nobody holds its lock.
    lessons = ["pglab_bench_tiny", "pglab_bench_notes_tiny", "pglab_bench_deadbeef_small"]
    with psycopg.connect(server_url, autocommit=True) as admin:
        databases.create(admin, "pglab_bench_deadbeef_500")
        for name in lessons:
            databases.create(admin, name)
        try:
            result = run(a_case(), sizes=[500], options=QUICK, progress=False)
            assert result.complete
            there = databases.made_by_us(admin, "pglab_bench_")
            assert set(lessons) <= set(there)
            assert "pglab_bench_deadbeef_500" not in there, "that one had been left over"
        finally:
            for name in lessons:
                databases.drop(admin, name)


@pytest.mark.parametrize("finished", [0, 1])
def test_ctrl_c_returns_what_is_finished(nothing_stays, finished):
    interrupted = Meddled(raising(KeyboardInterrupt()), at=finished + 1)
    case = a_case(plain(), indexed(interrupted), operations=5)
    result = run(case, sizes=[500, SIZE], options=QUICK, progress=False)
    assert not result.complete
    assert "Ctrl-C" in result.stopped
    assert result.environment["postgres"]["version"]
    if not finished:
        # One of the two may have been before the other in the round that ended it.
        assert all(each.name == "plain" for case in result.cases for each in case.at().variants)
        return
    assert [at.size for at in result.case().sizes] == [500]
    for each in result.case().at().variants:
        assert each.rounds[0].operations == 5
        assert "before its plan and tables were looked at once more" in " ".join(each.notes)
    assert "Ctrl-C" in str(result)


def test_what_was_finished_before_an_error_is_kept(nothing_stays):
    def drop(place):
        if place.size == SIZE:
            place.connection.execute("DROP INDEX look_up")

    case = a_case(plain(), indexed(Meddled(drop)), operations=5)
    with pytest.raises(PlanMismatchError) as caught:
        run(case, sizes=[500, SIZE], options=QUICK, progress=False)
    result = caught.value.result
    assert [each.name for each in result.case().at(500).variants] == ["plain", "indexed"]
    assert [each.name for each in result.case().at(SIZE).variants] == ["plain"]
    assert result.stopped == str(caught.value)
    assert "plain" in str(result)


def test_a_cases_fault_does_not_end_the_others(nothing_stays):
    cases = [
        a_case(plain(claim=INDEXED), name="bad-plan"),
        a_case(plain(Meddled(raising(ValueError("oh")))), name="raises", operations=2),
        a_case(name="good"),
    ]
    with pytest.raises(BenchStoppedError) as caught:
        run(cases, sizes=[500], options=QUICK, progress=False)
    result = caught.value.result
    assert "bad-plan: case 'bad-plan', variant 'plain'" in str(caught.value)
    assert "raises: the operation of 'plain' raised ValueError in round 2: oh" in str(caught.value)
    assert [case.name for case in result.cases] == ["raises", "good"]
    assert [len(each.rounds) for each in result.case("raises").at().variants] == [1]
    assert [len(each.rounds) for each in result.case("good").at().variants] == [2, 2]


def test_two_runs_at_the_same_time(nothing_stays):
    meet = threading.Barrier(2, timeout=60)
    found = {}

    def work(name):
        together = Meddled(lambda place: meet.wait(), at=1)
        case = a_case(plain(), indexed(together), name=name, operations=5)
        found[name] = run(case, sizes=[500], options=QUICK, progress=False)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for name, result in found.items():
        assert result.complete
        assert all(len(each.rounds) == 2 for each in result.case(name).at().variants)
        said = result.case(name).at().background
        assert any("another benchmark ran on the same server" in each for each in said)
    assert set(found) == {"one", "two"}


IN_THE_MIDDLE = """
from bench_case_support import *
from pglab.bench import run

def wait(place):
    print("database:", place.connection.info.dbname)
    input()

case = a_case(plain(Meddled(wait, at=1)), operations=2)
result = run(case, sizes=[500], options=QUICK, progress=False)
print("complete:", result.complete)
"""


@pytest.fixture
def kernel():
    started = []

    def start():
        import os
        import sys

        path = os.pathsep.join(sys.path)
        started.append(Kernel(IN_THE_MIDDLE, {"PYTHONPATH": path}))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_a_database_left_by_a_killed_run_goes_and_a_live_runs_stays(kernel, server_url, ground):
    dead, alive = kernel(), kernel()
    left, in_use = dead.hears("database: "), alive.hears("database: ")
    dead.kill()
    assert {left, in_use} <= set(scratch_databases(server_url))
    with psycopg.connect(server_url, autocommit=True) as admin:
        wait_until("the dead run's lock is gone", lambda: is_free(admin, left))
        assert run(a_case(), sizes=[500], options=QUICK, progress=False).complete
        assert left not in scratch_databases(server_url)
        assert in_use in scratch_databases(server_url)
        assert ground.database in scratch_databases(server_url)
    alive.go()
    assert alive.hears("complete: ") == "True"
    assert alive.ends() == 0
    assert in_use not in scratch_databases(server_url)


def is_free(admin, name):
    with databases.unlocked(admin, name) as free:
        return free


def test_unlocked_tells_and_holds(server_url):
    name = "pglab_no_such_database"
    with (
        psycopg.connect(server_url, autocommit=True) as one,
        psycopg.connect(server_url, autocommit=True) as two,
    ):
        with databases.locked(one, name):
            assert not is_free(two, name)
            assert is_free(two, f"{name}_other")
            assert not is_free(two, name), "asking in vain does not let go of another's"
        with databases.unlocked(two, name) as free:
            assert free
            assert not is_free(one, name), "it is held within the block"
        assert is_free(one, name)
        with pytest.raises(KeyError), databases.unlocked(two, name):
            raise KeyError
        assert is_free(one, name), "and let go after an error"
        held = two.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert held is not None
