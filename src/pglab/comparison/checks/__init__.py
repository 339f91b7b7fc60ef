"""The checks: each a small function of a place and a set-up, which returns what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pglab.comparison.checks.answers import finds_in_json, right_answers
from pglab.comparison.checks.atomicity import all_or_nothing, schema_change_undone
from pglab.comparison.checks.consistency import broken_rules, wrong_values
from pglab.comparison.checks.durability import survives_kill
from pglab.comparison.checks.isolation import no_anomaly, two_writers
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen

__all__ = ["CHECKS", "Check"]

Check = Callable[[Place, str], Seen]

CHECKS: Final[Mapping[str, Check]] = {
    check.__name__: check
    for check in (
        right_answers,
        finds_in_json,
        all_or_nothing,
        schema_change_undone,
        wrong_values,
        broken_rules,
        no_anomaly,
        two_writers,
        survives_kill,
    )
}
"""By name, in the order in which they are run."""
