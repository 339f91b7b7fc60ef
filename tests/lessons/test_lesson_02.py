"""Lesson 02 says nothing that its outputs do not show, and its solutions are solutions.

Every claim is looked up twice: in the committed outputs, and in those of a run on a server in
which each exercise is solved as the lesson solves it. What a solution changes must not disturb
the cells after it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from tests.lesson_support import said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "02-schema.ipynb"

# The seed document's other statements, word for word (its three tables are in seed.sql).
INSERT = """\
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
);"""
SET_STATUS = """\
UPDATE sessions
SET status = 'connected',
    updated_at = NOW()
WHERE instance_name = 'sciencebot-production';"""
SET_EVENTS = """\
UPDATE instances
SET webhook_events = '["messages.upsert", "connection.update"]'::jsonb
WHERE name = 'sciencebot-production';"""
ACTIVE_SESSION = """\
SELECT session_data, status
FROM sessions
WHERE instance_name = 'sciencebot-production'
AND status = 'connected';"""
SUBSCRIBED = """\
-- Query dentro de JSONB
SELECT * FROM instances
WHERE webhook_events @> '["messages.upsert"]'::jsonb;"""
DECRYPT = """\
-- session_data está encriptado con pgcrypto o similar
SELECT pgp_sym_decrypt(session_data::bytea, 'encryption_key')
FROM sessions
WHERE instance_name = 'sciencebot-production';"""
AS_WRITTEN = {
    "break-orphan": [INSERT],
    "break-first-instance": [SET_STATUS, SET_EVENTS],
    "break-twice": [INSERT],
    "break-events": [SUBSCRIBED],
    "break-rename": [ACTIVE_SESSION, SET_EVENTS],
    "orphan-refused": [INSERT],
    "seed-decrypt": [DECRYPT],
}
TABLES = ["seed-sessions", "seed-instances", "seed-messages"]

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "what-is-here": ["seed | messages | 50000", "public | messages | 50000"],
    "first-diagram": ["Schema mine: 3 tables", "(instance_id) references instances (id)"],
    "break-orphan": ["INSERT · 1 row"],
    "break-orphan-look": ["NULL | 3EB0123456789ABCDEF | NULL | ¿Cuánto", "? | NULL"],
    "break-first-instance": [f"{n} of 4: {what} · 1 row" for n, what in
                             enumerate(["INSERT", "INSERT", "UPDATE", "UPDATE"], 1)],
    "break-twice-look": ["3EB0123456789ABCDEF | 3 | 2 | 3"],
    "race-b-first": ["already_there bigint --------------- 0", "session worker_b"],
    "race-a": ["already_there bigint --------------- 0"],
    "race-b-commit": ["copies bigint -------- 2"],
    "break-words": ["INSERT · 4 rows", "INSERT · 2 rows"],
    "break-long-name": ["300 | 255", "22001"],
    "break-clock": ["lima-bot |", "| 00:00:00", "| 05:00:00"],
    "break-seconds": ["3EB0MILLIS | 1698765432000 | 55801-"],
    "break-from-me": ["8 | 2 | 5"],
    "break-json": ["| string | NULL"],
    "break-events": ["3 of 3: 1 row"],
    "break-rename": ["2 of 3: 1 row", "3 of 3: UPDATE · 0 rows"],
    "break-rename-look": ["sciencebot-admissions | NULL | NULL", "NULL | sciencebot-production |"],
    "break-delete-refused": ["23503", 'still referenced from table "messages"'],
    "break-delete-session": ["DELETE · 1 row", "2 of 2: 2 rows"],
    "not-null-refused": ["23502"],
    "orphan-refused": ["23514", "messages_instance_id_check"],
    "validate": ["1 of 5: DELETE · 1 row", "ShareUpdateExclusiveLock"],
    "not-null": ["AccessExclusiveLock"],
    "phone-refused": ["23514", "is violated by some row"],
    "phone": ["lima-bot | NULL", "sciencebot-becas | NULL"],
    "status-check": ["connected | 4"],
    "status-enum": ["sent < delivered < read | delivered < read < sent"],
    "status-wrong-word": ["22P02"],
    "status-change": ["1 of 2: ALTER TYPE", "Statement 2 of 2 failed"],
    "sent-at": ["UPDATE · 1 row", "DELETE · 1 row", "3EB0MILLIS | 2023-10-31"],
    "milliseconds-refused": ["23514", "messages_sent_at_check"],
    "json-shape": ["lima-bot | true", "4 of 5: ALTER TABLE"],
    "seed-decrypt": ["42846", "cannot cast type jsonb to bytea"],
    "credentials": [r"\x7b"],
    "foreign-key-refused": ["23503", "DETAIL: Key (instance_name)="],
    "foreign-key-column": ["4 of 4: 1 row", "ScienceBot-Production | NULL"],
    "rename-again": ["sciencebot-scholarships | connected"],
    "foreign-key-index": ["2 rows", "seed | messages_instance_id_fkey",
                          "mine | messages_instance_id_fkey"],
    "foreign-key-explain": ["Seq Scan on messages", "Index Only Scan using"],
    "unique-refused": ["23505", "is duplicated"],
    "null-first": ["3EB0123456789ABCDEF | NULL 3EB0123456789ABCDEF | read"],
    "dedupe": ["DELETE · 2 rows", "3EB0123456789ABCDEF | read", "3 of 3: 4 rows"],
    "ingest": ["1 of 2: INSERT · 1 row", "2 of 2: INSERT · 0 rows"],
    "foreign-key-index-again": ["1 row ·", "seed | messages_instance_id_fkey"],
    "on-delete": ["sessions bigint ---------- 3", "sessions bigint ---------- 2",
                  "1 | NULL | The QR code does not appear", "ROLLBACK"],
    "tenant-mixed": ["sciencebot-admissions | utc-bot"],
    "tenant-key": ["23503", "Statement 4 of 4 failed"],
    "ids": ["| 16 | 8"],
    "diagram-ours": ["(chat_id, instance_id) references chats (id, instance_id): exactly one"],
    "year-2038": ["2038-01-19 03:14:07+00", "22003"],
    "quotes-table": ['42P01', 'relation "message" does not exist'],
    "quotes-column": ["42703", "HINT:", "Message.instanceId"],
    "creds": ["| NULL | 1001"],
    "skip-duplicates": ["3EB0TWICE | 2"],
    "expression-index": ["DELETE · 1 row", "3 of 3: INSERT · 0 rows"],
}  # fmt: skip

# What must hold right after a solution ran. `answer` is the result of its last query.
CHECKS = {
    "your-turn-orphans": """
