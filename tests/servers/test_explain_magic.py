"""``%%explain`` and ``pglab.plans`` on plans that a real server was provoked to make."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sql_support import Lab, Notebook, Shown

from pglab import plans
from pglab.notebook.failures import (
    SessionLostError,
    SqlUsageError,
    StatementError,
    StatementInterrupted,
)
from pglab.plans import Finding, Plan

pytestmark = pytest.mark.server

# No vacuum but ours, and the same plans whatever the machine has.
_DATA = """
SET client_min_messages = warning;
CREATE TABLE parent (id int PRIMARY KEY, g int) WITH (autovacuum_enabled = off);
INSERT INTO parent SELECT n, n % 10 FROM generate_series(1, 1000) n;
CREATE TABLE child (
    id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE, t text
) WITH (autovacuum_enabled = off);
INSERT INTO child SELECT n, 1 + n % 1000, repeat('x', 40) FROM generate_series(1, 20000) n;
CREATE TABLE pairs (a int, b int) WITH (autovacuum_enabled = off);
INSERT INTO pairs SELECT n % 100, n % 100 FROM generate_series(1, 10000) n;
CREATE TABLE wide (a int, filler text) WITH (autovacuum_enabled = off);
INSERT INTO wide SELECT n % 100, repeat('x', 1500) FROM generate_series(1, 8000) n;
CREATE INDEX wide_a_idx ON wide (a);
CREATE TABLE months (m int, v int) PARTITION BY LIST (m);
CREATE TABLE months_1 PARTITION OF months FOR VALUES IN (1);
CREATE TABLE months_2 PARTITION OF months FOR VALUES IN (2);
CREATE TABLE months_3 PARTITION OF months FOR VALUES IN (3);
INSERT INTO months SELECT 1 + n % 3, n FROM generate_series(1, 300) n;
CREATE TABLE noted (a int);
CREATE TABLE notes (a int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO notes VALUES (new.a); RAISE NOTICE 'noted %', new.a; RETURN NULL; END $$;
CREATE TRIGGER noting AFTER INSERT ON noted FOR EACH ROW EXECUTE FUNCTION note();
CREATE FUNCTION log_call() RETURNS int LANGUAGE sql AS
'INSERT INTO notes VALUES (1) RETURNING a';
VACUUM ANALYZE;
"""
_CALM = "SET jit = off; SET max_parallel_workers_per_gather = 0;"


@pytest.fixture(scope="module")
def book(server_url: str) -> Iterator[Notebook]:
    name = f"pglab_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        opened = Notebook(Lab(make_conninfo(server_url, dbname=name)))
        opened.sql(_DATA)
        yield opened
        opened.close()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def calm(book: Notebook) -> None:
    book.sql(f"ROLLBACK; RESET ALL; {_CALM}")


def explain(book: Notebook, statement: str, options: str = "") -> Shown:
    """Run a cell that must succeed; keep its plan."""
    shown = book.try_cell(f"%%explain {options}\n{statement}")
    if shown.error is not None:
        raise shown.error
    return shown


def planned(book: Notebook, statement: str) -> Plan:
    explain(book, statement, "--to kept")
    plan = book.shell.user_ns["kept"]
    assert isinstance(plan, Plan)
    return plan


def found(plan: Plan, kind: str) -> list[Finding]:
    return [one for one in plans.findings(plan) if one.kind == kind]


def pages(book: Notebook, table: str) -> int:
    ((size,),) = book.lab.rows(f"SELECT pg_relation_size('{table}') / 8192")
    return int(size)


def own_pages(plan: Plan) -> dict[str, int]:
    return {f"{node.number} {node.title}": node.own_buffers.touched for node in plan.nodes()}


# What matters in a plan


def test_a_sequential_scan_that_discards_rows(book: Notebook) -> None:
    shown = explain(book, "SELECT * FROM child WHERE p = 7")
    table = pages(book, "child")
    assert f"{table:,} pages" in shown.text.splitlines()[0]
    row = next(line for line in shown.text.splitlines() if line.startswith("1  Seq Scan on child"))
    assert row.split()[5:9] == ["20", "20", "1", str(table)]
    assert row.endswith("filter discards 99.90 %")
    assert "Filter: (p = 7)" in shown.text
    assert "19,980 of 20,000 rows were read and thrown away" in " ".join(shown.text.split())


def test_an_index_scan_and_what_the_index_is_on(book: Notebook) -> None:
    plan = planned(book, "SELECT t FROM child WHERE id = 7")
    (node,) = plan.scans("child")
    assert node.title == "Index Scan using child_pkey on child"
    assert node.index_condition == "(id = 7)"
    assert plan.uses_index("child_pkey")
    assert plan.uses_index(on=("id",))
    assert not plan.uses_index(on=("p",))
    assert not plan.uses_index(on=("id", "p"))
    assert plan.buffers.touched <= 3
    assert found(plan, "filter") == []


def test_a_filter_behind_an_index(book: Notebook) -> None:
    plan = planned(book, "SELECT * FROM child WHERE id <= 500 AND t = 'y'")
    (finding,) = found(plan, "filter")
    assert finding.label == "filter discards 100 %"
    assert "500 of 500 rows that the index found" in finding.meaning


def test_an_index_only_scan_and_its_heap_fetches(book: Notebook) -> None:
    query = "SELECT count(*) FROM child WHERE id BETWEEN 1 AND 50"
    book.sql("UPDATE child SET t = t WHERE id = 20")
    (finding,) = found(planned(book, query), "heap_fetches")
    assert finding.node is not None
    assert finding.node.node_type == "Index Only Scan"
    assert re.fullmatch(r"\d+ heap fetches", finding.label)
    # A plain VACUUM puts off the few pages that one update touched.
    book.sql("VACUUM (INDEX_CLEANUP ON) child")
    assert found(planned(book, query), "heap_fetches") == []


def test_a_bitmap_that_does_not_fit(book: Notebook) -> None:
    book.sql("SET enable_seqscan = off; SET enable_indexscan = off")
    query = "SELECT count(*) FROM wide WHERE a < 95"
    assert found(planned(book, query), "lossy") == []
    book.sql("SET work_mem = '64kB'")
    (finding,) = found(planned(book, query), "lossy")
    assert finding.node is not None
    lossy = finding.node.raw["Lossy Heap Blocks"]
    assert lossy > 0
    assert f"of {lossy:,} pages it only knows" in finding.meaning


def test_sorting_on_disk(book: Notebook) -> None:
    query = "SELECT * FROM child ORDER BY t, p"
    book.sql("SET work_mem = '64MB'")
    assert found(planned(book, query), "sort_on_disk") == []
    book.sql("SET work_mem = '64kB'")
    shown = explain(book, query)
    assert "sort on disk" in shown.text
    assert re.search(r"Sort Method: external merge, disk [\d,]+ kB", shown.text)
    assert re.search(r"Temporary files: [1-9][\d,]* pages written", shown.text)


def test_hashing_on_disk(book: Notebook) -> None:
    book.sql("SET work_mem = '64kB'; SET enable_mergejoin = off; SET enable_nestloop = off")
    (finding,) = found(
        planned(book, "SELECT * FROM child a JOIN child b USING (id)"), "hash_on_disk"
    )
    assert finding.node is not None
    assert finding.node.node_type == "Hash"
    assert finding.node.raw["Hash Batches"] > 1
    book.sql("SET enable_sort = off; SET enable_indexscan = off; SET enable_bitmapscan = off")
    groups = planned(book, "SELECT id, p, count(*) FROM child GROUP BY 1, 2")
    (finding,) = found(groups, "hash_on_disk")
    assert finding.node is not None
    assert finding.node.title == "HashAggregate"
    assert (
        found(planned(book, "SELECT p % 3, count(*) FROM child GROUP BY 1"), "hash_on_disk") == []
    )


def test_a_nested_loop_of_many_loops(book: Notebook) -> None:
    book.sql("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_memoize = off")
    plan = planned(book, "SELECT * FROM parent p JOIN child c ON c.id = p.id")
    (finding,) = found(plan, "many_loops")
    assert finding.node is not None
    assert finding.node.loops == 1000
    assert finding.node.total_rows == 1000
    assert finding.label == "1,000 loops"


def test_estimates_too_low_for_columns_that_depend_on_each_other(book: Notebook) -> None:
    query = "SELECT * FROM pairs WHERE a = 1 AND b = 1"
    (finding,) = found(planned(book, query), "estimate_low")
    assert finding.label == "estimate 100× too low"
    assert "expected 1 row, and 100 came" in finding.meaning
    book.sql("CREATE STATISTICS pairs_ab (dependencies) ON a, b FROM pairs; ANALYZE pairs")
    assert found(planned(book, query), "estimate_low") == []
    book.sql("DROP STATISTICS pairs_ab; ANALYZE pairs")


def test_estimates_too_high_and_where_they_begin(book: Notebook) -> None:
    plan = planned(book, "SELECT * FROM (SELECT * FROM pairs WHERE abs(a) < 0) q ORDER BY b")
    (finding,) = found(plan, "estimate_high")
    assert finding.node is not None
    assert finding.node.node_type == "Seq Scan"
    assert finding.label == "estimate 3,333× too high"


def test_a_limit_that_cuts_its_input_short_is_no_wrong_estimate(book: Notebook) -> None:
    cut = planned(book, "SELECT * FROM pairs LIMIT 5")
    assert cut.nodes()[1].rows == 5
    assert found(cut, "estimate_high") == []
    # Here the limit was never reached, so that the input did give all that it had.
    whole = planned(book, "SELECT * FROM pairs WHERE abs(a) < 0 LIMIT 5")
    assert [f.node.number for f in found(whole, "estimate_high") if f.node] == [2]
    # A sort reads all of its input, whatever is cut off above.
    sort = planned(book, "SELECT * FROM pairs WHERE abs(a) < 1 ORDER BY b LIMIT 5")
    assert [f.node.node_type for f in found(sort, "estimate_high") if f.node] == ["Seq Scan"]


def test_branches_that_never_run(book: Notebook) -> None:
    book.sql("SET enable_hashjoin = off; SET enable_mergejoin = off")
    shown = explain(book, "SELECT * FROM parent p JOIN child c ON c.id = p.id WHERE p.id < 0")
    assert "never run" in shown.text
    assert "never executed: nothing asked for its rows" in " ".join(shown.text.split())
    assert "0 rows" in shown.text.splitlines()[0]


# What a node cost by itself


def test_the_pages_of_an_init_plan_are_counted_once(book: Notebook) -> None:
    plan = planned(book, "SELECT id, (SELECT max(t) FROM child) FROM parent ORDER BY g LIMIT 3")
    used = own_pages(plan)
    assert plan.nodes()[1].subplan.startswith("InitPlan 1")
    assert used["3 Seq Scan on child"] == pages(book, "child")
    assert used["5 Seq Scan on parent"] == pages(book, "parent")
    assert plan.buffers == plan.root.buffers
    in_filter = planned(book, "SELECT * FROM parent WHERE g > (SELECT avg(p) FROM child)")
    assert own_pages(in_filter)["1 Seq Scan on parent"] == pages(book, "parent")
    assert in_filter.buffers == in_filter.root.buffers


def test_the_pages_of_a_cte_are_not_those_of_its_readers(book: Notebook) -> None:
    plan = planned(
        book,
        "WITH c AS MATERIALIZED (SELECT * FROM child) SELECT count(*) FROM c a JOIN c b USING (id)",
    )
    readers = [node for node in plan.nodes() if node.node_type == "CTE Scan"]
    assert len(readers) == 2
    assert [node.own_buffers.touched for node in readers] == [0, 0]
    assert plan.buffers.touched == pages(book, "child")
    assert any(node.subplan == "CTE c" for node in plan.nodes())


def test_a_cte_that_writes_and_is_never_read(book: Notebook) -> None:
    plan = planned(book, "WITH w AS (INSERT INTO notes VALUES (1), (2) RETURNING a) SELECT 1")
    assert plan.root.buffers.touched == 0
    assert plan.buffers.touched > 0
    assert plan.writes
    assert book.lab.rows("SELECT count(*) FROM notes") == [(0,)]


def test_a_subquery_for_each_row(book: Notebook) -> None:
    query = "SELECT (SELECT count(*) FROM child c WHERE c.id < p.id) FROM parent p WHERE id <= 200"
    plan = planned(book, query)
    (finding,) = found(plan, "many_loops")
    assert finding.node is not None
    assert finding.node.subplan == "SubPlan 1"
    assert finding.meaning.startswith("a subquery that runs for each row: 200 times")
    assert plan.buffers == plan.root.buffers


def test_partitions(book: Notebook) -> None:
    every = planned(book, "SELECT * FROM months")
    assert [node.relation for node in every.nodes()] == ["", "months_1", "months_2", "months_3"]
    assert every.root.node_type == "Append"
    assert every.root.total_rows == 300
    one = planned(book, "SELECT * FROM months WHERE m = 2")
    assert one.scans("months_1") == []
    assert [node.total_rows for node in one.scans("months_2")] == [100]


def test_a_parallel_plan(book: Notebook) -> None:
    book.sql(
        "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0;"
        "SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0"
    )
    query = "SELECT count(*) FROM child WHERE t <> ''"
    plan = planned(book, query)
    assert [node.title for node in plan.nodes()] == [
        "Finalize Aggregate",
        "Gather",
        "Partial Aggregate",
        "Parallel Seq Scan on child",
    ]
    scan = plan.nodes()[-1]
    assert scan.loops == 1 + plan.nodes()[1].raw["Workers Launched"]
    assert plan.buffers.touched == scan.own_buffers.touched == pages(book, "child")
    # What passed on the clock: below Gather no longer than Gather itself took.
    assert scan.ms <= plan.nodes()[1].ms
    book.sql("SET max_parallel_workers = 0")
    (finding,) = found(planned(book, query), "few_workers")
    assert finding.label == "0 of 2 workers"


# Statements that write


@pytest.mark.parametrize(
    ("statement", "title"),
    [
        ("INSERT INTO parent VALUES (5000, 1) RETURNING id", "Insert on parent"),
        ("INSERT INTO parent VALUES (1, 1) ON CONFLICT (id) DO NOTHING", "Insert on parent"),
        ("UPDATE parent SET g = 0", "Update on parent"),
        ("DELETE FROM parent WHERE id = 3", "Delete on parent"),
        ("WITH d AS (DELETE FROM child RETURNING id) SELECT count(*) FROM d", "Delete on child"),
        (
            "MERGE INTO parent t USING (VALUES (1)) v(i) ON t.id = v.i WHEN MATCHED THEN DELETE",
            "Merge on parent t",
        ),
    ],
    ids=["insert", "conflict", "update", "delete", "with", "merge"],
)
def test_what_was_written_is_rolled_back(book: Notebook, statement: str, title: str) -> None:
    counts = "SELECT (SELECT sum(id * g) FROM parent), (SELECT count(*) FROM child)"
    before = book.lab.rows(counts)
    shown = explain(book, statement)
    assert title in shown.text
    assert "was rolled back: no row has changed" in shown.text
    assert "TRANSACTION" not in shown.text
    assert book.lab.rows(counts) == before


def test_a_query_says_nothing_of_rolling_back(book: Notebook) -> None:
    assert "rolled back" not in explain(book, "SELECT 1").text
    assert "rolled back" not in explain(book, "DELETE FROM parent", "--no-analyze").text


def test_a_function_that_writes_is_rolled_back_too(book: Notebook) -> None:
    explain(book, "SELECT log_call()")
    assert book.lab.rows("SELECT count(*) FROM notes") == [(0,)]


def test_a_new_table_is_rolled_back_too(book: Notebook) -> None:
    assert "Seq Scan on parent" in explain(book, "CREATE TABLE made AS SELECT * FROM parent").text
    assert book.lab.rows("SELECT to_regclass('made')") == [(None,)]


def test_the_time_of_a_foreign_key_without_an_index(book: Notebook) -> None:
    plan = planned(book, "DELETE FROM parent WHERE id <= 20")
    (trigger,) = plan.triggers
    assert (trigger.constraint, trigger.relation, trigger.calls) == ("child_p_fkey", "parent", 20)
    (finding,) = found(plan, "trigger")
    assert "the foreign key child_p_fkey of parent, which fired 20 times" in finding.meaning
    assert "an index on the referring columns" in finding.meaning
    assert sum(node.own_ms for node in plan.nodes()) < plan.ms


def test_a_trigger_of_ones_own_and_what_it_says(book: Notebook) -> None:
    shown = explain(book, "INSERT INTO noted VALUES (7)")
    assert "NOTICE: noted 7" in shown.text
    assert "the trigger noting of noted, which fired once" in " ".join(shown.text.split())
    assert book.lab.rows("SELECT count(*) FROM notes") == [(0,)]


def test_an_open_transaction_goes_on_as_it_was(book: Notebook) -> None:
    book.sql("BEGIN; INSERT INTO notes VALUES (41)")
    shown = explain(book, "DELETE FROM notes RETURNING a")
    assert "rolled back" in shown.text
    assert "TRANSACTION OPEN" in shown.text
    assert re.search(r"Seq Scan on notes +[\d,]+ +1 ", shown.text)
    failed = book.try_cell("%%explain\nSELECT 1/0")
    assert isinstance(failed.error, StatementError)
    assert "A transaction is open" in failed.printed
    book.sql("INSERT INTO notes VALUES (42); COMMIT")
    assert book.lab.rows("SELECT a FROM notes ORDER BY a") == [(41,), (42,)]
    book.sql("TRUNCATE notes")


def test_a_failed_transaction_is_explained(
    book: Notebook, caplog: pytest.LogCaptureFixture
) -> None:
    book.try_cell("%%sql\nBEGIN;\nSELECT 1/0")
    shown = book.try_cell("%%explain\nSELECT 1")
    assert isinstance(shown.error, StatementError)
    assert "What to do: an earlier error has failed this transaction. ROLLBACK" in shown.printed
    assert caplog.records == []
    book.sql("ROLLBACK")
    assert "Plan" in explain(book, "SELECT 1").text


# What cannot be done


def test_an_error_points_at_the_learners_text(book: Notebook) -> None:
    shown = book.try_cell("%%explain --to never\n-- first\n  SELECT 'é', wrong\nFROM parent;")
    assert shown.printed.rstrip().splitlines() == [
        'ERROR 42703 undefined_column: column "wrong" does not exist',
        "line 3:   SELECT 'é', wrong",
        "                      ^",
    ]
    assert "never" not in book.shell.user_ns
    generic = book.try_cell("%%explain --generic\nSELECT wrong FROM parent WHERE id = $1")
    assert generic.printed.rstrip().splitlines()[1:] == [
        "line 2: SELECT wrong FROM parent WHERE id = $1",
        "               ^",
    ]


def test_an_error_in_the_run_keeps_nothing(book: Notebook) -> None:
    shown = book.try_cell("%%explain\nINSERT INTO parent VALUES (6000, 1), (1, 1)")
    assert isinstance(shown.error, StatementError)
    assert shown.error.sqlstate == "23505"
    assert book.lab.rows("SELECT count(*) FROM parent WHERE id = 6000") == [(0,)]


@pytest.mark.parametrize("option", ["--timeout 0.05", ""])
def test_a_statement_that_takes_too_long(book: Notebook, option: str) -> None:
    book.sql("SET statement_timeout = '60ms'" if not option else "SELECT 1")
    shown = book.try_cell(f"%%explain {option}\nSELECT pg_sleep(60)")
    assert isinstance(shown.error, StatementError)
    assert shown.error.sqlstate == "57014"
    assert "--no-analyze plans without running" in shown.printed
    assert "Plan" in explain(book, "SELECT 1").text


def test_the_timeout_is_this_runs_only(book: Notebook) -> None:
    explain(book, "SELECT 1", "--timeout 5")
    assert book.sql("SHOW statement_timeout").text.splitlines()[-1].strip() == "0"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%explain\nCREATE INDEX i ON child (p)", "CREATE INDEX has no plan to show"),
        ("%%explain\nVACUUM child", "VACUUM has no plan to show"),
        ("%%explain\nSET work_mem = '1MB'", "SET has no plan to show"),
        ("%%explain\nEXPLAIN SELECT 1", "leave the word out"),
        ("%%explain\nCREATE VIEW v AS SELECT 1", "CREATE VIEW has no plan to show"),
        ("%%explain\nDELETE FROM child; SELECT 1", "takes one statement, and this cell has 2"),
        ("%%explain --compare\nSELECT 1; SELECT 2; SELECT 3", "this cell has 3"),
        ("%%explain --compare=nobody\nSELECT 1", "nobody is no such variable"),
        ("%%explain --text --to x\nSELECT 1", "of which no plan can be kept"),
        ("%%explain --wrong\nSELECT 1", "unrecognized arguments: --wrong"),
        ("%%explain --to 1x\nSELECT 1", "not a name"),
        ("%%explain --timeout soon\nSELECT 1", "not a number of seconds"),
        ("%%explain SELECT 1\nSELECT 2", "belongs below the %%explain line"),
        ("%%explain --to x\n-- nothing", "no SQL statement"),
        ("%%explain\n\\d child", "command of the program psql"),
    ],
)
def test_what_cannot_be_done_says_what_can(book: Notebook, cell: str, message: str) -> None:
    shown = book.try_cell(cell)
    assert isinstance(shown.error, SqlUsageError)
    assert message in shown.printed
    assert "Traceback" not in shown.printed
    assert book.lab.rows("SELECT count(*) FROM child") == [(20_000,)]


def test_a_cell_that_nobody_has_begun_is_no_error(book: Notebook) -> None:
    shown = book.try_cell("%%explain\n-- your query here")
    assert shown.error is None
    assert "there is no SQL statement in this cell yet" in shown.text


def test_a_session_that_is_lost(book: Notebook) -> None:
    shown = book.try_cell("%%explain --as other\nSELECT pg_terminate_backend(pg_backend_pid())")
    assert isinstance(shown.error, SessionLostError)
    again = explain(book, "SELECT 1", "--as other")
    assert "RECONNECTED" in again.text


def _interrupt_when_busy(lab: Lab) -> threading.Thread:
    """Press Ctrl-C, as a notebook's stop button does, once the server runs the statement."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sql'"
        " AND datname = current_database() AND state = 'active' AND query LIKE 'EXPLAIN%pg_sleep%'"
    )

    def press() -> None:
        for _ in range(500):
            if lab.rows(busy) == [(1,)]:
                break
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_ctrl_c_cancels_on_the_server_and_keeps_the_transaction(book: Notebook) -> None:
    book.sql("BEGIN; INSERT INTO notes VALUES (43)")
    thread = _interrupt_when_busy(book.lab)
    shown = book.try_cell("%%explain\nSELECT pg_sleep(600)")
    thread.join()
    assert isinstance(shown.error, StatementInterrupted)
    assert "interrupted: the statement was cancelled on the server" in shown.printed
    book.sql("COMMIT")
    assert book.lab.rows("SELECT a FROM notes") == [(43,)]
    book.sql("TRUNCATE notes")


