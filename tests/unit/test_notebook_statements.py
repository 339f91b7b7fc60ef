"""Cutting a cell into statements by PostgreSQL's rules."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.notebook.failures import SqlUsageError
from pglab.notebook.statements import split

# Each is one statement, semicolons and all.
ONE = {
    "jsonb": """SELECT '{"a":1}'::jsonb @> '{"a":1}' AND '{"a":1}' ? 'a' AND d @@ '$.a > 1'""",
    "string with a semicolon": "SELECT 'a;b', 'it''s; fine'",
    "backslash is plain": r"SELECT 'a\'",
    "escape string": r"SELECT E'a\';b', e'\\', E'x'';'",
    "escape string that goes on": "SELECT E'a' -- why; not\n 'b\\';c'",
    "not an escape string": r"SELECT * FROM nameE'a\'",
    "unicode string": r"""SELECT U&'d\0061t;a', U&"d\0061;ta" """,
    "identifier": 'SELECT ";" AS "a"";b"',
    "dollar quotes": "SELECT $$;$$, $a$ $$;$$ $1 $b$ ; $a$, $ñ$;$ñ$",
    "dollar in a name": "SELECT a$b, c$$d FROM t",
    "parameter": "SELECT $1, $2",
    "line comment": "SELECT 1 -- it's; \"done\n + 2",
    "nested comment": "SELECT /* ; /* ' ; */ \" ; */ 1",
    "comment marks in a string": "SELECT '--', '/*', ';'",
    "operator before a comment": "SELECT 1 +--;\n 2",
    "do": "DO $$ BEGIN RAISE NOTICE ';'; END; $$",
    "function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $f$ SELECT 1; SELECT $$;$$; $f$",
    "atomic": "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "atomic with case": "create or replace procedure p() language sql\nbegin atomic\n"
    " select case when true then (case 1 when 1 then 2 end) else 3 end; select 4; end",
    "rule": "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b)",
    "percent and colon": "SELECT 'a' LIKE 'a%', 5 % 3, ':name', a[1:2], '{{x}}', x::text",
    "open string": "SELECT 'a; SELECT 2",
    "open escape string": "SELECT E'a; \\",
    "open identifier": 'SELECT "a; SELECT 2',
    "open comment": "SELECT 1 /* ; SELECT 2",
    "open dollar quote": "SELECT $a$; SELECT 2; $b$",
    "open parenthesis": "SELECT (1; SELECT 2",
}


@pytest.mark.parametrize("text", ONE.values(), ids=ONE.keys())
def test_is_one_statement(text: str) -> None:
    cell = f"SELECT 0; {text}"
    first, second = split(cell)
    assert first.text == "SELECT 0"
    # A comment that is still open at the end belongs to no statement.
    assert second.text == (text.partition(" /*")[0] if "1 /* ;" in text else text.rstrip())
    assert cell[second.offset :].startswith(second.text)


def test_several_statements_with_comments_between() -> None:
    cell = "-- first;\nSELECT 1 ;\n;; /* a; */ INSERT INTO t VALUES (';');\n\n  COMMIT -- end\n"
    assert [one.text for one in split(cell)] == [
        "SELECT 1",
        "INSERT INTO t VALUES (';')",
        "COMMIT",
    ]


def test_transaction_and_case_are_not_a_body() -> None:
    cell = "BEGIN; SELECT CASE WHEN true THEN 1 END; END; CREATE TABLE t (a int); SELECT 1"
    assert len(split(cell)) == 5


@pytest.mark.parametrize("cell", ["", "  \n", "-- nothing", "/* nothing; */", ";;;"])
def test_nothing(cell: str) -> None:
    assert split(cell) == []


@pytest.mark.parametrize(
    ("text", "only_reads"),
    [
        ("SELECT 1", True),
        ("(SELECT 1) UNION SELECT 2", True),
        ("VALUES (1)", True),
        ("TABLE t", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("SELECT 'insert'", True),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x", False),
        ("SELECT * FROM t FOR UPDATE", False),
        ("SELECT * INTO u FROM t", False),
        ("SELECT pg_notify('a', 'b')", False),
        ("INSERT INTO t VALUES (1) RETURNING a", False),
        ("EXPLAIN SELECT 1", False),
        ("FETCH 5 FROM c", False),
    ],
)
def test_only_reads(text: str, only_reads: bool) -> None:
    assert split(text)[0].only_reads is only_reads


@pytest.mark.parametrize("command", [r"\d messages", r"SELECT 1 \gset", r"SELECT 1; \timing on"])
def test_psql_command_is_refused_with_an_alternative(command: str) -> None:
    with pytest.raises(SqlUsageError, match=r"command of the program psql.*Here, use"):
        split(command)


def test_nul_is_refused() -> None:
    with pytest.raises(SqlUsageError, match="position 9"):
        split("SELECT 1\0; DROP TABLE t")


@given(st.text(alphabet="aE'\"$;-/*() \n\\.1\u00e9", max_size=60))
def test_no_text_is_lost_or_invented(cell: str) -> None:
    try:
        statements = split(cell)
    except SqlUsageError:
        assert "\\" in cell
        return
    end = 0
    for one in statements:
        assert one.offset >= end
        assert cell[one.offset : one.offset + len(one.text)] == one.text
        end = one.offset + len(one.text)


def test_an_open_string_of_a_megabyte_is_read_once() -> None:
    # Backtracking would take hours; the limit is only there to end such a run.
    begin = time.monotonic()
    assert len(split("SELECT E'" + "a''\\\\" * 200_000 + "\\")) == 1
    assert time.monotonic() - begin < 60