assert answer.iat[0, 0] == 1
assert one("SELECT count(*) FROM mine.messages WHERE instance_id = NULL") == 0
""",
    "your-turn-lookalikes": """
assert answer.to_numpy().tolist() == [["sciencebot-production", 3]]
""",
    "your-turn-names": """
assert one("SELECT convalidated FROM pg_constraint WHERE conname = 'instances_name_check' "
           "AND connamespace = 'mine'::regnamespace")
for name in ("''", "' a'", "repeat('x', 101)"):
    assert refused(f"UPDATE mine.instances SET name = {name}") == "23514"
assert refused("UPDATE mine.instances SET name = 'ok' WHERE name = 'lima-bot'") is None
""",
    "your-turn-expired": """
assert refused("UPDATE mine.sessions SET status = 'expired'") is None
assert refused("UPDATE mine.sessions SET status = 'gone'") == "23514"
""",
    "your-turn-upsert": """
status = "SELECT status::text FROM mine.messages WHERE message_id = '3EB0NEW'"
assert one(status) == "delivered"
assert one("SELECT count(*) FROM mine.messages WHERE message_id = '3EB0NEW'") == 1
with lab.connection() as connection:
    connection.execute("SET search_path TO mine")
    connection.execute("UPDATE messages SET status = 'read' WHERE message_id = '3EB0NEW'")
    connection.execute(SOLUTION)
assert one(status) == "read"
""",
    "your-turn-webhooks": """
