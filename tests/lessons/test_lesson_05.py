"""Lesson 05 says nothing that its plans and outputs do not show.

Texts are looked up in the committed outputs. Plans are asked for again: the lesson's own SQL runs
in its order on a server, and what the prose says of node types, rows and pages must hold there.
Never a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pglab.bench.options import Options
from pglab.bench.runner import run
from pglab.bench.writes import insert_costs
from pglab.config import Settings
from pglab.exercises._registry import problems_of
from pglab.lab import Lab
from tests.lesson_support import cells_of, nodes, pages, plans_of, said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "05-indexes.ipynb"
CELLS = cells_of(LESSON)

# The seed document's four, word for word.
SEED_FOUR = """\
-- Búsqueda rápida por nombre de instancia
CREATE INDEX idx_sessions_instance_name ON sessions(instance_name);

-- Búsqueda por estado
CREATE INDEX idx_sessions_status ON sessions(status);

-- Mensajes por instancia
CREATE INDEX idx_messages_instance_id ON messages(instance_id);

-- Mensajes por timestamp (orden cronológico)
CREATE INDEX idx_messages_timestamp ON messages(timestamp DESC);
"""

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "plan-raw": ["Seq Scan on messages", "rows=1 width", "Rows Removed by Filter: 49999"],
    "first-duplicate": [
        "sessions_instance_name_key | true | instance_name | 1",
        "idx_sessions_instance_name | false | instance_name | 1",
    ],
    "second-twin": ["connected | 15997", "qr | 3"],
    "third-tenants": ["sciencebot-production | bee6c106", "| 28725 | 57.5", "| 74 | 0.1"],
    "btree-levels": ["messages_pkey | 139 | 3 | 1"],
    "btree-root": ["2 | (2,1) | 6f 01 00"],
    "btree-leaf": ["1 | (18,1) | 6f 01 00", "2 | (0,1) | 01 00"],
    "brin-make": ["by_time_brin | 3", "by_time_btree | 139"],
    "brin-shuffle": ["by_time | 1.0", "shuffled | 0.0"],
    "gin-make": ["606 | 139"],
    "fk-without": ["calls=20", "20 | 1999620 | 0"],
    "fk-with": ["calls=20", "0 | 0 | 20"],
    "hot-update": ["full_pages | 5000 |", "with_room | 5000 | 5000 | 16"],
    "invalid-make": ["Expected error, as announced", "23505"],
    "lock-write": ["Expected error, as announced", "55P03"],
    "invalid-look": ["NOTICE", "already exists, skipping", "archive_once | false | false"],
    "unused-query": [
        "idx_sessions_instance_name | 0 | 2 | false",
        "idx_sessions_status | 0 | 2 | false",
        "idx_messages_timestamp | 2 |",
        "idx_messages_instance_id | 2 |",
        "sessions_instance_name_key | 0 | 2 | true",
    ],
}


def _read() -> Any:
    return nbformat.read(LESSON, as_version=4)


# As the seed writes it


def test_the_seeds_four_are_word_for_word() -> None:
    cell = CELLS["seed-four"]
    assert SEED_FOUR in cell.source
    assert cell.metadata["tags"] == ["as-written"]


# The committed outputs


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(name: str) -> None:
    shown = said(CELLS[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


def test_the_pictures_are_pictures() -> None:
    for name in ("growth-plot", "growth-reference", "writes-plot"):
        outputs = CELLS[name].outputs
        assert any("image/png" in output.get("data", {}) for output in outputs)


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    cells = CELLS
    problems = problems_of("indexes")
    assert len(problems) >= 6
    for problem in problems:
        cell = cells[f"exercise-{problem.number}"]
        assert cell.source == f"%%exercise {problem.id}\n{problem.starter}"
        assert f"{problem.id} not attempted" in said(cell)


def test_bloat_is_as_large_as_before_and_the_rebuilt_index_a_fifth() -> None:
    cells = CELLS
    before, after = re.findall(r"-- (\d+) \|", said(cells["bloat-make"]))
    rebuilt, density = re.findall(r"-- (\d+) \| (\S+)", said(cells["bloat-reindex"]))[0]
    assert before == after
    assert 4 < int(before) / int(rebuilt) < 6
    assert 85 < float(density) < 91


def test_an_index_on_status_spoils_hot_updates_and_lets_the_primary_key_grow() -> None:
    rows = re.findall(r"(\w+) \| 5000 \| (\d+) \| (\d+)", said(CELLS["hot-update"]))
    hot = {name: (int(count), int(pages)) for name, count, pages in rows}
    assert hot["with_room"][0] == 5000
    assert hot["full_pages"][0] < 500
    assert hot["with_room_and_index"][0] < 500
    assert hot["full_pages"][1] > 1.5 * hot["with_room"][1] < hot["with_room_and_index"][1]


# Plans, on a server


@pytest.fixture(scope="module")
def plans() -> Iterator[dict[str, dict[str, Any]]]:
    """Run the lesson's SQL in its order; return the plan of each cell that explains one."""
    with pytest.MonkeyPatch.context() as patch:
        # Databases of its own: the lesson itself may be running beside this test.
        patch.setenv("PGLAB_SCOPE", "lesson05")
        lab = Lab("indexes", "small", Settings.from_environment(), progress=False)
        try:
            lab.reset()
            yield plans_of(lab, LESSON)
        finally:
            lab.drop()


