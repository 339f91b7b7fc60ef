"""D: what is left after SIGKILL, counted."""

from __future__ import annotations

import subprocess

from pglab.comparison.checks.ground import refill
from pglab.comparison.contract import opened
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen
from pglab.comparison.workload import BUSY
from pglab.comparison.writer import Task, working
from pglab.errors import ServerError

__all__ = ["CONFIRMED", "survives_kill"]

CONFIRMED = 30
"""Events that the busy writer has confirmed when the kill comes."""


def survives_kill(place: Place, setup: str) -> Seen:
    """Kill in mid-write, twice: while commits rain, and while a transaction is half done."""
    ran = (
        "A worker stores events, each a transaction of two writes, and notes every commit; "
        f"after {CONFIRMED} the {_victim(place)} gets SIGKILL, and is started again. Then once "
        "more with a transaction that is half done."
    )
    if place.power is None and not place.engine.library:
        return Seen(
            "survives_kill", place.engine.name, setup, ran,
            "Not run: the server is not ours to kill.", None, {},
        )  # fmt: skip
    refill(place, setup)
    confirmed = len(_killed(place, setup, "until killed", 0, CONFIRMED))
    kept, counted = _left(place, setup)
    _killed(place, setup, "half", 500_000, 1)
    kept_now, counted_now = _left(place, setup)
    lost = max(0, confirmed - kept)
    halves = abs(kept - counted) + (kept_now - kept) + abs(counted_now - counted)
    saw = f"{confirmed} events were confirmed, {kept} are there: {_lost(lost)}. "
    saw += "No half transaction is left." if not halves else (
        f"{halves} half-done write{'s are' if halves > 1 else ' is'} left."
    )  # fmt: skip
    return Seen(
        "survives_kill", place.engine.name, setup, ran, saw, not lost and not halves,
        {"confirmed": confirmed, "kept": kept, "lost": lost, "halves": halves},
    )  # fmt: skip


def _killed(place: Place, setup: str, task: Task, first: int, lines: int) -> list[str]:
    """Let a worker say so many lines, kill, start again; return all that it said."""
    with working(place.engine, setup, task, first=first) as worker:
        heard = _hear(worker, lines)
        if place.power is not None:
            place.power.kill()
        worker.kill()
        heard += _rest(worker)
    if place.power is not None:
        place.power.start()
    return heard


def _hear(worker: subprocess.Popen[str], lines: int) -> list[str]:
    assert worker.stdout is not None  # noqa: S101 - a pipe was asked for
    heard = []
    for _ in range(lines):
        line = worker.stdout.readline()
        if not line or line.startswith("end"):
            raise ServerError(f"the worker ended before its time: {line.strip() or 'no word'}")
        heard.append(line.strip())
    return heard


def _rest(worker: subprocess.Popen[str]) -> list[str]:
    # What it had said before it heard of the kill: commits that were confirmed.
    assert worker.stdout is not None  # noqa: S101 - a pipe was asked for
    return [line.strip() for line in worker.stdout if line.endswith("\n") and line[0].isdigit()]


def _left(place: Place, setup: str) -> tuple[int, int]:
    with opened(place.engine, setup) as session:
        counted = session.values("instances", "received", {"name": BUSY})[0]
        return session.count("messages"), int(counted)


def _victim(place: Place) -> str:
    return "writing process" if place.engine.library else "server"


def _lost(count: int) -> str:
    return "none is lost" if not count else f"{count} lost"
