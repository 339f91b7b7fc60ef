"""Cases, options and sizes: what makes no sense is refused where it is written."""

from __future__ import annotations

import math

import pytest
from bench_case_support import a_case, indexed, plain

from pglab.bench import Case, Claim, Draw, Options, Query, Variant, run, under_load
from pglab.bench.faults import as_raised, end_of_run, told
from pglab.bench.options import QUICK_SIZES, sizes_of
from pglab.bench.run_servers import Servers
from pglab.errors import BenchError, BenchStoppedError, DiskFullError, ServerUnreachableError
from pglab.plans import Plan

NAN = math.nan


def a_plan(*nodes: dict[str, object]) -> Plan:
    """A plan of which each node is the child of the one before."""
    inner: dict[str, object] = {}
    for node in reversed(nodes):
        inner = {**node, **({"Plans": [inner]} if inner else {})}
    return Plan.from_json([{"Plan": inner}])


SEQ = a_plan({"Node Type": "Sort"}, {"Node Type": "Seq Scan", "Relation Name": "messages"})
READ = a_plan({"Node Type": "Index Scan", "Relation Name": "messages", "Index Name": "by_chat"})
BITMAP = a_plan(
    {"Node Type": "Bitmap Heap Scan", "Relation Name": "messages"},
    {"Node Type": "Bitmap Index Scan", "Index Name": "by_chat"},
)


@pytest.mark.parametrize(
    ("claim", "plan"),
    [
        (Claim(), SEQ),
        (Claim(scan=("Seq Scan",)), SEQ),
        (Claim(scan=("Index Scan", "Seq Scan")), SEQ),
        (Claim(index="by_chat"), READ),
        (Claim(index="by_chat"), BITMAP),
        (Claim(scan=("Bitmap Heap Scan",), index="by_chat"), BITMAP),
        (Claim(needs=("Sort",)), SEQ),
        (Claim(without=("Sort",)), READ),
    ],
)
def test_a_plan_that_is_claimed(claim, plan):
    assert claim.mismatch(plan) is None


@pytest.mark.parametrize(
    ("claim", "plan", "said"),
    [
        (
            Claim(scan=("Seq Scan",)),
            READ,
            "messages is read by Index Scan, and Seq Scan is claimed",
        ),
        (Claim(scan=("Seq Scan",), relation="chats"), SEQ, "chats is read by nothing"),
        (Claim(index="by_chat"), SEQ, "the index by_chat is claimed, and the plan reads none"),
        (Claim(index="other"), BITMAP, "other is claimed, and the plan reads by_chat"),
        (Claim(without=("Sort",)), SEQ, "the plan has Sort, and none is claimed"),
        (Claim(needs=("WindowAgg",)), SEQ, "the plan has no WindowAgg, which is claimed"),
    ],
)
def test_a_plan_that_is_not(claim, plan, said):
    assert said in str(claim.mismatch(plan))


