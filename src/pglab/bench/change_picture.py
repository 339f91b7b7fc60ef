"""What changed between two runs, each variant on a line of its own."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pglab.bench.canvas import Picture, dots, new, style
from pglab.bench.comparison import Row, counted
from pglab.bench.labels import Label, label_right, wrapped
from pglab.bench.statistics import Interval, Ratio
from pglab.bench.verdict import judge
from pglab.bench.words import factor

__all__ = ["changes"]


def changes(rows: Sequence[Row]) -> Picture:
    """Draw how many times faster each variant is in B, and its advantage over the baseline.

    Args:
        rows: of one case.
    """
    title = f"{rows[0].case}: of {len(rows)} times, {counted(rows)}"
    figure, axes = new(title, size=(8, min(1.6 + 0.55 * max(len(rows), 2), 14)))
    labels, ends = [], [1.0]
    for place, row in enumerate(rows):
        for ratio, offset, number in ((row.change, -0.12, 0), (row.ratio_change, 0.14, 1)):
            if ratio is None:
                continue
            dots(axes, [place + offset], [_interval(ratio)], style(number), swapped=True)
            ends += [ratio.low, ratio.high]
        word = judge(row.change).word if row.change else "cannot be compared"
        labels.append(Label(place, word, "#222222"))
    reach = max(*ends, 1 / min(ends), 1.05) * 1.03
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set(xscale="log", xlim=(1 / reach, reach), ylim=(len(rows) - 0.5, -0.5))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2, 5) if reach > 3 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: factor(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if reach <= 3:
        ticks = [1 / (1 + (reach - 1) * 0.7), 1, 1 + (reach - 1) * 0.7]
        axes.set_xticks(ticks)
    axes.set_yticks(
        range(len(rows)), [wrapped(f"{row.variant}, {row.size:,}") for row in rows],
        parse_math=False,
    )  # fmt: skip
    axes.set_xlabel(
        "times faster in B than in A (circles: time; squares: against its own run's baseline;\n"
        "log scale, bars: 95 % intervals)",
        fontsize=9.5,
    )
    label_right(axes, labels)
    return figure


def _interval(ratio: Ratio) -> Interval:
    return Interval(ratio.value, ratio.low, ratio.high)
