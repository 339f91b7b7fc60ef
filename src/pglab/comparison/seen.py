"""What a check saw: the record that verdicts are made from, and that references keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One check of one engine in one set-up.

    Attributes:
        check: the check's name.
        engine: postgres, mysql, sqlite or mongodb.
        setup: see ``Engine.setups``.
        ran: what was done, in a sentence.
        saw: what came of it, in a sentence made from the facts.
        passed: the database did what the check asks for; None where there is no yes or no.
        facts: counts and words, as JSON knows them.
    """

    check: str
    engine: str
    setup: str
    ran: str
    saw: str
    passed: bool | None
    facts: Mapping[str, Any] = field(default_factory=dict)
