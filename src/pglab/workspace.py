"""The learner's own copies of the lessons: ``workspace/``, which a pull never touches.

A copy is its original without outputs, so that the learner predicts before running. What the
learner has changed, in any byte, is never overwritten; ``.pglab.json`` remembers, for each copy,
the hash of the original it was made from and its own hash as made. A copy that was deleted comes
back; a lesson that is gone upstream stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from pglab.errors import WorkspaceError
from pglab.manifest import SCRATCH, Entry, Manifest, hash_of
from pglab.whole_file import write_whole

__all__ = [
    "Restored",
    "WorkspaceReport",
    "default_workspace",
    "find_originals",
    "refresh",
    "restore",
]

_LOCK = ".pglab.lock"
_LOCK_TIMEOUT_S = 30.0
_ASIDE = {"__pycache__"}  # and everything whose name begins with a dot

# What JupyterLab writes into a notebook when it starts our kernel. With it in the copy from the
# beginning, a lesson that was opened and not changed has not changed, and can be renewed.
_KERNEL = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": platform.python_version(),
    },
}


@dataclass(frozen=True, slots=True)
class WorkspaceReport:
    """What ``refresh`` did; names are relative to the workspace.

    Attributes:
        made: copies that were not there.
        refreshed: untouched copies whose original had changed.
        kept: copies changed by the learner whose original has changed since.
        problems: whole sentences, each with its remedy.
    """

    workspace: Path
    made: tuple[str, ...] = ()
    refreshed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what to tell the learner; nothing when nothing happened."""
        lines = []
        if self.made:
            lines.append(f"{_count(self.made)} copied to {self.workspace}: {', '.join(self.made)}")
        if self.refreshed:
            lines.append(
                f"{_count(self.refreshed)} brought up to date: {', '.join(self.refreshed)}"
            )
        lines.extend(
            f"{name}: yours is kept; a newer original exists. pglab lab --restore "
            f"{_short(name)} brings it, and keeps yours under another name"
            if name.endswith(".ipynb")
            else f"{name}: yours is kept; a newer original exists. Rename yours to get it"
            for name in self.kept
        )
        return [*lines, *self.problems]


@dataclass(frozen=True, slots=True)
class Restored:
    """A lesson brought back.

    Attributes:
        path: the fresh copy.
        kept_as: where the learner's version is now; None if there was nothing to keep.
    """

    path: Path
    kept_as: Path | None

    def __str__(self) -> str:
        kept = "" if self.kept_as is None else f" (yours is kept as {self.kept_as.name})"
        return f"{self.path.name}{kept}"


@dataclass(slots=True)
class _Tally:
    made: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_originals() -> Path:
    """Return the folder of the original notebooks: the checkout's, or the one in the package.

    Raises:
        WorkspaceError: there is neither.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    candidates = [package / "notebooks"]
    if package.parent.name == "src" and (checkout / "pyproject.toml").is_file():
        candidates.insert(0, checkout / "notebooks")
    for candidate in candidates:
        if any(candidate.glob("*.ipynb")):
            return candidate
    raise WorkspaceError(
        f"no lessons in {candidates[0]}; get them with: git checkout -- notebooks, "
        "or install pglab from a checkout (pip install --editable .)"
    )


def default_workspace(originals: Path) -> Path:
    """Return where the learner's copies go; it need not exist yet.

    In a checkout that is ``workspace/`` beside the originals, which git ignores; for lessons that
    came with the installed package, ``pglab-workspace/`` in the current directory.
    """
    if originals.parent == Path(__file__).resolve().parent:
        return Path.cwd() / "pglab-workspace"
    return originals.parent / "workspace"


def refresh(originals: Path, workspace: Path) -> WorkspaceReport:
    """Make the copies that are missing and renew those that the learner has not changed.

    Raises:
        WorkspaceError: the workspace cannot be written, or another process keeps it locked.
    """
    with _locked(originals, workspace):
        manifest = Manifest.read(workspace)
        tally = _Tally()
        if manifest.problem:
            tally.problems.append(manifest.problem)
        try:
            for name, original in _sources(originals):
                _refresh_one(name, original, workspace, manifest.entries, tally)
        finally:  # also after an error: what has been copied is known
            manifest.write_if_changed()
    return WorkspaceReport(
        workspace,
        tuple(tally.made),
        tuple(tally.refreshed),
        tuple(tally.kept),
        tuple(tally.problems),
    )


def restore(originals: Path, workspace: Path, lesson: str) -> Restored:
    """Bring back one lesson's original; what the learner has made of it is kept beside it.

    Args:
        originals: folder of the original notebooks.
        workspace: folder of the learner's copies.
        lesson: its number, slug, or both: ``02``, ``schema``, ``02-schema``.

    Raises:
        WorkspaceError: no lesson, or more than one, is called so; the original cannot be read;
            the workspace cannot be written.
    """
    original = _find_lesson(originals, lesson)
    name = original.name
    with _locked(originals, workspace):
        manifest = Manifest.read(workspace)
        source = original.read_bytes()
        fresh = _copy_of(original, source)
        target = workspace / name
        entry = manifest.entries.get(name)
        kept_as = None
        if os.path.lexists(target):
            found = _content(target)
            if found is None or hash_of(found) not in {entry and entry.copy, hash_of(fresh)}:
                kept_as = _free_name(target)
                target.rename(kept_as)
        write_whole(target, fresh, prefix=SCRATCH)
        manifest.entries[name] = Entry(hash_of(source), hash_of(fresh))
        manifest.write_if_changed()
    return Restored(target, kept_as)


# One copy


def _refresh_one(
    name: str, original: Path, workspace: Path, manifest: dict[str, Entry], tally: _Tally
) -> None:
    target = workspace / name
    if not _inside(target.parent, workspace):
        tally.problems.append(
            f"{name} is not copied: {target.parent} leads out of the workspace; rename it"
        )
        return
    source = original.read_bytes()
    entry = manifest.get(name)
    there = os.path.lexists(target)
    found = _content(target) if there else None
    untouched = found is not None and entry is not None and hash_of(found) == entry.copy
    if there and entry is not None and entry.original == hash_of(source):
        return
    try:
        fresh = _copy_of(original, source)
    except WorkspaceError as error:
        tally.problems.append(str(error))
        return
    if found == fresh:  # also after a crash between the copy and the manifest
        manifest[name] = Entry(hash_of(source), hash_of(fresh))
    elif there and not untouched:
        tally.kept.append(name)
        if entry is None:  # from before the manifest was lost: said once, watched from now on
            manifest[name] = Entry(hash_of(source), "")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, fresh, prefix=SCRATCH)
        manifest[name] = Entry(hash_of(source), hash_of(fresh))
        (tally.refreshed if there else tally.made).append(name)


def _copy_of(original: Path, source: bytes) -> bytes:
    """Return a copy's content: a notebook without outputs, any other file as it is."""
    if original.suffix != ".ipynb":
        return source
    try:
        notebook = json.loads(source)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = []
                cell["execution_count"] = None
                cell["metadata"].pop("execution", None)
        notebook["metadata"].pop("widgets", None)
        notebook["metadata"].update(_KERNEL)
        # The layout of nbformat.write, so that JupyterLab's first save changes few lines.
        text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        return text.encode()
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise WorkspaceError(
            f"{original} cannot be read as a notebook ({type(error).__name__}: {error}); "
            f"bring it back with: git checkout -- {original.parent.name}/{original.name}"
        ) from None


