"""What goes wrong during a run: a clear error, finished rounds kept, and the next run works."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import uuid
from urllib.parse import quote

import psutil
import psycopg
import pytest
import redis
from bench_case_support import (
    BY_ID,
    IDS,
    INDEX,
    QUICK,
    SIZE,
    Meddled,
    a_case,
    a_ground,
    indexed,
    measured,
    plain,
    raising,
    scratch_databases,
    servers_in_memory,
    size_run,
    someone_else,
)
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from servers.faults import wait_until
from servers.test_disk_full import small_disk

from pglab.bench import Call, Claim, Draw, Query, Variant, run
from pglab.bench.records import to_json
from pglab.config import Settings
from pglab.errors import (
    BenchError,
    BenchStoppedError,
    DiskFullError,
    PlanMismatchError,
    ServerUnreachableError,
)
from pglab.servers import lifecycle

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("bench-faults")]


@pytest.fixture(scope="module", autouse=True)
def server_url():
    """Servers of this module's own, in place of the fixture of this name."""
    with servers_in_memory() as url:
        yield url


@pytest.fixture(scope="module")
def ground(server_url):
    with a_ground() as ground:
        yield ground


def refused(ground, case, error=BenchError):
    """Measure a case that must be refused; return the message and what is kept of it."""
    at = size_run(ground, case)

    def attempt():
        with at:
            at.measure()

    with pytest.raises(error) as caught:
        attempt()
    with ground.connect() as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^v[0-9]'")
        assert schemas.fetchall() == [], "its twins are gone"
    kept = {each.name: len(each.rounds) for each in at.result().variants}
    return str(caught.value), kept


# The plan


def test_an_index_that_is_claimed_and_not_there(ground):
    said, kept = refused(ground, a_case(plain(), indexed(setup=())), PlanMismatchError)
    assert "case 'small', variant 'indexed'" in said
    assert "the index look_up is claimed, and the plan reads none" in said
    assert "claimed: the index look_up" in said
    assert "found:\n  Seq Scan on messages" in said
    assert kept == {}


def test_an_index_that_is_there_and_not_claimed(ground):
    said, _ = refused(ground, a_case(plain(setup=INDEX)), PlanMismatchError)
    assert "claimed: messages read by Seq Scan" in said
    assert "look_up" in said


def test_a_planner_switch_that_fakes_a_variant(ground):
    switch = ("SET enable_indexscan = off", "SET enable_bitmapscan = off")
    # It reaches neither the measured session nor its plan.
    said, _ = refused(ground, a_case(plain(setup=(*INDEX, *switch))), PlanMismatchError)
    assert "and Seq Scan is claimed" in said


@pytest.mark.parametrize("at", [1, 2])
def test_a_plan_that_changes_in_mid_run(ground, at):
    def drop(place):
        place.connection.execute("DROP INDEX look_up")

    changes = indexed(Meddled(drop, at=at))
    said, kept = refused(ground, a_case(plain(), changes, operations=5), PlanMismatchError)
    assert "after the timing, though not before; nothing of it is reported" in said
    assert "claimed: the index look_up" in said
    assert "Seq Scan on messages" in said
    assert kept == {"plain": 2}, "nothing of that variant is reported, and all of the other"


def test_a_plan_that_changes_by_an_operation_itself(ground):
    def function(place, parameters):
        opened = Query(BY_ID).open(place, parameters)

        def once(i):
            if i == 12:
                place.connection.execute("CREATE INDEX sudden ON messages (id)")
            return opened.once(i)

        return dataclasses.replace(opened, once=once)

    case = a_case(plain(Call(function)), indexed(), operations=5)
    said, kept = refused(ground, case, PlanMismatchError)
    assert "sudden" in said
    assert "claimed: messages read by Seq Scan" in said
    assert kept == {"indexed": 2}


