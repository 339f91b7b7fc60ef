"""A transaction is run again after 40001 and 40P01, as a whole, a bounded number of times."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pglab.retry import in_transaction

pytestmark = pytest.mark.server

Connection = psycopg.Connection[Any]


@pytest.fixture
def url(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE counters (id int PRIMARY KEY, value int NOT NULL)")
        connection.execute("INSERT INTO counters VALUES (1, 0), (2, 0)")
    return database


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with psycopg.connect(url) as connection:
        yield connection


def value(url: str, counter: int = 1) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT value FROM counters WHERE id = %s", [counter]).fetchone()
    assert row
    return int(row[0])


def read_and_write(connection: Connection) -> None:
    row = connection.execute("SELECT value FROM counters WHERE id = 1").fetchone()
    assert row
    connection.execute("UPDATE counters SET value = %s WHERE id = 1", [row[0] + 1])


def failing(state: str, times: int) -> Any:
    """Return work that writes, then fails so many times, and counts its calls."""
    calls = []

    def work(connection: Connection) -> int:
        calls.append(state)
        connection.execute("UPDATE counters SET value = value + 1 WHERE id = 1")
        if len(calls) <= times:
            connection.execute(
                f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}'; END $$"
            )
        return len(calls)

    return work


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_it_is_run_again_as_a_whole_and_committed(
    connection: Connection, url: str, state: str, autocommit: bool
) -> None:
    connection.autocommit = autocommit
    told: list[tuple[str, float]] = []
    done = in_transaction(
        connection, failing(state, 2), on_retry=lambda *what: told.append(what), first_wait_s=0.01
    )
    assert done == 3
    assert value(url) == 1  # what the failed attempts wrote is gone
    assert [state for state, _ in told] == [state, state]
    assert all(0 <= wait_s <= bound for (_, wait_s), bound in zip(told, (0.01, 0.02), strict=True))


def test_it_gives_up_with_the_last_error(connection: Connection, url: str) -> None:
    work = failing("40001", 3)
    with pytest.raises(psycopg.errors.SerializationFailure):
        in_transaction(connection, work, attempts=3, first_wait_s=0.001)
    assert work(connection) == 4  # three attempts were made, and the connection can be used
    connection.rollback()
    assert value(url) == 0


def test_waits_are_bounded(connection: Connection) -> None:
    waits: list[float] = []
    with pytest.raises(psycopg.errors.SerializationFailure):
        in_transaction(
            connection,
            failing("40001", 99),
            attempts=12,
            first_wait_s=0.001,
            longest_wait_s=0.004,
            on_retry=lambda _, wait_s: waits.append(wait_s),
        )
    assert len(waits) == 11
    assert max(waits) <= 0.004
    assert len(set(waits)) == 11  # drawn, not fixed


@pytest.mark.parametrize("state", ["23505", "57014", "P0001"])
def test_other_errors_are_raised_at_once(connection: Connection, state: str) -> None:
    work = failing(state, 1)
    with pytest.raises(psycopg.Error) as caught:
        in_transaction(connection, work)
    assert caught.value.sqlstate == state
    assert work(connection) == 2  # it had been called once
    connection.rollback()


def test_a_transaction_of_the_callers_is_left_alone(connection: Connection) -> None:
    connection.execute("SELECT 1")
    with pytest.raises(ValueError, match="only a whole one can be run again"):
        in_transaction(connection, read_and_write)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_no_attempt_is_no_answer(connection: Connection) -> None:
    with pytest.raises(ValueError, match="attempts is 0"):
        in_transaction(connection, read_and_write, attempts=0)


def test_no_update_is_lost_among_four_that_collide(url: str) -> None:
    start = threading.Barrier(4, timeout=20)

    def worker(_: int) -> int:
        retried = 0

        def count(*_: object) -> None:
            nonlocal retried
            retried += 1

        with psycopg.connect(url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            start.wait()
            for _ in range(10):
                in_transaction(
                    connection,
                    read_and_write,
                    attempts=200,
                    first_wait_s=0.001,
                    longest_wait_s=0.02,
                    on_retry=count,
                )
        return retried

    with ThreadPoolExecutor(4) as pool:
        retried = list(pool.map(worker, range(4), timeout=60))
    assert value(url) == 40
    assert sum(retried) > 0, "they never met, so nothing was proven"


def test_two_that_deadlock_both_succeed(url: str) -> None:
    """Both hold one row before either asks for the other, so the first attempts must deadlock."""
    both_hold_one = threading.Barrier(2, timeout=20)

    def worker(order: tuple[int, int]) -> list[str]:
        states: list[str] = []
        calls: list[int] = []

        def work(connection: Connection) -> None:
            calls.append(1)
            update = "UPDATE counters SET value = value + 1 WHERE id = %s"
            connection.execute(update, [order[0]])
            if len(calls) == 1:
                both_hold_one.wait()
            connection.execute(update, [order[1]])

        with psycopg.connect(url, options="-c statement_timeout=20s") as connection:
            in_transaction(connection, work, on_retry=lambda state, _: states.append(state))
        return states

    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(worker, [(1, 2), (2, 1)], timeout=60))
    assert sorted(states) == [[], ["40P01"]]
    assert (value(url, 1), value(url, 2)) == (2, 2)