add = "INSERT INTO mine.webhooks (instance_id, url, events) SELECT id, {}, {} FROM mine.instances"
assert refused("INSERT INTO mine.webhooks (instance_id, url) "
               "SELECT id, 'http://a' FROM mine.instances") is None
assert refused(add.format("'http://a'", "NULL")) == "23502"
assert refused(add.format("NULL", "'[]'")) == "23502"
assert refused(add.format("'http://a'", "'{}'")) == "23514"
assert refused(add.format("'http://a'", "'[]'") + ", generate_series(1, 2)") == "23505"
assert one("SELECT confdeltype::text FROM pg_constraint "
           "WHERE conrelid = 'mine.webhooks'::regclass AND contype = 'f'") == "c"
""",
    "your-turn-break-ours": """
assert one("SELECT count(*) FROM messages WHERE sent_at > '2099-01-01'") == 0
""",
}

HELPERS = """
import psycopg

def one(query):
    with lab.connection() as connection:
        return connection.execute(query).fetchone()[0]

def refused(statement):
    "Return the SQLSTATE with which the server refuses it, or None; nothing is kept."
    try:
        with lab.connection() as connection, connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate
    return None
"""
AT_THE_END = """
assert one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
           "AND state LIKE 'idle in transaction%'") == 0
assert one("SELECT count(*) FROM seed.messages") == 50000 == one("SELECT count(*) FROM messages")
"""


def _read() -> Any:
    return nbformat.read(LESSON, as_version=4)


def _by_id(notebook: Any) -> dict[str, Any]:
    return {cell.id: cell for cell in notebook.cells}


def _sql(cell: Any) -> str:
    first, _, rest = cell.source.partition("\n")
    assert first.startswith("%%sql"), cell.source
    return str(rest)


def _solutions(notebook: Any) -> dict[str, str]:
    """Return the SQL in each folded solution, by the id of its exercise's cell."""
    found = {}
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code" and cell.id.startswith("your-turn-"):
            block = re.search(
                r"<details><summary>Solution</summary>\n\n```sql\n(.+?)\n```\n.*</details>",
                after.source,
                re.DOTALL,
            )
            assert block, f"{cell.id} has no solution after it"
            found[cell.id] = block[1]
    return found


@pytest.fixture(scope="module")
def solved() -> Any:
    """Return the lesson after a run on a server with every exercise solved."""
    notebook = _read()
    solutions = _solutions(notebook)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.id == "open":
            cells.append(new_code_cell(HELPERS))
        elif cell.id in solutions:
            solution = solutions[cell.id]
            keep = " answer <<" if "answer" in CHECKS[cell.id] else ""
            cell.source = f"%%sql{keep}\n{solution}"
            cells.append(new_code_cell(f"SOLUTION = {solution!r}\n{CHECKS[cell.id]}"))
    notebook.cells = [*cells, new_code_cell(AT_THE_END)]
    with pytest.MonkeyPatch.context() as patch:
        # Databases of its own: the lesson itself may be running beside this test.
        patch.setenv("PGLAB_SCOPE", "lesson02")
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


