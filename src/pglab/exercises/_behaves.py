"""What an author says about Python answers: a scenario that is played, and what it must not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pglab.exercises._world import Answer, World

__all__ = ["Behaves", "NotYet", "Scenario", "error_of", "expect"]

Scenario = Callable[["Answer", "World"], None]


# No Exception, so that no `except Exception`, be it the learner's or a scenario's own, hides it.
class NotYet(BaseException):
    """What a scenario saw that should be otherwise.

    Args:
        message: in words, for the learner, such as "The second call loads again."
        seen: shown as it is, such as the two values.
    """

    def __init__(self, message: str, seen: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.seen = seen


def expect(right: object, message: str, seen: str = "") -> None:
    """Raise NotYet with this message unless ``right`` is true.

    Raises:
        NotYet: it is not.
    """
    if not right:
        raise NotYet(message, seen)


def error_of(call: Callable[[], object]) -> Exception | None:
    """Return the exception that a call raises, or None if it returns."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - which one it is, the caller looks at
        return error
    return None


@dataclass(frozen=True, kw_only=True)
class Behaves:
    """A Python answer does what it should in a scenario, which runs in a process of its own.

    Attributes:
        scenario: a function at the top level of the lesson's module. It is given the answer (what
            the learner's cell defines, by name: ``answer.cached(…)``) and a world (connections, a
            Redis, threads), and raises NotYet, best by ``expect``, or returns. Whatever else the
            answer raises, prints, or never ends with is told to the learner by the engine.
        database: it uses ``world.connect()``; a copy of the data is made for it.
    """

    scenario: Scenario
    database: bool = False

    def __post_init__(self) -> None:
        if "<" in self.scenario.__qualname__ or "." in self.scenario.__qualname__:
            raise ValueError(
                f"{self.scenario.__qualname__} is not at the top level of its module, where the "
                "process that plays it can find it"
            )
