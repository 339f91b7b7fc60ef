"""What learners really type, and what they are told; nothing they type reaches their data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from pglab import databases
from pglab.config import Settings
from pglab.exercises import (
    Accepts,
    CannotCheckError,
    Fails,
    IndexOn,
    Plan,
    Problem,
    Refuses,
    Rows,
    Solution,
    State,
    Status,
    Verdict,
)
from pglab.exercises import _sandbox as sandboxes
from pglab.exercises._engine import STRICT, judge
from pglab.exercises._sandbox import sandbox
from pglab.lab import Lab

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def as_for_a_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say calmly what cannot be checked; the suite at large makes it an error."""
    monkeypatch.delenv(STRICT, raising=False)


def problem(answer="query", **parts) -> Problem:
    reference = parts.pop("right", "SELECT id, name FROM instances")
    given = {
        "id": "tests.1",
        "title": "A test",
        "prompt": "Do it.",
        "answer": answer,
        "checks": (Rows(),),
        "solutions": (Solution(sql=reference, why="."),),
        "wrong": (),
        "hints": (),
        "hidden": False,
        **parts,
    }
    return Problem(**given)


def said(verdict: Verdict) -> str:
    return "\n".join([verdict.message, verdict.verbatim, *(t.text() for t in verdict.tables)])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("exercise_tests", "tiny", Settings.from_environment(), progress=False) as opened:
        yield opened
        opened.drop()


CHECKSUM = """
SELECT (SELECT md5(string_agg(m::text, '' ORDER BY id)) FROM messages AS m),
       (SELECT md5(string_agg(i::text, '' ORDER BY id)) FROM instances AS i),
       (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
       (SELECT count(*) FROM pg_roles WHERE rolname = 'pglab_intruder')
"""


def checksum(lab: Lab) -> tuple[object, ...]:
    with lab.connection() as connection:
        row = connection.execute(CHECKSUM).fetchone()
    assert row is not None
    return row


QUERY = problem(limit_s=0.5)
WRITE = problem(
    "write",
    right="UPDATE instances SET settings = '{}'",
    checks=(State(probe="SELECT id, name, settings FROM instances", about="the instances"),),
    limit_s=0.5,
)
SEVERAL = problem(
    "statements",
    right="BEGIN; UPDATE instances SET settings = '{}'; COMMIT",
    checks=(State(probe="SELECT id, name, settings FROM instances", about="the instances"),),
    limit_s=0.5,
)