@pytest.fixture(params=["committed", pytest.param("solved", marks=pytest.mark.server)])
def cells(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the cells by id, as committed and as a solved run leaves them."""
    return _by_id(_read() if request.param == "committed" else request.getfixturevalue("solved"))


# As the seed writes it


def test_the_three_tables_are_word_for_word_those_of_seed_sql() -> None:
    seed = (ROOT / "src/pglab/sql/seed.sql").read_text(encoding="utf-8")
    tables = seed.partition("SET LOCAL search_path TO seed;")[2]
    by_id = _by_id(_read())
    assert "\n\n".join(_sql(by_id[name]) for name in TABLES) == tables.strip()


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_the_seeds_statements_are_word_for_word(name: str) -> None:
    text = _sql(_by_id(_read())[name])
    for statement in AS_WRITTEN[name]:
        assert statement in text
        text = text.replace(statement, "", 1)
    if name not in {"break-first-instance", "break-events", "break-rename"}:
        assert text.strip() == ""


def test_only_what_the_seed_wrote_may_be_long() -> None:
    tagged = {c.id for c in _read().cells if "as-written" in c.metadata.get("tags", [])}
    assert tagged == {*AS_WRITTEN, *TABLES}


# What the prose says


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(cells: dict[str, Any], name: str) -> None:
    shown = said(cells[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


def test_announced_errors_and_only_they_occurred(cells: dict[str, Any]) -> None:
    for cell in cells.values():
        if cell.cell_type == "code":
            announced = cell.source.startswith("%%sql --expect")
            assert ("Expected error, as announced" in said(cell)) == announced, cell.id


def test_all_ten_faults_were_let_in(cells: dict[str, Any]) -> None:
    counts = re.findall(r"[a-z] \| (\d+)", said(cells["faults"]))
    assert len(counts) == 10
    assert "0" not in counts
    assert "Ten faults, and none of them is zero" in cells["faults-read"].source


def test_the_seeds_condition_finds_nothing_and_capitals_do(cells: dict[str, Any]) -> None:
    found = re.search(r"(\d+) \| (\d+)$", said(cells["break-events-real"]))
    assert found
    assert found[1] == "0"
    assert int(found[2]) > 0


def test_text_keeps_the_file_and_timestamptz_does_not(cells: dict[str, Any]) -> None:
    before, after = re.findall(r"-- (\d+)", said(cells["text-type"]))
    (rewritten,) = re.findall(r"-- (\d+)", said(cells["timestamptz"]))
    assert before == after != rewritten


def test_the_five_hours_are_gone(cells: dict[str, Any]) -> None:
    shown = said(cells["timestamptz"])
    assert shown.count("| 00:00:00") == 2
    lima, utc = re.findall(r"-bot \| (\S+ \S+)", shown)
    assert lima == utc


def test_the_uuid_index_is_about_twice_as_large(cells: dict[str, Any]) -> None:
    sizes = re.search(r"(\d+) kB \| (\d+) kB", said(cells["ids"]))
    assert sizes
    assert 1.5 < int(sizes[1]) / int(sizes[2]) < 2.5


def test_ours_refuses_all_twelve_with_the_codes_that_the_table_explains(
    cells: dict[str, Any],
) -> None:
    shown = said(cells["attempts-two"])
    assert "accepted" not in shown
    states = re.findall(r"\| ([0-9A-Z]{5}) \|", shown)
    assert len(states) == 12
    explained = re.findall(r"`([0-9A-Z]{5})`", cells["attempts-read"].source)
    assert set(states) == set(explained)
    assert f"{['Five', 'Six', 'Seven'][len(explained) - 5]} codes" in cells["attempts-read"].source


def test_the_picture_is_one() -> None:
    outputs = _by_id(_read())["shape-picture"].outputs
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_diagrams_are_pictures(cells: dict[str, Any]) -> None:
    for name in ("first-diagram", "diagram-mine", "diagram-ours"):
        assert any("image/svg+xml" in output.get("data", {}) for output in cells[name].outputs)


# Exercises


def test_there_are_enough_exercises_and_each_has_its_check() -> None:
    solutions = _solutions(_read())
    assert len(solutions) >= 6
    assert solutions.keys() == CHECKS.keys()


def test_an_exercise_begins_as_a_comment() -> None:
    notebook = _read()
    for name in _solutions(notebook):
        assert re.fullmatch(
            r"%%sql\n-- your (query|statements?) here", _by_id(notebook)[name].source
        )


@pytest.mark.server
def test_every_solution_does_what_it_says(solved: Any) -> None:
    # The checks ran inside the lesson, right after each solution; one that fails ends the run.
    counts = [cell.execution_count for cell in solved.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.server
def test_what_breaks_ours_is_accepted_three_times(solved: Any) -> None:
    assert said(_by_id(solved)["your-turn-break-ours"]).count("UPDATE · 1 row ") == 3


@pytest.mark.server
def test_a_solved_webhooks_table_appears_in_the_picture(solved: Any) -> None:
    shown = said(_by_id(solved)["diagram-mine"])
    assert "Schema mine: 6 tables" in shown
    assert "webhooks" in shown
