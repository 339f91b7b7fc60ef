"""Sessions of ``%%sql``: several at once, lost ones, Ctrl-C, and a notebook run by a machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sql_support import Lab, Notebook

from pglab.notebook.failures import SessionLostError, StatementInterrupted

pytestmark = pytest.mark.server


@pytest.fixture
def book(database: str) -> Iterator[Notebook]:
    opened = Notebook(Lab(database))
    yield opened
    opened.close()


def test_named_sessions_have_their_own_transactions(book: Notebook) -> None:
    book.sql("CREATE TABLE t (a int)")
    shown = book.sql("BEGIN; INSERT INTO t VALUES (1)", "--as alice")
    assert "open in the session alice" in shown.text
    assert "0 rows" in book.sql("SELECT * FROM t", "--as bob").text
    assert "1 row" in book.sql("SELECT * FROM t", "--as alice").text
    names = book.lab.rows(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    )
    assert {("sql",), ("alice",), ("bob",)} <= set(names)


def test_a_session_ended_by_the_server_reopens_once(book: Notebook) -> None:
    book.sql("CREATE TEMP TABLE gone (a int); CREATE TABLE t (a int)")
    book.lab.end()
    shown = book.sql("INSERT INTO t VALUES (1)")
    assert "RECONNECTED: The server had ended this session" in shown.text
    assert "terminating connection" in shown.text
    assert "RECONNECTED" not in book.sql("SELECT 1").text
    assert book.lab.rows("SELECT * FROM t") == [(1,)]


def test_a_lost_transaction_is_not_continued_outside_of_it(book: Notebook) -> None:
    book.sql("CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1)")
    book.lab.end()
    shown = book.try_cell("%%sql\nINSERT INTO t VALUES (2);\nCOMMIT")
    assert isinstance(shown.error, SessionLostError)
    assert "Nothing of this cell was run" in shown.printed
    assert book.lab.rows("SELECT * FROM t") == []
    book.sql("INSERT INTO t VALUES (3)")
    assert book.lab.rows("SELECT * FROM t") == [(3,)]


def test_reading_after_a_lost_transaction_goes_on(book: Notebook) -> None:
    book.sql("CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1)")
    book.lab.end()
    shown = book.sql("SELECT * FROM t")
    assert "RECONNECTED" in shown.text
    assert "0 rows" in shown.text


def test_a_statement_that_lost_its_session_is_not_repeated(book: Notebook) -> None:
    book.sql("CREATE TABLE t (a int)")
    shown = book.try_cell(
        "%%sql\nINSERT INTO t VALUES (1);\nSELECT pg_terminate_backend(pg_backend_pid())"
    )
    assert isinstance(shown.error, SessionLostError)
    assert "is not run again by itself" in shown.printed
    assert "Traceback" not in shown.printed
    assert "RECONNECTED" in book.sql("SELECT 1").text
    assert book.lab.rows("SELECT * FROM t") == [(1,)]


def test_a_reset_lab_gives_a_new_session(book: Notebook) -> None:
    book.sql("BEGIN; CREATE TABLE t (a int)")
    book.lab.generation += 1
    shown = book.sql("CREATE TABLE t (b int)")
    assert "RECONNECTED: The lab was reset" in shown.text
    assert "TRANSACTION" not in shown.text


def test_no_output_holds_the_connection_string(book: Notebook) -> None:
    book.lab.url = "postgresql://someone:s3cret@127.0.0.1:1/nowhere"
    shown = book.try_cell("%%sql\nSELECT 1")
    assert shown.error is not None
    assert "s3cret" not in json.dumps([shown.text, shown.html, shown.printed, repr(shown.error)])
    assert "Traceback" not in shown.printed


def _interrupt_when_busy(lab: Lab) -> threading.Thread:
    """Press Ctrl-C, as a notebook's stop button does, once the server runs the statement."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sql'"
        " AND datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep%'"
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


def test_ctrl_c_cancels_on_the_server_and_keeps_the_session(book: Notebook) -> None:
    book.sql("CREATE TEMP TABLE kept (a int)")
    thread = _interrupt_when_busy(book.lab)
    shown = book.try_cell("%%sql\nSELECT 1;\nSELECT pg_sleep(600);\nSELECT 2")
    thread.join()
    assert isinstance(shown.error, StatementInterrupted)
    assert "interrupted: statement 2 of 3 was cancelled on the server" in shown.printed
    assert "Traceback" not in shown.printed
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%(600)%'"
    assert book.lab.rows(active + " AND pid <> pg_backend_pid()") == [(0,)]
    assert "0 rows" in book.sql("SELECT * FROM kept").text


def test_ctrl_c_in_a_transaction_says_that_it_failed(book: Notebook) -> None:
    book.sql("BEGIN")
    thread = _interrupt_when_busy(book.lab)
    shown = book.try_cell("%%sql\nSELECT pg_sleep(600)")
    thread.join()
    assert "refuses every statement until ROLLBACK" in shown.printed
    assert "TRANSACTION" not in book.sql("ROLLBACK").text


def test_without_a_spare_connection_a_long_result_is_read_to_its_end(book: Notebook) -> None:
    """Whether it has written cannot be asked then, and stopping might undo a write."""
    book.sql("SELECT 1")
    book.lab.url = "postgresql://nobody@127.0.0.1:1/nowhere"
    shown = book.sql("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    assert "First 10 rows of 20,000." in shown.text


_SETUP = """
import psycopg, pglab.notebook
class Lab:
    name, generation = "test", 0
    def connection(self, autocommit=False, application_name=None):
        return psycopg.connect({url!r}, autocommit=autocommit)
_ = pglab.notebook.activate(Lab())
"""


def test_a_machine_notices_an_error_and_accepts_an_announced_one(database: str) -> None:
    cells = [
        _SETUP.format(url=database),
        "%%sql\nSELECT 1 AS one",
        "%%sql --expect 22012\nSELECT 1/0",
        "%%sql\nSELECT nothing",
        "%%sql\nSELECT 2 AS never",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with pytest.raises(CellExecutionError, match="42703 undefined_column"):
        NotebookClient(book, kernel_name="python3", timeout=60).execute()
    outputs = [cell.outputs for cell in book.cells]
    assert outputs[1][0].data["text/plain"].splitlines()[-1].strip() == "1"
    assert "<table>" in outputs[1][0].data["text/html"]
    assert "Expected error, as announced" in outputs[2][0].data["text/plain"]
    (error,) = outputs[3]
    assert error.ename == "StatementError"
    assert error.traceback == [
        'ERROR 42703 undefined_column: column "nothing" does not exist',
        "line 2: SELECT nothing",
        "               ^",
    ]
    assert outputs[4] == []