UNFINISHED = ["", "  \n", "-- nothing yet", "/* nothing */", ";;", "-- your statement here\n"]
TYPED = [
    (QUERY, "DROP TABLE messages CASCADE", "changes something"),
    (QUERY, "DELETE FROM messages RETURNING id", "changes something"),
    (QUERY, "COMMIT", "COMMIT ends a transaction"),
    (QUERY, "ROLLBACK", "ROLLBACK ends a transaction"),
    (QUERY, "COMMIT AND CHAIN", "ends a transaction"),
    (QUERY, "SET ROLE pg_monitor", "returns no rows; a query is asked for"),
    (QUERY, "SELECT 1; DROP TABLE messages", "One statement is asked for; there are 2 here."),
    (QUERY, "SELECT pg_sleep(60)", "was cancelled after 0.5 s"),
    (QUERY, "SELECT count(*) FROM messages AS a, messages AS b", "was cancelled after 0.5 s"),
    (QUERY, "SELECT a.id, b.whatsapp_id AS name FROM messages AS a, messages AS b",
     "has the type bigint; uuid is asked for"),
    (QUERY, "SELECT i.id, i.name FROM instances AS i, messages AS a, messages AS b",
     "Far too many rows: 6 expected, more than"),
    (QUERY, "SELEC id", "42601 syntax_error"),
    (QUERY, "SELECT 'open", "42601 syntax_error"),
    (QUERY, "SELECT nme FROM instances", "42703 undefined_column"),
    (QUERY, r"\d messages", "is a command of the program psql"),
    (QUERY, "SELECT id, name\0 FROM instances", "NUL character"),
    (QUERY, "EXPLAIN SELECT id, name FROM instances", "The columns id, name are missing."),
    (QUERY, "SELECT id FROM instances", "The column name is missing. Yours: id."),
    (QUERY, "SELECT *, id, 1 AS n FROM instances", "not asked for"),
    (QUERY, "SELECT id, name FROM instances WHERE false", "6 rows missing: 6 expected, 0 found"),
    (QUERY, "SELECT", "are missing"),
    (QUERY, "COPY instances TO STDOUT", "COPY from or to the client"),
    (QUERY, "DROP DATABASE {lab}", "changes something"),
    (QUERY, "SELECT pg_terminate_backend(pg_backend_pid())", "ended the connection"),
    (QUERY, "BEGIN", "returns no rows"),
    (QUERY, "SELECT id, name FROM instances FOR UPDATE", "changes something"),
    (QUERY, "VACUUM messages", "cannot: leave out what keeps it from that"),
    (WRITE, "DROP TABLE instances CASCADE", "relation \"instances\" does not exist"),
    (WRITE, "TRUNCATE instances CASCADE", "6 rows missing"),
    (WRITE, "DROP SCHEMA public CASCADE", "does not exist"),
    (WRITE, "DELETE FROM instances", "6 rows missing"),
    (WRITE, "SELECT 1", "the instances: The number of rows is right"),
    (WRITE, "COMMIT", "COMMIT ends a transaction"),
    (WRITE, "UPDATE instances SET settings = '{}', name = name || '!' || pg_sleep(60)::text",
     "was cancelled after 0.5 s"),
    (WRITE, "DROP DATABASE {lab} WITH (FORCE)", "cannot: leave out"),
    (WRITE, "CREATE ROLE pglab_intruder", "the instances: The number of rows is right"),
    (SEVERAL, "DROP DATABASE {lab} WITH (FORCE)", "reaches beyond this exercise's copy"),
    (SEVERAL, "UPDATE instances SET settings = '{}'; CREATE ROLE pglab_intruder",
     "reaches beyond this exercise's copy"),
    (SEVERAL, "ALTER SYSTEM SET work_mem = '1MB'", "reaches beyond this exercise's copy"),
    (SEVERAL, "BEGIN; UPDATE instances SET settings = '{}'", "Your transaction is still open"),
    (SEVERAL, "BEGIN; UPDATE instances SET settings = '{}'; ROLLBACK", "The number of rows"),
    (SEVERAL, "DROP SCHEMA public CASCADE; COMMIT", "does not exist"),
    (SEVERAL, "UPDATE instances SET settings = '{}'; SELECT 1/0", "22012 division_by_zero"),
]  # fmt: skip


@pytest.mark.parametrize("one", [QUERY, WRITE, SEVERAL], ids=["query", "write", "several"])
@pytest.mark.parametrize("text", UNFINISHED)
def test_a_cell_without_an_answer_is_not_attempted(one: Problem, text: str) -> None:
    verdict = judge(one, text, strict=True)
    assert verdict.status is Status.NOT_ATTEMPTED
    assert "Do it." in verdict.text()
    assert 'hint("tests.1")' in verdict.text()
    assert "Do it." in verdict._repr_mimebundle_()["text/markdown"]


@pytest.mark.timeout(120)
def test_whatever_is_typed_has_its_verdict_and_damages_nothing(lab: Lab) -> None:
    before = checksum(lab)
    missed = []
    for one, text, words in TYPED:
        verdict = judge(one, text.replace("{lab}", lab.database), strict=True)
        if verdict.status is not Status.NOT_YET or words not in said(verdict):
            missed.append((text, str(verdict.status), said(verdict)))
        assert "Traceback" not in verdict.text()
    assert missed == []
    assert checksum(lab) == before
    # … nor the copies on which the next answers run.
    assert judge(QUERY, "SELECT name, id FROM instances", strict=True).solved
    assert judge(WRITE, "UPDATE instances SET settings = '{}'::jsonb", strict=True).solved
    assert judge(SEVERAL, "UPDATE instances SET settings = '{}'", strict=True).solved


