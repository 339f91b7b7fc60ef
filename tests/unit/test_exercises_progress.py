"""Progress in a file: two kernels at once, spoilt files, places that cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pglab.exercises import _progress
from pglab.exercises._verdict import Status, Verdict
from pglab.exercises.start_here import PROBLEMS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def verdict(status: Status) -> Verdict:
    return Verdict(PROBLEMS[0], status, "")


def test_kernels_write_at_once_and_lose_nothing(home: Path) -> None:
    code = """
from pglab.exercises import _progress
from pglab.exercises._verdict import Status, Verdict
from pglab.exercises.start_here import PROBLEMS
for _ in range(20):
    _progress.note_verdict(Verdict(PROBLEMS[0], Status.NOT_YET, ""))
"""
    kernels = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [kernel.wait(60) for kernel in kernels] == [0, 0, 0]
    assert _progress.read()["start_here.1"]["attempts"] == 60
    assert sorted(p.name for p in home.iterdir()) == ["progress.json", "progress.lock"]


def test_only_attempts_count(home: Path) -> None:
    for status in (Status.NOT_ATTEMPTED, Status.CANNOT_CHECK):
        _progress.note_verdict(verdict(status))
    assert not home.exists()


def test_the_first_solution_counts(home: Path) -> None:
    for status in (Status.NOT_YET, Status.SOLVED, Status.NOT_YET, Status.SOLVED):
        _progress.note_verdict(verdict(status))
    entry = _progress.read()["start_here.1"]
    assert entry["attempts"] == 2
    assert entry["solved_at"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"problems": {"a.1": 3}}', "\xff"])
def test_a_spoilt_file_is_kept_aside(home: Path, content: str) -> None:
    home.mkdir()
    (home / "progress.json").write_text(content, encoding="latin-1")
    _progress.note_hint("start_here.1", 1)
    assert _progress.read() == {"start_here.1": {"hints": 1}}
    assert (home / "progress.unreadable.json").read_text(encoding="latin-1") == content


def test_a_newer_files_other_facts_stay(home: Path) -> None:
    home.mkdir()
    kept = {"version": 1, "problems": {"a.1": {"new": [1]}, "start_here.1": {"note": "x"}}}
    (home / "progress.json").write_text(json.dumps(kept))
    _progress.note_solution("start_here.1")
    entries = _progress.read()
    assert entries["a.1"] == {"new": [1]}
    assert entries["start_here.1"] == {"note": "x", "solution_shown": True}


def test_a_place_that_cannot_be_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("a file where a directory should be")
    _progress.note_verdict(verdict(Status.SOLVED))
    assert "could not be kept" in capsys.readouterr().err
    assert _progress.read() == {}