# The other ways to ask


def test_estimates_only(book: Notebook) -> None:
    shown = explain(book, "SELECT pg_sleep(3600), t FROM child", "--no-analyze --to expected")
    assert "Estimates only: the statement was not run" in shown.text
    plan = book.shell.user_ns["expected"]
    assert not plan.analyzed
    assert plan.root.rows is None
    assert plan.root.rows_estimated == 20_000
    assert plans.findings(plan) == []


def test_a_plan_for_any_value(book: Notebook) -> None:
    shown = explain(book, "SELECT * FROM child WHERE id = $1", "--generic")
    assert "Index Cond: (id = $1)" in shown.text
    assert "not run" in shown.text
    without = book.try_cell("%%explain\nSELECT * FROM child WHERE id = $1")
    assert "--generic plans for any value" in without.printed


def test_postgresqls_own_text(book: Notebook) -> None:
    shown = explain(book, "DELETE FROM child WHERE id = 1", "--text")
    assert re.search(r"^Delete on child .*actual", shown.text, re.MULTILINE)
    assert "was rolled back: no row has changed" in shown.text
    assert "Execution Time" in shown.text
    assert "<pre>Delete on child" in shown.html


def test_two_statements_side_by_side(book: Notebook) -> None:
    shown = explain(
        book,
        "SELECT * FROM child ORDER BY t, id LIMIT 3; SELECT * FROM child ORDER BY id LIMIT 3",
        "--compare",
    )
    assert "first: SELECT * FROM child ORDER BY t, id LIMIT 3" in shown.text
    assert "second: SELECT * FROM child ORDER BY id LIMIT 3" in shown.text
    assert "- child: Index Scan using child_pkey instead of Seq Scan." in shown.text
    assert "- Gone: Sort." in shown.text
    assert re.search(
        rf"Pages touched +\| +{pages(book, 'child')} \| +3 \| .* times fewer", shown.text
    )
    assert "Time is that of this run only" in shown.text


