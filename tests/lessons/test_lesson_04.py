"""Lesson 04 says nothing that its plans and outputs do not show.

Texts are looked up in the committed outputs. Plans are asked for again: the lesson's own SQL runs
in its order on a server, and what the prose says of node types, rows and pages must hold there.
Never a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import psycopg
import pytest

from pglab.bench.documents import flag_costs
from pglab.bench.serving import WITHOUT, try_indexes
from pglab.config import Settings
from pglab.errors import LabError
from pglab.exercises._registry import problems_of
from pglab.lab import Lab
from pglab.notebook.explain_error import condition_name
from pglab.notebook.statements import split
from pglab.plans import Plan, explain
from tests.lesson_support import cells_of, said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "04-jsonb.ipynb"
CELLS = cells_of(LESSON)

# The seed document's two statements, word for word.
UPDATE = """\
-- Guardar webhook events como JSON
UPDATE instances
SET webhook_events = '["messages.upsert", "connection.update"]'::jsonb
WHERE name = 'sciencebot-production';"""
SUBSCRIBED = """\
-- Query dentro de JSONB
SELECT * FROM instances
WHERE webhook_events @> '["messages.upsert"]'::jsonb;"""
AS_WRITTEN = {"seed-query": [SUBSCRIBED], "seed-update": [UPDATE, SUBSCRIBED]}

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "seed-query": ["2 of 2: 0 rows"],
    "seed-update": ["1 of 2: UPDATE · 1 row", "2 of 2: 1 row"],
    "seed-look": [
        '"QRCODE_UPDATED"] | false | true',
        'sciencebot-production | ["messages.upsert", "connection.update"] | true | false',
    ],
    "contains-lists-run": [
        '["A", "B"] | ["B", "A"] | true', '["A"] | ["A", "A"] | true', '["A", "B"] | [] | true',
        '["AB"] | ["A"] | false', '["A", "B"] | "A" | true', '"A" | ["A"] | false',
        '["A", ["B"]] | ["B"] | false', '["A", ["B"]] | [["B"]] | true',
    ],
    "contains-objects-run": [
        '{"bot": {"on": true, "language": "es"}} | {"bot": {"language": "es"}} | true',
        '| {"language": "es"} | false', "| {} | true", '| {"labels": ["beca"]} | true',
        '| {"labels": "beca"} | false', '| {"minutes": 10.0} | true',
        '| {"minutes": "10"} | false', '{} | {"minutes": null} | false',
    ],
    "reaching-run": ['jsonb | text | text | jsonb | text', '"es" | es | 10 | 10 | NULL'],
    "text-sorts": ["99 | 235"],
    "keys-run": ["2164 | 2186 | 0 | 2164"],
    "nothing-run": [
        "| false | false | true | object", "| false | true | true | 'null'",
        "{} | true | true | false | NULL", "NULL | true | true | NULL | NULL",
    ],
    "nothing-seed": ["sciencebot-demo | disconnected | 'null'"],
    "twice-run": [
        'as it was meant | object | "logged out" |',
        'disconnectionObject | string | NULL | "logged out"', "creds | string | NULL | NULL |",
    ],
    "unnest-keys": ["12 rows", "messageContextInfo | 5363 | 55363"],
    "unnest-each": ["1 of 2: 5 rows", "20 | 125 | true | NULL"],
    "path-operators": ["50000 | 56 | 56"],
    "path-variables": ["56"],
    "path-lax-run": ['["Lunes", "Sábado"] | true | NULL'],
    "path-strict-run": ["Expected error, as announced", "2203A"],
    "json-table": ["JSON_TABLE works", "| 3 | Sábado"],
    "change-run": [
        '|| | {"bot": {"language": "en"}, "rejectCall": true}',
        'jsonb_set | {"bot": {"handoff": {"minutes": 10}, "language": "en"}, "rejectCall": true}',
        '#- path | {"bot": {"language": "es"}, "rejectCall": true}',
        '- key | {"rejectCall": true}', '- word | ["urgente"]', '- place | ["beca"]',
    ],
    "set-traps": ['{"bot": {"language": "en"}} | {} | NULL'],
    "set-null": ["Expected error, as announced", "23502"],
    "brackets-write": ['{"bot": {"language": "en"}}', "ROLLBACK"],
    "toast-make": ["the same words again | 9127 | 166 | pglz", "a thumbnail | 8992 | 8993 | NULL"],
    "toast-where": ["7 | 250"],
    "hot-update": ["hot_columns | 5000 | 5000", "hot_document | 5000 | 0"],
    "blind-key": ["estimate 90× too low"],
    "blind-join": ["22,527 loops"],
    "blind-cured": ["Joined by Hash Join instead of Nested Loop"],
    "generic-generic": ["Seq Scan instead of Index Scan using messages_id_path"],
    "generic-auto-run": ["key #> $1 = $2 | 8 | 0", "key ->> 'id' = $1 | 5 | 3"],
    "generated-refused": ["Expected error, as announced", "428C9"],
    "generated-immutable": ["Expected error, as announced", "42P17"],
    "check-naive": ["4 of 4: INSERT · 1 row"],
    "check-naive-refused": ["23514"],
    "check-right": ["3 of 4: INSERT · 1 row", "23514", "Failing row contains ({})"],
    "is-json-run": ['1001} | true | true', '1001}" | true | false', "1001} | false | false"],
}  # fmt: skip

QUESTIONS = {
    "contains": """key @> '{"id": "BAE5CDA509BA52D4ADDE"}'""",
    "arrow": "key ->> 'id' = 'BAE5CDA509BA52D4ADDE'",
    "exists": "key ? 'participant'",
}
INDEXES = {
    "ops": "USING gin (key)",
    "path_ops": "USING gin (key jsonb_path_ops)",
    "tree": "((key ->> 'id'))",
}


def _read() -> Any:
    return nbformat.read(LESSON, as_version=4)


# As the seed writes it


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_the_seeds_statements_are_word_for_word(name: str) -> None:
    cell = CELLS[name]
    text = cell.source.removeprefix("%%sql\n").removeprefix("SET search_path TO seed, public;\n")
    assert text.strip() == "\n\n".join(AS_WRITTEN[name])
    assert cell.metadata["tags"] == ["as-written"]


# The committed outputs


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(name: str) -> None:
    shown = said(CELLS[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


def test_the_pictures_are_pictures() -> None:
    for name in ("flag-plot", "serving-plot"):
        outputs = CELLS[name].outputs
        assert any("image/png" in output.get("data", {}) for output in outputs)


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    cells = CELLS
    problems = problems_of("jsonb")
    assert len(problems) >= 6
    for problem in problems:
        cell = cells[f"exercise-{problem.number}"]
        assert cell.source == f"%%exercise {problem.id}\n{problem.starter}"
        assert f"{problem.id} not attempted" in said(cell)


def test_the_document_is_three_quarters_larger_and_not_smaller_than_its_text() -> None:
    (times,) = re.findall(r"as_document \| \d+ \| (\S+)", said(CELLS["size-make"]))
    assert 1.65 < float(times) < 1.85
    jsonb, text, names = map(
        int, re.search(r"(\d+) \| (\d+) \| (\d+)$", said(CELLS["size-why"])).groups()
    )
    assert names < text < jsonb


def test_a_flag_in_a_document_costs_what_the_document_has_once_it_is_in_toast() -> None:
    rows = [
        tuple(map(int, row))
        for row in re.findall(r"(\d+) \| (\d+) \| (\d+)", said(CELLS["flag-costs"]))
    ]
    assert len(rows) == 9
    small, large = rows[:4], rows[4:]
    assert all(column == document for _, column, document in small)
    assert len({column for _, column, _ in large}) == 1
    assert all(document > size for size, _, document in large)


def test_the_table_shows_what_the_prose_says_of_the_three_indexes() -> None:
    shown = said(CELLS["serving-table"])
    cells = [re.search(rf"{re.escape(line)} \| (\S+) \| (.+?) \| (.+?) \| (not used|\d+)", shown)
             for line in ("index itself", "@>", "->>", "jsonpath", "BAE5CD", "incoming",
                          "participant", "ours")]  # fmt: skip
    rows = [[None if v == "not used" else int(v) for v in found.groups()] for found in cells]
    (_, ops, path_ops, tree), *asked = rows
    assert tree < path_ops < 0.6 * ops
    assert [sum(row[place] is not None for row in asked) for place in (1, 2, 3)] == [5, 4, 2]
    assert all(row[2] < row[1] for row in asked if row[2] is not None)
    *_, (whole, with_ops, with_path_ops, _) = asked
    assert with_ops > whole < with_path_ops


def test_a_generated_column_writes_the_table_anew() -> None:
    before, after = re.findall(r"oid -+ (\d+)", said(CELLS["generated-make"]))
    assert before != after


# Plans, on a server


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        # Databases of its own: the lesson itself may be running beside this test.
        patch.setenv("PGLAB_SCOPE", "lesson04")
        made = Lab("jsonb", "small", Settings.from_environment(), progress=False)
        try:
            made.reset()
            yield made
        finally:
            made.drop()


@pytest.fixture(scope="module")
def plans(lab: Lab) -> dict[str, Plan]:
    """Run the lesson's SQL in its order; return the plan of each cell that explains one."""
    found = {}
    sessions: dict[str, psycopg.Connection[Any]] = {}
    with ExitStack() as stack:
        for cell in _read().cells:
            magic, _, text = cell.source.partition("\n")
            if cell.cell_type != "code" or not magic.startswith(("%%sql", "%%explain")):
                continue
            who = re.search(r"--as (\w+)|$", magic)[1] or "sql"
            if who not in sessions:
                sessions[who] = stack.enter_context(lab.connection(autocommit=True))
            failed = ""
            try:
                for statement in split(text):
                    if magic.startswith("%%explain"):
                        with sessions[who].transaction(force_rollback=True):
                            found[cell.id] = explain(sessions[who], statement.text, analyze=True)
                    else:
                        sessions[who].execute(statement.text.encode())
            except psycopg.Error as error:
                failed = error.sqlstate or ""
            announced = re.search(r"--expect (\w+)|$", magic)[1] or ""
            assert announced in {failed, condition_name(failed)}, cell.id
    return found


