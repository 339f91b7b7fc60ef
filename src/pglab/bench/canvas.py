"""What all pictures share: figures without pyplot, axes in µs and messages.

Every variant has a colour, a marker and a line style of its own, and its name beside its line:
nothing is said by colour alone. The colours are those of Okabe and Ito (2008), which colour-blind
readers tell apart.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from pglab.bench.statistics import Interval
from pglab.bench.words import duration, short_count

__all__ = [
    "GREY",
    "Picture",
    "Style",
    "dots",
    "log_us",
    "new",
    "reach",
    "sizes_on",
    "style",
]

GREY: Final = "#767676"
_STYLES: Final = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#007A5E", "^", "-."),
    ("#B0578D", "D", (0, (1, 1.2))),
    ("#8A6D00", "v", (0, (5, 1, 1, 1, 1, 1))),
    ("#333333", "P", (0, (8, 2))),
    ("#5B5BD6", "X", (0, (3, 1, 1, 1))),
    ("#9C3B00", "*", (0, (2, 2, 6, 2))),
)
_SMALL: Final = 9


class Picture(Figure):
    """A figure that a notebook shows by itself, with or without pyplot."""

    alt: str = ""

    def _repr_png_(self) -> bytes:
        return self.data("png")

    def data(self, kind: Literal["png", "svg"]) -> bytes:
        """Return the picture as a file; the same figure gives the same bytes."""
        import matplotlib as mpl

        stream = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
        with mpl.rc_context({"svg.hashsalt": "pglab", "svg.fonttype": "path"}):
            self.savefig(stream, format=kind, dpi=110, metadata=metadata, facecolor="white")
        return stream.getvalue()


@dataclass(frozen=True)
class Style:
    """How a variant is drawn: ``marker`` and ``line`` as Matplotlib has them."""

    colour: str
    marker: str
    line: Any


def new(title: str, *, size: tuple[float, float] = (8, 4.5)) -> tuple[Picture, Axes]:
    """Return a figure with one axes, its title wrapped; inches."""
    figure = Picture(figsize=size, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    # A figure and its unit, or an interval, are not torn apart: textwrap keeps such spaces.
    kept = re.sub(
        r"\([^)]*\)|\d (%|[nµm]?s\b)",
        lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"),
        title,
    )
    lines = textwrap.wrap(kept, width=int(size[0] * 9.5)) or [""]
    figure.suptitle(
        "\n".join(lines), x=0.01, ha="left", fontsize=11.5, fontweight="bold", parse_math=False
    )
    figure.alt = title
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_SMALL)
    return figure, axes


def style(place: int) -> Style:
    """Return the style of a case's variant number ``place``, the baseline being 0."""
    return Style(*_STYLES[place % len(_STYLES)])


def log_us(axis: Axis, values: Sequence[float]) -> None:
    """Make an axis logarithmic, of latencies in µs, with at least two named ticks."""
    low, high = min(values), max(values)
    middle, around = math.sqrt(low * high), max(math.sqrt(high / low) * 1.25, 1.6)
    low, high = middle / around, middle * around
    axes = axis.axes
    if axis is axes.xaxis:
        axes.set(xscale="log", xlim=(low, high))
    else:
        axes.set(yscale="log", ylim=(low, high))
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.3 else (1.0, 1.5, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda us, _: _tick(us)))
    axis.set_minor_locator(LogLocator(subs="all", numticks=12) if decades < 6 else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def dots(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[Interval],
    own: Style,
    *,
    size: float = 6.5,
    joined: bool = False,
    swapped: bool = False,
) -> None:
    """Draw medians as dots with their intervals as bars.

    Args:
        axes: on which.
        x: places.
        y: for each place a median and its interval; along x if ``swapped``.
        own: how.
        size: of the dots, in points.
        joined: with lines between them.
        swapped: the places go along y.
    """
    values = [each.value for each in y]
    ends = reach(y)
    axes.errorbar(
        values if swapped else x, x if swapped else values,
        xerr=ends if swapped else None, yerr=None if swapped else ends,
        marker=own.marker, color=own.colour, linestyle=own.line if joined else "none",
        linewidth=1.6, markersize=size, markeredgecolor="white", capsize=3, elinewidth=1.2,
        zorder=3,
    )  # fmt: skip


def reach(intervals: Sequence[Interval]) -> list[list[float]]:
    """Return how far intervals reach below and above their values, as error bars want it."""
    return [
        [each.value - each.low for each in intervals],
        [each.high - each.value for each in intervals],
    ]


def sizes_on(axes: Axes, sizes: Sequence[int]) -> None:
    """Make the x axis logarithmic, of messages, each measured size being a tick."""
    low, high = min(sizes), max(sizes)
    margin = max((high / low) ** 0.05, 1.08)
    axes.set(xscale="log", xlim=(low / margin, high * margin))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(_apart(sorted(sizes))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short_count(size)))
    axes.set_xlabel("messages in the table", fontsize=_SMALL + 1)


def _apart(sizes: Sequence[int]) -> list[int]:
    kept: list[int] = []
    for size in sizes:
        if not kept or math.log(size / kept[-1]) > 0.09 * math.log(sizes[-1] / sizes[0]):
            kept.append(size)
    return kept


def _tick(us: float) -> str:
    value, _, unit = duration(us).partition(" ")
    return f"{float(value.replace(',', '')):g} {unit}"