def test_a_claim_in_words():
    claim = Claim(scan=("Seq Scan", "Index Scan"), index="i", without=("Sort",), needs=("Limit",))
    assert str(claim) == "messages read by Seq Scan or Index Scan, the index i, no Sort, a Limit"
    assert str(Claim()) == "any plan"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Claim(scan="Seq Scan"), "write scan=('Seq Scan',)"),
        (lambda: Claim(needs="Sort"), "write needs=('Sort',)"),
        (lambda: Variant("x", Query("SELECT 1"), setup="CREATE"), "write setup=('CREATE',)"),
        (lambda: Query("SELECT 1", before="SELECT 2"), "write before=('SELECT 2',)"),
        (lambda: Query("SELECT 1", meter="telnet"), "no meter 'telnet'; use one of libpq"),
        (lambda: Draw("SELECT 1", how="normal"), "no way to draw; use uniform or zipf"),
        (lambda: Draw("SELECT 1", exponent=0), "must be above 0"),
        (lambda: Draw("SELECT 1", exponent=NAN), "must be above 0"),
        (lambda: Draw("SELECT 1", misses=NAN), "between 0 and 1"),
        (lambda: Draw("SELECT 1", misses=1.1), "between 0 and 1"),
        (lambda: Draw("SELECT 1", misses=0.5), "without absent"),
        (lambda: Draw("SELECT 1", count=0), "count=0"),
        (lambda: Draw("SELECT 1", count=True), "count=True"),
        (lambda: a_case(name="Chat Page"), "'Chat Page': use lower-case words joined by dashes"),
        (lambda: Case(name="x", question="?", variants=()), "'x' has no variants; give it one"),
        (lambda: a_case(plain(), plain()), "'small' has two variants named 'plain'; rename"),
        (lambda: a_case(sizes=()), "sizes []; each is a number of messages, at least 500"),
        (lambda: a_case(sizes=(1_000, 499)), "at least 500"),
        (lambda: a_case(sizes=(NAN,)), "at least 500"),
        (lambda: a_case(sizes=(True,)), "at least 500"),
        (lambda: a_case(sizes=(1e3,)), "at least 500"),
        (lambda: a_case(operations=0), "operations=0 in a round; at least 1"),
        (lambda: a_case(operations=NAN), "operations=nan in a round"),
        (lambda: a_case(operations=True), "operations=True in a round"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(BenchError) as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize("rounds", [0, -1, True, 2.0, NAN, "3", None])
def test_rounds_that_are_none(rounds):
    with pytest.raises(BenchError, match="at least 1 is needed"):
        Options(rounds=rounds)


@pytest.mark.parametrize("name", ["round_seconds", "warm_up_seconds"])
@pytest.mark.parametrize("value", [0, -1.0, NAN, math.inf, True, "1"])
def test_seconds_that_are_none(name, value):
    with pytest.raises(BenchError, match=f"{name}={value!r}; it must be a number above 0"):
        Options(**{name: value})


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_seeds_that_are_none(seed):
    with pytest.raises(BenchError, match="a whole number, 0 or more"):
        Options(seed=seed)


def test_quick_options_take_changes_and_check_them():
    assert Options.quick(rounds=3).rounds == 3
    assert Options.quick().rounds < Options().rounds
    with pytest.raises(BenchError):
        Options.quick(rounds=0)


def test_sizes():
    case = a_case(sizes=(100_000, 1_000, 10_000, 1_000_000, 31_600))
    assert sizes_of(case) == (1_000, 10_000, 31_600, 100_000, 1_000_000)
    assert sizes_of(case, largest=100_000) == (1_000, 10_000, 31_600, 100_000)
    assert sizes_of(case, quick=True) == QUICK_SIZES
    assert sizes_of(case, largest=20_000, quick=True) == (1_000, 10_000)
    assert sizes_of(case, largest=600) == (600,), "it has none as small, so this is the size"
    assert sizes_of(a_case(sizes=(50_000,)), quick=True) == (QUICK_SIZES[-1],)


@pytest.mark.parametrize("largest", [0, -5, 499, NAN, True])
def test_a_largest_size_that_is_none(largest):
    with pytest.raises(BenchError, match="at least 500"):
        sizes_of(a_case(), largest=largest)


@pytest.fixture
def no_server(monkeypatch):
    """Fail the test if a server is asked for: what is wrong must be seen before."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a server was asked for")

    monkeypatch.setattr(Servers, "__init__", refuse)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: run([]), "no case to run"),
        (lambda: run(a_case(), sizes=[]), "at least 500"),
        (lambda: run(a_case(), sizes=[0]), "at least 500"),
        (lambda: run(a_case(), sizes=[1_000, NAN]), "at least 500"),
        (lambda: run(a_case(), largest=-1), "at least 500"),
        (lambda: run([a_case(), a_case()]), "two cases are named 'small'"),
        (lambda: under_load.run([]), "no case to run"),
        (lambda: under_load.run([a_case()], size=5), "at least 500"),
        (lambda: under_load.run([a_case()], clients=()), "clients=()"),
        (lambda: under_load.run([a_case()], clients=(1, 0)), "clients=0"),
        (lambda: under_load.run([a_case()], clients=(True,)), "clients=True"),
        (lambda: under_load.run([a_case()], rate=0), "rate=0"),
        (lambda: under_load.run([a_case()], rate=NAN), "rate=nan"),
        (lambda: under_load.run([a_case()], seconds=-1), "seconds=-1"),
        (lambda: under_load.run([a_case(writes=True)]), "'small' writes"),
    ],
)
def test_arguments_are_looked_at_before_a_server_starts(make, said, no_server):
    with pytest.raises(BenchError) as caught:
        make()
    assert said in str(caught.value)


def test_the_first_variant_is_the_baseline():
    assert a_case(indexed(), plain()).baseline.name == "indexed"


# What an error means


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def test_what_ends_a_run_and_what_only_a_case():
    import psycopg
    import redis

    gone = psycopg.OperationalError("server closed the connection\nunexpectedly")
    assert "PostgreSQL is gone (server closed the connection unexpectedly)" in str(end_of_run(gone))
    assert isinstance(end_of_run(caused(BenchError("x"), gone)), ServerUnreachableError)
    assert isinstance(end_of_run(psycopg.errors.AdminShutdown("bye")), ServerUnreachableError)
    assert "Redis is gone" in str(end_of_run(redis.ConnectionError("refused")))
    assert isinstance(end_of_run(psycopg.errors.DiskFull("no space")), DiskFullError)
    # An OperationalError as well, but of one statement.
    assert end_of_run(psycopg.errors.QueryCanceled("timeout")) is None
    assert end_of_run(psycopg.errors.UndefinedTable("no table")) is None
    assert end_of_run(psycopg.ProgrammingError("placeholders")) is None
    assert end_of_run(ValueError("x")) is None


def test_what_is_raised_carries_what_is_kept():
    ours = BenchError("found nothing")
    assert as_raised(ours, "kept") is ours
    assert ours.result == "kept"
    theirs = as_raised(ValueError("bad\nthing"), "kept")
    assert isinstance(theirs, BenchStoppedError)
    assert str(theirs) == "ValueError: bad thing; the finished rounds are kept"
    assert isinstance(theirs.__cause__, ValueError)
    assert str(as_raised(ValueError("bad"), None)) == "ValueError: bad"
    full = DiskFullError("the disk is full")
    assert as_raised(full, None) is full
    assert as_raised(full, "kept").result == "kept"
    assert told(full) == "the disk is full"
