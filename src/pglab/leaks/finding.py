"""What a search for a secret found, and its table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Finding", "grid"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a secret showed in a place.

    Attributes:
        place: where was looked, or who looked.
        way: how the secret was sent or stored.
        line: the line that shows it; None if none does.
    """

    place: str
    way: str
    line: str | None

    @property
    def found(self) -> bool:
        """Whether the secret stands there."""
        return self.line is not None


def grid(
    findings: Iterable[Finding], *, place: str = "place", found: str = "SEEN"
) -> list[dict[str, str]]:
    """Return one row a place, with a column for each way.

    Args:
        findings: of a trial.
        place: name of the first column.
        found: the word where the secret showed; elsewhere stands "–".
    """
    rows: dict[str, dict[str, str]] = {}
    for finding in findings:
        row = rows.setdefault(finding.place, {place: finding.place})
        row[finding.way] = found if finding.found else "–"
    return list(rows.values())
