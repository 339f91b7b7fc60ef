"""I: two at once. Stepped by hand in one thread, so that nothing depends on who is quicker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pglab.comparison.checks.ground import refill
from pglab.comparison.contract import Refused, Session, opened
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen
from pglab.comparison.workload import BUSY, QUIET, event

__all__ = ["no_anomaly", "two_writers"]


@contextmanager
def _two(place: Place, setup: str) -> Iterator[tuple[Session, Session]]:
    refill(place, setup)
    with opened(place.engine, setup) as first, opened(place.engine, setup) as second:
        yield first, second


def no_anomaly(place: Place, setup: str) -> Seen:
    """Look for a dirty read, a lost update and a write skew."""
    with _two(place, setup) as (first, second):
        happens = {
            "shows others a change before its author commits": _dirty_read(first, second),
            "loses an update": _lost_update(first, second),
            "lets two decisions pass that contradict each other (write skew)": _write_skew(
                first, second
            ),
        }
    found = [name for name, happened in happens.items() if happened]
    return Seen(
        "no_anomaly", place.engine.name, setup,
        "Two sessions, step by step: one looks for what the other is about to commit; both read a "
        "count and write it back; both close an instance because the other one is open.",
        "None of the three anomalies happens." if not found else f"It {', and '.join(found)}.",
        not found,
        {"anomalies": found},
    )  # fmt: skip


def _dirty_read(first: Session, second: Session) -> bool:
    first.begin()
    first.insert("messages", event(1))
    try:
        seen = second.count("messages")
    except Refused:  # it would have to wait: it saw nothing
        seen = 0
    first.rollback()
    return seen > 0


def _lost_update(first: Session, second: Session) -> bool:
    first.begin()
    second.begin()
    read = [
        session.values("instances", "received", {"name": BUSY})[0] for session in (first, second)
    ]
    stored = 0
    for session, value in zip((first, second), read, strict=True):
        try:
            session.update("instances", {"name": BUSY}, {"received": value + 1})
            session.commit()
        except Refused:
            session.rollback()
        else:
            stored += 1
    return bool(first.values("instances", "received", {"name": BUSY})[0] < stored)


def _write_skew(first: Session, second: Session) -> bool:
    first.begin()
    second.begin()
    pairs = ((first, BUSY, QUIET), (second, QUIET, BUSY))
    for session, _mine, other in pairs:
        session.values("instances", "state", {"name": other})
    for session, mine, _other in pairs:
        try:
            session.update("instances", {"name": mine}, {"state": "close"})
        except Refused:
            session.rollback()
    for session, _mine, _other in pairs:
        try:
            session.commit()
        except Refused:
            session.rollback()
    return all(
        first.values("instances", "state", {"name": name}) == ["close"] for name in (BUSY, QUIET)
    )


def two_writers(place: Place, setup: str) -> Seen:
    """Write to one instance while another writer's transaction on another one is open."""
    with _two(place, setup) as (first, second):
        first.begin()
        first.add(BUSY)
        try:
            second.begin()
            second.add(QUIET)
            second.commit()
            said = ""
        except Refused as error:
            said = str(error)
            second.rollback()
        first.commit()
    return Seen(
        "two_writers", place.engine.name, setup,
        "One writer's transaction on an instance is open; another writer stores for another "
        "instance.",
        f"The second is refused: {said}." if said else "Both write; neither waits.",
        not said,
        {"said": said},
    )  # fmt: skip
