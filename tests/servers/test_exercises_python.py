"""Answers in Python, and scripts with roles: what learners type, and what they are told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import exercise_scenarios as scenarios
import pytest
from sql_support import Lab, Notebook

from pglab.exercises import (
    Accepts,
    Behaves,
    CannotCheckError,
    Problem,
    Refuses,
    Rows,
    Solution,
    Status,
    Verdict,
    _nursery,
    check,
    solution,
)
from pglab.exercises._cards import prompt_card
from pglab.exercises._engine import STRICT, judge
from pglab.exercises._sandbox import sandbox

pytestmark = pytest.mark.server

STARTER = "import math\n\n\ndef double(n):\n    # your code\n    ..."
RIGHT = "def double(n):\n    return 2 * n"


@pytest.fixture(autouse=True)
def as_for_a_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STRICT, raising=False)


def problem(scenario=scenarios.doubles, *, database: bool = False, **parts) -> Problem:
    given = {
        "id": "tests.1",
        "title": "A test",
        "prompt": "Do it.",
        "answer": "python",
        "starter": STARTER,
        "checks": (Behaves(scenario=scenario, database=database),),
        "solutions": (Solution(python=RIGHT, why="."),),
        "wrong": (),
        "hints": (),
        "hidden": False,
        "limit_s": 1.0,
        **parts,
    }
    return Problem(**given)


def said(verdict: Verdict) -> str:
    return f"{verdict.message}\n{verdict.verbatim}"


DOUBLE = problem()

NOTHING = [
    "",
    "  \n",
    "# nothing yet",
    "pass",
    "...",
    '"""Only words."""',
    STARTER,
    "# mine\nimport   math\n\ndef double( n ):\n\n    ...  # soon\n",
]


@pytest.mark.parametrize("text", NOTHING)
def test_a_cell_without_code_is_not_attempted(text: str) -> None:
    verdict = judge(DOUBLE, text, strict=True)
    assert verdict.status is Status.NOT_ATTEMPTED
    assert "Do it." in verdict.text()


# Text, and what the learner reads; the cell begins on line 2, below the magic.
TYPED = [
    ("def double(n):\n    return n + n +", "line 3: return n + n +\nSyntaxError"),
    ("  def double(n): return 1\n", "IndentationError"),
    ("def double(n):\n\treturn 1\n        return 2", "TabError"),
    ("x = '\0'", "null bytes"),
    ("(" * 2_000 + ")" * 2_000, "cannot be read as Python|no Python yet"),
    ("%time double(1)", "belongs into a cell of its own"),
    ("-- your statement here", "It looks like SQL"),
    ("SELECT 1", "It looks like SQL"),
    ("double = 8", "'int' object is not callable"),
    ("twice = lambda n: 2 * n", "Your cell defines no double."),
    ("def double(): return 8", "double cannot be called as asked for: too many positional"),
    ("def double(n, m): return 8", "missing a required argument: 'm'"),
    ("def double(n):\n    return 7", "Eight is asked for.\ndouble(4) → 7"),
    ("def double(n):\n    print('n is', n)\n    return 7", "Your code printed:\nn is 4"),
    ("def double(n):\n    return None", "What your code gave back cannot be used: TypeError"),
    ("def double(n):\n    return n / 0", "line 3: return n / 0\nZeroDivisionError: division"),
    ("1 / 0", "line 2: 1 / 0\nZeroDivisionError"),
    ("import nothing_of_this_name", "ModuleNotFoundError"),
    ("def double(n):\n    while True:\n        pass", "line 4: pass|line 3: while True"),
    ("while True: print('x' * 1000)", "stopped after 1 s, its limit here. It was here:\nline 2"),
    ("import time\ndef double(n):\n    time.sleep(60)", "line 4: time.sleep(60)"),
    ("def double(n):\n    return int(input('n? '))", "input() waits for somebody who types"),
    ("import sys\ndef double(n):\n    n = sys.stdin.read()\n    return 8 + len(n)", "solved"),
    ("import sys\ndef double(n):\n    sys.exit('enough')", "line 4: sys.exit('enough')"),
    ("import os\ndef double(n):\n    os._exit(0)", "ended its process (exit status 0)"),
    ("import os\ndef double(n):\n    os.abort()", "ended its process (signal SIGABRT)"),
    ("import os\ndef double(n):\n    os.kill(0, 9)", "signal SIGKILL|could not|ended its process"),
    ("def double(n):\n    return double(n)", "RecursionError"),
    ("def double(n):\n    return 'x' * 10**12", "MemoryError"),
    ("def double(n):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("class Mine(BaseException): pass\ndef double(n): raise Mine('ä')", "Mine: ä"),
    ("import os\ndef double(n):\n    os.write(1, b'{}')\n    return 8", "solved"),
    ("import os\ndef double(n):\n    os.system('echo {}')\n    return 8", "solved"),
    ("import builtins\nbuiltins.open = builtins.len = None\ndef double(n): return 8", "solved"),
    ("import threading as t\nt.Timer(60, print).start()\ndef double(n): return 8",
     "solved"),
    ("def double(n):\n    return '\\ud800'", "Eight|cannot be used"),
    ("x = '\\d'\ndef double(n): return 8 if n is 4 else 8", "solved"),
]  # fmt: skip


@pytest.mark.timeout(120)
def test_whatever_is_typed_has_its_verdict() -> None:
    missed = []
    for text, words in TYPED:
        verdict = judge(DOUBLE, text, strict=True, first_line=2)
        found = f"{verdict.status}\n{said(verdict)}"
        wanted = Status.SOLVED if words == "solved" else Status.NOT_YET
        if verdict.status is not wanted or not any(w in found for w in words.split("|")):
            missed.append((text, found))
        assert "Traceback" not in verdict.text()
    assert missed == []
    verdict = judge(DOUBLE, f"# mine\n{RIGHT}", strict=True)
    assert verdict.solved
    assert "your own data and Redis are as before" in verdict.remark


def test_code_that_lets_no_other_thread_run_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from pglab.exercises import _player

    monkeypatch.setattr(_player, "_SPARE_S", 1.0)
    text = "def double(n):\n    return 'a' in ('b' * 10**9 for _ in iter(int, 1)) and " + "9" * 9
    holds_on = "import re\ndef double(n):\n    return re.match('(a+)+b', 'a' * 60)"
    for one in (holds_on, text):
        verdict = judge(DOUBLE, one, strict=True)
        assert verdict.status is Status.NOT_YET
        assert "stopped after 1 s" in verdict.message
    assert judge(DOUBLE, RIGHT, strict=True).solved


def test_what_a_call_back_sees_is_not_swallowed() -> None:
    one = problem(scenarios.swallows_what_it_can)
    swallowing = "def double(n):\n    try:\n        n()\n    except Exception:\n        pass"
    assert "Called back." in judge(one, swallowing, strict=True).message


def test_threads_answer_in_order() -> None:
    one = problem(scenarios.all_at_once)
    assert judge(one, RIGHT, strict=True).solved
    verdict = judge(one, "def double(n):\n    return 2 * n if n != 5 else 1 / 0", strict=True)
    assert "line 2: return 2 * n if n != 5 else 1 / 0" in verdict.verbatim


# With servers.

COUNT = "def count(c):\n    return c.execute('SELECT count(*) FROM messages').fetchone()[0]"


def test_the_database_is_a_copy_with_the_set_up_and_goes_afterwards() -> None:
    one = problem(
        scenarios.looks_into_the_database,
        database=True,
        hidden=True,
        setup="CREATE TABLE from_the_set_up AS SELECT 7 AS n; SELECT 1",
    )
    spoiling = COUNT + "\ndef spoil(c):\n    c.execute('DROP TABLE webhooks'); c.commit()"
    spoiling = spoiling.replace("    return", "    spoil(c)\n    return", 1)
    verdict = judge(one, spoiling, strict=True)
    assert verdict.solved, verdict
    assert "on other data" in verdict.message
    with sandbox("visible") as box, box.connection() as connection:
        row = connection.execute("SELECT to_regclass('webhooks')::text").fetchone()
        assert row == ("webhooks",)
    copied = judge(one, "def count(c):\n    return 50_000", strict=True)
    assert "wrong on other data" in copied.message
    wrong = judge(one, "def count(c):\n    return c.execute('SELEC 1')", strict=True)
    assert "line 2: return c.execute('SELEC 1')\nSyntaxError: syntax error" in wrong.verbatim


def test_a_wait_for_a_lock_is_an_error_in_time() -> None:
    one = problem(scenarios.two_sessions, database=True, limit_s=2.0)
    waits = judge(
        one, "def lock(c):\n    c.execute('UPDATE instances SET name = name')", strict=True
    )
    assert "LockNotAvailable" in waits.verbatim
    assert judge(one, "def lock(c):\n    c.execute('SELECT FROM instances')", strict=True).solved


def test_redis_is_its_own_and_each_step_is_seen() -> None:
    one = problem(scenarios.keeps_in_redis, limit_s=10.0)
    keeps = """