BITMAP = ["Aggregate", "Bitmap Heap Scan", "Bitmap Index Scan"]
# Node types of each plan from the top, and the index that it reads ("" for none).
SHAPES = {
    "toast-count": (["Aggregate", "Seq Scan"], ""),
    "toast-key": (["Aggregate", "Seq Scan"], ""),
    "blind-column": (["Aggregate", "Seq Scan"], ""),
    "blind-key": (["Aggregate", "Seq Scan"], ""),
    "blind-join": (
        ["Aggregate", "Nested Loop", "Seq Scan", "Index Only Scan"],
        "messages_instance_id_whatsapp_id_key",
    ),
    "blind-indexed": (BITMAP, "messages_key_from_me"),
    "blind-contains-plan": (["Aggregate", "Seq Scan"], ""),
    "operator-plan": (["Seq Scan"], ""),
    "generic-custom": (["Index Scan"], "messages_id_path"),
    "generic-generic": (["Seq Scan"], ""),
    "generic-arrow": (["Index Scan"], "messages_id_arrow"),
    "generated-plan": (BITMAP, "messages_remote_jid"),
}  # fmt: skip
# (cell, fewest pages, most pages)
PAGES = [
    ("toast-count", 7, 7), ("toast-key", 600, 1_100), ("blind-key", 2509, 2509),
    ("blind-join", 60_000, 80_000), ("blind-cured", 2_600, 6_000), ("blind-indexed", 2_500, 2_600),
    ("operator-plan", 2509, 2509), ("generic-custom", 3, 6), ("generic-generic", 2509, 2509),
    ("generic-arrow", 3, 6), ("generated-plan", 5, 40),
]  # fmt: skip
# (cell, node, is the expectation within a factor of 2.5?)
EXPECTATIONS = [
    ("blind-column", "Seq Scan", True), ("blind-key", "Seq Scan", False),
    ("blind-join", "Seq Scan", False), ("blind-cured", "Seq Scan", True),
    ("blind-indexed", "Bitmap Heap Scan", True), ("blind-contains-plan", "Seq Scan", True),
    ("generated-plan", "Bitmap Heap Scan", True),
]  # fmt: skip


