"""From what was seen to a verdict: a few rules, the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pglab.comparison.contract import AS_INSTALLED, Setup
from pglab.comparison.seen import Seen

__all__ = ["Evidence", "Judge", "Ruling", "Verdict", "denied", "promised"]


class Verdict(Enum):
    """What becomes of a claim."""

    HOLDS = "holds"
    ONLY_IF = "holds only if"
    NOT = "does not hold"
    NOT_RUN = "not run here"


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict, and for ``ONLY_IF`` the condition; otherwise a reason, if one is needed."""

    verdict: Verdict
    words: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of every engine, asked on behalf of one.

    Attributes:
        engine: the one that the claim is about.
        seen: of all engines.
        setups: of the one.
    """

    engine: str
    seen: Sequence[Seen]
    setups: Mapping[str, Setup]

    def of(self, check: str, setup: str = AS_INSTALLED) -> Seen | None:
        """Return what was seen in a set-up; where it changes nothing, as installed."""
        found = {each.setup: each for each in self.seen
                 if each.engine == self.engine and each.check == check}  # fmt: skip
        return found.get(setup, found.get(AS_INSTALLED))

    def all_of(self, checks: Sequence[str]) -> list[Seen]:
        """Return all that was seen by these checks, in their order, in every set-up."""
        return [each for check in checks for each in self.seen
                if each.engine == self.engine and each.check == check]  # fmt: skip

    def fact(self, engine: str, check: str, name: str) -> Any:
        """Return a fact of any engine as installed, None where it was not seen."""
        for each in self.seen:
            if (each.engine, each.check, each.setup) == (engine, check, AS_INSTALLED):
                return each.facts.get(name)
        return None

    def passes(self, checks: Sequence[str], setup: str) -> bool | None:
        """Tell whether every check passes in a set-up; None where one was not run."""
        results = [seen.passed if (seen := self.of(check, setup)) else None for check in checks]
        if False in results:
            return False
        return None if None in results else True


Judge = Callable[[Evidence, Sequence[str]], Ruling]


def promised(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    """Judge a claim that says: it does what these checks ask for."""
    results = {name: evidence.passes(checks, name) for name in evidence.setups}
    if all(result is None for result in results.values()):
        return Ruling(Verdict.NOT_RUN)
    avoided = [
        setup.condition
        for name, setup in evidence.setups.items()
        if setup.spoils and results[name] is False
    ]
    needed = []
    if not results[AS_INSTALLED]:
        good = [
            setup.condition
            for name, setup in evidence.setups.items()
            if results[name] and not setup.spoils
        ]
        if not good:
            return Ruling(Verdict.NOT)
        needed = good[:1]
    if needed or avoided:
        return Ruling(Verdict.ONLY_IF, ", and ".join([*needed, *avoided]))
    return Ruling(Verdict.HOLDS)


def denied(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    """Judge a claim that says: it does not do what these checks ask for."""
    opposite = promised(evidence, checks)
    if opposite.verdict is Verdict.HOLDS:
        return Ruling(Verdict.NOT)
    if opposite.verdict is Verdict.NOT:
        return Ruling(Verdict.HOLDS, _even_if(evidence, checks))
    if opposite.verdict is Verdict.ONLY_IF:
        return Ruling(Verdict.ONLY_IF, f"it is left as installed: it passes if {opposite.words}")
    return opposite


def _even_if(evidence: Evidence, checks: Sequence[str]) -> str:
    """Say what still fails in the last set-up, which is the most careful one."""
    careful = [name for name, setup in evidence.setups.items() if not setup.spoils][-1]
    failing = [
        check.replace("_", " ")
        for check in checks
        if (seen := evidence.of(check, careful)) is not None and seen.passed is False
    ]
    if careful == AS_INSTALLED or not failing:
        return ""
    return f"even if {evidence.setups[careful].condition}, it fails at: {', '.join(failing)}"