def test_a_rolled_back_write_leaves_the_copy_as_good_as_new() -> None:
    one = problem(
        "write",
        right="UPDATE messages SET body = '' WHERE id <= 90",
        checks=(State(probe="SELECT count(body) FROM messages", about="the bodies"),),
    )

    def look() -> tuple[object, ...]:
        with sandbox("visible") as box, box.connection() as connection:
            rows = connection.execute(
                "SELECT md5(string_agg(m::text, '' ORDER BY id)) FROM messages AS m"
            ).fetchone()
            pages = connection.execute(
                "SELECT relpages - relallvisible FROM pg_class WHERE oid = 'messages'::regclass"
            ).fetchone()
            return box.database, rows, pages

    before = look()
    assert before[2] == (0,)
    # The second adds a dead row to each index page that it touches.
    for body in ("'x'", "whatsapp_id"):
        assert judge(one, f"UPDATE messages SET body = {body} WHERE id <= 90", strict=True).solved
    assert look() == before


def test_a_copy_that_a_killed_process_left_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # All of it while the copy is held: tests of other files have their answers run there, too.
    with sandbox("visible") as box:
        with box.connection() as connection:
            connection.execute("DELETE FROM messages")
        # Who was killed does not say that he is done.
        monkeypatch.setattr(sandboxes, "_mark", lambda *_: None)
    monkeypatch.undo()
    with sandbox("visible") as box, box.connection() as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (50_000,)


def test_two_kernels_check_at_once() -> None:
    code = (
        "from pglab.exercises import check\n"
        "right = 'ALTER TABLE sessions DROP CONSTRAINT sessions_status_check, ADD CONSTRAINT '\\\n"
        "    'sessions_status_check CHECK (status IN '"
        "\"('connected', 'disconnected', 'qr', 'expired'))\"\n"
        "print([str(check('schema.4', right, strict=True).status) for _ in range(3)])\n"
    )
    kernels = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [kernel.communicate(timeout=120)[0].strip() for kernel in kernels]
    assert answers == ["['solved', 'solved', 'solved']"] * 2


# What checks see.


def test_an_answer_that_must_fail() -> None:
    one = problem(
        "write",
        right="INSERT INTO instances (name) SELECT name FROM instances",
        checks=(Fails(sqlstate="23505"),),
    )
    assert judge(one, "INSERT INTO instances SELECT * FROM instances", strict=True).solved
    fault = judge(one, "INSERT INTO instances (name) VALUES ('new')", strict=True)
    assert "succeeds; it is to fail with 23505 (unique_violation)" in fault.message
    fault = judge(one, "INSERT INTO instances (name) VALUES (NULL)", strict=True)
    assert "it failed with another error" in fault.message
    assert "23502" in fault.verbatim


def test_a_deferred_constraint_is_asked_at_the_end() -> None:
    one = problem(
        "write",
        setup="ALTER TABLE chats ADD CONSTRAINT later UNIQUE (name, jid, kind)"
        " DEFERRABLE INITIALLY DEFERRED",
        right="UPDATE chats SET name = 'x' WHERE id = 1",
        checks=(State(probe="SELECT count(*) FROM chats", about="chats"),),
    )
    verdict = judge(
        one,
        "INSERT INTO chats (instance_id, jid, kind, name) SELECT i.id, c.jid,"
        " c.kind, c.name FROM instances AS i, chats AS c WHERE c.id = 1"
        " AND i.id <> c.instance_id AND c.name IS NOT NULL LIMIT 1",
        strict=True,
    )
    assert "23505" in verdict.verbatim
    assert "later" in verdict.verbatim


LATEST = "SELECT id, body FROM messages WHERE chat_id = 2 AND sent_at >= '2025-06-01'"


def test_plans_are_told_apart() -> None:
    one = problem(
        right=LATEST,
        checks=(
            Rows(),
            Plan(no_seq_scan=("messages",)),
            Plan(index=IndexOn("messages", "chat_id", "sent_at"), max_buffers=2_000),
        ),
    )
    assert judge(one, LATEST, strict=True).solved
    slow = LATEST.replace("chat_id", "chat_id + 0")
    verdict = judge(one, slow, strict=True)
    assert "reads the whole table messages for your statement" in verdict.message
    assert "Seq Scan on messages" in verdict.verbatim
    detour = LATEST + " AND whatsapp_id = whatsapp_id || ''"
    assert judge(one, detour, strict=True).solved


