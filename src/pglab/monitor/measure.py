"""What a measure is: a named question, the query that answers it, and what to make of it.

A measure is data. ``pglab.monitor.asking`` runs it; tests run every one on every version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "Judge", "Measure", "Reading", "Row", "Variant"]

Row = Mapping[str, Any]
Judge = Callable[[Sequence[Row]], "list[Finding]"]
Weight = Literal["note", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """What the rows mean, in words.

    Attributes:
        weight: ``note`` (good to know), ``warning`` (look into it), ``fault`` (act now).
        text: a fact with its figures.
        remedy: what to do, as a statement where there is one; may be empty.
        measure: whose finding it is; filled in by the reading.
    """

    weight: Weight
    text: str
    remedy: str = ""
    measure: str = ""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One spelling of a query.

    Attributes:
        sql: one statement without parameters. ``{extension}`` stands for the quoted schema that
            the measure's extension lives in.
        server: from this version on, as ``server_version_num`` has it.
        extension: from this version of the extension on, such as (1, 11).
    """

    sql: str
    server: int = 150_000
    extension: tuple[int, int] = (0, 0)


def _nothing(_: Sequence[Row]) -> list[Finding]:
    return []


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A question to a server.

    Attributes:
        name: how it is called, as in ``look(connection, "blocking_tree")``.
        title: a heading.
        question: what it answers, as a person would ask.
        variants: the query, oldest version first; the last that fits is run.
        columns: name of each column and what it says, with its unit. Seconds end in ``_s``,
            bytes in ``_bytes``, milliseconds in ``_ms``.
        rule: when it finds something, in words.
        judge: the rule, applied to rows.
        scope: whether it looks at the whole server or at the database one is connected to.
        extension: what must be installed there; empty for nothing.
        role: the predefined role that it needs; without it rows would be missing or masked.
        counters: columns that only grow, from which two readings make a rate.
        key: columns that tell rows apart, for rates.
        slow: it changes slowly and costs more than a look: a ``Watch`` asks it less often.
        reads_tables: it reads tables and not just counters; never part of a survey unless named.
    """

    name: str
    title: str
    question: str
    variants: Sequence[Variant]
    columns: Mapping[str, str]
    rule: str
    judge: Judge = _nothing
    scope: Literal["server", "database"] = "database"
    extension: str = ""
    role: str = ""
    counters: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    slow: bool = False
    reads_tables: bool = False

    def sql(self, server: int, extension: tuple[int, int] = (0, 0)) -> str | None:
        """Return the query for a server (and its extension), or None if it is too old."""
        fitting = [v for v in self.variants if v.server <= server and v.extension <= extension]
        return fitting[-1].sql if fitting else None

    @property
    def oldest(self) -> int:
        """Return the oldest major version that it runs on."""
        return min(variant.server for variant in self.variants) // 10_000


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A measure's answer at one moment.

    Attributes:
        rows: by column name; sizes in bytes and durations in seconds, as plain numbers.
        skipped: why there are no rows, with the remedy; empty if it was answered.
        took_ms: between question and answer, in milliseconds.
        at: when, by the server's clock.
    """

    measure: Measure
    rows: tuple[dict[str, Any], ...] = ()
    skipped: str = ""
    took_ms: float = 0.0
    at: datetime | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Return the measure's name."""
        return self.measure.name

    @property
    def findings(self) -> list[Finding]:
        """Return what the rows mean; empty if there is nothing to say, or it was skipped."""
        return [
            Finding(found.weight, found.text, found.remedy, self.name)
            for found in self.measure.judge(self.rows)
        ]

    def frame(self) -> pd.DataFrame:
        """Return the rows as a DataFrame with the measure's columns, also when there are none."""
        import pandas as pd

        # As objects, so that a missing name stays None; numbers get a type that can miss, too.
        frame = pd.DataFrame(list(self.rows), columns=list(self.measure.columns), dtype=object)
        for name in frame.columns:
            kinds = {type(row[name]) for row in self.rows if row[name] is not None}
            if kinds == {int}:
                frame[name] = frame[name].astype("Int64")
            elif kinds == {bool}:
                frame[name] = frame[name].astype("boolean")
            elif kinds and kinds <= {int, float}:
                frame[name] = frame[name].astype("float64")
        return frame

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "name": self.name,
            "title": self.measure.title,
            "skipped": self.skipped,
            "took_ms": round(self.took_ms, 3),
            "at": self.at.isoformat() if self.at else None,
            "rows": list(self.rows),
            "findings": [
                {"weight": f.weight, "text": f.text, "remedy": f.remedy} for f in self.findings
            ],
        }
