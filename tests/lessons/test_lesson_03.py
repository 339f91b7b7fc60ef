"""Lesson 03 says nothing that its outputs, and a server asked again, do not show. Never a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psycopg
import pytest

from pglab import plans, queries
from pglab.config import Settings
from pglab.exercises._registry import problems_of
from pglab.lab import Lab
from pglab.notebook.statements import split
from tests.lesson_support import cells_of, said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "03-queries.ipynb"
CELLS = cells_of(LESSON)

# The seed document's three queries, word for word.
AS_WRITTEN = {
    "seed-session": """\
SELECT session_data, status
FROM sessions
WHERE instance_name = 'sciencebot-production'
AND status = 'connected';""",
    "seed-update": """\
UPDATE sessions
SET status = 'connected',
    updated_at = NOW()
WHERE instance_name = 'sciencebot-production';""",
    "seed-insert": """\
INSERT INTO messages (
    id, instance_id, remote_jid, message_id,
    content, timestamp, from_me
)
VALUES (
    gen_random_uuid(),
    (SELECT id FROM instances WHERE name = 'sciencebot-production'),
    '51999999999@s.whatsapp.net',
    '3EB0123456789ABCDEF',
    '¿Cuánto cuesta la matrícula?',
    1698765432,
    false
);""",
}

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "seed-session": ["1 row", "| connected"],
    "seed-session-none": ["1 of 2: 0 rows", "2 of 2: 0 rows"],
    "seed-update": ["UPDATE · 1 row ·"],
    "seed-update-none": ["UPDATE · 0 rows ·"],
    "seed-insert": ["INSERT · 1 row ·"],
    "inbox-distinct": ["20 rows", "493 | 50000"],
    "inbox-distinct-plan": ["Seq Scan on messages", "28,540", "602", "2,509 pages"],
    "inbox-lateral-plan": ["725 loops", "Index Scan using", "1.1 times as many"],
    "inbox-skip": ["'distinct_on', 'window', 'lateral', 'skip_scan'", "WITH RECURSIVE"],
    "inbox-agree": ["rows of each: [20, 20, 20, 20]", "all alike: True"],
    "history-shift": ["49729 | 2026-02-26 21:04:20+00"],
    "unread-plan": ["Seq Scan on messages", "151", "Rows Removed by Filter: 49,850"],
    "pandas-query": ["24 rows", "traffic is a DataFrame: 24 rows"],
    "conflict-42p10": ["Expected error, as announced", "42P10"],
    "conflict-nothing": ["INSERT · 2 rows", "2 of 2: 1 row", "-------- 2"],
    "conflict-do-nothing": ["1 of 2: INSERT · 1 row", "2 of 2: INSERT · 0 rows"],
    "conflict-do-update": ["INSERT · 1 row", "| read"],
    "conflict-21000": ["Expected error, as announced", "21000"],
    "ingest": ["messages=19", "events=42, duplicates=34, ignored"],
    "transaction-fails": ["UPDATE · 1 row", "23503", "Not run: statement 4"],
    "transaction-after": ["connected"],
    "transaction-python": ["updated: 1", "refused: 23502", "state now: open"],
    "lost-alice-reads": ["read committed", "[]"],
    "lost-bob-reads": ["[]"],
    "lost-bob-writes": ["COMMIT", '["paid"]'],
    "atomic-bob-waits": ["55P03"],
    "atomic-bob": ['["vip", "paid"]'],
    "lock-bob": ["1 of 2: 1 row", "55P03"],
    "repeatable-alice": ['["vip", "paid", "urgent"]'],
    "repeatable-bob-writes": ['["vip", "paid"]', "40001"],
    "repeatable-end": ['["vip", "paid", "urgent"]'],
    "deadlock-run": ["['40P01', 'went on']", "waits for ShareLock on transaction"],
    "deadlock-none": ["['committed', 'committed']"],
    "retry-four": ["labels: 40", "errors on the way: {'40001'}"],
    "sa-core-page": ["(messages.sent_at, messages.id) < (", "ORDER BY messages.sent_at DESC"],
    "sa-core-rows": ["49730", "49294"],
    "sa-core-insert": ["stored: []", "ON CONFLICT (instance_id, whatsapp_id) DO NOTHING"],
    "sa-lazy-run": ["20 chats shown", "21 statements sent"],
    "sa-lazy-sent": ["all after the first alike: True"],
    "sa-selectin": ["20 chats shown", "2 statements sent"],
    "sa-lateral-run": ["20 messages loaded, 1 statement sent", "queries.inbox: True"],
    "sa-lateral-sent": ["JOIN LATERAL (SELECT"],
    "sa-update": ["labels=(chats.labels || "],
}


def _read() -> Any:
    return nbformat.read(LESSON, as_version=4)


def _sql(name: str) -> str:
    return str(CELLS[name].source.partition("\n")[2])


# As the seed writes it


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_the_seeds_three_are_word_for_word(name: str) -> None:
    before, found, after = _sql(name).partition(AS_WRITTEN[name])
    assert found
    assert (before.strip(), after.strip()) in {("", ""), ("SET search_path TO seed, public;", "")}


def test_only_what_the_seed_wrote_may_be_long() -> None:
    tagged = {c.id for c in _read().cells if "as-written" in c.metadata.get("tags", [])}
    assert tagged == set(AS_WRITTEN)


# The committed outputs


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(name: str) -> None:
    shown = said(CELLS[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


def test_announced_errors_and_only_they_occurred() -> None:
    for cell in _read().cells:
        if cell.cell_type == "code":
            announced = "--expect" in cell.source.partition("\n")[0]
            assert ("Expected error, as announced" in said(cell)) == announced, cell.id


def test_the_pictures_are_pictures() -> None:
    for name in ("inbox-plot", "history-plot", "pandas-plot"):
        outputs = CELLS[name].outputs
        assert any("image/png" in output.get("data", {}) for output in outputs)


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    cells = CELLS
    problems = problems_of("queries")
    assert len(problems) >= 6
    for problem in problems:
        cell = cells[f"exercise-{problem.number}"]
        assert cell.source == f"%%exercise {problem.id}\n{problem.starter}"
        assert f"{problem.id} not attempted" in said(cell)


def _costs(name: str) -> dict[str, tuple[int, int]]:
    rows = re.findall(r"(\w+) \| (\d+) \| (\d+)", said(CELLS[name]))
    return {variant: (int(pages), int(messages)) for variant, pages, messages in rows}


def test_only_two_of_the_four_pay_for_the_history() -> None:
    today, later = _costs("inbox-cost"), _costs("inbox-later")
    assert set(today) == set(later) == set(queries.INBOX_VARIANTS)
    assert today["distinct_on"] == today["window"]
    assert today["lateral"][0] >= today["distinct_on"][0], "pages are not fewer at first"
    assert today["distinct_on"][1] > 60 * today["lateral"][1]
    for variant in ("distinct_on", "window"):
        assert later[variant][0] > 3.5 * today[variant][0]
    for variant in ("lateral", "skip_scan"):
        assert later[variant][0] < 1.1 * today[variant][0]
        assert later[variant][1] == today[variant][1]


# Asked again, on a server


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        # Databases of its own: the lesson itself may be running beside this test.
        patch.setenv("PGLAB_SCOPE", "lesson03")
        made = Lab("queries", "small", Settings.from_environment(), progress=False)
        try:
            made.reset()
            yield made
        finally:
            made.drop()


@pytest.fixture
def connection(lab: Lab) -> Iterator[psycopg.Connection[Any]]:
    with lab.connection() as connection:
        yield connection
        connection.rollback()


def _production(connection: psycopg.Connection[Any]) -> Any:
    row = connection.execute(
        "SELECT id FROM instances WHERE name = 'sciencebot-production'"
    ).fetchone()
    assert row
    return row[0]


def _kinds(plan: plans.Plan) -> list[str]:
    return [node.node_type for node in plan.nodes()]


@pytest.mark.server
def test_the_lessons_inboxes_are_those_of_the_package(connection: psycopg.Connection[Any]) -> None:
    expected = [
        (row.chat_id, row.message_id, row.sent_at, row.from_me, row.body)
        for row in queries.inbox(connection, _production(connection))
    ]
    for name in ("inbox-distinct", "inbox-distinct-plan", "inbox-lateral-plan"):
        statement = split(_sql(name))[-1].text
        assert connection.execute(statement.encode()).fetchall() == expected, name


@pytest.mark.server
def test_the_inboxes_are_planned_as_the_prose_says(connection: psycopg.Connection[Any]) -> None:
    distinct, lateral = (
        plans.explain(connection, _sql(name).rstrip().rstrip(";"), analyze=True)
        for name in ("inbox-distinct-plan", "inbox-lateral-plan")
    )
    assert _kinds(distinct) == ["Limit", "Sort", "Unique", "Sort", "Seq Scan"]
    assert [node.rows for node in distinct.nodes()][2:4] == [602, 28_540]
    assert lateral.uses_index("messages_chat_id_sent_at_idx")
    (scan,) = lateral.scans("messages")
    assert (scan.loops, scan.rows) == (725, 1)
    assert 3 < scan.buffers.touched / 725 < 4
    assert lateral.buffers.touched > distinct.buffers.touched


@pytest.mark.server
def test_offset_pays_for_what_it_skips_and_keyset_does_not(
    connection: psycopg.Connection[Any],
) -> None:
    production = _production(connection)

    def explained(name: str, **given: Any) -> plans.Plan:
        given |= {"instance_id": production, "chat_id": 213, "limit": 20}
        return plans.explain(connection, queries.sql(name), given, analyze=True)

    keyset, offset = [], []
    place: queries.Place | None = queries.Place("infinity", 0)  # type: ignore[arg-type]
    while place:
        keyset.append(explained("chat_page", before_sent_at=place.sent_at, before_id=place.id))
        offset.append(explained("chat_page_offset", offset=20 * len(offset)))
        place = queries.chat_page(connection, production, 213, limit=20, before=place).older
    pages = [plan.buffers.touched for plan in offset]
    before_the_jump = [pages[n] for n, plan in enumerate(offset) if "Sort" not in _kinds(plan)]
    assert len(pages) >= 20
    assert before_the_jump == sorted(before_the_jump)
    assert len(before_the_jump) > 5
    assert "Sort" in _kinds(offset[-1]), "the planner fetches the whole chat at last"
    assert pages[-1] > 5 * pages[0]
    assert all(_kinds(plan) == ["Limit", "Index Scan"] for plan in keyset)
    assert max(plan.buffers.touched for plan in keyset) < 20


@pytest.mark.server
def test_unread_reads_the_whole_table_and_one_message_three_pages(
    connection: psycopg.Connection[Any],
) -> None:
    unread = plans.explain(connection, _sql("unread-plan").rstrip().rstrip(";"), analyze=True)
    assert _kinds(unread) == ["Sort", "Aggregate", "Seq Scan"]
    given = {"instance_id": _production(connection), "whatsapp_id": "BAE5CDA509BA52D4ADDE"}
    one = plans.explain(connection, queries.sql("message_by_whatsapp_id"), given, analyze=True)
    assert _kinds(one) == ["Index Scan"]
    assert one.buffers.touched < 6


@pytest.mark.server
def test_the_same_statement_says_which_conflict_it_means(
    connection: psycopg.Connection[Any],
) -> None:
    with pytest.raises(psycopg.errors.InvalidColumnReference) as caught:
        connection.execute(_sql("conflict-42p10").encode())
    assert caught.value.sqlstate == "42P10"
    connection.rollback()
    for name in ("conflict-nothing", "conflict-do-nothing", "conflict-do-update"):
        for statement in split(_sql(name)):
            connection.execute(statement.text.encode())
    stored = connection.execute(
        "SELECT (SELECT count(*) FROM seed.messages WHERE message_id = '3EB0TWICE'),"
        " (SELECT array_agg(status::text) FROM messages WHERE whatsapp_id = '3EB0TWICE')"
    ).fetchone()
    assert stored == (2, ["read"])
