"""Lesson 07 says nothing that its outputs do not show.

Claims are looked up in the committed outputs. What must happen every time (the stepped races, the
lock that two hold, the leak) runs again: the lesson's own cells, on a laboratory of this test's.
Never a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pglab.config import Settings
from pglab.exercises._registry import problems_of
from pglab.lab import Lab
from tests.lesson_support import cells_of, said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "07-cache-aside.ipynb"
CELLS = cells_of(LESSON)

# The seed document's table, word for word but for the bold face.
SEED_TABLE = """\
| Dato | PostgreSQL | Redis |
|---|---|---|
| Sesión de WhatsApp | ✅ Persistencia | ✅ Cache |
| Mensajes enviados | ✅ Log permanente | ❌ |
| Estado de conexión | ✅ Backup | ✅ Tiempo real |
| Cola de mensajes | ❌ | ✅ Cola temporal |
| Configuraciones | ✅ Source of truth | ✅ Cache |
"""

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "hand-miss": ["None"],
    "hand-store": ["ms to live"],
    "hand-ttl": ["None -2"],
    "diagram": ["57 answered by Redis, 3 misses, 0 past Redis", "asked 3 times, 3 values", "95 %"],
    "entry": ["pglab:cache:settings:v1:sciencebot-becas", "two%20words%3A%20a%20colon"],
    "poison": ["sciencebot-becas sciencebot-becas sciencebot-becas | poisoned: 3"],
    "bad-key": ["is empty", "holds NUL at position 1", "is a float, 1.5"],
    "steps-see": [
        "miss · load · store · hit · hit · miss · load · store · store · store · 2 loads"
    ],
    "sizes": ["json | 200 | true | 17 | 1"],
    "penetration-kept": [
        "absence not kept: 300; kept: 1; 300 different names: 300",
        "keys in Redis: 301",
    ],
    "penetration-known": ["300 times None, and 0 loads"],
    "stampede-run": ["none | 200 | 200 | 200 | 0", "lock | 200 | 1 | 1 | 199"],
    "slow": ["5 errors of Redis, breaker open"],
    "full": ["breaker closed"],
    "down-traffic": ["and 0 reads"],
    "leak-look": ["| 500 | 604800 |", "| 500 | -1 |"],
    "session-run": ["same three times: True", "1 hit, 2 loads"],
    "settings-run": ["elsewhere: qu elsewhere: es"],
    "queue-killed": ["2 sent before the kill; StreamState(waiting=2, pending=1, dead=0"],
    "queue-again": ["hello 1 | delivery number 2", "5 sent, 4 different"],
    "queue-dead": ["delivery 1 → again", "delivery 2 → dead", "attempts=2", "it has no text"],
    "queue-lost-run": ["10 waiting, then 0"],
    "jobs": ["1 | hello 0"],
    "jobs-waits": ["Expected error, as announced", "55P03"],
    "table-queue-run": ["after the kill: 1 effect, TableState(waiting=3"],
    "table-queue-rest": ["(4, 4)"],
    "outbox": ["waiting in the outbox: 1", "in the stream: 1 | in the outbox: 1"],
    "outbox-again": ["published by the next relay: 1", "in the stream: 1 | in the outbox: 0"],
    "state-run": [
        "heard: changed; known: connecting, stale: False",
        "heard: expired; known: connecting, stale: True expired",
    ],
    "state-beats": [
        "100 beats; the row in PostgreSQL is the same version: True",
        "dead : open, stale: True no answer",
        "back, empty : open, stale: True expired",
        "after a beat: open, stale: False",
    ],
}


def _read() -> Any:
    return nbformat.read(LESSON, as_version=4)


def _rows(name: str) -> list[dict[str, str]]:
    """Return a table of an output, row by row."""
    [output] = [o for o in CELLS[name].outputs if "text/plain" in o.get("data", {})]
    lines = [line for line in output.data["text/plain"].splitlines() if "|" in line]
    head, *body = [[part.strip() for part in line.split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in body]


# As the seed writes it


def test_the_seeds_table_is_word_for_word() -> None:
    told = "\n".join(cell.source for cell in _read().cells if cell.cell_type == "markdown")
    assert SEED_TABLE in told


# The committed outputs


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(name: str) -> None:
    shown = said(CELLS[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


@pytest.mark.parametrize(
    "name",
    ["latency-plot", "avalanche-plot", "down-plot", "ratio-points", "verdict-plot",
     "verdict-network"],
)  # fmt: skip
def test_the_pictures_are_pictures(name: str) -> None:
    assert any("image/png" in output.get("data", {}) for output in CELLS[name].outputs)


def test_the_diagram_is_drawn_with_its_counters() -> None:
    drawn = [o.data["image/svg+xml"] for o in CELLS["diagram"].outputs if "data" in o]
    assert len(drawn) == 1
    for label in ("1. check cache   60", "HIT   57", "MISS   3", "store   3", "past Redis   0"):
        assert label in drawn[0]


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    cells = CELLS
    problems = problems_of("cache")
    assert len(problems) >= 6
    for problem in problems:
        cell = cells[f"exercise-{problem.number}"]
        assert cell.source == f"%%exercise {problem.id}\n{problem.starter.rstrip()}"
        assert f"{problem.id} not attempted" in said(cell)


def test_a_miss_costs_more_than_no_cache_and_a_hit_less() -> None:
    medians = {row["way"]: float(row["median µs"]) for row in _rows("latency-table")}
    assert medians["hit"] < medians["no cache"] < medians["miss"]


def test_jitter_spreads_the_loads() -> None:
    rows = {row["jitter"]: row for row in _rows("avalanche-table")}
    busy = {jitter: int(row["slots with loads"]) for jitter, row in rows.items()}
    peak = {jitter: int(row["most in a slot of 0.1 s"]) for jitter, row in rows.items()}
    assert 0 < 1.5 * busy["0"] < busy["0.5"]
    assert peak["0"] > peak["0.5"]


def test_processes_load_once_with_the_lock_and_each_for_itself_without() -> None:
    loads = {row["protection"]: int(row["loads"]) for row in _rows("stampede-processes")}
    assert loads["lock"] == 1
    assert loads["none"] > 8


def test_the_lock_loads_once_an_expiry_and_early_refresh_lets_hardly_anybody_wait() -> None:
    rows = {row["protection"]: row for row in _rows("early-table")}
    loads = {name: int(row["loads"]) for name, row in rows.items()}
    waited = {name: int(row["reads that waited for a load"]) for name, row in rows.items()}
    assert loads["rush-none"] > 3 * loads["rush-lock"]
    assert waited["rush-lock"] > waited["rush-early"]
    assert waited["rush-early"] == loads["rush-early"]
    assert waited["rush-stale"] == 0 < int(rows["rush-stale"]["served stale"])


def test_the_breaker_opens_tries_and_closes() -> None:
    states = re.findall(r"s: ([a-z-]+)", said(CELLS["down-breaker"]))
    assert states[0] == "open"
    assert states[-2:] == ["half-open", "closed"]


def test_right_answers_came_from_a_silent_and_from_a_full_redis() -> None:
    for name in ("slow", "full"):
        right, asked = re.findall(r"(\d+) of (\d+) right", said(CELLS[name]))[0]
        assert right == asked != "0"


def test_the_soak_kept_every_promise() -> None:
    shown = said(CELLS["soak"])
    for line in (
        "that failed 0",
        "older than promised 0",
        "of what nobody had written 0",
        "that PostgreSQL does not have 0",
        "promises kept",
    ):
        assert line in shown
    assert int(re.findall(r"killed (\d+) times", shown)[0]) >= 2


def test_all_keys_policies_lost_what_was_no_copy_and_lfu_led_them() -> None:
    rows = {row["policy"]: row for row in _rows("evict-run")}
    for policy, row in rows.items():
        left = int(row["precious left of 100"])
        assert left < 50 if policy.startswith("allkeys") else left == 100
        assert (int(row["writes refused"]) > 1_000) == (policy == "noeviction")
    evicting = {p: float(row["hit ratio %"]) for p, row in rows.items() if p != "noeviction"}
    assert max(evicting, key=evicting.__getitem__) == "allkeys-lfu"


def test_a_cache_of_what_is_read_once_hits_one_in_five() -> None:
    assert "hit ratio 20%" in said(CELLS["sent-run"])


def test_theory_is_near_what_was_measured() -> None:
    for row in _rows("ratio-ttl"):
        assert abs(float(row["measured"]) - float(row["theory"])) < 0.05
    for row in _rows("ratio-lru-redis"):
        che, exact = float(row["theory, LRU"]), float(row["exact LRU"])
        assert abs(che - exact) < 0.02
        assert float(row["measured"]) < che + 0.02


def test_the_verdict_is_what_the_benchmark_says() -> None:
    shown = said(CELLS["verdict-figures"])
    times = {what: float(factor) for what, factor in re.findall(r"(\w+): ([\d.]+) times", shown)}
    assert 0.6 < times["message"] < 1.7
    assert times["inbox"] > 2
    assert times["ORM"] > 3


# What must happen every time, on a server


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    """Yield what the lesson's cells have defined, in a laboratory of this test's own."""
    lab = Lab("lesson_07_test", "small", Settings.from_environment(), progress=False)
    lab.reset()
    found: dict[str, Any] = {
        "__name__": "lesson",
        "lab": lab,
        "redis": lab.redis_client(decode_responses=True),
    }
    try:
        _run(
            found,
            *(
                "hand-load",
                "class-pool",
                "class-ask",
                "class-load",
                "class-make",
                "latency",
                "race-hands",
            ),
        )
        yield found
    finally:
        if "pool" in found:
            found["pool"].close()
        if "cache" in found:
            found["cache"].close()
        lab.drop()


def _run(names: dict[str, Any], *cells: str) -> str:
    every, said = CELLS, StringIO()
    with redirect_stdout(said):
        for cell in cells:
            code = compile(every[cell].source, cell, "exec", dont_inherit=True)
            exec(code, names)
    return said.getvalue()


SETUP = "import json\nfrom pglab.notebook import table\nfrom pglab.notebook.crowd import wait_until"


@pytest.mark.server
@pytest.mark.parametrize(
    ("cell", "truth", "copy"),
    [("race", "en", "es"), ("race-delete-first", "en", "es"), ("dual", "pt", "en")],
)
def test_the_races_end_apart_every_time(
    names: dict[str, Any], cell: str, truth: str, copy: str
) -> None:
    names["writer"].execute(names["SET_LANGUAGE"], ["es", names["BECAS"]])
    for _ in range(3):
        if cell == "race":
            names["writer"].execute(names["SET_LANGUAGE"], ["es", names["BECAS"]])
        said = _run(names, cell)
        assert f"PostgreSQL says {truth}, Redis says {copy} for 300 s more" in said


@pytest.mark.server
def test_a_value_that_was_rolled_back_stays_in_redis(names: dict[str, Any]) -> None:
    said = _run(names, "dual-rollback")
    assert "Redis says fr" in said
    assert "PostgreSQL says fr" not in said


@pytest.mark.server
def test_a_lease_refuses_the_stale_store_every_time(names: dict[str, Any]) -> None:
    exec(SETUP, names)
    for _ in range(3):
        _run(names, "lease", "lease-run")
        assert names["rows"] == [("without", "es", "es", 0), ("with-leases", "es", "en", 1)]
        names["redis"].flushdb()


@pytest.mark.server
def test_two_hold_the_lock_of_has_and_set_and_a_late_delete_frees_anothers(
    names: dict[str, Any],
) -> None:
    exec(SETUP, names)
    assert "A has the lock: True, B has the lock: True" in _run(names, "broken-lock")
    assert _run(names, "lock-nx") == "A: True\nB: None\n"
    said = _run(names, "lock-stolen")
    assert "B takes it: True" in said
    assert "C takes it: True" in said


@pytest.mark.server
def test_readers_see_a_write_after_its_commit_and_not_before(names: dict[str, Any]) -> None:
    names["redis"].flushdb()
    _run(names, "commit")
    assert (names["during"], names["after"]) == (names["before"], "qu")
    assert names["before"] != "qu"
    assert names["outdated"].applied is True


@pytest.mark.server
def test_the_hash_leaks_and_the_mended_one_does_not(names: dict[str, Any]) -> None:
    exec(SETUP, names)
    names["redis"].flushdb()
    assert "500 created, 500 deleted" in _run(names, "leak", "leak-look")
    assert [(row[0], row[3]) for row in names["rows"]] == [("instance", 604_800), ("baileys", -1)]
    assert "[1, True] 604800\n501 hashes removed" in _run(names, "leak-mend")
