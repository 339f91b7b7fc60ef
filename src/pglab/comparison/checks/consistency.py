"""C: what the database refuses without the program's help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pglab.comparison.checks.ground import prepared
from pglab.comparison.contract import Refused, Session
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen
from pglab.comparison.workload import BUSY, event

__all__ = ["broken_rules", "wrong_values"]

Attempt = Callable[[Session, int], None]
"""Tries something wrong, with the event of this number."""


def _with(**changes: Any) -> Attempt:
    return lambda session, number: session.insert("messages", {**event(number), **changes})


_VALUES: Final[Mapping[str, Attempt]] = {
    "a word as a number": lambda session, _number: session.update(
        "instances", {"name": BUSY}, {"received": "many"}
    ),
    "'soon' as a time": _with(sent_at="soon"),
    "200 letters where 40 are meant": _with(whatsapp_id="x" * 200),
    "half of a JSON object": _with(event='{"id": '),
}
_RULES: Final[Mapping[str, Attempt]] = {
    "the same message twice": _with(whatsapp_id=event(1)["whatsapp_id"]),
    "a status that does not exist": _with(status="leído"),
    "no value where one is required": _with(status=None),
    "a message of no instance": _with(instance="nobody"),
    "an instance removed under its messages": lambda session, _number: session.delete(
        "instances", {"name": BUSY}
    ),
}


def wrong_values(place: Place, setup: str) -> Seen:
    """Store values of the wrong kind."""
    return _tried("wrong_values", "values of the wrong kind", place, setup, _VALUES)


def broken_rules(place: Place, setup: str) -> Seen:
    """Break each kind of rule that a schema can hold."""
    return _tried("broken_rules", "rows that break a rule", place, setup, _RULES)


def _tried(
    check: str, what: str, place: Place, setup: str, attempts: Mapping[str, Attempt]
) -> Seen:
    refused: dict[str, str] = {}
    let_in: list[str] = []
    with prepared(place, setup) as session:
        session.insert("messages", event(1))
        for number, (name, attempt) in enumerate(attempts.items(), 2):
            try:
                attempt(session, number)
            except Refused as error:
                refused[name] = f"{error.why}: {error}"
            else:
                let_in.append(name)
    saw = f"{len(refused)} of {len(attempts)} refused."
    if let_in:
        saw += f" Let in: {'; '.join(let_in)}."
    return Seen(
        check, place.engine.name, setup, f"Try {len(attempts)} {what}.", saw, not let_in,
        {"refused": refused, "let_in": let_in},
    )  # fmt: skip