@pytest.mark.server
@pytest.mark.parametrize("name", SHAPES)
def test_the_server_plans_what_the_prose_says(plans: dict[str, Plan], name: str) -> None:
    kinds, index = SHAPES[name]
    nodes = list(plans[name].root.nodes())
    assert [node.node_type for node in nodes] == kinds
    assert next((node.index for node in nodes if node.index), "") == index


@pytest.mark.server
def test_with_statistics_the_join_is_a_hash_join(plans: dict[str, Plan]) -> None:
    kinds = {node.node_type for node in plans["blind-cured"].root.nodes()}
    assert "Hash Join" in kinds
    assert "Nested Loop" not in kinds
    before, after = plans["blind-join"], plans["blind-cured"]
    assert before.buffers.touched > 10 * after.buffers.touched


@pytest.mark.server
@pytest.mark.parametrize(("name", "fewest", "most"), PAGES)
def test_as_many_pages_as_the_prose_says(
    plans: dict[str, Plan], name: str, fewest: int, most: int
) -> None:
    assert fewest <= plans[name].buffers.touched <= most


@pytest.mark.server
@pytest.mark.parametrize(("name", "kind", "sees"), EXPECTATIONS)
def test_the_planner_is_blind_where_the_prose_says_so(
    plans: dict[str, Plan], name: str, kind: str, *, sees: bool
) -> None:
    node = next(node for node in plans[name].root.nodes() if node.node_type == kind)
    assert (1 / 2.5 < node.rows_estimated / node.rows < 2.5) == sees
    assert sees or node.rows_estimated == 250


