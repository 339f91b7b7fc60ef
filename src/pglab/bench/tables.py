"""Results as tables: for notebooks, terminals, Markdown and pandas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pglab.bench.findings import (
    compared,
    finding,
    middle,
    notes,
)
from pglab.bench.grid import STYLE, Grid, escaped_markdown
from pglab.bench.statistics import Ratio
from pglab.bench.verdict import judge
from pglab.bench.words import UNKNOWN, digits, duration, factor, interval, short_count
from pglab.framed import framed

if TYPE_CHECKING:
    import pandas as pd

    from pglab.bench.results import CaseResult, Result, SizeResult, VariantResult

    Cell = Callable[[SizeResult, VariantResult, Ratio | None], str]

__all__ = ["case_grid", "frame", "html", "markdown", "records", "text"]


def frame(cases: Iterable[CaseResult]) -> pd.DataFrame:
    """Return a table with a row for each case, size and variant.

    Columns: case, size (messages), variant, p50_us, p95_us, p99_us, p99_9_us (NaN where there were
    too few operations), mean_us, operations_per_s, rows_per_s, buffers (pages of 8 kB an
    operation), ratio (times faster than the baseline) with ratio_low and ratio_high, verdict, plan.
    """
    import pandas as pd

    found = pd.DataFrame.from_records(records(cases), columns=_COLUMNS)
    numbers = [name for name in _COLUMNS if name not in {"case", "size", "variant", *_WORDS}]
    # A column of nothing but None would otherwise be one of objects.
    return found.astype(dict.fromkeys(numbers, "float64"))


_COLUMNS: Final = [
    "case", "size", "variant", "p50_us", "p95_us", "p99_us", "p99_9_us", "mean_us",
    "operations_per_s", "rows_per_s", "buffers", "ratio", "ratio_low", "ratio_high", "verdict",
    "plan",
]  # fmt: skip


_WORDS: Final = {"verdict", "plan"}


def records(cases: Iterable[CaseResult]) -> list[dict[str, Any]]:
    """Return the rows of ``frame``; None where a number is not known."""
    found = []
    for case in cases:
        for at in case.sizes:
            for variant in at.variants:
                ratio = compared(case, at, variant.name)
                percentiles = variant.percentiles_us
                found.append(
                    {
                        "case": case.name,
                        "size": at.size,
                        "variant": variant.name,
                        **{
                            f"{name.replace('.', '_')}_us": percentiles[name]
                            for name in ("p50", "p95", "p99", "p99.9")
                        },
                        "mean_us": variant.latencies.mean / 1_000,
                        "operations_per_s": variant.operations_per_second,
                        "rows_per_s": variant.rows_per_second,
                        "buffers": variant.plan.buffers if variant.plan else None,
                        "ratio": ratio.value if ratio else None,
                        "ratio_low": ratio.low if ratio else None,
                        "ratio_high": ratio.high if ratio else None,
                        "verdict": _verdict(case, variant, ratio),
                        "plan": " / ".join(map(str.strip, variant.plan.nodes))
                        if variant.plan
                        else "",
                    }
                )
    return found


def case_grid(case: CaseResult) -> Grid:
    """Return a case's table: a row for each size and variant, its notes below."""
    every = [variant for at in case.sizes for variant in at.variants]
    columns: list[tuple[str, Cell]] = [("Variant", lambda _, v, __: v.name)]
    if len(case.sizes) > 1:
        columns.append(("Messages", lambda at, _, __: f"{at.size:,}"))
    columns += _measured(every, (("clients", "Clients"), ("hit_ratio", "Hit ratio")))
    columns.append(("Median", lambda _, v, __: duration(float(np.median(v.medians_us)))))
    if case.picture == "hit_ratio":
        columns.append(("Mean", lambda _, v, __: duration(middle(v, "mean").value)))
    columns.append(("p99", lambda _, v, __: duration(v.percentiles_us["p99"])))
    if case.rows:
        columns.append((f"{case.rows}/s", lambda _, v, __: _rows_per_s(v)))
    elif any("clients" in variant.measures for variant in every):
        columns.append(("Operations/s", lambda _, v, __: short_count(v.operations_per_second)))
    if any(variant.plan for variant in every):
        columns.append(("Pages", lambda _, v, __: _pages(v)))
    columns += _measured(every, _OF_WRITES)
    columns += [
        ("Times faster", lambda _, __, ratio: f"{factor(ratio.value)} ({interval(ratio)})"
         if ratio else UNKNOWN),
        ("Verdict", lambda _, v, ratio: _verdict(case, v, ratio)),
    ]  # fmt: skip
    rows = [
        tuple(cell(at, variant, ratio) for _, cell in columns)
        for at in case.sizes
        for variant, ratio in ((each, compared(case, at, each.name)) for each in at.variants)
    ]
    names = tuple(title for title, _ in columns)
    return Grid(
        finding(case),
        names,
        tuple(rows),
        frozenset(range(1, len(names) - 1)),
        tuple(notes(case)),
    )


_OF_WRITES: Final = (
    ("index_pages", "Index pages"),
    ("wal_bytes_per_row", "WAL B/row"),
    ("wal_bytes_per_row_after_checkpoint", "WAL B/row after a checkpoint"),
)


def _measured(
    every: Sequence[VariantResult], wanted: Iterable[tuple[str, str]]
) -> list[tuple[str, Cell]]:
    """Return a column for each measure that any variant has."""
    return [
        (title, _measure(name))
        for name, title in wanted
        if any(name in variant.measures for variant in every)
    ]


def html(result: Result) -> str:
    """Return a table for each case, for notebooks."""
    parts = [f"<p>{escape(each)}</p>" for each in _heading(result)]
    for case in result.cases:
        parts += [f"<p><b>{escape(case.name)}</b>: {escape(case.question)}</p>"]
        parts += [case_grid(case).html()]
    return STYLE + framed("".join(parts), "pglab-bench")


def text(result: Result) -> str:
    """Return a table for each case, for terminals."""
    parts = list(_heading(result))
    parts += [
        f"{case.name}: {case.question}\n{case_grid(case).text()}".strip() for case in result.cases
    ]
    return "\n\n".join(parts)


def markdown(result: Result) -> str:
    """Return a table for each case, in Markdown."""
    parts = [escaped_markdown(each) for each in _heading(result)]
    for case in result.cases:
        heading = escaped_markdown(f"{case.name}: {case.question}")
        parts += [f"### {heading}", case_grid(case).markdown()]
    return "\n\n".join(parts) + "\n"


def _pages(variant: VariantResult) -> str:
    return digits(variant.plan.buffers) if variant.plan else UNKNOWN


def _heading(result: Result) -> Sequence[str]:
    if result.stopped:
        return [f"Stopped: {result.stopped}"]
    return [] if result.cases else ["This run has no results"]


def _rows_per_s(variant: VariantResult) -> str:
    """Return the median over rounds, as the picture has it."""
    if not all(each.rows for each in variant.rounds):
        return UNKNOWN
    return short_count(1e6 / middle(variant, "time a row").value)


def _measure(name: str) -> Cell:
    def cell(_: SizeResult, variant: VariantResult, __: Ratio | None) -> str:
        value = variant.measures.get(name)
        if value is None:
            return UNKNOWN
        return f"{value * 100:.1f} %" if name == "hit_ratio" else f"{value:,.0f}"

    return cell


def _verdict(case: CaseResult, variant: VariantResult, ratio: Ratio | None) -> str:
    if variant.name == case.baseline:
        return "baseline"
    return judge(ratio).word if ratio else UNKNOWN
