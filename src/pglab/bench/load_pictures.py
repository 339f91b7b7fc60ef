"""Pictures of what a cache, a load or many clients do: hit ratios, rates, throughput, tails."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter

from pglab.bench.canvas import (
    GREY,
    Picture,
    dots,
    log_us,
    new,
    reach,
    style,
)
from pglab.bench.findings import basis, compared, finding, middle
from pglab.bench.labels import Label, label_right, wrapped
from pglab.bench.statistics import (
    NEEDED,
    Interval,
)
from pglab.bench.verdict import judge
from pglab.bench.words import article, duration, factor, interval, messages, plural, short_count

if TYPE_CHECKING:
    # Results show themselves through this module, which only names their types.
    from pglab.bench.results import CaseResult, VariantResult

__all__ = ["distributions", "hit_ratio", "rate"]


def hit_ratio(case: CaseResult) -> Picture:
    """Draw the mean latency over the hit ratio, at the largest size; no cache is a level line.

    The mean, because the median is that of a hit as soon as half of the look-ups are hits.

    Raises:
        BenchError: no size was finished.
    """
    at = case.at()
    figure, axes = new(finding(case))
    labels, values = [], []
    for place, variant in enumerate(at.variants):
        found, own = middle(variant, "mean"), style(place)
        values += [found.low, found.high]
        hits = variant.measures.get("hit_ratio")
        if hits is None:
            axes.axhspan(found.low, found.high, color=GREY, alpha=0.15, linewidth=0)
            axes.axhline(found.value, color=GREY, linestyle="--", linewidth=1.4)
            labels.append(
                Label(found.value, wrapped(f"{variant.name}: {duration(found.value)}"), "#444444")
            )
            continue
        dots(axes, [hits], [found], own)
        text = wrapped(f"{variant.name}: {duration(found.value)}")
        labels.append(Label(found.value, text, own.colour, x=hits))
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:.0f} %"))
    axes.set_xlabel("hit ratio of the cache", fontsize=10)
    log_us(axes.yaxis, values)
    axes.set_ylabel(
        f"mean of {article(case.unit)} at {messages(at.size)}\n(log scale, bars: 95 % intervals)",
        fontsize=10, parse_math=False,
    )  # fmt: skip
    label_right(axes, labels)
    return figure


def rate(case: CaseResult) -> Picture:
    """Draw rows a second of each variant as bars from zero, at the largest size.

    Operations a second where nobody counts rows.

    Raises:
        BenchError: no size was finished.
    """
    at = case.at()
    count = len(at.variants)
    figure, axes = new(finding(case), size=(8, min(1.5 + 0.6 * max(count, 2), 9)))
    labels = []
    for row, variant in enumerate(at.variants):
        found = middle(variant, basis(case))
        per_s = Interval(1e6 / found.value, 1e6 / found.high, 1e6 / found.low)
        colour = GREY if variant.name == case.baseline else style(0).colour
        axes.barh(row, per_s.value, height=0.6, color=colour)
        axes.errorbar(per_s.value, row, xerr=reach([per_s]), fmt="none", ecolor="black", capsize=3)
        labels.append(Label(row, _rate_label(case, variant, per_s), "#222222"))
    axes.set_yticks(range(count), [wrapped(each.name) for each in at.variants], parse_math=False)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(
        f"{_counted(case)} a second at {messages(at.size)} (bars: 95 % intervals)", fontsize=10,
        parse_math=False,
    )  # fmt: skip
    label_right(axes, labels)
    return figure


def distributions(case: CaseResult, size: int | None = None) -> Picture:
    """Draw each variant's percentiles at a size, up to the last that ten latencies lie beyond.

    Raises:
        BenchError: this size was not run.
    """
    at = case.at(size)
    figure, axes = new(_tail_finding(case, size))
    labels, values, ends = [], [], [0.0]
    for place, variant in enumerate(at.variants):
        own, latencies = style(place), variant.latencies
        last = max(50.0, 100 * (1 - 10 / latencies.count))
        nines = np.linspace(0, _nines(last), 200)
        us = [latencies.percentile(min(100 * (1 - 10**-n), 100)) / 1_000 for n in nines.tolist()]
        us = [max(each, 1e-3) for each in us]
        axes.plot(
            nines, us, color=own.colour, linestyle=own.line, linewidth=1.8, marker=own.marker,
            markevery=40, markersize=5, markeredgecolor="white",
        )  # fmt: skip
        values += us
        ends.append(float(nines[-1]))
        text = f"{wrapped(variant.name)}\n{latencies.count:,} {plural(case.unit)}"
        labels.append(Label(us[-1], text, own.colour, x=float(nines[-1])))
    ticks = [q for q in (0, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999) if _nines(q) <= max(ends)]
    axes.set_xlim(0, max(ends) * 1.03)
    axes.xaxis.set_major_locator(FixedLocator([_nines(q) for q in ticks]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda nines, _: f"{100 * (1 - 10**-nines):.5g} %")
    )
    log_us(axes.yaxis, values)
    axes.set_xlabel(
        f"share of the {plural(case.unit)} that took no longer", fontsize=10, parse_math=False
    )
    axes.set_ylabel("latency (log scale)", fontsize=10)
    label_right(axes, labels)
    return figure


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _counted(case: CaseResult) -> str:
    return case.rows or f"{plural(case.unit)}"


def _rate_label(case: CaseResult, variant: VariantResult, per_s: Interval) -> str:
    text = f"{short_count(per_s.value)} {_counted(case)}/s"
    ratio = compared(case, case.at(), variant.name)
    if variant.name == case.baseline:
        return f"{text}, baseline"
    if ratio is None:
        return text
    verdict = judge(ratio)
    if verdict.word in {"faster", "slower"}:
        return f"{text},\n{factor(ratio.value)} times the baseline's ({interval(ratio)})"
    return f"{text},\n{verdict.word} (ratio {interval(ratio)})"


def _tail_finding(case: CaseResult, size: int | None) -> str:
    at = case.at(size)
    for q in sorted(NEEDED, reverse=True):
        name = f"p{q:g}"
        known = {
            each.name: us for each in at.variants if (us := each.percentiles_us[name]) is not None
        }
        if len(known) == len(at.variants):
            shown = sorted(known, key=lambda each: known[each])
            if len(shown) > 2:
                shown = [shown[0], shown[-1]]
            told = " and ".join(f"{duration(known[each])} ({each})" for each in shown)
            return f"{messages(at.size)}: in this run {q:g} % took at most {told}"
    return f"{messages(at.size)}: too few operations for any percentile"
