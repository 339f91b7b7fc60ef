"""Tables with rows in them, for a check to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pglab.comparison.contract import Session, opened
from pglab.comparison.places import Place
from pglab.comparison.workload import rows

__all__ = ["prepared", "refill"]


def refill(place: Place, setup: str, messages: int = 0, *, json_index: bool = False) -> None:
    """Make the tables anew, with the instances and chats, and so many messages.

    Args:
        place: the engine.
        setup: how to use it.
        messages: how many.
        json_index: also make the index on JSON that the set-up can have.
    """
    place.engine.prepare(setup)
    if json_index:
        place.engine.index_json(setup)
    there = rows()
    with opened(place.engine, setup) as session:
        session.insert_many("instances", there.instances)
        session.insert_many("chats", there.chats)
        if messages:
            session.insert_many("messages", there.messages[:messages])


@contextmanager
def prepared(
    place: Place, setup: str, messages: int = 0, *, json_index: bool = False
) -> Iterator[Session]:
    """Yield a session on tables made anew; see ``refill``."""
    refill(place, setup, messages, json_index=json_index)
    with opened(place.engine, setup) as session:
        yield session