# Tables


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("UPDATE messages SET body = 'x' WHERE id = 7", "was written to"),
        ("DELETE FROM messages WHERE id = (SELECT max(id) FROM messages)", "was written to"),
        (
            "INSERT INTO messages SELECT * FROM messages ORDER BY id LIMIT 1",
            "was written to",
        ),
        ("TRUNCATE messages", "was written to"),
        ("CREATE INDEX another ON messages (sent_at)", "got or lost an index"),
        ("DROP INDEX spare", "got or lost an index"),
        ("DROP TABLE messages", "was made or dropped"),
        ("CREATE TABLE more (n int)", "was made or dropped"),
    ],
)
def test_a_table_that_somebody_else_changes(ground, does, said):
    # In the second round, so that the other variant has finished the first, whoever began it.
    changed = plain(
        Meddled(someone_else(does), at=2),
        claim=None,
        setup=("CREATE INDEX spare ON messages (created_at)",),
    )
    found, kept = refused(ground, a_case(indexed(), changed, operations=5))
    table = "more" if "more" in does else "messages"
    assert f"the table {table} of the variant 'plain' {said} by someone else" in found
    assert "run it again while nobody else is at work there" in found
    assert "plain" not in kept
    assert kept["indexed"] >= 1


def test_a_table_that_all_variants_read_and_somebody_else_changes(ground):
    does = "UPDATE public.instances SET name = name"
    changed = indexed(Meddled(someone_else(does), at=1))
    found, _ = refused(ground, a_case(plain(), changed, operations=5))
    assert "the table instances that all variants read was written to by someone else" in found
    with ground.connect() as connection:
        connection.execute("VACUUM (ANALYZE) instances")


def test_a_case_that_says_it_writes_may(ground):
    update = "UPDATE messages SET body = 'x' WHERE id = %(id)s"
    case = a_case(plain(Query(update), claim=None), indexed(Query(update)), writes=True)
    found = measured(ground, dataclasses.replace(case, operations=3))
    assert [len(each.rounds) for each in found.variants] == [2, 2]
    assert found.variant("indexed").plan.nodes[0].startswith("Update on messages")


# Operations, parameters, SQL


def test_an_operation_that_finds_nothing(ground):
    nothing = Query("SELECT id FROM messages WHERE -id = %(id)s")
    said, kept = refused(ground, a_case(plain(nothing)))
    assert "operations found no rows, and 0 were drawn to" in said
    assert "correct the statement or Draw.query" in said
    assert kept == {}


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_operation_that_raises(ground, at):
    class OwnError(Exception):
        pass

    case = a_case(plain(Meddled(raising(OwnError("something\nof mine")), at=at)), operations=5)
    said, kept = refused(ground, case, BenchStoppedError)
    when = f"in round {at}" if at else "in the warm-up"
    assert f"the operation of 'plain' raised OwnError {when}: something of mine" in said
    assert kept == ({"plain": at - 1} if at > 1 else {})


def test_a_statement_that_takes_too_long(ground):
    def hurry(place):
        place.connection.execute("SET statement_timeout = '20ms'")
        place.connection.execute("SELECT pg_sleep(10)")

    case = a_case(plain(Meddled(hurry)), operations=5)
    said, kept = refused(ground, case, BenchStoppedError)
    assert "raised QueryCanceled in round 2: canceling statement due to statement timeout" in said
    assert kept == {"plain": 1}


@pytest.mark.parametrize(
    ("sql", "parameters", "said"),
    [
        ("SELECT %s", IDS, "has 1 placeholders"),
        (
            BY_ID,
            Draw("SELECT id AS no FROM messages"),
            "asks for %(id)s, and the parameters have no",
        ),
        (BY_ID, None, "asks for %(id)s"),
        ("SELECT 1", IDS, "has 0 placeholders, and 1 parameters were drawn"),
        ("SELECT %s, %s", Draw("SELECT 1"), "has 2 placeholders, and 1 parameters were drawn"),
    ],
)
@pytest.mark.parametrize("meter", ["libpq", "core"])
def test_parameters_that_do_not_fit(ground, sql, parameters, said, meter):
    if sql == "SELECT %s":
        parameters = None
    with pytest.raises(BenchError) as caught:
        measured(ground, a_case(plain(Query(sql, meter)), parameters=parameters))
    if parameters is None and sql == BY_ID:
        assert "1 placeholders, and 0 parameters were drawn" in str(caught.value)
    else:
        assert said in str(caught.value)


