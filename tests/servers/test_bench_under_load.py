"""Cases under load: closed with one client and more, threads and processes; open at a rate."""

from __future__ import annotations

import dataclasses
import pickle
from functools import partial

import pytest
from bench_case_support import (
    BY_ID,
    IDS,
    INDEXED,
    QUICK,
    Noted,
    a_case,
    a_ground,
    indexed,
    plain,
    scratch_databases,
    servers_in_memory,
)
from psycopg.conninfo import conninfo_to_dict

from pglab.bench import Call, Draw, Query, Variant, under_load
from pglab.bench import closed_loop as closed
from pglab.bench.draw import draw
from pglab.bench.records import to_json
from pglab.bench.under_load import Client
from pglab.errors import BenchError, BenchStoppedError, PlanMismatchError

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("bench-load")]

SHORT = {"size": 500, "seconds": 0.1, "options": QUICK, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def server_url():
    """Servers of this module's own, in place of the fixture of this name."""
    with servers_in_memory() as url:
        yield url


@pytest.fixture(autouse=True)
def nothing_stays(server_url):
    before = scratch_databases(server_url)
    yield
    assert scratch_databases(server_url) == before


def password_of(url):
    return conninfo_to_dict(url)["password"]


def test_a_closed_loop(server_url):
    result = under_load.run([a_case()], clients=(1, 2), **SHORT)
    at = result.case().at()
    assert [each.name for each in at.variants] == [
        "plain, 1 client", "plain, 2 clients", "indexed, 1 client", "indexed, 2 clients",
    ]  # fmt: skip
    for each in at.variants:
        assert [one.number for one in each.rounds] == [1, 2]
        assert each.measures["clients"] == int(each.name.split(", ")[1].split()[0])
        assert all(one.rows == one.operations > 0 for one in each.rounds)
        assert each.operations_per_second > 0
        assert any(note.startswith("clients are ") for note in each.notes)
    for number in (0, 1):
        assert sorted(each.rounds[number].place for each in at.variants) == [1, 2, 3, 4]
    assert result.complete
    assert result.options["seconds"] == 0.1
    assert result.options["rounds"] == 2
    assert result.environment["postgres"]["version"]
    assert "unpinned" in at.placement
    said = repr(result) + str(result) + str(to_json(result))
    assert password_of(server_url) not in said


def test_plans_are_recorded_and_refused():
    result = under_load.run([a_case()], clients=(1,), **SHORT)
    scan, read = result.case().at().variants
    assert scan.plan.nodes == ("Seq Scan on messages",)
    assert "look_up" in read.plan.nodes[0]
    assert read.plan.buffers >= 2
    with pytest.raises(PlanMismatchError, match="claimed: the index look_up"):
        under_load.run([a_case(plain(claim=INDEXED))], clients=(1,), **SHORT)


def test_an_open_loop():
    result = under_load.run(a_case(indexed()), rate=200, **SHORT | {"seconds": 0.5})
    (found,) = result.case().at().variants
    assert found.name == "indexed, 200/s"
    assert found.measures["rate"] == 200
    assert found.measures["achieved_rate"] > 0
    assert found.measures["service_p50_us"] > 0
    assert any("from the intended starts" in note for note in found.notes)
    assert all(each.rows == each.operations > 0 for each in found.rounds)


def test_the_lowest_rate_is_one_operation():
    result = under_load.run([a_case(indexed())], rate=1e-3, **SHORT)
    (found,) = result.case().at().variants
    assert [each.operations for each in found.rounds] == [1, 1]


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_clients_as_threads_and_as_processes(monkeypatch, mode):
    forced = partial(closed.closed_loop, mode=mode)
    monkeypatch.setattr(under_load, "closed_loop", forced)
    result = under_load.run([a_case(indexed())], clients=(2,), **SHORT)
    (found,) = result.case().at().variants
    assert f"clients are {mode}: asked for" in found.notes
    assert all(each.rows == each.operations > 0 for each in found.rounds)


def test_a_client_that_is_sent_to_a_process_carries_no_password(server_url):
    with a_ground(500) as ground, ground.place(a_case(), indexed()) as place:
        drawn = draw(place.connection, IDS, names=True, seed=1, size=500)
        client = Client(
            ground.servers.token, 500, 22, place.schema, place.prefix, Query(BY_ID), drawn
        )
        sent = pickle.dumps(client)
        assert password_of(server_url).encode() not in sent
        assert place.schema.encode() in sent, "what is searched is the text as it is sent"
        again = pickle.loads(sent)
        assert list(again.parameters) == list(drawn)
        assert again.parameters.misses(0, 5) == drawn.misses(0, 5)
        with again(1) as once:
            assert once(0) == once(10**6) == 1


def test_a_case_that_writes_is_refused():
    case = dataclasses.replace(a_case(), writes=True)
    with pytest.raises(BenchError) as caught:
        under_load.run([case], **SHORT)
    assert "case 'small' writes, and several clients would write into one another's" in str(
        caught.value
    )
    assert "run it without --clients and --rate" in str(caught.value)


def test_a_case_with_something_to_do_before_each_round_is_refused():
    prepared = Variant("prepared", Query(BY_ID, before=("SELECT 1",)))
    case = a_case(prepared, operations=1)
    with pytest.raises(BenchError, match="no rounds between which to do it"):
        under_load.run(case, clients=(1,), **SHORT)


def test_operations_that_find_nothing_are_refused():
    nothing = Query("SELECT id FROM messages WHERE -id = %(id)s")
    with pytest.raises(BenchError, match="found no rows"):
        under_load.run([a_case(plain(nothing))], clients=(1,), **SHORT)
    misses = Draw("SELECT id FROM messages", misses=1.0, absent="SELECT -1 AS id")
    result = under_load.run([a_case(indexed(), parameters=misses)], clients=(1,), **SHORT)
    assert [each.rows for each in result.case().at().variants[0].rounds] == [0, 0]


def test_an_operation_that_raises():
    def later(place, parameters):
        def once(i):
            if i > 40:
                raise ValueError("no more")
            return 1

        return once

    cases = [
        a_case(Variant("good", Noted("x", [])), name="good"),
        a_case(Variant("bad", Call(later)), name="bad"),
    ]
    with pytest.raises(BenchError, match="ValueError: no more") as caught:
        under_load.run(cases, clients=(1,), **SHORT)
    assert [case.name for case in caught.value.result.cases] == ["good"]
    assert caught.value.result.environment["postgres"]["version"]

    def at_once(place, parameters):
        raise KeyError("never")

    with pytest.raises(BenchError, match="'bad' cannot be run: KeyError: 'never'"):
        under_load.run([a_case(Variant("bad", Call(at_once)))], clients=(1,), **SHORT)


def test_what_an_operation_opens_is_closed():
    log: list[str] = []

    def function(place, parameters):
        log.append("open")
        opened = Query(BY_ID).open(place, parameters)
        return dataclasses.replace(opened, after=lambda: log.append("close"))

    under_load.run([a_case(plain(Call(function)))], clients=(1, 2), **SHORT)
    assert log.count("open") == log.count("close") >= 1 + 2 * 3


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    calls = []

    def interrupted(*given, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return closed.closed_loop(*given, **more)

    monkeypatch.setattr(under_load, "closed_loop", interrupted)
    result = under_load.run([a_case()], clients=(1,), **SHORT)
    assert "Ctrl-C" in result.stopped
    assert [len(each.rounds) for each in result.case().at().variants] == [1, 1]


def test_postgres_dies_under_load(monkeypatch):
    import os
    import signal

    with servers_in_memory():

        def function(place, parameters):
            opened = Query(BY_ID).open(place, parameters)

            def once(i):
                if i == 300:
                    os.kill(place.connection.info.backend_pid, signal.SIGKILL)
                return opened.once(i)

            return dataclasses.replace(opened, once=once)

        cases = [a_case(indexed(), name="first"), a_case(plain(Call(function)), name="second")]
        with pytest.raises(BenchStoppedError, match="PostgreSQL is gone") as caught:
            under_load.run(cases, clients=(1,), **SHORT | {"seconds": 1.0})
        assert "first" in [case.name for case in caught.value.result.cases]
