"""Running everything, and laying the kept results in where an engine is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from pglab.comparison.checks import CHECKS
from pglab.comparison.contract import AS_INSTALLED, EngineMissingError
from pglab.comparison.kept import machine_words, with_kept
from pglab.comparison.places import ENGINES, Place, find
from pglab.comparison.result import Comparison, EngineNote
from pglab.comparison.seen import Seen
from pglab.comparison.speed import measure, measure_writers

__all__ = ["compare"]

_TIMED = ("postgres", "mysql", "sqlite")


def compare(
    engines: Sequence[str] = tuple(ENGINES),
    *,
    rounds: int = 3,
    say: Callable[[str], None] = lambda _line: None,
) -> Comparison:
    """Run the workload on every engine that can be had here, and end what was started for it.

    Args:
        engines: which of postgres, mysql, sqlite and mongodb.
        rounds: of what is timed; 0 leaves the times out.
        say: is told what is being done.

    Returns:
        What was seen; missing engines have their reason, and a kept result if there is one.
    """
    seen: list[Seen] = []
    notes: dict[str, EngineNote] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        places: list[Place] = []
        for name in engines:
            try:
                place = stack.enter_context(find(name))
            except EngineMissingError as error:
                missing[name] = str(error)
                say(f"{name}: not here")
                continue
            places.append(place)
            engine = place.engine
            notes[name] = EngineNote(engine.product, engine.version, place.how)
            say(f"{name}: {engine.product} {engine.version}")
        for place in places:
            seen += _checks(place, say)
        timed = [place for place in places if place.engine.name in _TIMED]
        if rounds and timed:
            say("times, in turns")
            seen += measure(timed, rounds)
            for place in timed:
                for name, setup in place.engine.setups.items():
                    if name == AS_INSTALLED or "four_writers" in setup.checks:
                        say(f"{place.engine.name}, {name}: four writers")
                        seen.append(measure_writers(place, name))
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return with_kept(Comparison(tuple(seen), notes, missing, machine_words(), day))


def _checks(place: Place, say: Callable[[str], None]) -> list[Seen]:
    found = []
    for name, setup in place.engine.setups.items():
        for check, run in CHECKS.items():
            if name == AS_INSTALLED or check in setup.checks:
                say(f"{place.engine.name}, {name}: {check}")
                found.append(run(place, name))
    return found