def test_the_plan_before_beside_this_one(book: Notebook) -> None:
    query = "SELECT * FROM child WHERE p = 7"
    explain(book, query, "--to before")
    book.sql("CREATE INDEX child_p_idx ON child (p)")
    try:
        shown = explain(book, query, "--compare")
        assert "Bitmap Heap Scan using child_p_idx instead of Seq Scan." in shown.text
        again = explain(book, query, "--compare")
        assert "The nodes are the same." in again.text
        named = explain(book, query, "--compare=before --to after")
        assert "using child_p_idx instead of Seq Scan." in named.text
        assert book.shell.user_ns["after"].uses_index(on=("p",))
    finally:
        book.sql("DROP INDEX child_p_idx")


def test_a_line(book: Notebook) -> None:
    book.shell.user_ns["x"] = "WRONG"
    shown = book.try_cell("%explain --no-analyze SELECT * FROM child WHERE t = '{x}' OR t = '$x'")
    assert "(t = '{x}'::text) OR (t = '$x'::text)" in shown.text


def test_help(book: Notebook) -> None:
    assert "--no-analyze" in book.try_cell("%explain --help").printed
    assert "--as NAME" in book.try_cell("%%explain -h\n-- nothing").printed


def test_the_table_is_readable_without_its_style(book: Notebook) -> None:
    html = explain(book, "SELECT * FROM child WHERE t <> '<b>&' ORDER BY p LIMIT 3").html
    assert "<script" not in html
    indented = '<span aria-hidden="true">&nbsp;&nbsp;&nbsp;&nbsp;└'
    assert f'<th scope="row" align="left" nowrap>{indented}' in html
    assert "(t &lt;&gt; &#x27;&lt;b&gt;&amp;&#x27;::text)" in html
    assert 'aria-label="node 3, below 2"' in html
    assert "<strong>What matters</strong>" in html


