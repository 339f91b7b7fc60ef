"""``pglab monitor``, as a person or a program calls it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pglab.cli_monitor import monitor
from pglab.errors import ConfigError
from pglab.monitor import MEASURES, REDIS_MEASURES

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("server_url")]

_RUN = "from pglab.cli_monitor import monitor; monitor(prog_name='pglab monitor')"


def run(*words: str) -> Result:
    return CliRunner().invoke(monitor, list(words), catch_exceptions=False)


def test_the_measures_are_listed_without_a_server() -> None:
    text = run("--list").output
    assert all(name in text for name in (*MEASURES, *REDIS_MEASURES))
    listed = {each["name"]: each for each in json.loads(run("--list", "--json").output)}
    assert set(listed) == {*MEASURES, *REDIS_MEASURES}
    assert listed["bloat"]["needs_extension"] == "pgstattuple"


def test_one_look_is_printed() -> None:
    done = run("--once")
    assert done.exit_code == 0
    for words in ("pglab monitor postgres · PostgreSQL 17", "connections", "Connections"):
        assert words in done.output
    assert "\x1b" not in done.output


def test_without_a_terminal_it_looks_once() -> None:
    assert "pglab monitor postgres" in run().output


def test_json_holds_all_that_was_asked_and_rates() -> None:
    found = json.loads(run("--json").output)
    names = [each["name"] for each in found["readings"]]
    assert names == [name for name, measure in MEASURES.items() if not measure.reads_tables]
    assert found["server_version"] >= 150_000
    assert found["rates"]["activity"][0]["commits_per_s"] is not None
    assert set(found["readings"][0]) == {
        "name", "title", "skipped", "took_ms", "at", "rows", "findings"
    }  # fmt: skip


def test_single_measures_also_those_that_read_tables() -> None:
    done = run("--measure", "connections", "--measure", "bloat")
    assert "How many clients are connected" in done.output
    assert "not asked: needs the extension pgstattuple" in done.output
    only = json.loads(run("--json", "--measure", "wal").output)
    assert [each["name"] for each in only["readings"]] == ["wal"]
    assert only["redis"] == []


def test_a_redis_that_does_not_run_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", server_url)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("PGLAB_HOME", str(tmp_path))
    assert "not asked: no Redis runs; run: pglab up" in run("--measure", "redis_info").output
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    done = run("--measure", "redis_info", "--measure", "wal")
    assert "How much does the server write to its log?" in done.output
    assert re.search("not asked: .*127.0.0.1:1", done.output)


def test_a_wrong_name_is_told() -> None:
    with pytest.raises(ConfigError, match="no measure is called 'locks'"):
        run("--measure", "locks")


def test_help_helps() -> None:
    text = run("--help").output
    assert "a live dashboard" in re.sub(r"\s+", " ", text)
    assert "Examples:" in text


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *words: str, columns: int = 100, rows: int = 40) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": str(columns), "LINES": str(rows), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, *words],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def plain(self) -> str:
        """What was said, without colours and movements."""
        return re.sub(r"\x1b\[[\d;]*[A-HJKm]", "", self.seen)

    def read_until(self, pattern: str, timeout_s: float = 60) -> str:
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.plain()):
            assert time.monotonic() < deadline, self.seen[-2000:]
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65_536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
        return self.seen


@pytest.fixture
def terminal() -> Any:
    made: list[Terminal] = []

    def start(*words: str, **size: int) -> Terminal:
        made.append(Terminal(*words, **size))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        os.close(each.master)


@pytest.mark.parametrize("columns", [40, 100])
def test_the_dashboard_refreshes_and_ctrl_c_ends_it_cleanly(terminal: Any, columns: int) -> None:
    live = terminal("--interval", "0.3", columns=columns)
    live.read_until("pglab monitor postgres(?s:.)*pglab monitor postgres")
    live.process.send_signal(signal.SIGINT)
    live.read_until(re.escape("\x1b[?1049l"), timeout_s=20)  # the terminal's own screen is back
    assert live.process.wait(30) == 0
    assert "Traceback" not in live.seen
    assert "\x1b[?1049h" in live.seen
    assert "\x1b[?25h" in live.seen  # and its cursor


def test_a_lesson_s_own_database(terminal: Any) -> None:
    live = terminal("monitoring", "--size", "empty", "--interval", "0.3")
    live.read_until("pglab monitor pglab_monitoring_empty")
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(30) == 0
