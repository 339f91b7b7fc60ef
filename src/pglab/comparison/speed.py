"""How quick each is at the gateway's work, in one run, in turns: only ratios are reported.

Every engine stores as safely as it is installed to: a commit is on disk when it returns. Rounds are
interleaved, so that a moment in which the machine is busy meets all alike. SecantusDB does not take
part: its speed would say nothing about MongoDB's, of which the seed claims nothing here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from pglab.comparison.checks.ground import refill
from pglab.comparison.contract import AS_INSTALLED, Session, opened
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen
from pglab.comparison.workload import BUSY, chat_of, event, rows
from pglab.comparison.writer import store, working
from pglab.errors import ServerError

__all__ = ["ALIKE", "OPERATIONS", "measure", "measure_writers"]

ALIKE: Final = 1.5
"""Up to this factor, two engines are called alike: one run on a shared machine tells no more."""

_EVENTS = 50
_EVENTS_OF_A_WRITER = 150
_READS = 10
_MESSAGES = 2_000
_WRITERS = 4
_TRIES = 50


def _ingest(session: Session, first: int) -> None:
    for number in range(first, first + _EVENTS):
        store(session, number, chat_of())


def _inbox(session: Session, first: int) -> None:
    del first
    for _ in range(_READS):
        session.inbox(BUSY)


def _load(session: Session, first: int) -> None:
    session.insert_many("messages", [event(first + n) for n in range(1_000)])


OPERATIONS: Final[Mapping[str, tuple[str, Callable[[Session, int], None]]]] = {
    "ingest": (f"{_EVENTS} events, one transaction each", _ingest),
    "load": ("1,000 messages in one transaction", _load),
    "inbox": (f"the inbox, {_READS} times", _inbox),
}
"""What is timed: a name, with words for it."""


def measure(places: Sequence[Place], rounds: int = 3) -> list[Seen]:
    """Time each operation on each engine in turns, and return what was seen of each engine."""
    for place in places:
        refill(place, AS_INSTALLED, _MESSAGES)
    times: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        sessions = {
            place.engine.name: stack.enter_context(opened(place.engine, AS_INSTALLED))
            for place in places
        }
        for turn in range(rounds):
            for number, (name, (_words, run)) in enumerate(OPERATIONS.items()):
                for engine, session in sessions.items():
                    first = 10_000 * (10 * turn + number)
                    began = time.perf_counter()
                    run(session, first)
                    taken = time.perf_counter() - began
                    times.setdefault(name, {}).setdefault(engine, []).append(taken)
    return [_seen(place, times, rounds) for place in places]


def _seen(place: Place, times: Mapping[str, Mapping[str, list[float]]], rounds: int) -> Seen:
    own = place.engine.name
    ratios, ranges = {}, {}
    for name, taken in times.items():
        quickest = min(taken, key=lambda engine: median(taken[engine]))
        each = sorted(mine / best for mine, best in zip(taken[own], taken[quickest], strict=True))
        ratios[name] = round(median(each), 2)
        ranges[name] = [round(each[0], 2), round(each[-1], 2)]
    words = [f"{name} {_factor(ratios[name], ranges[name])}" for name in times]
    what = "; ".join(f"{name}: {words}" for name, (words, _) in OPERATIONS.items())
    return Seen(
        "speed", own, AS_INSTALLED,
        f"Time, in turns with the others, {rounds} rounds ({what}).",
        f"Against the quickest in this run: {', '.join(words)}.",
        None,
        {"ratios": ratios, "ranges": ranges, "engines": sorted(next(iter(times.values()))),
         "seconds": {name: round(median(taken[own]), 5) for name, taken in times.items()}},
    )  # fmt: skip


def _factor(ratio: float, between: Sequence[float]) -> str:
    if ratio <= ALIKE:
        return "alike"
    return f"{ratio:.1f} times as long ({between[0]:.1f} to {between[1]:.1f} over the rounds)"


def measure_writers(place: Place, setup: str = AS_INSTALLED) -> Seen:
    """Store events with one process, and then the same number with four at once."""
    names = [row["name"] for row in rows().instances if _has_chat(row["name"])][:_WRITERS]
    alone = _together(place, setup, names[:1])
    four = _together(place, setup, names)
    gain = four["per_second"] / alone["per_second"]
    refused = int(four["refused"])
    saw = f"Four stored {gain:.1f} times as much per second as one; "
    saw += "no attempt was refused." if not refused else (
        f"{refused} attempts were refused and had to be repeated."
    )  # fmt: skip
    if four["stored"] < four["wanted"]:
        saw += f" {int(four['wanted'] - four['stored'])} events were given up."
    return Seen(
        "four_writers", place.engine.name, setup,
        f"One process stores {_EVENTS_OF_A_WRITER} events, each a transaction; then {_WRITERS} "
        "processes do, each for its own instance.",
        saw,
        four["stored"] == four["wanted"] and not refused,
        {"gain": round(gain, 2), "refused": refused, "stored": int(four["stored"]),
         "wanted": int(four["wanted"])},
    )  # fmt: skip


def _has_chat(instance: str) -> bool:
    return any(row["instance"] == instance for row in rows().chats)


def _together(place: Place, setup: str, names: Sequence[str]) -> dict[str, float]:
    refill(place, setup)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                working(
                    place.engine, setup, "timed", first=100_000 * (number + 1),
                    count=_EVENTS_OF_A_WRITER, instance=name, tries=_TRIES,
                )
            )
            for number, name in enumerate(names)
        ]  # fmt: skip
        for worker in workers:
            _expect(worker.stdout, "ready")
        for worker in workers:
            assert worker.stdin is not None  # noqa: S101 - a pipe was asked for
            worker.stdin.write("go\n")
            worker.stdin.flush()
        results: list[dict[str, Any]] = [json.loads(_line(worker.stdout)) for worker in workers]
    stored = sum(result["stored"] for result in results)
    return {
        "stored": stored,
        "wanted": _EVENTS_OF_A_WRITER * len(names),
        "refused": sum(result["refused"] for result in results),
        "per_second": stored / max(result["seconds"] for result in results),
    }


def _line(stream: Any) -> str:
    line = str(stream.readline())
    if not line:
        raise ServerError("a worker ended without a word; run: python -m pglab.comparison")
    return line


def _expect(stream: Any, word: str) -> None:
    said = _line(stream).strip()
    if said != word:
        raise ServerError(f"a worker said {said!r} instead of {word!r}")