def keep(redis):
    with redis.pipeline() as pipeline:
        pipeline.watch("k")
        pipeline.get("k")
        pipeline.multi()
        pipeline.set("k", "v")
        pipeline.execute()
"""
    verdict = judge(one, keeps, strict=True)
    assert verdict.solved, verdict
    verdict = judge(one, "def keep(redis):\n    redis.set('k', 'w')", strict=True)
    assert "SET k w" in verdict.verbatim


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def elsewhere(code: str) -> subprocess.Popen[str]:
    """Run code in a process of its own, with the names of this module."""
    here = (
        f"import sys; sys.path[:] = {[*sys.path, str(Path(__file__).parent)]!r}\n"
        f"from {Path(__file__).stem} import *\n"
    )
    return subprocess.Popen([sys.executable, "-c", here + code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "ending", ["pass", "import time; time.sleep(60)", "import os; os._exit(1)", "1 / 0"]
)
def test_nothing_is_left_behind(tmp_path: Path, ending: str) -> None:
    note = tmp_path / "note"
    one = problem(scenarios.leaves_a_note, limit_s=2.0)
    judge(one, f"note = {str(note)!r}\ndef last():\n    {ending}", strict=True)
    facts = json.loads(note.read_text())
    assert eventually(lambda: gone(facts["pid"]) and gone(facts["redis"]))
    assert not Path(facts["directory"]).exists()
    assert eventually(lambda: not Path(facts["socket"]).exists())


def test_a_kernel_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    note = tmp_path / "note"
    text = f"note = {str(note)!r}\ndef last():\n    while True: pass"
    kernel = elsewhere(
        f"judge(problem(scenarios.leaves_a_note, limit_s=60.0), {text!r}, strict=True)"
    )
    assert eventually(lambda: note.exists() and note.read_text() != "")
    facts = json.loads(note.read_text())
    kernel.send_signal(signal.SIGKILL)
    kernel.communicate()
    assert eventually(lambda: gone(facts["pid"]) and gone(facts["redis"]))
    shutil.rmtree(facts["directory"])  # nobody was left to remove it


def test_an_interrupt_ends_the_answer_too() -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        judge(problem(limit_s=60.0), "while True: pass", strict=True)
    assert _nursery._nursery is None, "its process was ended"
    assert judge(DOUBLE, RIGHT, strict=True).solved


def test_a_process_that_waits_and_is_killed_is_replaced() -> None:
    assert judge(DOUBLE, RIGHT, strict=True).solved
    assert _nursery._nursery is not None
    process = _nursery._nursery[1]
    process.kill()
    process.wait()
    assert judge(DOUBLE, RIGHT, strict=True).solved


def test_without_fork_it_is_slower_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert judge(DOUBLE, RIGHT, strict=True).solved
    assert "stopped after 1 s" in judge(DOUBLE, "while True: pass", strict=True).message
    text = "import os\ndef double(n):\n    os._exit(3)"
    assert "exit status 3" in judge(DOUBLE, text, strict=True).message


# When checking itself fails.


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (scenarios.is_faulty, "its own solution fails: KeyError"),
        (scenarios.needs_what_is_not_there, "no server starts on this machine"),
        (scenarios.connects_without_saying_so, "database=True"),
    ],
)
def test_a_fault_of_a_scenario_is_not_the_learners(scenario: Callable, words: str) -> None:
    verdict = judge(problem(scenario), RIGHT)
    assert verdict.status is Status.CANNOT_CHECK
    assert words in verdict.message
    with pytest.raises(CannotCheckError):
        judge(problem(scenario), RIGHT, strict=True)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"checks": (Rows(),)}, "Behaves is for answer='python'"),
        ({"answer": "query"}, "Behaves is for answer='python'"),
        ({"starter": "-- your statement here"}, "has no starter"),
        ({"checks": ()}, "has no checks"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(parts: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        problem(**parts)
    with pytest.raises(ValueError, match="top level"):
        Behaves(scenario=lambda answer, world: None)


# As a learner sees it.


def test_a_cell_is_judged_and_cards_know_python(database: str) -> None:
    book = Notebook(Lab(database))
    try:
        text = solution("cache.1").markdown.split("```python\n")[1].split("```")[0]
        shown = book.try_cell(f"%%exercise cache.1\n{text}")
        assert shown.error is None
        assert "✔ cache.1 solved" in shown.text
        shown = book.try_cell("%%exercise cache.1\ndef cache_key(*parts):\n    return 1 / 0")
        assert shown.error is None
        assert "line 3: return 1 / 0" in shown.text, "lines are counted as the editor counts them"
        assert "○ cache.1 not attempted" in book.try_cell("%%exercise cache.1\npass").text
    finally:
        book.close()
    assert "%%exercise tests.1" in prompt_card(DOUBLE).markdown
    assert check("cache.1", "pass").status is Status.NOT_ATTEMPTED


# Scripts.

SCRIPT = problem(
    answer="script",
    starter="-- your statements here",
    setup="CREATE ROLE exercise_test; GRANT exercise_test TO CURRENT_USER",
    solutions=(Solution(sql="GRANT SELECT ON chats TO exercise_test", why="."),),
    checks=(
        Accepts(sql="SET LOCAL ROLE exercise_test; SELECT count(*) FROM chats", says="It cannot."),
        Refuses(
            sql="SET LOCAL ROLE exercise_test; DELETE FROM chats", sqlstate="42501", says="Can."
        ),
    ),
)


def roles() -> list[tuple[str]]:
    with sandbox("visible") as box, box.connection() as connection:
        return connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'exercise%' OR rolname = 'of_mine'"
        ).fetchall()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("GRANT SELECT ON chats TO exercise_test; COMMIT", "Leave out COMMIT"),
        ("BEGIN; GRANT SELECT ON chats TO exercise_test", "Leave out BEGIN"),
        ("ROLLBACK; CREATE ROLE of_mine", "Leave out ROLLBACK"),
        ("DO 'BEGIN COMMIT; END'", "2D000"),
        ("CREATE DATABASE of_mine", "cannot: leave out"),
        ("SELECT 1; SELECT 1/0", "22012"),
        ("SELECT 1", "It cannot."),
        ("GRANT ALL ON chats TO exercise_test", "Can."),
    ],
)
def test_a_script_leaves_no_role_behind(text: str, words: str) -> None:
    verdict = judge(SCRIPT, text, strict=True)
    assert verdict.status is Status.NOT_YET
    assert words in said(verdict)
    assert roles() == []


def test_a_script_may_make_roles_and_several_learners_at_once_do_not_meet() -> None:
    right = (
        "CREATE ROLE of_mine; GRANT SELECT ON chats TO of_mine;"
        "GRANT of_mine TO exercise_test; ALTER ROLE exercise_test INHERIT"
    )
    code = f"print([str(judge(SCRIPT, {right!r}, strict=True).status) for _ in range(3)])"
    kernels = [elsewhere(code) for _ in range(2)]
    answers = [kernel.communicate(timeout=120)[0].strip() for kernel in kernels]
    assert answers == ["['solved', 'solved', 'solved']"] * 2
    assert roles() == []
