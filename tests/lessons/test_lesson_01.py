"""Lesson 01 says nothing that its outputs do not show.

What engines do is proven in tests/servers/test_comparison.py and what is kept in
tests/unit/test_comparison.py; here stands what the lesson says of it. Never a time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pglab.comparison.cells import BESIDE, CELLS
from pglab.comparison.view import SIGNS
from pglab.exercises._registry import problems_of

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "01-why-postgresql.ipynb"

# What the prose says of an output, as that output says it (spaces in a row are one). The key is
# what the cell's source contains.
CLAIMS = {
    "SELECT id, NULL FROM instances": ["Expected error, as announced", "23502", "not committed"],
    "%%sql\nCOMMIT;": ["ROLLBACK"],
    "(SELECT count(*) FROM incidents) AS incidents": ["sciencebot-becas | open | 0"],
    "DROP TABLE webhooks": ["NULL | webhooks"],
    "answers.append": ["23503", "22007", "22P02", "23505"],
    "UPDATE counters SET n = 0 + 1 WHERE name = 'messages';\nCOMMIT;\nSELECT n": ["bigint --- 1"],
    "--expect serialization_failure": ["Expected error, as announced", "40001"],
    "ROLLBACK;\nSELECT n FROM counters": ["bigint --- 2"],
    "what_each_level_shows": [
        "READ UNCOMMITTED | cannot happen | happens | happens | happens",
        "READ COMMITTED | cannot happen | happens | happens | happens",
        "REPEATABLE READ | cannot happen | cannot happen | refused: 40001 | happens",
        "SERIALIZABLE | cannot happen | cannot happen | refused: 40001 | refused: 40001",
    ],
    "unlucky = server.connect()": ["False"],
    "SELECT what FROM events": ["[('committed',)]"],
    "said = server.read_log": [
        "database system was not properly shut down; automatic recovery in progress",
        "redo starts at",
        "database system is ready to accept connections",
    ],
    "server.close()": ["False"],
    "('juan@gmail.com'": ["Expected error, as announced", "23514", "domain jid"],
    'find("ACID", "postgres")': [
        "no anomaly | as installed | false", "no anomaly | SERIALIZABLE | true",
        "survives kill | as installed | true",
    ],
    'find("ACID", "sqlite")': [
        "all or nothing | as installed | true", "no anomaly | as installed | true",
        "survives kill | as installed | true", "broken rules | as installed | false",
        "wrong values | as installed | false", "broken rules | with care | true",
        "wrong values | with care | true",
    ],
    'rows("schema_change_undone")': [
        "| as installed | true | Table and rows are undone.",
        "| as installed | false | After the roll-back the table and the message are there.",
    ],
}  # fmt: skip


def _code() -> list[Any]:
    return [c for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]


def _cell(source: str) -> Any:
    found = [cell for cell in _code() if source in cell.source]
    assert len(found) == 1, f"{len(found)} cells contain {source!r}"
    return found[0]


def _said(cell: Any) -> str:
    texts = [
        output.text if output.output_type == "stream" else output.data["text/plain"]
        for output in cell.outputs
    ]
    return re.sub(r"-+", "---", re.sub(r"\s+", " ", "\n".join(texts)))


@pytest.mark.parametrize("source", CLAIMS)
def test_the_output_shows_what_the_prose_says(source: str) -> None:
    said = _said(_cell(source))
    missing = [claim for claim in CLAIMS[source] if re.sub(r"-+", "---", claim) not in said]
    assert missing == [], said


def test_confirmed_rows_are_kept_and_lost_only_without_waiting() -> None:
    rows = re.findall(
        r"\b(on|off) \| +(\d+) \| +(\d+) \| +(\d+) \| +true",
        _said(_cell('kill_while_writing(server, "off")')),
    )
    waiting = [tuple(map(int, row[1:])) for row in rows if row[0] == "on"]
    hurried = [tuple(map(int, row[1:])) for row in rows if row[0] == "off"]
    assert [len(waiting), len(hurried)] == [3, 3]
    assert all(confirmed == there and lost == 0 for confirmed, there, lost in waiting)
    assert sum(lost for _, _, lost in hurried) > 0
    assert min(confirmed for confirmed, _, _ in hurried) > max(c for c, _, _ in waiting)


def test_a_search_finds_none_exactly_and_hundreds_that_are_similar() -> None:
    containing, similar = re.findall(r"(\d+) \| +(\d+)$", _said(_cell("CREATE EXTENSION pg_trgm")))[
        0
    ]
    assert int(containing) == 0
    assert int(similar) > 200


def test_the_comparison_is_whole_and_names_what_ran() -> None:
    cell = _cell("comparison = compare(")
    (output,) = cell.outputs
    page, text = output.data["text/html"], output.data["text/plain"]
    assert page.count("<td") == len(CELLS) + len(BESIDE)
    flat = re.sub(r"\s+", " ", text)
    for claim in (*CELLS, *BESIDE):
        assert f"“{claim.claim}”" in flat
    for product in ("PostgreSQL 17", "MariaDB 10", "SQLite 3", "SecantusDB"):
        assert product in text
    assert "speaks MongoDB's protocol and is not MongoDB" in flat
    assert all(f"{sign} {verdict.value}" in page for verdict, sign in SIGNS.items())


def test_the_verdicts_are_counted_over_the_whole_table() -> None:
    counts = map(int, re.findall(r": (\d+)", _said(_cell("counts = Counter("))))
    assert sum(counts) == len(CELLS)


def test_the_seeds_table_stands_there_word_for_word() -> None:
    text = LESSON.read_text(encoding="utf-8")
    for row in (
        "| **Tipo** | Relacional | Relacional | Relacional embebida |",
        "| **Complejidad** | Media-Alta | Media | Baja |",
        "| **Performance** | Excelente | Muy buena | Limitada |",
        "| **Escalabilidad** | Alta | Alta | Baja |",
        "| **ACID** | Completo | Completo | Limitado |",
        "| **JSON Support** | JSONB (nativo) | JSON (básico) | JSON (texto) |",
        "| **Mejor para** | Apps complejas | Web apps | Apps pequeñas |",
    ):
        assert row in text


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    cells = [cell for cell in _code() if cell.source.startswith("%%exercise")]
    problems = problems_of("why")
    assert len(problems) >= 5
    for cell, problem in zip(cells, problems, strict=True):
        line, _, starter = cell.source.partition("\n")
        assert line == f"%%exercise {problem.id}"
        assert starter.strip() == problem.starter.strip()
        assert f"{problem.id} not attempted" in _said(cell)