def test_sql_that_is_wrong(ground):
    said, _ = refused(ground, a_case(plain(), indexed(setup=("CREATE INDEX ON nowhere (x)",))))
    assert "case 'small': the set-up of 'indexed' fails: relation \"nowhere\"" in said
    said, _ = refused(ground, a_case(plain(twins={"messages": "SELECT * FROM nowhere"})))
    assert "the set-up of 'plain' fails: relation \"nowhere\" does not exist" in said
    said, _ = refused(ground, a_case(plain(Query("SELEKT %(id)s"))))
    assert "case 'small': 'plain' cannot be prepared: syntax error at or near \"SELEKT\"" in said
    wrong = Query(BY_ID, before=("SELECT * FROM nowhere",))
    said, _ = refused(ground, a_case(plain(wrong), operations=2), BenchStoppedError)
    assert "the operation of 'plain' raised UndefinedTable in the warm-up" in said
    said, _ = refused(ground, a_case(plain(wrong)))
    assert "give the case operations=…" in said


def test_a_draw_that_finds_nothing(ground):
    nothing = Draw("SELECT id FROM messages WHERE id < 0")
    said, _ = refused(ground, a_case(parameters=nothing))
    assert "no parameters: 'SELECT id FROM messages WHERE id < 0' finds nothing" in said
    assert f"at {SIZE:,} messages; choose a larger --size, or correct the query" in said
    absent = dataclasses.replace(IDS, misses=0.5, absent="SELECT id FROM messages WHERE id < 0")
    said, _ = refused(ground, a_case(parameters=absent))
    assert "finds nothing" in said
    said, _ = refused(ground, a_case(parameters=Draw("SELECT id FROM nowhere")))
    assert "the parameters of case 'small' cannot be drawn: relation \"nowhere\"" in said


def test_measures_that_cannot_be_read_do_not_cost_the_rounds(ground):
    def function(place, parameters):
        opened = Query(BY_ID).open(place, parameters)
        return dataclasses.replace(opened, measures=lambda: {"x": 1 / 0})

    found = measured(ground, a_case(plain(Call(function)))).variant("plain")
    assert len(found.rounds) == 2
    assert "what it counted is lost: division by zero" in found.notes


def test_one_round_is_a_result_without_an_interval(ground):
    options = dataclasses.replace(QUICK, rounds=1)
    result = run(a_case(), sizes=[500], options=options, progress=False)
    case = result.case()
    assert [len(each.rounds) for each in case.at().variants] == [1, 1]
    with pytest.raises(BenchError, match="round"):
        case.ratio("indexed")
    assert "plain" in str(result)
    assert "indexed" in result._repr_html_()
    assert len(result.frame()) == 2
    assert to_json(result)


# Disk


def test_a_size_that_the_disk_cannot_hold(server_url):
    before = scratch_databases(server_url)
    with pytest.raises(DiskFullError) as caught:
        run(a_case(), sizes=[10**12], options=QUICK, progress=False)
    assert "1,000,000,000,000 messages with 2 twins need some" in str(caught.value)
    assert "GB free; choose a smaller --size, or make room" in str(caught.value)
    assert scratch_databases(server_url) == before


@pytest.fixture
def disk(monkeypatch):
    with small_disk(250) as disk:
        monkeypatch.setenv("PGLAB_HOME", str(disk.kernels.home))
        monkeypatch.setenv("PGLAB_IDLE_MINUTES", "2")
        yield disk


