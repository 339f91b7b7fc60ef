"""Lesson 09 says nothing that its outputs do not show, and its claims hold on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.faults import wait_until

from pglab.config import Settings
from pglab.exercises._registry import problems_of
from pglab.lab import Lab
from pglab.monitor import MEASURES, Gateway, look, sample_waits, survey, watch_live
from tests.lesson_support import cells_of, said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "09-monitoring.ipynb"
CELLS = cells_of(LESSON)

# The seed document's three, word for word.
SEED = {
    "seed-connections": """\
-- Ver conexiones activas
SELECT count(*) FROM pg_stat_activity;""",
    "seed-size": """\
-- Tamaño de base de datos
SELECT pg_size_pretty(pg_database_size('evolution'));""",
    "seed-tables": """\
-- Tablas más grandes
SELECT
    schemaname,
    tablename,
    pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename)) AS size
FROM pg_tables
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC
LIMIT 10;""",
}

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "seed-connections-types": ["checkpointer | 1 | 0", "walwriter | 1 | 0", "client backend | "],
    "seed-size": ["Expected error, as announced", "3D000", 'database "evolution" does not exist'],
    "names-fail": ["Expected error, as announced", 'relation "public.message" does not exist'],
    "questions-finding": ["public.messages takes"],
    "indexes-duplicates": [
        "seed.idx_sessions_instance_name | the same | seed.sessions_instance_name_key",
        'public."idx Messages chat" | its beginning | public.messages_chat_id_sent_at_idx',
    ],
    "indexes-unused": ["seed.idx_messages_timestamp", 'public."idx Messages chat"'],
    "foreign": ["public.messages | chat_id, instance_id | public.chats"],
    "dead-finding": ["public.presence has", "20,000 live, and autovacuum is off for it"],
    "locks-hold": ["accountant | idle in transaction | true"],
    "locks-gateway": ["transactionid | ShareLock | NULL"],
    "locks-migration": [
        "relation | AccessExclusiveLock | public.chats",
        "relation | AccessShareLock | public.chats",
    ],
    "locks-tree": [
        "accountant (idle in transaction), holds up 3",
        "gateway (active), holds up 2",
        "migration (active), holds up 1",
        "reader (active), holds up 0",
    ],
    "locks-finding": ["holds up 3 others", "SELECT pg_terminate_backend(<pid>)"],
    "locks-end": ["'gateway': 'UPDATE 1'", "'migration': 'ALTER TABLE'", "'reader': 'SELECT 1'"],
    "replicas": ["replication | 0", "replica | 0"],
    "role-none": ["<insufficient privilege>", "NULL | NULL"],
    "role-survey": ["needs the role pg_read_all_stats", "GRANT pg_monitor TO"],
    "role-pg-monitor": ["as pg_monitor, left out: []"],
    "redis-finding": ["session:* take", "never expire"],
    "redis-slow": ["KEYS *"],
}


def said_by(name: str) -> str:
    return said(CELLS[name])


@pytest.mark.parametrize("name", SEED)
def test_the_seeds_three_are_word_for_word(name: str) -> None:
    cell = CELLS[name]
    assert cell.source.partition("\n")[2] == SEED[name]
    assert cell.metadata["tags"] == ["as-written"]


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(name: str) -> None:
    said = said_by(name)
    assert [claim for claim in CLAIMS[name] if claim not in said] == [], said


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    problems = problems_of("monitoring")
    assert len(problems) >= 5
    for problem in problems:
        cell = CELLS[f"exercise-{problem.number}"]
        assert cell.source == f"%%exercise {problem.id}\n{problem.starter}"
        assert f"{problem.id} not attempted" in said_by(f"exercise-{problem.number}")


def test_exercises_come_in_the_order_of_their_numbers() -> None:
    order = [name for name in CELLS if re.fullmatch(r"exercise-\d+", name)]
    assert order == [f"exercise-{number}" for number in range(1, len(order) + 1)]


def test_the_server_has_more_processes_than_clients() -> None:
    (counted,) = re.findall(r"-- (\d+)", said_by("seed-connections"))
    (clients,) = re.findall(r"client backend \| (\d+)", said_by("seed-connections-types"))
    assert int(counted) > int(clients)


def test_the_seed_s_query_measured_another_table() -> None:
    sizes = dict(re.findall(r"public \| (\w+) \| (\d+) \| \d+", said_by("names-lie")))
    ((real,),) = [re.findall(r"public \| Message \| \d+ \| (\d+)", said_by("names-lie"))]
    assert sizes["Message"] == sizes["message"] == "8192"
    assert int(real) > 1_000_000


def test_the_picture_is_kept() -> None:
    outputs = CELLS["live"].outputs
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "widget" not in str([list(output.get("data", {})) for output in outputs])


def test_both_ratios_look_fine_and_the_pages_do_not() -> None:
    found = re.findall(r"(with_index|without) \| (\d+) \| ([\d.]+)", said_by("ratio-read"))
    pages = {name: int(number) for name, number, _ in found}
    assert all(float(percent) > 95 for *_, percent in found)
    assert pages["without"] > 10 * pages["with_index"]


def test_two_statements_stand_out() -> None:
    rows = re.findall(
        r"(\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (SELECT count|UPDATE chats)",
        said_by("statements"),
    )
    found = {query: (float(mean), float(pages)) for _, mean, _, pages, query in rows}
    assert found["SELECT count"][1] > 500
    assert found["UPDATE chats"][1] < 50


def test_vacuum_frees_space_in_a_file_that_stays() -> None:
    before, after = (
        re.findall(r"presence \| (\d+) \| (\d+) \| (\d+)", said_by(name))[0]
        for name in ("bloat-before", "bloat-vacuum")
    )
    assert before[0] == after[0]
    assert int(before[1]) > 0 == int(after[1])
    assert int(after[2]) > int(before[2])


def test_the_log_carries_whole_pages_after_a_checkpoint() -> None:
    first, again = map(int, re.findall(r"\| (\d+)", said_by("log-rate")))
    assert first > 4 * again


def test_the_first_round_asks_everything() -> None:
    took = [int(ms) for ms in re.findall(r"\d \| (\d+)", said_by("cost"))]
    assert len(took) == 6


# On a server


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        # Databases of its own: the lesson itself may be running beside this test.
        patch.setenv("PGLAB_SCOPE", "lesson09")
        made = Lab("monitoring", "tiny", Settings.from_environment(), progress=False)
        try:
            made.reset()
            yield made
        finally:
            made.drop()


def _gateways(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gateway %%'"
        " AND datname = current_database()"
    ).fetchone()
    assert row
    return int(row[0])


@pytest.mark.server
def test_the_gateway_works_and_leaves_nothing(lab: Lab) -> None:
    with lab.connection(autocommit=True) as connection:
        before = connection.execute("SELECT count(*) FROM messages").fetchone()
        with Gateway(lab.connection, clients=2, seconds=30) as gateway:
            waits = sample_waits(connection, seconds=0.5)
            assert _gateways(connection) == 2
        assert gateway.operations > 0
        assert not gateway.running
        wait_until("the server ends their sessions", lambda: _gateways(connection) == 0)
        after = connection.execute("SELECT count(*) FROM messages").fetchone()
        assert before
        assert after
        assert after[0] > before[0]
        assert {"type", "event", "seen", "share", "sessions"} == set(waits[0])
        assert sum(each["share"] for each in waits) == pytest.approx(1)


@pytest.mark.server
def test_a_cell_that_fails_half_way_ends_the_gateway(lab: Lab) -> None:
    def fail_half_way() -> None:
        with Gateway(lab.connection, clients=2, seconds=60):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with lab.connection(autocommit=True) as connection:
        wait_until("the server ends their sessions", lambda: _gateways(connection) == 0)


@pytest.mark.server
def test_the_gateway_ends_by_itself(lab: Lab) -> None:
    gateway = Gateway(lab.connection, clients=1, seconds=0.2)
    for thread in gateway._threads:
        thread.join(15)
    assert not gateway.running
    assert gateway.stop() > 0


@pytest.mark.server
def test_the_dashboard_sees_the_load(lab: Lab) -> None:
    with Gateway(lab.connection, clients=2, seconds=60):
        film = watch_live(lab.connection, seconds=3, every_s=1)
    frame = film.frame()
    assert len(frame) == len(film.rounds) >= 3
    assert frame["commits_per_s"].iloc[1:].max() > 0
    assert film._repr_png_().startswith(b"\x89PNG")
    assert "commits" in film.picture().alt


@pytest.mark.server
def test_pg_monitor_is_enough_for_all_that_the_lesson_asks(lab: Lab) -> None:
    with lab.connection(autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
        connection.execute("SET ROLE pg_monitor")
        assert [each.name for each in survey(connection, MEASURES) if each.skipped] == []
        connection.execute("SET ROLE pg_signal_backend")
        assert look(connection, "connections").skipped
