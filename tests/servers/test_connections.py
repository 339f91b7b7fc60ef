"""Steps of connecting, pools that run out, PgBouncer, and a network that fails: all real."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from pglab.config import Settings
from pglab.connections import (
    SERVED,
    STEPS,
    Network,
    PgBouncer,
    connect_steps,
    find_pgbouncer,
    many_clients,
)
from pglab.errors import NoServerError, ServerStartError, ServerUnreachableError
from pglab.servers import lifecycle

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def endpoint(lab_home):
    found, running = lifecycle.ensure_postgres(Settings.from_environment())
    yield found
    running.release()


@contextmanager
def way(endpoint, **options):
    with Network(endpoint.host, endpoint.port, **options) as network:
        parameters = {**endpoint.parameters(tcp=True), "host": network.host}
        yield network, {**parameters, "port": str(network.port)}


# --- steps --------------------------------------------------------------------------------------


def test_the_steps_of_connecting(endpoint):
    steps = connect_steps(endpoint.parameters(tcp=True))
    assert [step.name for step in steps] == list(STEPS)
    assert all(step.seconds >= 0 for step in steps)
    spent = {step.name: step.seconds for step in steps}
    assert spent["process and password"] > 0
    assert spent["TLS"] > 0  # asked for, and refused by a server that has none
    without = connect_steps({**endpoint.parameters(tcp=True), "sslmode": "disable"})
    assert {step.name: step.seconds for step in without}["TLS"] == 0


def test_every_round_trip_of_a_slow_network_is_in_its_step(endpoint):
    # Not a question of speed: bytes are held back for that long, so nothing can be quicker.
    with way(endpoint, round_trip_s=0.05) as (_, parameters):
        spent = {step.name: step.seconds for step in connect_steps(parameters)}
    assert spent["TLS"] >= 0.05
    assert spent["process and password"] >= 0.15  # start-up packet, and SCRAM's two exchanges
    assert spent["first query"] >= 0.05
    assert spent["second query"] >= 0.05


def test_a_connection_that_fails_has_libpqs_words_and_no_password(endpoint):
    with pytest.raises(ServerUnreachableError, match="password authentication failed") as caught:
        connect_steps({**endpoint.parameters(tcp=True), "password": "s3cret"})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ServerUnreachableError, match=r"the query failed: ERROR: +division by zero"):
        connect_steps(endpoint.parameters(), "SELECT 1/0")
    with way(endpoint) as (network, parameters):
        network.fall_silent()
        with pytest.raises(ServerUnreachableError, match="no connection in time"):
            connect_steps(parameters, timeout_s=0.2)


# --- pools --------------------------------------------------------------------------------------


def test_a_pool_that_runs_out_serves_some_and_refuses_the_rest(endpoint):
    with ConnectionPool(
        kwargs=endpoint.parameters(), min_size=2, max_size=2, timeout=0.5, open=True
    ) as pool:
        pool.wait(10)
        # Held for longer than anybody waits: two are served and six give up, at any speed.
        waits = many_clients(pool.connection, clients=8, hold_s=2.0)
    assert [wait.client for wait in waits] == list(range(1, 9))
    outcomes = [wait.outcome for wait in waits]
    assert (outcomes.count(SERVED), outcomes.count("PoolTimeout")) == (2, 6)
    assert all(wait.waited_s >= 0.5 for wait in waits if wait.outcome != SERVED)
    assert any("couldn't get a connection" in wait.words for wait in waits)


def test_sqlalchemys_pool_does_the_same(endpoint):
    from sqlalchemy import URL, create_engine

    given = endpoint.parameters()
    engine = create_engine(
        URL.create("postgresql+psycopg", given["user"], given["password"], database="postgres",
                   query={"host": given["host"], "port": given["port"]}),
        pool_size=1, max_overflow=1, pool_timeout=0.5,
    )  # fmt: skip
    try:
        outcomes = [wait.outcome for wait in many_clients(engine.connect, clients=5, hold_s=2.0)]
    finally:
        engine.dispose()
    assert (outcomes.count(SERVED), outcomes.count("TimeoutError")) == (2, 3)


def test_many_clients_refuses_nonsense():
    for clients, hold_s in ((0, 0.1), (2, -1), (2, 600)):
        with pytest.raises(ValueError, match="make no sense here"):
            many_clients(lambda: None, clients=clients, hold_s=hold_s)


# --- PgBouncer ----------------------------------------------------------------------------------


@pytest.fixture
def bouncer(endpoint):
    if find_pgbouncer() is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is not installed, and CI must have it")
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    with PgBouncer(endpoint, mode="transaction", pool_size=1) as found:
        yield found


def pid_of(connection):
    return connection.execute("SELECT pg_backend_pid()").fetchone()[0]


def test_two_clients_share_one_server_process(bouncer):
    with (
        bouncer.connect("postgres", autocommit=True, prepare_threshold=None) as one,
        bouncer.connect("postgres", autocommit=True, prepare_threshold=None) as other,
    ):
        assert pid_of(one) == pid_of(other)
        with one.transaction():
            mine = pid_of(one)
            waits = threading.Thread(target=other.execute, args=("SELECT 1",))
            waits.start()
            deadline = time.monotonic() + 10
            while pool_of(bouncer)["cl_waiting"] != 1 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert pool_of(bouncer)["cl_waiting"] == 1
            assert pid_of(one) == mine
        waits.join(10)
        assert not waits.is_alive()


def pool_of(bouncer):
    return next(pool for pool in bouncer.show("POOLS") if pool["database"] == "postgres")


def test_a_setting_of_a_session_leaks_to_whoever_comes_next(bouncer):
    options = {"autocommit": True, "prepare_threshold": None}
    with (
        bouncer.connect("postgres", **options) as one,
        bouncer.connect("postgres", **options) as two,
    ):
        one.execute("SET work_mem = '77MB'")
        assert two.execute("SHOW work_mem").fetchone() == ("77MB",)
        with one.transaction():
            one.execute("SET LOCAL work_mem = '88MB'")
        assert two.execute("SHOW work_mem").fetchone() == ("77MB",)


def test_prepared_statements_survive_from_version_1_21_on_if_asked_for(endpoint, bouncer):
    assert bouncer.version >= (1, 15)
    asked = {"max_prepared_statements": "100"} if bouncer.version >= (1, 21) else {}
    with (
        PgBouncer(endpoint, pool_size=1, settings=asked) as through,
        through.connect("postgres", autocommit=True, prepare_threshold=0) as one,
        through.connect("postgres", autocommit=True, prepare_threshold=0) as two,
    ):
        one.execute("SELECT 1")
        if bouncer.version < (1, 21):
            # Both call their first statement by the same name, in the same server process.
            with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
                two.execute("SELECT 2")
        else:
            assert two.execute("SELECT 2").fetchone() == (2,)


def test_a_bouncer_ends_with_its_block_and_says_why_it_did_not_start(endpoint, bouncer):
    with PgBouncer(endpoint) as second:
        folder = second.parameters("postgres")["host"]
        assert Path(folder).is_dir()
        child = second._child
    assert child.poll() is not None
    assert not Path(folder).exists()
    with pytest.raises(ServerStartError, match=r"its last words:\n.*pool_mode"):
        PgBouncer(endpoint, settings={"pool_mode": "nonsense"})
    with pytest.raises(ValueError, match="none of the words"):
        bouncer.show("POOLS; SHUTDOWN")


def test_the_password_is_in_a_private_file_and_nowhere_else(endpoint, bouncer):
    folder = Path(bouncer.parameters("postgres")["host"])
    secret = endpoint.password.reveal()
    holding = [name for name in ("ini", "log", "users") if secret in (folder / name).read_text()]
    assert holding == ["users"]
    assert (folder / "users").stat().st_mode & 0o077 == 0
    assert secret not in Path(f"/proc/{bouncer._child.pid}/cmdline").read_text()


def test_without_the_program_the_remedy_is_named(endpoint, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("pglab.connections.bouncer._USUAL", ())
    with pytest.raises(NoServerError, match="apt-get install pgbouncer"):
        PgBouncer(endpoint)


# --- the network --------------------------------------------------------------------------------


def test_bytes_pass_unchanged_and_in_order(endpoint):
    with way(endpoint, round_trip_s=0.01) as (network, parameters):
        with psycopg.connect(**parameters) as connection:
            text = connection.execute(
                "SELECT string_agg(n::text, ',' ORDER BY n) FROM generate_series(1, 100000) AS n"
            ).fetchone()[0]
        assert text == ",".join(map(str, range(1, 100_001)))
        assert network.bytes_received > len(text) > network.bytes_sent > 0


def test_a_silent_network_is_noticed_by_the_clients_own_time_out_only(endpoint):
    with way(endpoint) as (network, parameters), psycopg.connect(**parameters) as connection:
        network.fall_silent()
        answered = threading.Event()

        def ask():
            connection.execute("SELECT 1")
            answered.set()

        asking = threading.Thread(target=ask)
        asking.start()
        assert not answered.wait(0.5)
        network.recover()
        assert answered.wait(10)
        asking.join(10)


def test_a_cut_ends_connections_and_lets_new_ones_through(endpoint):
    with way(endpoint) as (network, parameters):
        with psycopg.connect(**parameters, autocommit=True) as connection:
            connection.execute("SELECT 1")
            network.cut()
            time.sleep(0.2)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
            assert connection.closed
        with psycopg.connect(**parameters) as connection:
            assert connection.execute("SELECT 2").fetchone() == (2,)


def test_the_end_of_a_way_with_clients_is_quiet(endpoint, caplog, capfd):
    with way(endpoint) as (network, parameters):
        client = psycopg.connect(**parameters, autocommit=True)
        client.execute("SELECT 1")
        network.fall_silent()
    assert caplog.records == []  # asyncio complains there of tasks that were cancelled
    assert capfd.readouterr() == ("", "")
    assert not network._thread.is_alive()
    client.close()


def test_nothing_listens_after_the_block(endpoint):
    with way(endpoint) as (network, parameters):
        pass
    network.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**{**parameters, "connect_timeout": "2"})


def test_a_server_that_is_not_there_ends_the_clients_connection():
    with (
        Network("127.0.0.1", 1) as network,
        pytest.raises(psycopg.OperationalError),
    ):
        psycopg.connect(host=network.host, port=network.port, user="x", connect_timeout=5)
