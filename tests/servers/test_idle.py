"""Servers that nobody needs stop by themselves, and no others."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis
from servers.faults import Home, Homes, wait_until

from pglab.servers.home import Unit
from pglab.servers.running import probe
from pglab.servers.supervisor import Order, Supervisor

pytestmark = pytest.mark.server

IDLE_S = 0.6


@pytest.fixture(scope="module")
def homes() -> Iterator[Homes]:
    with closing(Homes(PGLAB_IDLE_MINUTES=f"{IDLE_S / 60:g}")) as homes:
        yield homes


@pytest.fixture
def home(homes: Homes, request: pytest.FixtureRequest) -> Iterator[Home]:
    with homes.give(request) as home:
        yield home


def idle_for(times: float) -> None:
    time.sleep(times * IDLE_S)


def test_idle_servers_stop_and_leave_nothing(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    idle_for(2)  # a lease is held
    assert home.server()
    assert home.server("redis")
    lab.close()
    home.assert_nothing_left()
    assert "nobody has used the server for 0.01 min" in home.unit().supervisor_log.read_text()


def test_a_killed_kernel_holds_nothing_up(home: Home) -> None:
    kernel = home.kernel("""
        import pglab
        lab = pglab.open("LESSON", "empty")
        lab.redis.ping()
        print("ready")
        input()
    """)
    kernel.hears("ready")
    home.note_sockets()
    kernel.kill()
    home.assert_nothing_left()


def test_a_client_without_a_lease_keeps_postgres_up(home: Home) -> None:
    lab = home.open()
    client = psycopg.connect(lab.url(reveal=True), autocommit=True)
    lab.close()
    idle_for(3)
    assert client.execute("SELECT 1").fetchone() == (1,)
    client.close()
    home.assert_nothing_left()


def test_a_client_without_a_lease_keeps_redis_up(home: Home) -> None:
    lab = home.open()
    client = redis.Redis.from_url(lab._redis_endpoint.url(reveal=True))
    client.set("a", 1)
    lab.close()
    idle_for(3)
    # The connection that it has, not a new one: nobody would start the server for that.
    assert client.get("a") == b"1"
    client.close()
    home.assert_nothing_left()


def test_the_supervisor_stays_light(home: Home) -> None:
    home.open(PGLAB_IDLE_MINUTES="1")
    maps = Path(f"/proc/{home.supervisor()}/maps").read_text()
    assert "libpq" not in maps
    assert "psycopg" not in maps


def test_whoever_arrives_at_that_moment_gets_a_working_server(home: Home) -> None:
    idle_s = 0.18
    rng = random.Random(1)
    starts = set()
    for _ in range(20):
        lab = home.open(PGLAB_IDLE_MINUTES=f"{idle_s / 60:.4f}")
        with lab.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            time.sleep(0.01)
            assert connection.execute("SELECT 1").fetchone() == (1,)
        starts.add(home.supervisor())
        lab.close()
        time.sleep(idle_s * rng.uniform(0.9, 1.6))
    assert len(starts) > 1  # it did stop now and then, or this would prove nothing
    home.assert_nothing_left()


def test_whoever_comes_after_the_last_look_is_told_no_address(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.open(PGLAB_IDLE_MINUTES="1").close()
    order = Order(
        home=str(home.path), kind="postgres", source="embedded", port=None, idle_minutes=1, image=""
    )
    look, told = Unit.leases_held, []

    def look_and_be_late(unit: Unit) -> int:
        held = look(unit)
        told.append(probe(unit).endpoint)
        return held

    monkeypatch.setattr(Unit, "leases_held", look_and_be_late)
    supervisor = Supervisor(order)
    assert supervisor._nobody_is_coming()
    supervisor._closing.release()
    assert told == [None]


def test_psql_of_the_lab_is_such_a_client(home: Home) -> None:
    lab = home.open()
    programs = lab.server.programs
    assert programs is not None
    psql = subprocess.Popen(
        [programs / "psql", "-XAtq", "-c", "SELECT pg_sleep(2)", "-c", "SELECT 'still there'"],
        env={
            "PGHOST": lab.server.socket_directory or "",
            "PGPORT": str(lab.server.port),
            "PGUSER": lab.server.user,
            "PGPASSWORD": lab.server.password.reveal(),
            "PGDATABASE": lab.database,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    with lab.connection(autocommit=True) as connection:
        wait_until(
            "psql is connected",
            lambda: connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = 'psql'"
            ).fetchone(),
        )
    lab.close()
    said, _ = psql.communicate(timeout=60)
    assert "still there" in said
