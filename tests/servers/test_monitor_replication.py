"""How far behind a replica is, asked of a real one."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from monitor_support import VERSIONS, make_watcher, server
from servers.faults import wait_until

from pglab.monitor import MEASURES, look, survey
from pglab.servers.scratch import ScratchPostgres

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("monitor-replica")]

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module", params=VERSIONS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ScratchPostgres, ScratchPostgres]]:
    """A primary, and a replica that streams from it through a slot."""
    with (
        server(request.param, wal_level="replica", max_wal_senders="4") as primary,
        tempfile.TemporaryDirectory(prefix="pglab-replica-") as folder,
    ):
        Path(folder).chmod(0o755)
        target = Path(folder, "data")
        done = subprocess.run(
            [
                primary.programs.pg_basebackup, "--pgdata", target, "--checkpoint=fast",
                "--create-slot", "--slot=for_the_replica",
            ],
            env=primary.environment(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (target / "standby.signal").touch()
        settings = {
            "primary_conninfo": primary.conninfo(application_name="the replica"),
            "primary_slot_name": "for_the_replica",
        }
        with server(
            request.param, **settings, directory=target, password=primary.password
        ) as replica:
            wait_until("the replica catches up", lambda: lag(primary) == 0)
            yield primary, replica


def lag(primary: ScratchPostgres) -> float | None:
    with make_watcher(primary) as watcher:
        rows = look(watcher, "replication").rows
    streaming = [row for row in rows if row["application"] == "the replica"]
    return streaming[0]["lag_bytes"] if streaming else None


def write(primary: ScratchPostgres) -> None:
    with primary.connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS work")
        connection.execute("CREATE TABLE work AS SELECT n FROM generate_series(1, 20000) AS n")


def test_a_replica_that_does_not_replay_falls_behind_and_catches_up(
    pair: tuple[ScratchPostgres, ScratchPostgres],
) -> None:
    primary, replica = pair
    with replica.connect(autocommit=True) as there, make_watcher(primary) as watcher:
        there.execute("SELECT pg_wal_replay_pause()")
        wait_until(
            "the replay pauses",
            lambda: (
                there.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",)
            ),
        )
        write(primary)
        wait_until("the lag shows", lambda: (lag(primary) or 0) > 500_000)
        (row,) = look(watcher, "replication").rows
        assert row["state"] == "streaming"
        assert row["sync_state"] == "async"
        assert row["lag_bytes"] > 500_000
        assert row["lag_bytes"] >= row["unflushed_bytes"] >= 0
        (own,) = look(there, "replica").rows
        assert own["is_replica"] is True
        assert own["receiver"] == "streaming"
        wait_until(
            "all has arrived",
            lambda: look(there, "replica").rows[0]["unreplayed_bytes"] > 500_000,
        )
        there.execute("SELECT pg_wal_replay_resume()")
        wait_until("the replica catches up", lambda: lag(primary) == 0)
        (own,) = look(there, "replica").rows
        assert own["unreplayed_bytes"] == own["lag_s"] == 0


def test_all_is_answered_on_a_replica_too(pair: tuple[ScratchPostgres, ScratchPostgres]) -> None:
    _, replica = pair
    with replica.connect(autocommit=True) as there:
        skipped = {each.name: each.skipped for each in survey(there, MEASURES) if each.skipped}
        version = there.info.server_version
    missing = {name for name, measure in MEASURES.items() if measure.extension}
    if version < 160_000:
        missing.add("io")
    assert set(skipped) == missing, skipped


def test_a_primary_is_no_replica(pair: tuple[ScratchPostgres, ScratchPostgres]) -> None:
    primary, _ = pair
    with make_watcher(primary) as watcher:
        assert look(watcher, "replica").rows == ()


def test_a_slot_that_nobody_reads_is_found(pair: tuple[ScratchPostgres, ScratchPostgres]) -> None:
    primary, _ = pair
    with primary.connect(autocommit=True) as admin, make_watcher(primary) as watcher:
        admin.execute("SELECT pg_create_physical_replication_slot('left_over', true)")
        try:
            write(primary)
            reading = look(watcher, "replication_slots")
            by_name = {row["slot"]: row for row in reading.rows}
            assert by_name["for_the_replica"]["active"] is True
            assert by_name["left_over"]["active"] is False
            assert by_name["left_over"]["retained_bytes"] > 500_000
            (finding,) = reading.findings
            assert finding.text.startswith("nobody reads the replication slot left_over")
        finally:
            admin.execute("SELECT pg_drop_replication_slot('left_over')")