def test_a_plan_after_an_index_was_made() -> None:
    wanted = "SELECT count(*) FROM messages WHERE status = 'error'"
    one = problem(
        "schema",
        right="CREATE INDEX ON messages (status)",
        checks=(
            Plan(
                query=wanted,
                index=IndexOn("messages", "status"),
                max_buffers=30,
                nodes=("Index Only Scan",),
            ),
        ),
    )
    assert judge(one, "CREATE INDEX mine ON messages (status, id)", strict=True).solved
    verdict = judge(one, "CREATE INDEX ON messages (id, status)", strict=True)
    assert "is to use an index on messages (status)" in verdict.message
    concurrently = judge(one, "CREATE INDEX CONCURRENTLY ON messages (status)", strict=True)
    assert "such as CONCURRENTLY" in concurrently.message
    too_many = problem(
        "schema",
        right="CREATE INDEX ON messages (status)",
        checks=(Plan(query="SELECT sum(id) FROM messages", max_buffers=10),),
    )
    with pytest.raises(CannotCheckError, match=r"touches .* pages of 8 kB; 10 are enough"):
        judge(too_many, "CREATE INDEX ON messages (status)", strict=True)


def test_statements_after_the_answer() -> None:
    insert = "INSERT INTO instances (name) VALUES ('{}')"
    one = problem(
        "schema",
        right="ALTER TABLE instances ADD CHECK (name <> 'no')",
        checks=(
            Accepts(sql=insert.format("yes"), says="It refuses yes."),
            Refuses(sql=insert.format("no"), sqlstate="23514", says="It takes no."),
        ),
    )
    assert judge(one, "ALTER TABLE instances ADD CONSTRAINT c CHECK (name NOT IN ('no'))").solved
    assert "It takes no." in judge(one, "ALTER TABLE instances ADD CHECK (true)").message
    strict = judge(one, "ALTER TABLE instances ADD CHECK (name <> 'yes') NOT VALID")
    assert "It refuses yes." in strict.message
    assert "23514 check_violation" in strict.verbatim
    other = judge(one, "ALTER TABLE instances RENAME TO gone")
    assert "42P01" in other.verbatim


def test_ties_at_a_limit_are_not_held_against_anybody() -> None:
    top = "SELECT id, message_type FROM messages ORDER BY message_type {} LIMIT 3"
    one = problem(
        right=top.format(", id"),
        checks=(Rows(order_by=("message_type",), pool="SELECT id, message_type FROM messages"),),
    )
    assert judge(one, top.format(", id DESC"), strict=True).solved
    wrong = "SELECT id, message_type FROM messages ORDER BY message_type DESC, id LIMIT 3"
    assert judge(one, wrong, strict=True).status is Status.NOT_YET
    invented = "SELECT -id AS id, message_type FROM messages ORDER BY message_type, id LIMIT 3"
    assert judge(one, invented, strict=True).status is Status.NOT_YET


def test_other_data_find_constants_out() -> None:
    one = problem(right="SELECT count(*) AS n FROM chats", hidden=True)
    visible = judge(one, "SELECT count(*) AS n FROM chats", strict=True)
    assert visible.solved
    with sandbox("visible") as box, box.connection() as connection:
        row = connection.execute("SELECT count(*) FROM chats").fetchone()
    assert row is not None
    verdict = judge(one, f"SELECT {row[0]} AS n", strict=True)
    assert verdict.status is Status.NOT_YET
    assert "wrong on other data" in verdict.message
    assert not verdict.tables, "the hidden rows would be the next constants to copy"


# When checking itself fails.


def test_no_server_is_said_calmly_or_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    verdict = judge(QUERY, "SELECT 1")
    assert verdict.status is Status.CANNOT_CHECK
    assert "pglab doctor" in verdict.text()
    assert "Traceback" not in verdict.text()
    with pytest.raises(CannotCheckError, match="cannot be checked"):
        judge(QUERY, "SELECT 1", strict=True)
    monkeypatch.setenv(STRICT, "1")
    with pytest.raises(CannotCheckError):
        judge(QUERY, "SELECT 1")
    assert judge(QUERY, "").status is Status.NOT_ATTEMPTED, "that needs no server"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"right": "SELECT nonsense"}, "the reference solution fails"),
        ({"setup": "CREATE TABLE messages ()"}, "already exists"),
        ({"checks": (Rows(order_by=("nothing",)),)}, "order_by names no column"),
        ({"right": "COMMIT"}, "ends the transaction"),
        ({"checks": (Refuses(sql="SELECT 1", sqlstate="23505", says="No."),)}, "its own check"),
        ({"checks": (State(probe="SELECT 1; SELECT 2", about="it"),)}, "must be one statement"),
    ],
)
def test_a_fault_of_a_problem_is_not_the_learners(broken: dict[str, object], words: str) -> None:
    one = problem(**broken)
    verdict = judge(one, "SELECT id, name FROM instances")
    assert verdict.status is Status.CANNOT_CHECK
    assert words in verdict.message
    with pytest.raises(CannotCheckError):
        judge(one, "SELECT id, name FROM instances", strict=True)


