"""Who blocks whom, made by real connections, step by step."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from monitor_support import VERSIONS, make_watcher, server
from servers.faults import wait_until

from pglab.errors import PglabError
from pglab.monitor import Quarrel, look
from pglab.servers.scratch import ScratchPostgres

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("monitor-locks")]


@pytest.fixture(scope="module", params=VERSIONS)
def scratch(request: pytest.FixtureRequest) -> Iterator[ScratchPostgres]:
    with server(request.param, max_prepared_transactions="5") as made:
        with made.connect(autocommit=True) as admin:
            admin.execute('CREATE TABLE "Chat" (id int PRIMARY KEY, name text)')
            admin.execute("INSERT INTO \"Chat\" SELECT n, 'a' FROM generate_series(1, 9) AS n")
        yield made


def session_count(scratch: ScratchPostgres) -> int:
    with scratch.connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND application_name IN ('accountant', 'gateway', 'migration', 'reader')"
        ).fetchone()
    assert row
    return int(row[0])


def test_the_tree_of_a_queue(scratch: ScratchPostgres) -> None:
    with Quarrel(scratch.connect) as quarrel, make_watcher(scratch) as watcher:
        assert look(watcher, "blocking_tree").rows == ()
        quarrel.hold("accountant", "UPDATE \"Chat\" SET name = 'b' WHERE id = 1")
        quarrel.wait("gateway", "UPDATE \"Chat\" SET name = 'c' WHERE id = 1")
        quarrel.wait("migration", 'ALTER TABLE "Chat" ADD COLUMN note text')
        quarrel.wait("reader", 'SELECT count(*) FROM "Chat"')
        reading = look(watcher, "blocking_tree")
        tree = [(r["depth"], r["application"], r["holds_up"]) for r in reading.rows]
        assert tree == [
            (0, "accountant", 3),
            (1, "gateway", 2),
            (2, "migration", 1),
            (3, "reader", 0),
            (1, "migration", 1),  # it waits for two, and is counted once
            (2, "reader", 0),
        ]
        by_name = {row["application"]: row for row in reading.rows}
        assert by_name["accountant"]["blocked_by"] is None
        assert by_name["accountant"]["state"] == "idle in transaction"
        assert by_name["accountant"]["waiting_s"] is None
        assert by_name["reader"]["blocked_by"] == quarrel.pids["migration"]
        assert by_name["reader"]["waiting_s"] >= 0
        assert by_name["gateway"]["query"] == "UPDATE \"Chat\" SET name = 'c' WHERE id = 1"
        (finding,) = reading.findings
        assert finding.text == (
            f"session {quarrel.pids['accountant']} (accountant, idle in transaction) holds up "
            "3 others"
        )
        locks = look(watcher, "lock_waits")
        modes = {(row["locktype"], row["mode"], row["relation"]) for row in locks.rows}
        assert modes == {
            ("transactionid", "ShareLock", None),
            ("relation", "AccessExclusiveLock", 'public."Chat"'),
            ("relation", "AccessShareLock", 'public."Chat"'),
        }
        (finding,) = locks.findings
        assert 'waits for AccessExclusiveLock on public."Chat"' in finding.text
        open_ones = {r["application"]: r for r in look(watcher, "long_transactions").rows}
        assert open_ones["accountant"]["has_written"] is True
        assert open_ones["reader"]["has_written"] is False
        waits = look(watcher, "waits").rows
        assert {(r["type"], r["event"]): r["sessions"] for r in waits} == {
            ("Lock", "relation"): 2,
            ("Lock", "transactionid"): 1,
        }
        # The remedy: end the one at the root, and the others go on.
        with scratch.connect(autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", [quarrel.pids["accountant"]])
        assert quarrel.outcomes() == {
            "gateway": "UPDATE 1",
            "migration": "ALTER TABLE",
            "reader": "SELECT 1",
        }
        assert look(watcher, "blocking_tree").rows == ()
    wait_until("the server ends the sessions", lambda: session_count(scratch) == 0)
    with scratch.connect(autocommit=True) as admin:
        admin.execute('ALTER TABLE "Chat" DROP COLUMN note')


def leave_in_mid_quarrel(scratch: ScratchPostgres) -> None:
    with Quarrel(scratch.connect) as quarrel:
        quarrel.hold("accountant", "UPDATE \"Chat\" SET name = 'z' WHERE id = 2")
        quarrel.wait("gateway", "UPDATE \"Chat\" SET name = 'y' WHERE id = 2")
        quarrel.hold("migration", "ALTER TABLE nothing ADD COLUMN note text")


def test_a_quarrel_that_is_given_up_leaves_nothing(scratch: ScratchPostgres) -> None:
    threads = threading.active_count()
    with pytest.raises(psycopg.errors.UndefinedTable):
        leave_in_mid_quarrel(scratch)
    wait_until("the server ends the sessions", lambda: session_count(scratch) == 0)
    assert threading.active_count() == threads
    with scratch.connect(autocommit=True) as connection:
        row = connection.execute('SELECT name FROM "Chat" WHERE id = 2').fetchone()
    assert row in (("a",), ("y",))  # never the accountant's, which was rolled back


def test_who_need_not_wait_is_told(scratch: ScratchPostgres) -> None:
    with (
        Quarrel(scratch.connect) as quarrel,
        pytest.raises(PglabError, match="reader did not have to wait for anybody: SELECT 1"),
    ):
        quarrel.wait("reader", 'SELECT count(*) FROM "Chat"')


def test_the_server_ends_what_is_forgotten(scratch: ScratchPostgres) -> None:
    with Quarrel(scratch.connect) as quarrel:
        quarrel.hold("accountant", "UPDATE \"Chat\" SET name = 'b' WHERE id = 1")
        connection = quarrel._connections[-1]
        limits = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("idle_in_transaction_session_timeout", "statement_timeout")
        ]
    assert limits == [("2min",), ("1min",)]


def test_a_prepared_transaction_at_the_root(scratch: ScratchPostgres) -> None:
    with scratch.connect() as holder:
        holder.execute("UPDATE \"Chat\" SET name = 'p' WHERE id = 3")
        holder.execute("PREPARE TRANSACTION 'forgotten'")
    try:
        with Quarrel(scratch.connect) as quarrel, make_watcher(scratch) as watcher:
            quarrel.wait("gateway", "UPDATE \"Chat\" SET name = 'q' WHERE id = 3")
            reading = look(watcher, "blocking_tree")
            tree = [(r["depth"], r["pid"], r["application"], r["holds_up"]) for r in reading.rows]
            assert tree == [
                (0, 0, "(prepared transaction)", 1),
                (1, quarrel.pids["gateway"], "gateway", 0),
            ]
            (finding,) = reading.findings
            assert "ROLLBACK PREPARED" in finding.remedy
    finally:
        with scratch.connect(autocommit=True) as admin:
            admin.execute("ROLLBACK PREPARED 'forgotten'")


def test_locks_in_another_database_have_a_number_for_a_name(scratch: ScratchPostgres) -> None:
    with scratch.connect(autocommit=True) as admin:
        admin.execute('CREATE DATABASE "Elsewhere"')
    with scratch.connect() as holder, Quarrel(scratch.connect) as quarrel:
        holder.execute('LOCK TABLE "Chat"')
        quarrel.wait("reader", 'SELECT count(*) FROM "Chat"')
        with scratch.connect(dbname="Elsewhere", autocommit=True) as elsewhere:
            (row,) = look(elsewhere, "lock_waits").rows
            assert row["relation"].isdecimal()
            assert row["database"] == "postgres"
            assert look(elsewhere, "blocking_tree").rows[0]["holds_up"] == 1
        holder.rollback()
        assert quarrel.outcomes() == {"reader": "SELECT 1"}


def test_a_long_queue_for_one_row_is_a_list_and_not_all_ways_through_it(
    scratch: ScratchPostgres,
) -> None:
    """With n waiters there are 2 to the n ways from the last to the first."""
    with Quarrel(scratch.connect) as quarrel, make_watcher(scratch) as watcher:
        quarrel.hold("holder", 'SELECT FROM "Chat" WHERE id = 1 FOR UPDATE')
        for number in range(24):
            quarrel.wait(f"waiter {number}", 'SELECT FROM "Chat" WHERE id = 1 FOR UPDATE')
        reading = look(watcher, "blocking_tree")
        assert reading.skipped == ""
        assert 24 < len(reading.rows) <= 200
        holds_up = {row["application"]: row["holds_up"] for row in reading.rows}
        assert len(holds_up) == 25
        assert holds_up["holder"] == 24
        (finding,) = reading.findings
        assert "(holder, idle in transaction) holds up 24 others" in finding.text
        # A row's lock has a table lock's mode, and closes the table to nobody.
        locks = look(watcher, "lock_waits")
        assert {row["locktype"] for row in locks.rows} == {"tuple", "transactionid"}
        assert not locks.findings
        sizes = {row["name"]: row["locked"] for row in look(watcher, "table_sizes").rows}
        assert sizes["Chat"] is False
