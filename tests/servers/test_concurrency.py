"""Many processes and threads at once: one cluster, one template, and nobody disturbs another."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest
from servers.faults import Home, Homes, a_home

from pglab.servers.connect import connect_postgres

pytestmark = pytest.mark.server

EIGHT = 8


@pytest.fixture(scope="module")
def homes() -> Iterator[Homes]:
    with closing(Homes()) as homes:
        yield homes


@pytest.fixture
def home(homes: Homes, request: pytest.FixtureRequest) -> Iterator[Home]:
    with homes.give(request) as home:
        yield home


@pytest.fixture
def new_home() -> Iterator[Home]:
    with a_home(new=True) as home:
        yield home


def databases(home: Home) -> list[str]:
    lab = home.open("observer")
    with connect_postgres(lab.server) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'pglab%' ORDER BY datname"
        ).fetchall()
    return [name for (name,) in rows if name != lab.database]


def assert_one_cluster(home: Home) -> None:
    assert len([p for p in home.named("postgres") if "-D" in p.cmdline()]) == 1
    assert len(list(home.path.parent.rglob("data-*"))) == 1


OPENER = """
    import sys
    import pglab
    from pglab.servers.connect import connect_postgres

    print("ready")
    input()
    lab = pglab.open("LESSON", "empty")
    lab.redis.incr("opened")
    with lab.connection() as connection:
        connection.execute("SELECT count(*) FROM messages")
    with connect_postgres(lab.server) as connection:
        system = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    print("opened", lab.database, *system)
    input()
"""


@pytest.mark.parametrize("lessons", [["same"] * EIGHT, [f"l{n}" for n in range(EIGHT)]])
def test_eight_processes_on_a_machine_with_no_cluster(new_home: Home, lessons: list[str]) -> None:
    kernels = [new_home.kernel(OPENER.replace("LESSON", lesson)) for lesson in lessons]
    for kernel in kernels:
        kernel.hears("ready")
    for kernel in kernels:
        kernel.go()
    opened = [kernel.hears("opened").split() for kernel in kernels]
    assert [name for name, _ in opened] == [f"pglab_{lesson}_empty" for lesson in lessons]
    assert len({system for _, system in opened}) == 1
    assert_one_cluster(new_home)
    names = databases(new_home)
    assert len([name for name in names if name.startswith("pglab_template_empty_")]) == 1
    assert len(names) == 1 + len(set(lessons))
    for lesson, times in Counter(lessons).items():
        assert new_home.open(lesson).redis.get("opened") == str(times).encode()


@pytest.mark.parametrize("same", [True, False])
def test_eight_threads(new_home: Home, same: bool) -> None:
    together = threading.Barrier(EIGHT)

    def open_lesson(number: int) -> str:
        together.wait()
        lab = new_home.open("same" if same else f"l{number}")
        lab.redis.ping()
        with lab.connection() as connection:
            connection.execute("SELECT count(*) FROM messages")
        return lab.database

    with ThreadPoolExecutor(EIGHT) as pool:
        opened = list(pool.map(open_lesson, range(EIGHT)))
    assert len(set(opened)) == (1 if same else EIGHT)
    assert_one_cluster(new_home)
    assert len(databases(new_home)) == 1 + len(set(opened))


def test_resets_while_others_open_the_same_lesson(home: Home) -> None:
    home.open()
    done = threading.Event()

    def reset() -> int:
        lab, times = home.open(), 0
        while not done.is_set():
            lab.reset()
            times += 1
        return times

    def use(_: int) -> int:
        for _ in range(3):
            lab = home.open()
            connection = lab.connection()
            try:
                with connection:
                    connection.execute("SELECT count(*) FROM messages").fetchone()
            except psycopg.OperationalError:
                pass  # a reset ends connections; what matters is that opening them never fails
            lab.close()
        return 3

    with ThreadPoolExecutor(5) as pool:
        resetting = [pool.submit(reset) for _ in range(2)]
        try:
            assert sum(pool.map(use, range(3))) == 9
        finally:
            done.set()
        assert all(future.result() > 0 for future in resetting)
    names = databases(home)
    assert [name for name in names if "building" in name] == []
    assert f"pglab_{home.lesson}_empty" in names


def test_reset_ends_connections_to_that_lesson_only(home: Home) -> None:
    kernel = home.kernel("""
        import psycopg
        import pglab

        victim, witness = pglab.open("one", "empty"), pglab.open("two", "empty")
        lost, kept = victim.connection(), witness.connection()
        kept.execute("CREATE TEMPORARY TABLE mine AS SELECT 42 AS answer")
        victim.redis.set("a", 1), witness.redis.set("a", 2)
        print("ready")
        input()
        try:
            lost.execute("SELECT 1")
        except psycopg.OperationalError as error:
            print("lost", type(error).__name__)
        print("kept", *kept.execute("SELECT answer FROM mine").fetchone())
        print("redis", victim.redis.get("a"), witness.redis.get("a"))
    """)
    kernel.hears("ready")
    home.open("one").reset()
    kernel.go()
    assert kernel.hears("lost") == "AdminShutdown"
    assert kernel.hears("kept") == "42"
    assert kernel.hears("redis") == "None b'2'"


def test_four_homes_at_once_do_not_meet() -> None:
    with ExitStack() as stack:
        homes = [stack.enter_context(a_home()) for _ in range(4)]
        together = threading.Barrier(4)

        def begin(number: int) -> tuple[int, int]:
            together.wait()
            lab = homes[number].open()
            lab.redis.set("mine", number)
            with lab.connection() as connection:
                connection.execute("CREATE TABLE mine AS SELECT %s AS number", (number,))
            return lab.server.port, lab._redis_endpoint.port

        with ThreadPoolExecutor(4) as pool:
            ports = list(pool.map(begin, range(4)))
        assert len({port for pair in ports for port in pair}) == 8
        for number, home in enumerate(homes):
            lab = home.open()
            assert lab.redis.get("mine") == str(number).encode()
            with lab.connection() as connection:
                assert connection.execute("SELECT number FROM mine").fetchone() == (number,)