def test_hidden_data_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise databases.PermissionMissingError("role 'x' may not create database")

    one = problem(right="SELECT name FROM instances", hidden=True)
    monkeypatch.setattr(sandboxes, "_template", refuse)
    verdict = judge(one, "SELECT name FROM instances")
    assert verdict.status is Status.CANNOT_CHECK
    assert "may not create database" in verdict.message


def test_the_reference_and_the_answer_see_the_same_settings() -> None:
    one = problem(right="SELECT sent_at FROM messages WHERE id = 1")
    elsewhere = "SELECT sent_at AT TIME ZONE 'America/Lima' AS sent_at FROM messages WHERE id = 1"
    assert "timestamptz is asked for" in judge(one, elsewhere).message
    back = "SELECT (sent_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS sent_at FROM messages"
    assert judge(one, back + " WHERE id = 1", strict=True).solved


@pytest.mark.parametrize(
    ("right", "same", "other"),
    [
        ("1.0::numeric", "1.00::numeric", "1.01"),
        ("1::bigint", "1.0::float8", "1.1::float8"),
        ("0.3::float8", "0.1::float8 + 0.2::float8", "0.3000001::float8"),
        ("'NaN'::numeric", "'NaN'::float8", "0"),
        ("'Infinity'::float8", "'inf'::float8", "'-inf'::float8"),
        ("""'{"a":1,"b":[1,2]}'::jsonb""", """'{"b":[1.0,2],"a":1}'::json""",
         """'{"b":[2,1],"a":1}'::jsonb"""),
        ("'2025-01-01 12:00+00'::timestamptz", "'2025-01-01 07:00-05'::timestamptz",
         "'2025-01-01 12:00-05'::timestamptz"),
        ("'0044-03-15 BC'::timestamptz", "'0044-03-15 00:00+00 BC'::timestamptz(3)",
         "'0044-03-15'::timestamptz"),
        ("'1 day'::interval", "'24:00:00'::interval", "'-1 day'::interval"),
        ("'1 mon -1 day'::interval", "'29 days'::interval", "'1 mon'::interval"),
        ("'text'::text", "'text'::varchar(9)", "'Text'"),
        ("'read'::message_status", "'read'::text", "'played'::message_status"),
        ("'a'::char(3)", "'a  '::char(3)", "'b'::char(3)"),
        ("NULL::text", "NULL::text", "''"),
        ("NULL::int", "NULL::int", "0"),
        (r"'\x01'::bytea", r"decode('01', 'hex')", r"'\x02'::bytea"),
        ("'é'", "U&'\\00e9'", "U&'e\\0301'"),
    ],
)  # fmt: skip
def test_values_compare_as_the_server_would(right: str, same: str, other: str) -> None:
    one = problem(right=f"SELECT {right} AS v")
    assert judge(one, f"SELECT {same} AS v", strict=True).solved
    assert judge(one, f"SELECT {other} AS v", strict=True).status is Status.NOT_YET


def test_a_table_that_the_set_up_made_is_gone_with_it() -> None:
    given = problem(
        "write",
        setup="CREATE TABLE public.mine (n integer); INSERT INTO public.mine VALUES (1)",
        right="UPDATE public.mine SET n = 2",
        checks=(State(probe="SELECT n FROM public.mine", about="the table mine"),),
    )
    assert judge(given, "UPDATE public.mine SET n = 2").status is Status.SOLVED
    assert judge(given, "UPDATE public.mine SET n = 3").status is Status.NOT_YET
