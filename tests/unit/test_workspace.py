"""The learner's copies: made, renewed, never overwritten, brought back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from pglab import manifest, workspace
from pglab.errors import WorkspaceError

START, SCHEMA, BACKUP = "00-start-here.ipynb", "02-schema.ipynb", "08-recuperación.ipynb"
PICTURE = b"\x89PNG\r\n\x1a\n\x00 not text"


def lesson(text: str = "SELECT 1") -> bytes:
    """Return an executed notebook, as it is committed."""
    output = nbformat.v4.new_output("stream", text="an answer")
    code = nbformat.v4.new_code_cell(text, execution_count=7, outputs=[output], id="aaaa")
    code.metadata = {"tags": ["keep"], "execution": {"shell.execute_reply": "2026-01-01"}}
    prose = nbformat.v4.new_markdown_cell("**Predict**, ñandú, 🐘", id="bbbb")
    notebook = nbformat.v4.new_notebook(cells=[prose, code])
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return nbformat.writes(notebook).encode()


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "a course, with ñ" / "notebooks"
    (folder / "images").mkdir(parents=True)
    (folder / ".ipynb_checkpoints").mkdir()
    for name in (START, SCHEMA, BACKUP):
        (folder / name).write_bytes(lesson(name))
    (folder / "images" / "er.png").write_bytes(PICTURE)
    (folder / ".ipynb_checkpoints" / START).write_bytes(lesson("old"))
    return folder


@pytest.fixture
def mine(originals: Path) -> Path:
    return originals.parent / "workspace"


def source_of(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[1].source


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".pglab.lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@contextmanager
def no_privilege(folder: Path) -> Iterator[None]:
    """Root may write everywhere, and would prove nothing."""
    if os.geteuid() != 0:
        yield
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# Copies


def test_copies_have_no_outputs_and_are_valid_notebooks(originals: Path, mine: Path) -> None:
    report = workspace.refresh(originals, mine)

    assert set(report.made) == {START, SCHEMA, BACKUP, "images/er.png"}
    assert set(contents(mine)) == {*report.made, ".pglab.json"}
    copy = nbformat.read(mine / START, as_version=4)
    nbformat.validate(copy)
    assert (copy.cells[1].outputs, copy.cells[1].execution_count) == ([], None)
    assert copy.cells[1].metadata == {"tags": ["keep"]}
    assert [cell.source for cell in copy.cells] == ["**Predict**, ñandú, 🐘", START]
    assert [cell.id for cell in copy.cells] == ["bbbb", "aaaa"]
    assert (mine / "images" / "er.png").read_bytes() == PICTURE


def test_a_copy_is_written_as_jupyter_writes_it(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    copy = (mine / START).read_text(encoding="utf-8")
    assert nbformat.writes(nbformat.reads(copy, as_version=4)) + "\n" == copy


def test_originals_are_only_read(originals: Path, mine: Path) -> None:
    before = contents(originals)
    workspace.refresh(originals, mine)
    workspace.restore(originals, mine, "02")
    assert contents(originals) == before


def test_a_second_time_does_and_says_nothing(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    before = {path: path.stat() for path in mine.rglob("*")}
    assert workspace.refresh(originals, mine).lines() == []
    assert {path: path.stat() for path in mine.rglob("*")} == before


def test_an_untouched_copy_follows_its_original(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    (originals / SCHEMA).write_bytes(lesson("corrected"))
    report = workspace.refresh(originals, mine)
    assert (report.made, report.refreshed, report.kept) == ((), (SCHEMA,), ())
    assert source_of(mine / SCHEMA) == "corrected"
    assert workspace.refresh(originals, mine).refreshed == ()


@pytest.mark.parametrize("change", [b"\n", b" "], ids=["a newline", "a blank"])
def test_one_changed_byte_makes_it_the_learners(originals: Path, mine: Path, change: bytes) -> None:
    workspace.refresh(originals, mine)
    theirs = (mine / SCHEMA).read_bytes() + change
    (mine / SCHEMA).write_bytes(theirs)
    assert workspace.refresh(originals, mine).lines() == []

    (originals / SCHEMA).write_bytes(lesson("corrected"))
    for _ in range(2):  # said each time
        report = workspace.refresh(originals, mine)
        assert (report.refreshed, report.kept) == ((), (SCHEMA,))
        assert "pglab lab --restore 02 " in report.lines()[0]
        assert (mine / SCHEMA).read_bytes() == theirs


def test_a_deleted_copy_comes_back_and_a_new_lesson_appears(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    (mine / START).unlink()
    (originals / "03-queries.ipynb").write_bytes(lesson("new"))
    assert set(workspace.refresh(originals, mine).made) == {START, "03-queries.ipynb"}
    assert source_of(mine / "03-queries.ipynb") == "new"


def test_what_is_gone_upstream_or_never_was_ours_stays(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    (originals / SCHEMA).unlink()
    (mine / "notes.md").write_text("mine")
    before = contents(mine)
    assert workspace.refresh(originals, mine).lines() == []
    assert contents(mine) == before


def test_a_new_lesson_does_not_take_the_place_of_a_learners_file(
    originals: Path, mine: Path
) -> None:
    mine.mkdir()
    (mine / SCHEMA).write_text("my own notes")
    report = workspace.refresh(originals, mine)
    assert report.kept == (SCHEMA,)
    assert (mine / SCHEMA).read_text() == "my own notes"
    assert workspace.refresh(originals, mine).kept == ()  # nothing newer since


def test_an_original_that_is_no_notebook_spoils_only_itself(originals: Path, mine: Path) -> None:
    for broken in (b"<<<<<<< HEAD", b"[1]", b'{"cells": ["x"], "metadata": {}}', b"\xff", b""):
        (originals / SCHEMA).write_bytes(broken)
        shutil.rmtree(mine, ignore_errors=True)
        report = workspace.refresh(originals, mine)
        assert set(report.made) == {START, BACKUP, "images/er.png"}
        assert "git checkout -- notebooks/02-schema.ipynb" in report.problems[0]
        assert not (mine / SCHEMA).exists()
        with pytest.raises(WorkspaceError, match="cannot be read as a notebook"):
            workspace.restore(originals, mine, "02")


# Bringing one back


@pytest.mark.parametrize("said", ["02", "2", "02-schema", "schema", "SCHEMA", "02-schema.ipynb"])
def test_restore_keeps_what_the_learner_made(originals: Path, mine: Path, said: str) -> None:
    workspace.refresh(originals, mine)
    fresh = (mine / SCHEMA).read_bytes()
    (mine / SCHEMA).write_text("hours of work")

    restored = workspace.restore(originals, mine, said)

    assert restored.path == mine / SCHEMA
    assert (mine / SCHEMA).read_bytes() == fresh
    assert restored.kept_as is not None
    assert restored.kept_as.read_text() == "hours of work"
    assert restored.kept_as.name in str(restored)
    assert workspace.refresh(originals, mine).lines() == []


def test_restore_says_when_in_the_name(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    (mine / SCHEMA).write_text("mine")
    kept_as = workspace.restore(originals, mine, "02").kept_as
    assert kept_as is not None
    assert time.strptime(kept_as.name, "02-schema.mine-%Y-%m-%d-%H%M.ipynb")


def test_restore_never_overwrites_what_it_kept_before(originals: Path, mine: Path) -> None:
    workspace.refresh(originals, mine)
    works = [f"attempt {number}" for number in range(4)]
    kept = []
    for work in works:  # within one minute
        (mine / SCHEMA).write_text(work)
        kept.append(workspace.restore(originals, mine, "02").kept_as)
    assert [path.read_text() for path in kept if path] == works


def test_restore_of_an_untouched_or_missing_copy_keeps_nothing(originals: Path, mine: Path) -> None:
    assert workspace.restore(originals, mine, "02").kept_as is None  # before any refresh
    assert workspace.restore(originals, mine, "02").kept_as is None
    (originals / SCHEMA).write_bytes(lesson("corrected"))
    assert workspace.restore(originals, mine, "02").kept_as is None
    assert source_of(mine / SCHEMA) == "corrected"
    assert sorted(contents(mine)) == [".pglab.json", SCHEMA]


def test_restore_finds_accents_however_they_are_typed(originals: Path, mine: Path) -> None:
    for form in ("NFC", "NFD"):
        said = unicodedata.normalize(form, "Recuperación")
        assert workspace.restore(originals, mine, said).path.name == BACKUP


@pytest.mark.parametrize("said", ["99", "", "../02-schema", "*", "schem", "0"])
def test_an_unknown_lesson_is_answered_with_the_list(
    originals: Path, mine: Path, said: str
) -> None:
    (originals / START).rename(originals / "01-start-here.ipynb")
    with pytest.raises(WorkspaceError) as caught:
        workspace.restore(originals, mine, said)
    assert repr(said) in str(caught.value)
    assert "01-start-here, 02-schema, 08-recuperación" in str(caught.value)


def test_a_number_that_two_lessons_have_is_no_answer(originals: Path, mine: Path) -> None:
    (originals / "02-schema-more.ipynb").write_bytes(lesson())
    with pytest.raises(WorkspaceError, match="02-schema and 02-schema-more"):
        workspace.restore(originals, mine, "02")
    assert workspace.restore(originals, mine, "02-schema").path.name == SCHEMA


# Damage


@pytest.mark.parametrize(
    "damage",
    [b"", b"\x00\xff", b"[]", b'{"version": 99, "files": {}}', b'{"version": 1, "files": [1]}'],
)
def test_a_damaged_manifest_costs_nobody_anything(
    originals: Path, mine: Path, damage: bytes
) -> None:
    workspace.refresh(originals, mine)
    (mine / SCHEMA).write_text("mine")
    before = contents(mine)
    (mine / ".pglab.json").write_bytes(damage)

    report = workspace.refresh(originals, mine)

    assert ".pglab.json could not be read" in report.problems[0]
    assert (report.made, report.refreshed, report.kept) == ((), (), (SCHEMA,))
    after = contents(mine)
    assert before.pop(".pglab.json") != after.pop(".pglab.json")
    assert after == before
    # From here on as before: untouched copies follow, the learner's stay.
    for name in (START, SCHEMA):
        (originals / name).write_bytes(lesson("corrected"))
    report = workspace.refresh(originals, mine)
    assert (report.refreshed, report.kept, report.problems) == ((START,), (SCHEMA,), ())


def test_a_workspace_that_is_a_file_stays_one(originals: Path, mine: Path) -> None:
    mine.write_text("a file")
    with pytest.raises(WorkspaceError, match=r"workspace is not a folder; rename it"):
        workspace.refresh(originals, mine)
    assert mine.read_text() == "a file"


@pytest.mark.skipif(os.name != "posix", reason="Windows has other rights")
def test_a_workspace_that_cannot_be_written() -> None:
    # Not in tmp_path, which nobody but its owner can enter.
    base = Path(tempfile.mkdtemp())
    try:
        base.chmod(0o755)
        originals, mine = base / "notebooks", base / "workspace"
        originals.mkdir()
        (originals / START).write_bytes(lesson())
        mine.mkdir()
        with no_privilege(base):
            for closed in (mine, base):
                closed.chmod(0o555)
                with pytest.raises(WorkspaceError, match=r"workspace.*: Permission denied; give"):
                    workspace.refresh(originals, mine)
                closed.chmod(0o755)
                shutil.rmtree(mine, ignore_errors=True)
    finally:
        shutil.rmtree(base)


def test_links_are_the_learners(originals: Path, mine: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    workspace.refresh(originals, mine)
    # One to a file, one to an original, one to nowhere, one to a folder.
    (mine / START).rename(elsewhere / START)
    (mine / START).symlink_to(elsewhere / START)
    (mine / SCHEMA).unlink()
    (mine / SCHEMA).symlink_to(originals / SCHEMA)
    (mine / BACKUP).unlink()
    (mine / BACKUP).symlink_to("nowhere")
    shutil.rmtree(mine / "images")
    (mine / "images").symlink_to(elsewhere)
    for name in (START, SCHEMA, BACKUP):
        (originals / name).write_bytes(lesson("corrected"))
    outside = contents(elsewhere)

    report = workspace.refresh(originals, mine)

    assert report.kept == (START, SCHEMA, BACKUP)
    assert "images leads out of the workspace" in report.problems[0].replace(str(mine), "")
    assert contents(elsewhere) == outside
    restored = workspace.restore(originals, mine, "02")
    assert restored.kept_as is not None
    assert restored.kept_as.is_symlink()
    assert not (mine / SCHEMA).is_symlink()
    assert nbformat.read(originals / SCHEMA, as_version=4).cells[1].execution_count == 7


def test_a_workspace_may_itself_be_a_link(originals: Path, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    mine.symlink_to(tmp_path / "big disk")
    assert len(workspace.refresh(originals, mine).made) == 4
    assert workspace.refresh(originals, mine).lines() == []


def test_folders_that_lie_in_each_other_are_refused(originals: Path) -> None:
    for mine in (originals, originals / "mine", originals.parent):
        with pytest.raises(WorkspaceError, match="lie in each other"):
            workspace.refresh(originals, mine)
    assert not (originals / "mine").exists()


def test_many_at_once_make_one_workspace(originals: Path, mine: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: workspace.refresh(originals, mine), range(8)))
    made = [name for report in reports for name in report.made]
    assert sorted(made) == sorted({*contents(mine)} - {".pglab.json"})
    assert [r.kept + r.problems for r in reports] == [()] * 8


def test_one_that_waits_too_long_says_so(
    originals: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()"
    )
    workspace.refresh(originals, mine)
    monkeypatch.setattr(workspace, "_LOCK_TIMEOUT_S", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", holder, mine / ".pglab.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WorkspaceError, match="another pglab has been busy"):
            workspace.refresh(originals, mine)
        process.communicate()
    assert workspace.refresh(originals, mine).lines() == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("writes", range(1, 6))
def test_killed_at_any_write_the_next_one_finishes(
    originals: Path, mine: Path, writes: int
) -> None:
    # Killed when the new content is on the disk under its scratch name, before it is in place.
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from pglab import workspace\n"
        "left, replace = [int(sys.argv[3])], Path.replace\n"
        "def dying(self, target):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "Path.replace = dying\n"
        "workspace.refresh(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, originals, mine, str(writes)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert any(name.split("/")[-1].startswith(manifest.SCRATCH) for name in contents(mine))

    report = workspace.refresh(originals, mine)

    assert (len(report.made), report.kept, report.problems) == (5 - writes, (), ())
    assert set(contents(mine)) == {START, SCHEMA, BACKUP, "images/er.png", ".pglab.json"}
    (originals / START).write_bytes(lesson("corrected"))
    assert workspace.refresh(originals, mine).refreshed == (START,)


# Where they are


def test_git_sees_nothing_of_it(originals: Path, mine: Path) -> None:
    checkout = originals.parent
    shutil.copy(Path(__file__).parents[2] / ".gitignore", checkout)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", checkout]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "course"]):
        subprocess.run([*git, *words], check=True)

    workspace.refresh(originals, mine)
    (mine / SCHEMA).write_text("mine")
    workspace.restore(originals, mine, "02")
    (mine / "own.ipynb").write_text("{}")

    status = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True)
    assert status.stdout == b""
    (originals / SCHEMA).write_bytes(b"changed")  # … and would see a change
    status = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True)
    assert b"02-schema" in status.stdout


def test_this_checkouts_originals_are_found() -> None:
    checkout = Path(__file__).parents[2]
    found = workspace.find_originals()
    assert found == checkout / "notebooks"
    assert workspace.default_workspace(found) == checkout / "workspace"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "site-packages" / "pglab"
    package.mkdir(parents=True)
    monkeypatch.setattr(workspace, "__file__", str(package / "workspace.py"))
    return package


def test_without_a_checkout_those_in_the_package_are_found(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "notebooks").mkdir()
    (installed / "notebooks" / START).write_bytes(lesson())
    monkeypatch.chdir(tmp_path)
    found = workspace.find_originals()
    assert found == installed / "notebooks"
    assert workspace.default_workspace(found) == tmp_path / "pglab-workspace"


def test_without_any_lessons_the_remedy_is_said(installed: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"no lessons in .*; get them with: git checkout"):
        workspace.find_originals()


def test_every_lesson_of_the_course_can_be_copied(tmp_path: Path) -> None:
    originals = workspace.find_originals()
    report = workspace.refresh(originals, tmp_path / "mine")
    assert report.problems == ()
    for path in originals.glob("*.ipynb"):
        copy = json.loads((tmp_path / "mine" / path.name).read_bytes())
        assert all(not cell.get("outputs") for cell in copy["cells"])
        assert workspace.restore(originals, tmp_path / "mine", path.stem[:2]).kept_as is None
