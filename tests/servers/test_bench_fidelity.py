"""pgbench really runs, on what our own connections see; and what that tells keeps its secrets."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from pglab.bench.fidelity import SESSION, fidelity
from pglab.bench.pgbench import Pgbench, find_pgbench
from pglab.bench.placement import placed
from pglab.bench.run_servers import Servers
from pglab.errors import BenchError
from pglab.servers.connect import connect_postgres

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def servers(lab_home):
    found = Servers()
    yield found
    found.close()


@pytest.fixture
def run(servers, database):
    """Return a function that runs a script on a table of ten numbers; it keeps what it saw."""
    seen = []

    def started(process, backend):
        program = psutil.Process(process.pid)
        seen.append(SimpleNamespace(process=program, backend=backend, words=program.cmdline(),
                                    environment=program.environ()))  # fmt: skip

    name = conninfo_to_dict(database)["dbname"]
    with connect_postgres(servers.postgres, name, autocommit=True) as watcher:
        watcher.execute("CREATE SCHEMA twins")
        watcher.execute("CREATE TABLE twins.numbers AS SELECT n FROM generate_series(1, 10) n")
        watcher.execute("CREATE TABLE twins.done (n bigint)")
        pgbench = Pgbench(find_pgbench(servers.postgres), servers.postgres, SESSION)

        def run(script, transactions, started=started):
            return pgbench.run(
                script, transactions, database=name, schema="twins",
                table="numbers", seed=3, watcher=watcher, started=started,
            )  # fmt: skip

        run.watcher = watcher
        run.seen = seen
        yield run


def test_pgbench_does_what_is_asked_and_logs_each_transaction(run):
    times = run(
        "\\set number random(1, 10)\n"
        "INSERT INTO done SELECT n FROM numbers WHERE n = :number;\n",
        40,
    )  # fmt: skip
    assert len(times) == 40
    assert all(each > 0 for each in times)
    drawn = run.watcher.execute("SELECT n, count(*) FROM twins.done GROUP BY n").fetchall()
    assert sum(count for _, count in drawn) == 40
    assert len(drawn) > 3


def test_its_connection_is_like_our_own(run):
    # A transaction that divides by zero fails, and with it the run.
    conditions = " AND ".join(
        [
            "current_setting('plan_cache_mode') = 'force_generic_plan'",
            "current_setting('max_parallel_workers_per_gather') = '0'",
            "current_setting('jit') = 'off'",
            "current_setting('search_path') = 'twins,public'",
            "current_schema() = 'twins'",
            "(inet_client_addr() IS NULL) = {socket}",
        ]
    )
    socket = run.watcher.execute("SELECT inet_client_addr() IS NULL").fetchone()[0]
    script = f"SELECT 1 / count(*) FROM numbers WHERE {conditions.format(socket=socket)};"
    assert len(run(script, 5)) == 5
    with pytest.raises(BenchError, match=r"pgbench failed: .*division by zero"):
        run(script.replace("jit') = 'off'", "jit') = 'on'"), 5)


def test_the_server_process_is_found_before_it_has_done_anything(run):
    application = []

    def started(process, backend):
        application.append(
            run.watcher.execute(
                "SELECT application_name, pid = %s FROM pg_stat_activity WHERE datname = "
                "current_database() AND wait_event_type = 'Lock'",
                [backend],
            ).fetchall()
        )

    run("INSERT INTO done SELECT n FROM numbers LIMIT 1;\n", 2, started)
    assert application == [[("pgbench", True)]]


def test_the_password_is_in_no_word_of_the_command(run, servers):
    run("SELECT n FROM numbers;\n", 1)
    (seen,) = run.seen
    secret = servers.postgres.password.reveal()
    assert secret
    assert seen.environment["PGPASSWORD"] == secret
    assert not [word for word in seen.words if secret in word]
    assert "PGOPTIONS" not in seen.environment
    assert not os.path.exists(seen.environment["PGSERVICEFILE"])  # noqa: PTH110


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("SELEKT n FROM numbers;\n", "syntax error"),
        ("SELECT n FROM nowhere;\n", "nowhere"),
        ("\\frobnicate\n", "invalid command"),
    ],
)
def test_a_script_that_fails_is_told_and_the_table_is_free_again(run, script, said):
    with pytest.raises(BenchError, match=f"pgbench failed: .*{said}"):
        run(script, 3)
    assert run.watcher.execute("SELECT count(*) FROM twins.numbers").fetchone() == (10,)


def test_a_run_that_is_given_up_ends_its_process(run):
    pids = []

    def started(process, backend):
        pids.append(process.pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("SELECT n FROM numbers;\n", 100, started)
    assert pids
    assert not psutil.pid_exists(pids[0])
    assert run.watcher.info.transaction_status == TransactionStatus.IDLE


@pytest.fixture
def one_core_refused(monkeypatch):
    """Let the system answer as one does that places nothing."""

    def placed_here(mode, pids):
        if mode != "unpinned":
            raise BenchError(f"--placement {mode}: this system has no way to place a process")
        return placed(mode, pids)

    monkeypatch.setattr("pglab.bench.fidelity.placed", placed_here)


def test_fidelity_compares_every_statement_and_keeps_its_secrets(servers, one_core_refused):
    found = fidelity(size=10_000, rounds=2, round_seconds=0.005, progress=False)
    assert found.placements.keys() == {"unpinned"}
    assert "not measured: --placement one-core: this system" in found.text()
    assert [(each.statement, each.meter) for each in found.compared] == [
        (statement, meter)
        for statement in ("key look-up", "chat's page", "sequential scan")
        for meter in ("libpq", "cursor")
    ]
    for each in found.compared:
        assert len(each.pgbench_us) == len(each.meter_us) == 2
        assert min(each.pgbench_us + each.meter_us) > 1
        assert each.operations >= 10
    # A scan of the table is no look-up: the three statements really differ.
    medians = {each.statement: each.pgbench_us[0] for each in found.compared}
    assert medians["sequential scan"] > 3 * medians["key look-up"]
    told = found.text() + json.dumps(found.to_json())
    assert servers.postgres.password.reveal() not in told
    assert "pgbench (PostgreSQL)" in told
    with servers.admin() as admin:
        left = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE datname LIKE %s",
                             ["%bench%"]).fetchone()  # fmt: skip
    assert left == (0,)


def test_without_a_possible_placement_there_is_nothing_to_measure(servers, one_core_refused):
    with pytest.raises(BenchError, match="no way to place a process"):
        fidelity(size=10_000, placements=["one-core"], progress=False)


def test_on_one_core_pgbench_and_its_server_process_are_there_too(servers, monkeypatch):
    if not hasattr(os, "sched_getaffinity"):  # elsewhere than on Linux it says so
        with pytest.raises(BenchError, match="no way to place a process"):
            fidelity(size=10_000, placements=["one-core"], progress=False)
        return
    seen = set()
    run = Pgbench.run

    def watched(self, *words, started, **more):
        def started_and_seen(process, backend):
            started(process, backend)
            for pid in (0, process.pid, backend):
                seen.add(frozenset(os.sched_getaffinity(pid)))

        return run(self, *words, started=started_and_seen, **more)

    monkeypatch.setattr(Pgbench, "run", watched)
    before = os.sched_getaffinity(0)
    found = fidelity(
        size=10_000, rounds=2, round_seconds=0.005, placements=["one-core"], progress=False
    )
    (cores,) = seen
    assert len(cores) == 1
    assert found.placements["one-core"] == f"client and servers on core {min(cores)}"
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rounds": 1}, "rounds=1; an interval needs at least 2"),
        ({"size": 9_999}, "size=9999; chats have whole pages from"),
        ({"placements": ["somewhere"]}, "placement 'somewhere' is unknown"),
        ({"placements": ["auto"]}, "name the placements"),
        ({"placements": []}, "name the placements"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, said):
    with pytest.raises(BenchError, match=said):
        fidelity(**given)
