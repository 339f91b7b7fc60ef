"""A: all of a transaction, or nothing of it."""

from __future__ import annotations

from pglab.comparison.checks.ground import prepared
from pglab.comparison.contract import Refused
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen
from pglab.comparison.workload import BUSY, event

__all__ = ["all_or_nothing", "schema_change_undone"]


def all_or_nothing(place: Place, setup: str) -> Seen:
    """Set an instance's state and store a message; then the program changes its mind."""
    with prepared(place, setup) as session:
        session.begin()
        session.update("instances", {"name": BUSY}, {"state": "close"})
        session.insert("messages", event(1))
        session.rollback()
        left = session.count("messages")
        changed = session.count("instances", {"name": BUSY, "state": "close"})
    halves = left + changed
    return Seen(
        "all_or_nothing", place.engine.name, setup,
        "Begin; set the instance's state; store its message; roll back; look.",
        "Both writes are undone." if not halves
        else f"{_of_two(halves)} still there after the roll-back.",
        halves == 0,
        {"left": halves},
    )  # fmt: skip


def schema_change_undone(place: Place, setup: str) -> Seen:
    """Make a table in a transaction, store into it and into another, and roll back."""
    with prepared(place, setup) as session:
        session.begin()
        try:
            session.make_table("campaigns")
            session.insert("campaigns", {"id": "2026-I", "n": 1})
            session.insert("messages", event(1))
            said = ""
        except Refused as error:
            said = str(error)
        session.rollback()
        table = "campaigns" in session.tables()
        left = session.count("messages")
    if said:
        saw = f"Refused: {said}"
    elif not table and not left:
        saw = "Table and rows are undone."
    else:
        kept = [*(["the table"] if table else []), *(["the message"] if left else [])]
        saw = f"After the roll-back {' and '.join(kept)} {'is' if len(kept) == 1 else 'are'} there."
    return Seen(
        "schema_change_undone", place.engine.name, setup,
        "Begin; make a table; store a row into it and a message; roll back; look.",
        saw,
        not said and not table and not left,
        {"table": table, "left": left, "said": said},
    )  # fmt: skip


def _of_two(count: int) -> str:
    return "Both writes are" if count == 2 else "One of the two writes is"