def test_a_disk_that_becomes_full(disk):
    writes = "INSERT INTO messages SELECT m.* FROM public.messages AS m, generate_series(1, 2)"

    def fill(place):
        if place.size == SIZE:
            disk.fill(leave_mb=1)

    case = a_case(
        Variant("grows", Meddled(fill, at=2, sql=writes)),
        parameters=None, operations=6, writes=True,
    )  # fmt: skip
    options = dataclasses.replace(QUICK, rounds=6)
    with pytest.raises(BenchStoppedError) as caught:
        run(case, sizes=[500, SIZE], options=options, progress=False)
    said = str(caught.value)
    assert "the disk of the PostgreSQL server is full" in said
    assert "make room" in said
    assert "the finished rounds are kept" in said
    rounds = {at.size: len(at.variants[0].rounds) for at in caught.value.result.case().sizes}
    assert rounds[500] == 6
    assert 1 <= rounds[SIZE] < 6
    disk.make_room()

    def works_again():
        with contextlib.suppress(ServerUnreachableError, psycopg.OperationalError):
            return run(a_case(), sizes=[500], options=QUICK, progress=False)

    assert wait_until("it works again", works_again).complete


def test_twins_that_do_not_fit(disk):
    run(a_case(), sizes=[500], options=QUICK, progress=False)
    large = {"messages": "SELECT m.* FROM messages m, generate_series(1, 2000)"}
    with pytest.raises((DiskFullError, BenchStoppedError)) as caught:
        run(a_case(plain(twins=large)), sizes=[500], options=QUICK, progress=False)
    assert "full" in str(caught.value)
    assert "make room" in str(caught.value)


# Servers that go away


@pytest.fixture
def own_url():
    """Servers that a test may kill."""
    with servers_in_memory() as url:
        yield url


def kill_postgres(place):
    (text,) = place.connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    backend = place.connection.info.backend_pid
    os.kill(int(text.split()[0]), signal.SIGKILL)
    # It notices, and ends, when it next has nothing to do.
    wait_until("the backend ends", lambda: not psutil.pid_exists(backend))


def kill_backend(place):
    os.kill(place.connection.info.backend_pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("kill", "meter"),
    [(kill_postgres, "libpq"), (kill_backend, "libpq"), (kill_postgres, "cursor")],
)
def test_postgres_dies_in_mid_run(own_url, kill, meter):
    class Killing(Meddled):
        def open(self, place, parameters):
            opened = super().open(place, parameters)
            query = Query(BY_ID, meter).open(place, parameters) if meter != "libpq" else opened
            return dataclasses.replace(query, before=opened.before)

    case = a_case(plain(), indexed(Killing(kill, at=3)), operations=5)
    options = dataclasses.replace(QUICK, rounds=5)
    with pytest.raises(BenchStoppedError) as caught:
        run(case, sizes=[500], options=options, progress=False)
    said = str(caught.value)
    assert said.startswith("PostgreSQL is gone (")
    assert "run: pglab status, then again" in said
    assert "the finished rounds are kept" in said
    result = caught.value.result
    assert len(result.case().at().variant("indexed").rounds) == 2
    assert len(result.case().at().variant("plain").rounds) in {2, 3}
    assert result.environment["postgres"]["version"]
    assert result.stopped
    assert to_json(result)

    def works_again():
        with contextlib.suppress(ServerUnreachableError, psycopg.OperationalError):
            return run(a_case(), sizes=[500], options=QUICK, progress=False)

    assert wait_until("it works again", works_again).complete
    with a_ground(500) as again:
        url = again.servers.postgres.url(reveal=True)
        assert scratch_databases(url) == [again.database], "what was left over is gone"


def kill_redis(place):
    with place.redis() as client:
        before = client.info("server")["run_id"]
        os.kill(client.info("server")["process_id"], signal.SIGKILL)

        def is_back():
            with contextlib.suppress(redis.RedisError):
                return client.info("server")["run_id"] != before

        wait_until("Redis is started again", is_back)


def test_a_server_that_ends_for_want_of_room(own_url, monkeypatch):
    usage = shutil.disk_usage

    def no_more_room(place):
        # Without room for its log PostgreSQL ends on purpose, and cannot say why to anybody.
        monkeypatch.setattr(shutil, "disk_usage", lambda at: usage(at)._replace(free=4_096))
        kill_backend(place)

    case = a_case(plain(Meddled(no_more_room)), operations=5)
    with pytest.raises(BenchStoppedError) as caught:
        run(case, sizes=[500], options=QUICK, progress=False)
    assert str(caught.value).startswith("the disk of the PostgreSQL server is full, and PostgreSQL")
    assert "make room first; the finished rounds are kept" in str(caught.value)
    assert [len(each.rounds) for each in caught.value.result.case().at().variants] == [1]


