"""What a learner has done: one JSON file in the lab's home, shared by all kernels."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pglab.config import Settings
from pglab.errors import ServerError
from pglab.exercises import _registry
from pglab.exercises._verdict import Status, Verdict
from pglab.framed import framed
from pglab.notebook.tables import STYLE
from pglab.servers.account import make_private_directory
from pglab.servers.home import home_of, write_private

__all__ = ["Progress", "note_hint", "note_solution", "note_verdict", "read"]

_VERSION = 1
_LOCK_S = 5.0

Entry = dict[str, Any]


def _path() -> Path:
    return home_of(Settings.from_environment()) / "progress.json"


def read() -> Mapping[str, Entry]:
    """Return what is kept of each problem, by id; nothing if the file cannot be read."""
    try:
        return _read(_path())
    except OSError:
        return {}


def _read(path: Path) -> dict[str, Entry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    problems = content.get("problems") if isinstance(content, dict) else None
    if isinstance(problems, dict) and all(isinstance(entry, dict) for entry in problems.values()):
        return problems
    # Kept, not overwritten: it may be worth mending.
    path.replace(path.with_suffix(".unreadable.json"))
    return {}


def _change(name: str, change: Callable[[Entry], Entry]) -> None:
    """Change a problem's entry, under a lock that all kernels share."""
    from filelock import FileLock, Timeout

    path = _path()
    try:
        make_private_directory(path.parent)
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_S, mode=0o600):
            problems = _read(path)
            problems[name] = change(problems.get(name, {}))
            content = {"version": _VERSION, "problems": problems}
            write_private(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    except (OSError, Timeout, ServerError) as error:  # no reason to withhold a verdict
        print(f"Your progress could not be kept: {error}", file=sys.stderr)


def note_verdict(verdict: Verdict) -> None:
    """Keep that an answer was solved, or tried once more before it is."""
    if verdict.status not in {Status.SOLVED, Status.NOT_YET}:
        return

    def change(entry: Entry) -> Entry:
        if entry.get("solved_at"):
            return entry
        tried = {**entry, "attempts": entry.get("attempts", 0) + 1}
        if verdict.solved:
            tried["solved_at"] = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return tried

    _change(verdict.problem.id, change)


def note_hint(name: str, number: int) -> None:
    """Keep that the hints up to this number were shown."""
    _change(name, lambda entry: {**entry, "hints": max(entry.get("hints", 0), number)})


def note_solution(name: str) -> None:
    """Keep that the solution was shown."""
    _change(name, lambda entry: {**entry, "solution_shown": True})


@dataclass(frozen=True)
class Progress:
    """What is done of each lesson; it shows itself in a notebook.

    Attributes:
        lessons: for each lesson its problems, each a mapping with the keys id, title, status,
            attempts, hints, solution_shown and solved_at.
    """

    lessons: Mapping[str, tuple[Mapping[str, Any], ...]]

    @classmethod
    def of(cls, *lessons: str) -> Progress:
        """Return the progress in these lessons, or in all."""
        kept = read()
        return cls(
            {
                lesson: tuple(_row(p.id, p.title, kept) for p in _registry.problems_of(lesson))
                for lesson in lessons or _registry.lessons()
            }
        )

    @property
    def solved(self) -> int:
        """Return how many problems are solved."""
        return sum(map(_count, self.lessons.values()))

    @property
    def total(self) -> int:
        """Return how many there are."""
        return sum(map(len, self.lessons.values()))

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps({"version": _VERSION, "lessons": dict(self.lessons)}, indent=1)

    def text(self) -> str:
        """Return the list in words, for terminals and screen readers."""
        lines = [f"Solved: {self.solved} of {self.total}"]
        for lesson, rows in self.lessons.items():
            lines.append(f"{lesson}: {_count(rows)} of {len(rows)}")
            lines += [
                f"  {_MARK[row['status']]} {row['id']} {row['title']}{_how(row)}" for row in rows
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row">{escape(lesson)}</th><td>{_bar(rows)}</td>'
            f'<td class="n" align="right">{_count(rows)} of {len(rows)}</td></tr>'
            for lesson, rows in self.lessons.items()
        )
        items = "".join(
            f"<li>{_MARK[row['status']]} <code>{escape(row['id'])}</code> {escape(row['title'])}"
            f"{escape(_how(row))}</li>"
            for rows in self.lessons.values()
            for row in rows
        )
        return STYLE + framed(
            f"<table><caption>Exercises solved: {self.solved} of {self.total}</caption>"
            f"<tbody>{body}</tbody></table>"
            f'<details><summary>Each of them</summary><ul style="list-style:none">{items}</ul>'
            "</details>"
        )

    def __repr__(self) -> str:
        return self.text()


_MARK = {"solved": "✔", "tried": "✘", "open": "○"}


def _row(name: str, title: str, kept: Mapping[str, Entry]) -> Mapping[str, Any]:
    entry = kept.get(name, {})
    status = "solved" if entry.get("solved_at") else "tried" if entry.get("attempts") else "open"
    return {
        "id": name,
        "title": title,
        "status": status,
        "attempts": entry.get("attempts", 0),
        "hints": entry.get("hints", 0),
        "solution_shown": bool(entry.get("solution_shown")),
        "solved_at": entry.get("solved_at"),
    }


def _count(rows: tuple[Mapping[str, Any], ...]) -> int:
    return sum(row["status"] == "solved" for row in rows)


def _how(row: Mapping[str, Any]) -> str:
    facts = []
    if row["attempts"]:
        facts.append(f"{row['attempts']} attempt{'' if row['attempts'] == 1 else 's'}")
    if row["hints"]:
        facts.append(f"{row['hints']} hint{'' if row['hints'] == 1 else 's'}")
    if row["solution_shown"]:
        facts.append("solution seen")
    return f" ({', '.join(facts)})" if facts else ""


def _bar(rows: tuple[Mapping[str, Any], ...]) -> str:
    # Signs, not colours: they stay where a page drops styles.
    return " ".join(_MARK[row["status"]] for row in rows)