# Node types of each plan from the top, and the index that it reads ("" for none).
SHAPES = {
    "plan-raw": (["Seq Scan"], ""),
    "plan-tree": (["Seq Scan"], ""),
    "plan-index": (["Index Scan", "Index Scan"], "messages_instance_id_whatsapp_id_key"),
    "first-query": (["Seq Scan"], ""),
    "second-common": (["Seq Scan"], ""),
    "second-rare": (["Index Scan"], "many_sessions_status"),
    "third-large": (["Aggregate", "Seq Scan"], ""),
    "third-small": (
        ["Aggregate", "Bitmap Heap Scan", "Bitmap Index Scan"],
        "idx_messages_instance_id",
    ),
    "fourth-newest": (["Limit", "Index Scan"], "idx_messages_timestamp"),
    "fourth-chat": (["Limit", "Index Scan"], "idx_messages_timestamp"),
    "btree-lookup": (["Index Scan"], "messages_pkey"),
    "order-time": (["Limit", "Index Scan"], "by_time_idx"),
    "order-chat": (["Limit", "Index Scan"], "by_chat_idx"),
    "covering-before": (["Aggregate", "Index Only Scan"], "by_chat_idx"),
    "covering-after-update": (["Aggregate", "Index Only Scan"], "by_chat_idx"),
    "covering-after-vacuum": (["Aggregate", "Index Only Scan"], "by_chat_idx"),
    "expression-arrow": (["Index Scan"], "messages_key_id"),
    "expression-path": (["Seq Scan"], ""),
    "brin-day": (["Aggregate", "Bitmap Heap Scan", "Bitmap Index Scan"], "by_time_brin"),
    "brin-shuffled": (["Aggregate", "Seq Scan"], ""),
    "gin-search": (["Aggregate", "Bitmap Heap Scan", "Bitmap Index Scan"], "messages_body_trgm"),
    "fk-plan-without": (["ModifyTable", "Seq Scan"], ""),
}
# (cell, fewest pages, most pages)
PAGES = [
    ("plan-raw", 1129, 1129), ("plan-index", 5, 12), ("first-query", 1, 1),
    ("second-rare", 2, 10), ("third-large", 1129, 1129), ("third-small", 5, 50),
    ("fourth-newest", 2, 10), ("fourth-chat", 500, 30_000), ("btree-lookup", 3, 3),
    ("order-chat", 2, 10), ("order-time", 50, 500), ("partial-before", 2509, 2509),
    ("covering-before", 3, 10), ("covering-after-update", 300, 1_000),
    ("covering-after-vacuum", 3, 10), ("expression-arrow", 3, 6), ("expression-path", 2509, 2509),
    ("brin-day", 10, 200), ("brin-shuffled", 600, 700), ("gin-search", 90, 150),
    ("fk-plan-without", 600, 700), ("fk-plan-with", 2, 10),
]  # fmt: skip


