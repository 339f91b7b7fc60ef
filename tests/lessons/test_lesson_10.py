"""Lesson 10 says nothing that its outputs, and real servers, do not show. Never a time."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from pglab.connections import SERVED
from pglab.exercises._registry import problems_of

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "10-connections.ipynb"

# The seed document's, word for word.
SEED_FORM = "postgresql://[usuario]:[password]@[host]:[puerto]/[database]"
SEED_URL = "postgresql://postgres:password@postgres.railway.internal:5432/evolution"

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "url-anatomy": ["password *** URL", "sslmode prefer default"],
    "url-environment": ["dbname gateway default", "connect_timeout 3 environment"],
    "url-at": ["host ss@db.example.org db.example.org", "password p p@ss"],
    "exhaust-run": ["PoolTimeout", "served"],
    "exhaust-stats": ["pool_max 4", "requests_num 20"],
    "sqlalchemy-pool-run": ["TimeoutError", "served"],
    "max-connections-run": ["5 connections, then:", "reserved"],
    "max-connections-admin": ["app idle 5", "postgres active 1"],
    "bouncer-run": ["4 clients, 1 server process"],
    "bouncer-set-run": ["second client: 77MB", "after SET LOCAL: 4MB"],
    "silent": ["the client still waits: True"],
    "silent-server": ["silent | idle | SELECT 1 | ClientRead"],
    "silent-end": ["the client still waits: False"],
    "dropped": [
        "client asked before not in 6 s",
        "asks afterwards keepalives_idle=1 keepalives_interval=1 keepalives_count=2 not in 6 s",
        "server session not in 6 s",
    ],
    "timeout-statement": ["57014 query_canceled"],
    "timeout-idle": ["IdleInTransactionSessionTimeout"],
    "doctor-railway-run": ["fault: no connection", "DATABASE_PUBLIC_URL"],
}


@pytest.fixture(scope="module")
def cells():
    return {cell.id: cell for cell in nbformat.read(LESSON, as_version=4).cells}


def said(cell):
    texts = []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        texts += [output.get("text", ""), data.get("text/plain", "")]
    return re.sub(r"\s+", " ", " ".join(map(str, texts)))


@pytest.mark.parametrize(("cell", "claims"), CLAIMS.items())
def test_the_output_says_what_the_prose_does(cells, cell, claims):
    found = said(cells[cell])
    assert [claim for claim in claims if claim not in found] == []


@pytest.mark.parametrize(
    "who",
    [
        "asked before keepalives_idle=1 keepalives_interval=1 keepalives_count=2",
        "asks afterwards tcp_user_timeout=1500",
        "connects afterwards connect_timeout=2",
        "server session tcp_keepalives_idle=1 tcp_keepalives_interval=1 tcp_keepalives_count=2",
    ],
)
def test_who_notices_that_packets_vanish(cells, who):
    # After how long is the kernel's affair, which looks at its timers when it has a moment.
    assert re.search(rf"{re.escape(who)} [1-5]\.\d s", said(cells["dropped"]))


def test_the_seeds_own_words_are_there(cells):
    assert SEED_FORM in cells["url"].source
    assert SEED_URL in cells["url-anatomy"].source


def test_a_round_trip_of_20_ms_is_in_every_step_of_the_network(cells):
    rows = dict(
        re.findall(r"(TLS|first query|second query) [\d.]+ [\d.]+ ([\d.]+)", said(cells["steps"]))
    )
    assert rows.keys() == {"TLS", "first query", "second query"}
    assert all(float(milliseconds) >= 20 for milliseconds in rows.values())
    password = re.search(r"process and password [\d.]+ [\d.]+ ([\d.]+)", said(cells["steps"]))
    assert float(password[1]) >= 60  # three round trips, as the prose says


def test_nobody_is_lost_when_the_pool_runs_out(cells):
    found = said(cells["exhaust-run"])
    refused = int(re.search(r"PoolTimeout (\d+)", found)[1])
    served = int(re.search(rf"{SERVED} (\d+)", found)[1])
    assert refused + served == 20
    assert refused > 0
    assert f"requests_errors {refused}" in said(cells["exhaust-stats"])


def test_littles_law_finds_the_clients_again(cells):
    rows = re.findall(r"\b([1248]) ([\d.]+) ([\d.]+) ([\d.]+)", said(cells["curve-little"]))
    assert [int(clients) for clients, *_ in rows] == [1, 2, 4, 8]
    for clients, _, _, inside in rows:
        assert 0.5 * int(clients) <= float(inside) <= 1.1 * int(clients)


def test_prepared_statements_as_the_version_has_them(cells):
    found = said(cells["bouncer-prepare"])
    version = tuple(map(int, re.search(r"PgBouncer (\d+)\.(\d+)", found).groups()))
    assert ("DuplicatePreparedStatement" in found) == (version < (1, 21))


def test_the_doctor_finds_no_fault_with_the_labs_server(cells):
    found = said(cells["doctor-run"])
    assert "fault" not in found
    assert "all can run there" in found


def test_five_exercises_stand_where_they_are_due(cells):
    placed = [
        cell.source.split()[1] for cell in cells.values() if cell.source.startswith("%%exercise")
    ]
    assert placed == [problem.id for problem in problems_of("connections")]
    assert len(placed) >= 5
