"""The commands, as a person or a program calls them, on real servers of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("cli")]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def pglab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run pglab in a home of this module's own."""
    folder = tmp_path_factory.mktemp("cli")
    environment = {**os.environ, "PGLAB_HOME": str(folder / "lab"), "COLUMNS": "100"}

    def run(
        *arguments: str, check: bool = True, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pglab", *arguments],
            env={**environment, **variables}, cwd=folder, input=stdin,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    yield run
    run("purge", "--yes", check=False)


def test_up_status_down(pglab: Run) -> None:
    servers = json.loads(pglab("up", "--json").stdout)
    assert [(s["kind"], s["running"], s["started"]) for s in servers] == [
        ("postgres", True, True),
        ("redis", True, True),
    ]
    again = json.loads(pglab("up", "--json").stdout)
    assert [s["started"] for s in again] == [False, False]
    assert [s["url"] for s in again] == [s["url"] for s in servers]

    status = json.loads(pglab("status", "--json").stdout)
    assert [s["running"] for s in status] == [True, True]
    pids = [s["pid"] for s in status]
    assert all(Path(f"/proc/{pid}").exists() for pid in pids) or not Path("/proc").exists()

    stopped = json.loads(pglab("down", "--json").stdout)
    assert {s["name"] for s in stopped} == {s["name"] for s in status}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert json.loads(pglab("down", "--json").stdout) == []
    assert [s["running"] for s in json.loads(pglab("status", "--json").stdout)] == [False, False]


def test_text_output_says_the_same_for_people(pglab: Run) -> None:
    up = pglab("up").stdout
    assert "postgresql://postgres:***@127.0.0.1:" in up
    assert "Next: pglab lab" in up
    assert "running" in pglab("status").stdout
    assert "stopped" in pglab("down").stdout
    assert "nothing was running" in pglab("down").stdout


def test_doctor_passes_here_and_stops_what_it_started(pglab: Run) -> None:
    pglab("down")
    findings = json.loads(pglab("doctor", "--json").stdout)
    by_check = {f["check"]: f for f in findings}
    for check in ("python", "disk", "ports", "socket path", "PostgreSQL", "extensions", "TLS"):
        assert check in by_check
    assert all(f["status"] != "fault" for f in findings)
    assert {f["check"] for f in findings if "(chosen)" in f["detail"]} == {
        "PostgreSQL from embedded",
        "Redis from embedded",
    }
    assert [s["running"] for s in json.loads(pglab("status", "--json").stdout)] == [False, False]


def test_doctor_fails_and_says_what_to_do_when_a_lesson_could_not_run(pglab: Run) -> None:
    done = pglab(
        "doctor", "--json", check=False,
        DATABASE_URL="postgresql://nobody:hunter2@127.0.0.1:9/none",
    )  # fmt: skip
    assert done.returncode == 1
    faults = [f for f in json.loads(done.stdout) if f["status"] == "fault"]
    assert [f["check"] for f in faults] == ["PostgreSQL"]
    assert faults[0]["remedy"]
    assert "hunter2" not in done.stdout + done.stderr


def test_doctor_lists_the_settings(pglab: Run) -> None:
    from pglab.config import VARIABLES

    said = pglab("doctor", "--settings").stdout
    assert all(name in said for name in VARIABLES)


def test_an_unusable_setting_is_one_message_and_exit_status_2(pglab: Run) -> None:
    done = pglab("up", check=False, PGLAB_BACKEND="docker")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "PGLAB_BACKEND is 'docker'; set it to one of embedded, local, containers, url" in (
        done.stderr
    )


def test_psql_reaches_a_lessons_database(pglab: Run) -> None:
    done = pglab(
        "psql", "schema", "--size", "empty", "-X", "-A", "-t",
        "-c", "SELECT current_database(), count(*) FROM messages",
    )  # fmt: skip
    assert done.stdout.strip() == "pglab_schema_empty|0"
    failing = pglab("psql", "schema", "--size", "empty", "-c", "SELECT nonsense", check=False)
    assert failing.returncode == 1


def test_url_masks_the_password_unless_told_to_reveal_it(pglab: Run) -> None:
    import psycopg

    masked = pglab("url", "schema", "--size", "empty").stdout.strip()
    assert ":***@" in masked
    revealed = pglab("url", "schema", "--size", "empty", "--reveal").stdout.strip()
    with psycopg.connect(revealed) as connection:
        assert connection.info.dbname == "pglab_schema_empty"
    assert pglab("url", "--redis").stdout.startswith("redis://:***@127.0.0.1:")


def test_unknown_size_lists_the_sizes(pglab: Run) -> None:
    done = pglab("psql", "schema", "--size", "huge", check=False)
    assert done.returncode == 2
    assert "choose one of empty, tiny, small, medium, large" in done.stderr


def test_purge_asks_then_deletes_everything(pglab: Run) -> None:
    pglab("up")
    directories = [
        d for s in json.loads(pglab("status", "--json").stdout) for d in s["directories"]
    ]
    assert all(Path(d).exists() for d in directories)
    refused = pglab("purge", check=False, stdin="n\n")
    assert refused.returncode == 1
    assert all(Path(d).exists() for d in directories)
    pglab("purge", "--yes")
    assert not any(Path(d).exists() for d in directories)
    assert pglab("purge", "--yes").stdout.strip() == "there is nothing to delete"


@pytest.mark.parametrize(
    "command", ["up", "down", "status", "doctor", "psql", "url", "lab", "purge"]
)
def test_help_of_every_command_says_what_it_does(pglab: Run, command: str) -> None:
    said = pglab(command, "--help").stdout
    assert len(said.splitlines()) > 4
    assert command in pglab("--help").stdout
