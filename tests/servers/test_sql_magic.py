"""``%%sql`` in a real IPython shell on a real server."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from sql_support import Lab, Notebook

from pglab import notebook
from pglab.notebook.failures import (
    NoLabError,
    ResultTooLargeError,
    SqlUsageError,
    StatementError,
    UnexpectedOutcomeError,
)

pytestmark = pytest.mark.server


def test_before_any_lab_it_says_how_to_open_one() -> None:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(history_manager=None, colors="nocolor")
    try:
        notebook.load_ipython_extension(shell)
        with capture_output() as captured:
            result = shell.run_cell("%%sql\nSELECT 1")
        assert isinstance(result.error_in_exec, NoLabError)
        assert 'lab = pglab.open("schema")' in captured.stdout
        assert "Traceback" not in captured.stdout
    finally:
        InteractiveShell.clear_instance()


@pytest.fixture
def book(database: str) -> Iterator[Notebook]:
    opened = Notebook(Lab(database))
    yield opened
    opened.close()


def test_activating_twice_keeps_the_session(book: Notebook) -> None:
    book.sql("CREATE TEMP TABLE kept (a int)")
    assert notebook.activate(book.lab)
    assert notebook.load_ipython_extension(book.shell) is notebook.load_ipython_extension(
        book.shell
    )
    assert "0 rows" in book.sql("SELECT * FROM kept").text


def test_another_lab_closes_the_sessions_of_the_first(book: Notebook) -> None:
    book.sql("SELECT 1")
    (first,) = book.lab.opened
    notebook.activate(Lab(book.lab.url))
    assert first.closed


# The text reaches the server as it is: each of these has the value that PostgreSQL gives it.
VERBATIM = {
    """'{"a":1}'::jsonb @> '{"a":1}'""": "true",
    """'{"a":1}'::jsonb ? 'a' AND '{"a":1}'::jsonb ?| array['a','b']""": "true",
    """'{"a":2}'::jsonb @@ '$.a > 1' AND '{"a":5}'::jsonb @? '$.a ? (@ % 2 == 1)'""": "true",
    "'abc' LIKE 'a%' AND 17 % 5 = 2": "true",
    "':name || %(x)s %s {{x}} {x} $x ?'": ":name || %(x)s %s {{x}} {x} $x ?",
    "(ARRAY[1,2,3])[1:2]": "{1,2}",
    "$a$ $1 ; '{x}' $a$ || 'b'": "' $1 ; ''{x}'' b'",
    "1 /* it's; /* nested \" ; */ */ + 1 -- don't; stop": "2",
    r"'a\' || 'b'": r"a\b",
    r"E'a\'b' || ';'": "a'b;",
    "E'a'  -- goes on; with escapes\n 'b\\';c'": "ab';c",
    "'日本 é 👍'": "日本 é 👍",
    """U&'d\\0061t;a'""": "dat;a",
}


@pytest.mark.parametrize("expression", VERBATIM, ids=range(len(VERBATIM)))
def test_the_text_is_not_interpreted(book: Notebook, expression: str) -> None:
    book.shell.user_ns["x"] = "WRONG"
    lines = book.sql(f"SELECT 0 WHERE false;\nSELECT {expression}\n;").text.splitlines()
    assert lines[-1].strip() == VERBATIM[expression]


def test_the_line_magic_is_not_interpreted_either(book: Notebook) -> None:
    book.shell.user_ns["x"] = "WRONG"
    assert book.try_cell("%sql SELECT '{x} $x' AS a").text.splitlines()[-1] == " {x} $x"
    shown = book.try_cell("""%sql --rows 3 SELECT '{x} $x', '{"a":1}'::jsonb, 7 % 4""")
    assert shown.text.splitlines()[-1].split(" | ") == [" {x} $x  ", '{"a": 1}', "       3"]


def test_bodies_are_one_statement_each(book: Notebook) -> None:
    shown = book.sql("""
        CREATE FUNCTION plain() RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RETURN 1; END; $$;
        CREATE FUNCTION atomic(a int) RETURNS int
        BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 2 ELSE 3 END; SELECT a + 1; END;
        DO $$ BEGIN PERFORM plain(); END $$;
        SELECT plain(), atomic(5);
    """)
    assert [line.partition(" ·")[0] for line in shown.text.splitlines()[:4]] == [
        "1 of 4: CREATE FUNCTION",
        "2 of 4: CREATE FUNCTION",
        "3 of 4: DO",
        "4 of 4: 1 row",
    ]
    assert shown.text.splitlines()[-1].split() == ["1", "|", "6"]


def test_statements_that_refuse_a_transaction_block(book: Notebook) -> None:
    name = f"pglab_test_{uuid.uuid4().hex[:8]}"
    book.sql(f"CREATE DATABASE {name}; DROP DATABASE {name};")
    book.sql("CREATE TABLE t (a int); CREATE INDEX CONCURRENTLY i ON t (a); VACUUM t")
    assert book.lab.rows("SELECT count(*) FROM pg_indexes WHERE indexname = 'i'") == [(1,)]


def test_counts_and_times(book: Notebook) -> None:
    shown = book.sql("""
        CREATE TABLE t (a int, b text);
        INSERT INTO t SELECT n, 'x' FROM generate_series(1, 1200) n;
        UPDATE t SET b = NULL WHERE a <= 1;
        DELETE FROM t WHERE a > 1200;
        INSERT INTO t SELECT n FROM generate_series(1, 1500) n RETURNING a;
    """)
    facts = [re.sub(r" · [\d.]+ m?s", "", line) for line in shown.text.splitlines()]
    assert facts[:5] == [
        "1 of 5: CREATE TABLE",
        "2 of 5: INSERT · 1,200 rows",
        "3 of 5: UPDATE · 1 row",
        "4 of 5: DELETE · 0 rows",
        "5 of 5: INSERT · 1,500 rows",
    ]
    assert facts[-1] == "First 10 rows of 1,500. --rows N shows more."
    assert book.lab.rows("SELECT count(*) FROM t") == [(2700,)]


def test_types_are_shown_and_every_value_can_be(book: Notebook) -> None:
    shown = book.sql(r"""
        SET timezone = 'America/Bogota';
        CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE TYPE pair AS (a int, b text);
        SELECT NULL::text AS n, ''::text AS e, 'NULL' AS w, true AS t, 12.50::numeric(10,2) AS num,
               'NaN'::float8 AS nan, '2024-01-31 12:00+00'::timestamptz AS tz,
               '2024-01-31 12:00'::timestamp(3) AS ts, 'infinity'::timestamptz AS inf,
               '0044-03-15 BC'::date AS bc, '12345-01-01'::date AS far,
               '1 mon 2 days'::interval AS iv,
               'happy'::mood AS en, ROW(1, 'x')::pair AS comp, int4range(1, 5) AS rng,
               '<a>1</a>'::xml AS x, ARRAY['a', NULL, ''] AS arr, '\xdeadbeef'::bytea AS by,
               'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS u, 'ab'::varchar(20) AS vc,
               '{"b": 1, "a": [null]}'::jsonb AS j, 1 AS dup, 2 AS dup
    """)
    head, types, _, row = shown.text.splitlines()[-4:]
    found = [
        tuple(part.strip() for part in column)
        for column in zip(head.split("|"), types.split("|"), row.split("|"), strict=True)
    ]
    assert found == [
        ("n", "text", "NULL"),
        ("e", "text", "''"),
        ("w", "text", "'NULL'"),
        ("t", "boolean", "true"),
        ("num", "numeric(10,2)", "12.50"),
        ("nan", "double precision", "NaN"),
        ("tz", "timestamptz", "2024-01-31 07:00:00-05"),
        ("ts", "timestamp(3)", "2024-01-31 12:00:00"),
        ("inf", "timestamptz", "infinity"),
        ("bc", "date", "0044-03-15 BC"),
        ("far", "date", "12345-01-01"),
        ("iv", "interval", "1 mon 2 days"),
        ("en", "mood", "happy"),
        ("comp", "pair", "(1,x)"),
        ("rng", "int4range", "[1,5)"),
        ("x", "xml", "<a>1</a>"),
        ("arr", "text[]", '{a,NULL,""}'),
        ("by", "bytea", r"\xdeadbeef"),
        ("u", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("vc", "varchar(20)", "ab"),
        ("j", "jsonb", '{"a": [null], "b": 1}'),
        ("dup", "integer", "1"),
        ("dup", "integer", "2"),
    ]
    assert '<td align="left">&lt;a&gt;1&lt;/a&gt;</td>' in shown.html
    assert "<i>NULL</i>" in shown.html


def test_no_rows_and_no_columns(book: Notebook) -> None:
    assert book.sql("SELECT 1 AS a WHERE false").text.splitlines()[0].startswith("0 rows · ")
    assert "SELECT · 2 rows without columns" in book.sql("SELECT FROM generate_series(1, 2)").text


def test_a_plan_is_shown_as_text(book: Notebook) -> None:
    shown = book.sql("EXPLAIN SELECT * FROM pg_class a JOIN pg_class b USING (oid) ORDER BY 1")
    assert shown.text.startswith("EXPLAIN · ")
    assert "<pre>" in shown.html
    assert re.search(r"\n  ->  ", shown.text)


def test_a_long_result_stops_on_the_server(book: Notebook) -> None:
    shown = book.sql("SELECT * FROM generate_series(1, 1000000)", "--rows 3")
    assert shown.text.splitlines()[-1].startswith("First 3 rows of more than 1,000: the server was")
    assert shown.text.splitlines()[-2].strip() == "3"
    # The session goes on, outside of any transaction.
    assert book.sql("SELECT 1 AS a").text.splitlines()[-1].strip() == "1"


def test_a_known_total_is_told(book: Notebook) -> None:
    shown = book.sql("SELECT generate_series(1, 345)")
    assert shown.text.splitlines()[-1] == "First 10 rows of 345. --rows N shows more."


def test_wide_rows_stop_earlier(book: Notebook) -> None:
    shown = book.sql("SELECT repeat('x', 1000000) FROM generate_series(1, 10000)")
    assert "more than 19: the server was told to stop" in shown.text
    assert "… (+999,880 characters)" in shown.text


def test_stopping_leaves_an_open_transaction_as_it_is(book: Notebook) -> None:
    book.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SAVEPOINT mine")
    assert "told to stop" in book.sql("SELECT generate_series(1, 100000000)").text
    shown = book.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1); COMMIT")
    assert "TRANSACTION" not in shown.text
    assert book.lab.rows("SELECT a FROM t") == [(1,)]


# More than the sockets between server and kernel hold, so that the server is still at it when asked
# to stop.
_MANY = "SELECT repeat('x', 1000), {} FROM generate_series(1, 20000) n"


def test_a_query_that_writes_is_never_stopped(book: Notebook) -> None:
    """Stopping it would undo what it wrote."""
    book.sql("""
        CREATE TABLE log (n int);
        CREATE FUNCTION note(n int) RETURNS int LANGUAGE sql AS
        'INSERT INTO log VALUES (n) RETURNING n';
    """)
    assert "told to stop" in book.sql(_MANY.format("n")).text
    assert "First 10 rows of 20,000." in book.sql(_MANY.format("note(n)")).text
    assert book.lab.rows("SELECT count(*) FROM log") == [(20_000,)]


def test_a_query_whose_last_part_writes_is_never_stopped(book: Notebook) -> None:
    """A modifying WITH always runs to its end, whatever the main query reads of it."""
    book.sql("CREATE TABLE log (n int)")
    shown = book.sql("WITH w AS (INSERT INTO log VALUES (0)) " + _MANY.format("n"))
    assert "First 10 rows of 20,000." in shown.text
    assert book.lab.rows("SELECT count(*) FROM log") == [(1,)]


def test_a_transaction_that_has_written_is_left_alone(book: Notebook) -> None:
    book.sql("CREATE TABLE log (n int); BEGIN; INSERT INTO log VALUES (0)")
    assert "First 10 rows of 20,000." in book.sql(_MANY.format("n")).text
    book.sql("COMMIT")
    assert book.lab.rows("SELECT count(*) FROM log") == [(1,)]


def test_locks_taken_by_a_query_are_kept(book: Notebook) -> None:
    book.sql("CREATE TABLE t AS SELECT n AS a FROM generate_series(1, 20000) n; BEGIN")
    shown = book.sql("SELECT a, repeat('x', 1000) FROM t FOR UPDATE")
    assert "First 10 rows of 20,000." in shown.text
    with psycopg.connect(book.lab.url) as other:
        other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("UPDATE t SET a = 0 WHERE a = 19999")


def test_a_transaction_spans_cells_and_is_remarked(book: Notebook) -> None:
    book.sql("CREATE TABLE t (a int)")
    assert "TRANSACTION OPEN" in book.sql("BEGIN; INSERT INTO t VALUES (1)").text
    assert book.lab.rows("SELECT * FROM t") == []
    assert "TRANSACTION" not in book.sql("COMMIT").text
    assert book.lab.rows("SELECT * FROM t") == [(1,)]


def test_a_failed_transaction_is_explained(book: Notebook) -> None:
    shown = book.try_cell("%%sql\nCREATE TABLE t (a int);\nBEGIN;\nSELECT 1/0;\nSELECT 2")
    assert isinstance(shown.error, StatementError)
    assert shown.error.condition == "division_by_zero"
    assert "Statement 3 of 4 failed. Before it, statements 1 to 2 succeeded" in shown.printed
    assert "refuses every statement until ROLLBACK" in shown.printed
    again = book.try_cell("%%sql\nSELECT 1")
    assert "What to do: an earlier error has failed this transaction. ROLLBACK" in again.printed
    book.sql("ROLLBACK")
    assert "1 row" in book.sql("SELECT 1").text


def test_an_error_points_at_the_learners_text(book: Notebook) -> None:
    shown = book.try_cell(
        "%%sql\nSELECT '日本 é' AS a;\n-- next\n\tSELECT '日本', wrong\nFROM pg_class"
    )
    assert shown.printed.splitlines() == [
        'ERROR 42703 undefined_column: column "wrong" does not exist',
        "line 4:  SELECT '日本', wrong",
        "                        ^",
        "Statement 2 of 2 failed. Before it, statement 1 succeeded (done).",
    ]
    assert "Traceback" not in shown.printed
    assert "1 of 2: 1 row" in shown.text


def test_detail_hint_and_context(book: Notebook) -> None:
    book.sql("""
        CREATE TABLE t (a int PRIMARY KEY);
        INSERT INTO t VALUES (1);
        CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN wrong(1); END $$;
        CREATE FUNCTION deep(n int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN IF n = 0 THEN RETURN f(); END IF; RETURN deep(n - 1); END $$;
    """)
    duplicate = book.try_cell("%%sql\nINSERT INTO t VALUES (1)").printed
    assert "DETAIL: Key (a)=(1) already exists." in duplicate
    inner = book.try_cell("%%sql\nSELECT deep(9)").printed
    assert "HINT: No function matches" in inner
    assert "in the statement that the server ran inside it:\n  line 1: wrong(1)" in inner
    assert re.search(r"CONTEXT: PL/pgSQL.*… and \d+ more", inner, re.DOTALL)
    assert len(inner.splitlines()) < 15


def test_a_long_line_is_cut_around_the_error(book: Notebook) -> None:
    cell = "SELECT " + "1, " * 200 + "wrong" + ", 1" * 200
    *_, line, caret = book.try_cell(f"%%sql\n{cell}").printed.splitlines()
    assert len(line) < 130
    assert line[caret.index("^") :].startswith("wrong")


def test_an_announced_error_is_shown_calmly(book: Notebook) -> None:
    book.sql("CREATE TABLE t (a int UNIQUE); INSERT INTO t VALUES (1)")
    for option in ("23505", "unique_violation", "not_null_violation,23505"):
        shown = book.sql("INSERT INTO t VALUES (1)", f"--expect {option}")
        assert "Expected error, as announced:\nERROR 23505 unique_violation" in shown.text


def test_an_announced_error_that_does_not_come_is_an_error(book: Notebook) -> None:
    none = book.try_cell("%%sql --expect unique_violation\nSELECT 1")
    assert isinstance(none.error, UnexpectedOutcomeError)
    other = book.try_cell("%%sql --expect unique_violation\nSELECT 1/0")
    assert isinstance(other.error, UnexpectedOutcomeError)
    assert "22012 division_by_zero" in other.printed


def test_notices_and_notifications(book: Notebook) -> None:
    shown = book.sql("""
        LISTEN news;
        DO $$ BEGIN RAISE NOTICE 'first; %', 1; RAISE WARNING 'w' USING HINT = 'do it'; END $$;
        NOTIFY news, 'it''s here';
        SELECT 1;
    """)
    assert "NOTICE: first; 1\nWARNING: w\nHINT: do it\n2 of 4: DO" in shown.text
    assert re.search(r"""NOTIFY: news: "it's here" \(from backend \d+\)""", shown.text)


@pytest.mark.parametrize("cell", ["%%sql\n-- your query here", "%%sql\n/* later */ ;"])
def test_a_cell_that_nobody_has_begun_is_no_error(book: Notebook, cell: str) -> None:
    shown = book.try_cell(cell)
    assert shown.error is None
    assert "there is no SQL statement in this cell yet" in shown.text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%sql\n\\d t", "command of the program psql"),
        ("%%sql\nSELECT 1; COPY t FROM STDIN", "COPY … FROM STDIN"),
        ("%%sql\nCOPY (SELECT 1) TO STDOUT", "TO STDOUT"),
        ("%%sql SELECT 1\nSELECT 2", "belong below the %%sql line"),
        ("%%sql rows <<\n-- nothing", "no SQL statement"),
        ("%%sql --expect undefined_table\n-- nothing", "no SQL statement"),
        ("%%sql --rows x\nSELECT 1", "not a number"),
        ("%%sql df <<\nCREATE TABLE kept (a int)", "no statement of this cell returned rows"),
    ],
)
def test_what_cannot_be_done_says_what_can(book: Notebook, cell: str, message: str) -> None:
    book.sql("CREATE TABLE t (a int)")
    shown = book.try_cell(cell)
    assert isinstance(shown.error, SqlUsageError)
    assert message in shown.printed


def test_help(book: Notebook) -> None:
    assert "--expect ERROR" in book.try_cell("%sql --help").printed
    assert "--expect ERROR" in book.try_cell("%%sql --help\n-- nothing").printed


def test_a_data_frame_has_the_right_types(book: Notebook) -> None:
    shown = book.sql(
        r"""
        SET timezone = 'America/Bogota';
        SELECT 9007199254740993 AS i, 1.5::float8 AS f, 1.10 AS n, true AS b, 'x' AS t,
               '2024-01-31 12:00+00'::timestamptz AS tz, '2024-01-31'::date AS d,
               '90 min'::interval AS iv, '{"a": [1]}'::jsonb AS j, '\x00ff'::bytea AS by,
               ARRAY[1, 2] AS arr, 'infinity'::timestamp AS inf, '1 mon'::interval AS mon, 1 AS dup,
               'b' AS dup
        UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                         NULL, NULL, NULL
        """,
        "df <<",
    )
    frame = book.shell.user_ns["df"]
    assert list(map(str, frame.dtypes)) == [
        "Int64", "float64", "object", "boolean", "string", "datetime64[us, America/Bogota]",
        "datetime64[us]", "timedelta64[us]", "object", "object", "object", "string", "string",
        "Int64", "string",
    ]  # fmt: skip
    first = frame.iloc[0]
    assert first["i"] == 9007199254740993
    assert first["n"] == Decimal("1.10")
    assert str(first["n"]) == "1.10"
    assert first["tz"].isoformat() == "2024-01-31T07:00:00-05:00"
    assert first["iv"] == dt.timedelta(minutes=90)
    assert first["j"] == {"a": [1]}
    assert first["by"] == b"\x00\xff"
    assert first["arr"] == [1, 2]
    assert first["inf"] == "infinity"
    assert frame.iloc[1].isna().all()
    assert "Kept as text, because pandas has no such value: inf, mon." in shown.text
    assert "df is a DataFrame: 2 rows × 15 columns." in shown.text


def test_a_data_frame_is_whole_or_refused(book: Notebook) -> None:
    book.sql("SELECT n FROM generate_series(1, 20000) n", "--to many --rows 2")
    assert len(book.shell.user_ns["many"]) == 20_000
    shown = book.try_cell("%%sql --to more --max 1000\nSELECT n FROM generate_series(1, 1001) n")
    assert isinstance(shown.error, ResultTooLargeError)
    assert "--max" in shown.printed
    assert "more" not in book.shell.user_ns
    book.sql("SELECT n FROM generate_series(1, 1000) n", "--to exact --max 1000")
    assert len(book.shell.user_ns["exact"]) == 1_000


def test_an_empty_data_frame_keeps_its_types(book: Notebook) -> None:
    book.sql("SELECT 1::bigint AS a, now() AS b, '{}'::jsonb AS c WHERE false", "none <<")
    frame = book.shell.user_ns["none"]
    assert len(frame) == 0
    assert [str(kind).partition(",")[0] for kind in frame.dtypes[:2]] == ["Int64", "datetime64[us"]
