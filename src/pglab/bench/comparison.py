"""Two runs side by side, as tables: for terminals, notebooks, Markdown, JSON and pandas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from pglab.bench.grid import STYLE, Grid, escaped_markdown
from pglab.bench.results import Result
from pglab.bench.statistics import Ratio
from pglab.bench.verdict import Word, judge
from pglab.bench.words import UNKNOWN, duration, factor, machine_name
from pglab.framed import framed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Row", "counted"]

_CAVEAT: Final = (
    "The runs were not interleaved: intervals hold the scatter of rounds, not the machine's mood "
    "between two runs. Where time and ratio to the baseline disagree, trust the ratio."
)


@dataclass(frozen=True)
class Row:
    """One variant at one size in both runs.

    Attributes:
        a_us, b_us: what variants are compared by, mostly the median of an operation.
        change: how many times faster it is in b; None where a run has one round only.
        verdict: of ``change``, for b.
        ratio_a, ratio_b: how many times faster it is than the baseline of its own run.
        ratio_change: ratio_b over ratio_a; above 1 the advantage over the baseline has grown.
        ratio_verdict: of ``ratio_change``; "faster" says that the advantage has grown.
        plan_changed: the plans' nodes differ.
    """

    case: str
    size: int
    variant: str
    a_us: float
    b_us: float
    change: Ratio | None
    verdict: Word | None
    ratio_a: Ratio | None
    ratio_b: Ratio | None
    ratio_change: Ratio | None
    ratio_verdict: Word | None
    plan_changed: bool


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        differences: in machine or settings, which were overruled.
        remarks: further differences, and what only one of the runs has.
        rows: what both have.
    """

    a: Result
    b: Result
    differences: tuple[str, ...]
    remarks: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases that both runs have."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    def grids(self) -> list[Grid]:
        """Return a table for each case."""
        found = []
        for name in self.cases:
            rows = [row for row in self.rows if row.case == name]
            found.append(
                Grid(
                    f"{name}: {counted(rows)}",
                    ("Variant", "Messages", "A", "B", "B against A", "A to baseline",
                     "B to baseline", "Advantage in B"),
                    tuple(_cells(row) for row in rows),
                    frozenset({1, 2, 3, 5, 6}),
                    tuple(
                        f"{row.variant} at {row.size:,} messages: another plan in B than in A"
                        for row in rows
                        if row.plan_changed
                    ),
                )
            )  # fmt: skip
        return found

    def notes(self) -> list[str]:
        """Return what to know before reading the tables; overruled differences come first."""
        return [f"UNLIKE: {each}" for each in self.differences] + self.remarks_and_runs()

    def remarks_and_runs(self) -> list[str]:
        """Return what the runs are, and in what else they differ."""
        return [f"A: {_named(self.a)}", f"B: {_named(self.b)}", *self.remarks, _CAVEAT]

    def __str__(self) -> str:
        return "\n\n".join(["\n".join(self.notes()), *(grid.text() for grid in self.grids())])

    def text(self) -> str:
        """Return the tables for a terminal."""
        return str(self)

    def markdown(self) -> str:
        """Return the tables in Markdown."""
        listed = "\n".join(f"- {escaped_markdown(note)}" for note in self.notes())
        return "\n\n".join([listed, *(grid.markdown() for grid in self.grids())]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON knows it; intervals with their ends and confidence."""
        return {
            "a": {"created_at": self.a.created_at, "environment": dict(self.a.environment)},
            "b": {"created_at": self.b.created_at, "environment": dict(self.b.environment)},
            "differences": list(self.differences),
            "remarks": list(self.remarks),
            "rows": [asdict(row) for row in self.rows],
        }

    def frame(self) -> pd.DataFrame:
        """Return a table with a row for each case, size and variant; intervals in two columns."""
        import pandas as pd

        found = []
        for row in self.rows:
            record: dict[str, Any] = {}
            for name, value in vars(row).items():
                if name in {"change", "ratio_a", "ratio_b", "ratio_change"}:
                    record[name] = value.value if value else math.nan
                    record[f"{name}_low"] = value.low if value else math.nan
                    record[f"{name}_high"] = value.high if value else math.nan
                else:
                    record[name] = value
            found.append(record)
        return pd.DataFrame.from_records(found)

    def _repr_html_(self) -> str:
        listed = "".join(f"<li>{escape(note)}</li>" for note in self.notes())
        tables = "".join(grid.html() for grid in self.grids())
        return STYLE + framed(f"<ul>{listed}</ul>{tables}", "pglab-bench")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.variant,
        f"{row.size:,}",
        duration(row.a_us),
        duration(row.b_us),
        _short(judge(row.change).text) if row.change else UNKNOWN,
        factor(row.ratio_a.value) if row.ratio_a else UNKNOWN,
        factor(row.ratio_b.value) if row.ratio_b else UNKNOWN,
        _short(judge(row.ratio_change, faster="larger", slower="smaller").text)
        if row.ratio_change
        else UNKNOWN,
    )


def _short(text: str) -> str:
    """Leave out what every row would repeat: the remedy, and whose difference it is."""
    text = text.partition("): ")[0] + ")" if "): " in text else text
    return text.replace(" that this run can show", "")


def counted(rows: Sequence[Row]) -> str:
    """Return how many variants became what, in words."""
    counts = {
        word: sum(row.verdict == word for row in rows)
        for word in ("faster", "slower", "no difference", "too noisy")
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no verdict"


def _named(result: Result) -> str:
    commit = result.environment.get("pglab") or {}
    parts = [result.created_at, machine_name(result.environment)]
    parts += [f"commit {commit['commit']}"] if commit.get("commit") else []
    return ", ".join(part for part in parts if part) + (
        f" (stopped: {result.stopped})" if result.stopped else ""
    )