def stop_redis(place):
    for unit in lifecycle.units(Settings.from_environment()):
        if unit.kind == "redis":
            lifecycle.stop(unit)


@pytest.mark.parametrize(
    ("stop", "forgives", "says"),
    [
        (stop_redis, False, "Redis is gone ("),
        (kill_redis, False, "Redis was restarted during the run, and"),
        (kill_redis, True, "Redis was restarted during the run, and"),
    ],
)
def test_redis_goes_away_in_mid_run(own_url, stop, says, forgives):
    def function(place, parameters):
        client, stopping = place.redis(), Meddled(stop).open(place, parameters)
        client.set(f"{place.prefix}:x", "1")

        def once(i):
            found = client.get(f"{place.prefix}:x")
            return 1 if forgives else len(found)

        return dataclasses.replace(stopping, once=once, check="", statement="")

    case = a_case(plain(), Variant("cached", Call(function)), operations=5)
    with pytest.raises(BenchStoppedError) as caught:
        run(case, sizes=[500], options=QUICK, progress=False)
    assert str(caught.value).startswith(says)
    assert [each.number for each in caught.value.result.case().at().variant("cached").rounds] == [1]
    assert caught.value.result.environment["redis"]["version"]
    assert scratch_databases(own_url) == []


# A server of the learner's own


PASSWORD = "p@s/w:ö?d #%"


@pytest.fixture
def as_learner(server_url, monkeypatch):
    """Set DATABASE_URL to a server where the role is no superuser."""
    role = f"ana_{uuid.uuid4().hex[:8]}"
    given = conninfo_to_dict(server_url)

    def admin(statement):
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(role=sql.Identifier(role)))

    admin(f"CREATE ROLE {{role}} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
    monkeypatch.setenv(
        "DATABASE_URL",
        f"postgresql://{role}:{quote(PASSWORD, safe='')}@127.0.0.1:{given['port']}/postgres",
    )
    yield role
    admin("DROP OWNED BY {role}")
    admin("DROP ROLE {role}")


def test_a_role_that_is_no_superuser_can_run(as_learner, server_url):
    before = scratch_databases(server_url)
    options = dataclasses.replace(QUICK, placement="auto")
    result = run(a_case(), sizes=[SIZE], options=options, cold=True, progress=False)
    assert result.complete
    assert result.environment["postgres"]["source"] == "url"
    assert result.environment["postgres"]["connection"] == "TCP"
    for each in result.case().at().variants:
        assert len(each.rounds) == 2
        assert "PostgreSQL's cache could not be emptied" in " ".join(each.notes)
        assert set(each.measures) == {"first_warm_us"}
    said = repr(result) + str(result) + str(to_json(result))
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said
    assert scratch_databases(server_url) == before


def test_where_tables_cannot_be_watched_closely_rows_are_counted(as_learner):
    with a_ground() as theirs:
        changed = plain(
            Meddled(someone_else("DELETE FROM messages WHERE id % 2 = 0"), at=1), claim=Claim()
        )
        drawn = Draw("SELECT id FROM messages WHERE id % 2 = 1 ORDER BY id")
        case = a_case(indexed(), changed, operations=5, parameters=drawn)
        found, kept = refused(theirs, case)
        assert "the table messages of the variant 'plain' was written to by someone else" in found
        assert kept == {"indexed": 2}


def test_what_another_role_left_over_does_not_matter(as_learner, server_url, monkeypatch):
    from pglab import databases

    monkeypatch.setenv("PGLAB_SCOPE", "shared")
    name = "pglab_shared_bench_0123abcd_500"
    with psycopg.connect(server_url, autocommit=True) as admin:
        databases.create(admin, name)
        try:
            assert run(a_case(), sizes=[500], options=QUICK, progress=False).complete
            assert name in scratch_databases(server_url)
        finally:
            databases.drop(admin, name)
