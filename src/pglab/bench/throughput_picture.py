"""Throughput over the number of clients."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pglab.bench.canvas import Picture, dots, new, style
from pglab.bench.labels import Label, label_right, wrapped
from pglab.bench.statistics import Interval, Ratio, median_interval, paired_ratio
from pglab.bench.words import factor, interval, messages, plural, short_count

if TYPE_CHECKING:
    # Results show themselves through this module, which only names their types.
    from pglab.bench.results import CaseResult, VariantResult

__all__ = ["throughput"]

_CLIENTS: Final = re.compile(r"[\s,:;(]*\b\d+ clients?\)?$")


def throughput(case: CaseResult) -> Picture:
    """Draw operations a second over the number of clients, at the largest size.

    Variants of one kind, such as "Redis, 1 client" and "Redis, 8 clients", make one line.

    Raises:
        BenchError: no size was finished.
    """
    at = case.at()
    lines: dict[str, dict[int, VariantResult]] = {}
    for variant in at.variants:
        clients = int(variant.measures.get("clients", 1))
        lines.setdefault(_CLIENTS.sub("", variant.name) or case.unit, {})[clients] = variant
    figure, axes = new(_throughput_finding(case, lines))
    labels = []
    for place, (name, by_clients) in enumerate(lines.items()):
        own, counts = style(place), sorted(by_clients)
        found = [_per_second(by_clients[each]) for each in counts]
        dots(axes, counts, found, own, joined=True)
        text = f"{wrapped(name)}\n{short_count(found[-1].value)}/s"
        labels.append(Label(found[-1].value, text, own.colour, x=counts[-1]))
    ticks = sorted({each for line in lines.values() for each in line})
    axes.set_xscale("log", base=2)
    axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.set_xlabel("clients at once", fontsize=10)
    axes.set_ylabel(
        f"{plural(case.unit)} a second together\n({messages(at.size)}, bars: 95 % intervals)",
        fontsize=10, parse_math=False,
    )  # fmt: skip
    label_right(axes, labels)
    return figure


def _rates(variant: VariantResult) -> dict[int, float]:
    return {each.number: each.operations / each.seconds for each in variant.rounds}


def _per_second(variant: VariantResult) -> Interval:
    rates = list(_rates(variant).values())
    return median_interval(rates) if len(rates) > 1 else Interval(rates[0], rates[0], rates[0])


def _throughput_finding(case: CaseResult, lines: dict[str, dict[int, VariantResult]]) -> str:
    where = messages(case.at().size)
    names = list(lines)
    most = max(set.intersection(*(set(line) for line in lines.values())), default=0)
    if len(names) > 1 and most:
        others = {name: _over(lines[name][most], lines[names[0]][most]) for name in names[1:]}
        best = max(others, key=lambda name: ratio.value if (ratio := others[name]) else 0)
        found, against = others[best], f"{names[0]} ({{}})"
        subject = f"{most} client{'s' if most > 1 else ''} of {best}"
        return _more(where, subject, case.unit, found, against)
    line = lines[names[0]]
    few, many = min(line), max(line)
    if few == many:
        return f"{where}: {few} client(s) of {names[0]}"
    subject = f"{many} clients of {names[0]}"
    return _more(where, subject, case.unit, _over(line[many], line[few]), f"{few} ({{}})")


def _more(where: str, subject: str, unit: str, ratio: Ratio | None, against: str) -> str:
    if ratio is None:
        return f"{where}: {subject} cannot be compared, for there are no two rounds"
    bounds = interval(ratio)
    if ratio.low > 1 or ratio.high < 1:
        amount = (
            f"{factor(ratio.value)} times the {plural(unit)} a second of {against.format(bounds)}"
        )
        return f"{where}: {subject} do {amount}"
    bounds = f"ratio {bounds}"
    return f"{where}: no difference that this run can show between {subject} and " + against.format(
        bounds
    )


def _over(above: VariantResult, below: VariantResult) -> Ratio | None:
    first, second = _rates(above), _rates(below)
    both = sorted(first.keys() & second.keys())
    if len(both) < 2:
        return None
    return paired_ratio([first[n] for n in both], [second[n] for n in both])