@pytest.mark.server
@pytest.mark.parametrize("name", SHAPES)
def test_the_server_plans_what_the_prose_says(plans: dict[str, Any], name: str) -> None:
    kinds, index = SHAPES[name]
    found = list(nodes(plans[name]))
    assert [node["Node Type"] for node in found] == kinds
    assert next((n["Index Name"] for n in found if "Index Name" in n), "") == index


@pytest.mark.server
@pytest.mark.parametrize(("name", "fewest", "most"), PAGES)
def test_as_many_pages_as_the_prose_says(
    plans: dict[str, Any], name: str, fewest: int, most: int
) -> None:
    assert fewest <= pages(plans[name]) <= most


@pytest.mark.server
def test_no_index_of_the_seeds_serves_a_page_of_a_chat(plans: dict[str, Any]) -> None:
    thrown_away = [node.get("Rows Removed by Filter", 0) for node in nodes(plans["fourth-chat"])]
    assert max(thrown_away) > 2_000


@pytest.mark.server
def test_the_update_costs_the_index_only_scan_its_name_until_vacuum(plans: dict[str, Any]) -> None:
    fetches = [
        next(n["Heap Fetches"] for n in nodes(plans[name]) if "Heap Fetches" in n)
        for name in ("covering-before", "covering-after-update", "covering-after-vacuum")
    ]
    assert fetches[0] == fetches[2] == 0
    assert fetches[1] > 200


@pytest.mark.server
def test_both_orders_of_the_columns_find_the_same_rows(plans: dict[str, Any]) -> None:
    assert plans["order-time"]["Actual Rows"] == plans["order-chat"]["Actual Rows"] == 5
    assert pages(plans["order-time"]) > 10 * pages(plans["order-chat"])


# What the lesson measures with


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGLAB_SCOPE", "lesson05m")
        made = Lab("indexes", "tiny", Settings.from_environment(), progress=False)
        try:
            yield made
        finally:
            made.drop()


def test_the_curve_is_the_harness_s_and_its_pages_tell_the_exponents() -> None:
    shown = said(CELLS["growth-pages"])
    found = {name: float(value) for name, value in re.findall(r"'([^']+)': ([0-9.]+)", shown)}
    assert 0.95 < found["no index"] < 1.05
    assert found["unique key"] < 0.2


@pytest.mark.server
def test_the_lesson_s_case_runs_and_its_claims_hold() -> None:
    # The cell's own case, at sizes that take a moment.
    names: dict[str, Any] = {}
    exec(CELLS["growth-case"].source, names)
    options = Options(rounds=2, round_seconds=0.005, warm_up_seconds=0.05)
    found = run(names["growth"], sizes=[2_000, 8_000], options=options, progress=False).case()
    assert found.variants == ("no index", "unique key")
    assert found.page_growth("no index") > 0.9 > 0.5 > found.page_growth("unique key")


@pytest.mark.server
def test_each_index_costs_pages_and_wal(lab: Lab) -> None:
    with lab.connection(autocommit=True) as connection:
        costs = insert_costs(connection, ["(id)", "(status)", "USING gin (message)"], rows=1_000)
        left = connection.execute("SELECT to_regclass('costs')").fetchone()
    assert [cost.indexes for cost in costs] == [0, 1, 2, 3]
    assert costs[0].index_pages == 0
    for before, after in pairwise(costs):
        assert after.buffers > before.buffers
        assert after.wal_bytes > before.wal_bytes
        assert after.index_pages > before.index_pages
    assert left == (None,)