def _content(path: Path) -> bytes | None:
    # Only an ordinary file can be a copy that we made. Links and folders are the learner's.
    try:
        return path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else None
    except OSError:
        return None


def _inside(directory: Path, workspace: Path) -> bool:
    return directory.resolve().is_relative_to(workspace.resolve())


def _sources(originals: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of everything to copy: the notebooks and the pictures beside them."""
    for directory, folders, files in os.walk(originals):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _ASIDE)
        for file in sorted(files):
            path = Path(directory, file)
            if not file.startswith(".") and path.is_file():
                yield path.relative_to(originals).as_posix(), path


def _free_name(path: Path) -> Path:
    stem = f"{path.stem}.mine-{datetime.now().astimezone():%Y-%m-%d-%H%M}"
    candidate = path.with_name(f"{stem}{path.suffix}")
    number = 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{stem}-{number}{path.suffix}")
    return candidate


# Finding a lesson by what a learner calls it


def _find_lesson(originals: Path, lesson: str) -> Path:
    wanted = _plain(lesson.removesuffix(".ipynb"))
    lessons = sorted(originals.glob("*.ipynb"), key=lambda path: path.stem)
    found = [path for path in lessons if wanted in _names(path)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(path.stem for path in lessons)
    if found:
        several = " and ".join(path.stem for path in found)
        raise WorkspaceError(f"lesson {lesson!r} may be {several}; write the whole name")
    raise WorkspaceError(f"there is no lesson {lesson!r}; choose one of: {known}")


def _names(path: Path) -> set[str]:
    stem = _plain(path.stem)
    number, dash, slug = stem.partition("-")
    if not (dash and number.isdigit()):
        return {stem}
    return {stem, slug, number, number.lstrip("0") or "0"}


def _plain(name: str) -> str:
    # macOS hands out é as two code points; a keyboard types one.
    return unicodedata.normalize("NFC", name.strip()).casefold()


def _short(name: str) -> str:
    stem = PurePosixPath(name).stem
    number, dash, _ = stem.partition("-")
    return number if dash and number.isdigit() else stem


def _count(names: tuple[str, ...]) -> str:
    return "1 file" if len(names) == 1 else f"{len(names)} files"


# The workspace as a place


@contextlib.contextmanager
def _locked(originals: Path, workspace: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if _inside(workspace, originals) or _inside(originals, workspace):
        raise WorkspaceError(
            f"the workspace {workspace} and the originals {originals} lie in each other; "
            "choose another folder for the workspace"
        )
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace / _LOCK, timeout=_LOCK_TIMEOUT_S):
            for left in workspace.rglob(f"{SCRATCH}*"):  # of one that was killed
                left.unlink(missing_ok=True)
            yield
    except WorkspaceError:
        raise
    except Timeout:
        raise WorkspaceError(
            f"another pglab has been busy in {workspace} for {_LOCK_TIMEOUT_S:.0f} s; "
            "wait for it, or end it, and try again"
        ) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise WorkspaceError(
            f"{error.filename} is not a folder; rename it, and your copies will be made there"
        ) from None
    except OSError as error:
        raise WorkspaceError(
            f"cannot use {error.filename or workspace}: {error.strerror or error}; "
            "give yourself the right to read and write there, make room on the disk, or work in a "
            "checkout of your own"
        ) from error
