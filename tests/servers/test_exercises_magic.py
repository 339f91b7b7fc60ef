"""``%%exercise``, hints and progress, as a learner's notebook shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sql_support import Lab, Notebook

from pglab.exercises import UnknownProblemError, check, hint, problem, progress, solution
from pglab.exercises._progress import _path
from pglab.exercises.start_here import PROBLEMS

pytestmark = pytest.mark.server

RIGHT = PROBLEMS[0].solutions[0].sql


@pytest.fixture
def book(database: str) -> Iterator[Notebook]:
    opened = Notebook(Lab(database))
    yield opened
    opened.close()


@pytest.fixture
def kept() -> Iterator[Path]:
    path = _path()
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def test_a_cell_is_judged(book: Notebook, kept: Path) -> None:
    shown = book.try_cell(f"%%exercise start_here.1\n{RIGHT};")
    assert shown.error is None
    assert "✔ start_here.1 solved" in shown.text
    assert "your result: 3 rows" in shown.text
    assert "<table>" in shown.html


def test_a_wrong_cell_does_not_stop_run_all(book: Notebook, kept: Path) -> None:
    shown = book.try_cell("%%exercise start_here.1\nSELECT name\nFROM chat")
    assert shown.error is None
    assert "✘ start_here.1 not yet" in shown.text
    assert "line 3: FROM chat" in shown.text, "lines are counted as the editor counts them"
    assert "Traceback" not in shown.text + shown.printed


def test_an_empty_cell_shows_the_task(book: Notebook, kept: Path) -> None:
    for cell in ("", "-- your query here", "\n\n"):
        shown = book.try_cell(f"%%exercise start_here.1\n{cell}\n")
        assert shown.error is None
        assert "○ start_here.1 not attempted" in shown.text
        assert "Which three chats" in shown.text
    assert "Which three chats" in book.try_cell("%exercise start_here.1").text
    assert not kept.exists(), "nothing was attempted"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("start_her.1", "start_here"),
        ("start_here.9", "lesson start_here has start_here.1"),
        ("nonsense", "names no exercise"),
        ("", "names no exercise"),
    ],
)
def test_a_wrong_id_is_said_without_a_traceback(book: Notebook, line: str, words: str) -> None:
    shown = book.try_cell(f"%%exercise {line}\nSELECT 1")
    assert shown.error is not None
    assert words in shown.printed
    assert "Traceback" not in shown.printed


def test_html_shows_what_learners_type_as_text(book: Notebook, kept: Path) -> None:
    shown = book.try_cell('%%exercise start_here.1\nSELECT \'<b>&\' AS "<i>" FROM "<script>"')
    assert "&lt;script&gt;" in shown.html
    assert "<script>" not in shown.html
    shown = book.try_cell("%%exercise start_here.1\nSELECT '<b>' AS \"<i>x\"")
    assert "<b>" not in shown.html
    assert "<i>x" not in shown.html


def test_hints_come_one_by_one(kept: Path) -> None:
    first, second = hint("start_here.1"), hint("start_here.1")
    assert "hint 1 of 2" in str(first)
    assert "hint 2 of 2" in str(second)
    assert hint("start_here.1") == second, "the last one stays"
    assert hint("start_here.1", 1) == first
    with pytest.raises(ValueError, match="its hints count from 1 to 2"):
        hint("start_here.1", 3)
    assert "LIMIT 3" in solution("start_here.1")._repr_markdown_()
    assert "%%exercise start_here.1" in problem("00-start-here.1")._repr_markdown_()
    with pytest.raises(UnknownProblemError):
        problem("nothing.1")


def test_progress_lasts_and_is_counted_once(kept: Path) -> None:
    assert progress("start_here").solved == 0
    check("start_here.1", "SELECT 1", strict=True)
    check("start_here.1", RIGHT, strict=True)
    check("start_here.1", "SELECT 2", strict=True)
    hint("start_here.1")
    code = "from pglab.exercises import progress; print(progress('start_here').to_json())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (row,) = json.loads(other.stdout)["lessons"]["start_here"]
    assert row["solved_at"]
    assert (row["status"], row["attempts"], row["hints"]) == ("solved", 2, 1)
    assert "Solved: 1 of 1" in repr(progress("start_here"))
    assert "✔ start_here.1 The busiest chats (2 attempts, 1 hint)" in progress().text()
    assert "1 of 1" in progress("start_here")._repr_html_()
    if os.name == "posix":
        assert kept.stat().st_mode & 0o777 == 0o600
