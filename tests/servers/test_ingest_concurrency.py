"""Two ingests at once: no deadlock, and neither misses what the other stores."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from ingest_support import (
    acknowledged,
    database_with_tables,
    edited,
    empty_tables,
    event,
    facts,
    said,
)

from pglab.ingestion import ingest

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def tables(server_url):
    with database_with_tables(server_url) as url:
        yield url


@pytest.fixture
def connection(tables):
    with empty_tables(tables) as connection:
        yield connection


def history():
    """Tell of 12 instances, each with contacts, chats, messages and what became of them."""
    told = []
    for i in range(12):
        name = f"instance-{i:02}"
        told.append(event("connection.update", {"state": "open"}, at=i, instance=name))
        for j in range(8):
            told.append(said(f"M{j}", at=j, name=f"Ana {j}", instance=name))
            told.append(edited(f"M{j}", f"edited {j}", at=j + 20, instance=name))
            told.append(acknowledged(f"M{j}", "READ", at=j + 30, instance=name))
    return told


def test_opposite_orders_never_deadlock(tables, connection):
    told = history()
    with connection.transaction(force_rollback=True):
        ingest(connection, told)
        wanted = facts(connection)
    start = threading.Barrier(4)

    def tell(which):
        # Halves overlap in every instance; odd tellers go backwards.
        mine = told[:200] if which < 2 else told[80:]
        with psycopg.connect(tables, autocommit=True) as own:
            for _ in range(6):
                start.wait(timeout=60)
                ingest(own, mine if which % 2 == 0 else mine[::-1])

    with ThreadPoolExecutor(4) as pool:
        for teller in [pool.submit(tell, which) for which in range(4)]:
            teller.result(timeout=120)
    assert facts(connection) == wanted


def test_a_message_and_its_update_in_two_transactions_meet(tables, connection):
    """The one that comes second waits for the first, and then sees it."""
    ingest(connection, event("instance.create", {}))
    connection.commit()
    for first, second in [
        (said("A"), acknowledged("A", "READ")),
        (acknowledged("B", "READ"), said("B")),
    ]:
        with (
            psycopg.connect(tables) as holder,
            psycopg.connect(tables) as waiter,
            ThreadPoolExecutor(1) as pool,
        ):
            holder.execute("BEGIN")
            ingest(holder, first)
            waiting = pool.submit(ingest, waiter, second)
            wait_for_a_lock(connection, waiter.info.backend_pid)
            holder.commit()
            waiting.result(timeout=60)
            waiter.commit()
    found = connection.execute("SELECT whatsapp_id, status::text FROM messages ORDER BY 1")
    assert found.fetchall() == [("A", "read"), ("B", "read")]


def wait_for_a_lock(connection, pid):
    """Return once the other connection waits; the lock is what makes the two meet."""
    for _ in range(2000):
        connection.rollback()  # pg_stat_activity stands still within a transaction
        connection.execute("SELECT pg_sleep(0.005)")
        waits = connection.execute(
            "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", [pid]
        ).fetchone()
        if waits == ("Lock",):
            return
    pytest.fail("the second ingest did not wait for the first")


def test_other_writers_may_refer_to_the_instance_meanwhile(tables, connection):
    ingest(connection, event("instance.create", {}))
    connection.commit()
    connection.execute("BEGIN")
    ingest(connection, said("A"))  # holds the instance until the rollback
    with psycopg.connect(tables) as other:
        other.execute("SET LOCAL lock_timeout = '5s'")
        stored = other.execute(
            "INSERT INTO webhooks (instance_id, url)"
            " SELECT id, 'https://example.org/hook' FROM instances RETURNING enabled"
        ).fetchall()
    assert stored == [(True,)]