# From Python


def test_explain_from_python(book: Notebook) -> None:
    with psycopg.connect(book.lab.url) as connection:
        query = "SELECT * FROM child WHERE id = %s"
        plan = plans.explain(connection, query, [7], analyze=True)
        assert plan.uses_index(on=("id",))
        assert plan.root.total_rows == 1
        with connection.transaction():
            connection.execute("INSERT INTO notes VALUES (1)")
            deleted = plans.explain(connection, "DELETE FROM notes WHERE a % 2 = 1", analyze=True)
            assert deleted.nodes()[1].total_rows == 1
            left = connection.execute("SELECT count(*) FROM notes").fetchone()
            assert left == (1,)
        connection.execute("TRUNCATE notes")
        generic = plans.explain(connection, "SELECT * FROM child WHERE id = $1", generic=True)
        assert generic.root.index_condition == "(id = $1)"
        with pytest.raises(psycopg.errors.UndefinedTable):
            plans.explain(connection, "SELECT * FROM nothing")


def test_settings_are_told(book: Notebook) -> None:
    book.sql("SET work_mem = '123kB'")
    shown = explain(book, "SELECT 1")
    assert "work_mem = 123kB" in shown.html
    assert planned(book, "SELECT 1").settings["work_mem"] == "123kB"


def test_long_values_that_only_the_output_fetches(book: Notebook) -> None:
    book.sql(
        "CREATE TABLE long (t text); ALTER TABLE long ALTER t SET STORAGE EXTERNAL;"
        "INSERT INTO long SELECT repeat('x', 100000) FROM generate_series(1, 20)"
    )
    (finding,) = found(planned(book, "SELECT t FROM long"), "output")
    assert "(TOAST)" in finding.meaning
    assert found(planned(book, "SELECT length(t) FROM long"), "output") == []