# What the lesson measures with


@pytest.mark.server
def test_each_index_serves_its_questions_and_none_is_left_behind(lab: Lab) -> None:
    lab.reset()
    with lab.connection(autocommit=True) as connection:
        before = _indexes(connection)
        trials = try_indexes(connection, "messages", INDEXES, QUESTIONS)
        assert _indexes(connection) == before
    nothing, ops, path_ops, tree = trials
    assert [trial.name for trial in trials] == [WITHOUT, *INDEXES]
    assert (nothing.pages, nothing.served) == (0, frozenset())
    assert ops.served == {"contains", "exists"}
    assert path_ops.served == {"contains"}
    assert tree.served == {"arrow"}
    assert 0 < tree.pages < path_ops.pages < ops.pages
    for trial in trials[1:]:
        for question, buffers in trial.buffers.items():
            used = question in trial.served
            assert (buffers < nothing.buffers[question] / 4) == used, (trial.name, question)


@pytest.mark.server
def test_an_answer_that_differs_between_indexes_is_refused(lab: Lab) -> None:
    with lab.connection(autocommit=True) as connection:
        before = _indexes(connection)
        with pytest.raises(LabError, match=r"finds .* rows with the index 'ops'"):
            try_indexes(connection, "messages", INDEXES, {"chance": "random() < 0.5"})
        assert _indexes(connection) == before


@pytest.mark.server
def test_a_flag_beside_a_large_document_costs_no_more_than_itself(lab: Lab) -> None:
    with lab.connection(autocommit=True) as connection:
        costs = flag_costs(connection, [500, 4_000, 16_000])
        left = connection.execute("SELECT to_regclass('flags')").fetchone()
    assert left == (None,)
    small, *large = costs
    assert small.column_wal == pytest.approx(small.document_wal, rel=0.2)
    assert small.column_wal > small.document_bytes
    for cost in large:
        assert cost.column_wal < 300
        assert cost.document_wal > cost.document_bytes
    for one, other in pairwise(costs):
        assert other.document_bytes > one.document_bytes
        assert other.document_wal > one.document_wal


def _indexes(connection: psycopg.Connection[Any]) -> list[Any]:
    return connection.execute(
        "SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE indrelid = 'messages'::regclass ORDER BY 1"
    ).fetchall()
