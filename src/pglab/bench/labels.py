"""Labels beside what they name, moved apart where they would overlap."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["Label", "label_right", "spread", "wrapped"]

_SMALL: Final = 9
_LINE: Final = 1.3  # height of a line of text, in its font's size
_NAME: Final = 30  # characters of a line of a name


@dataclass(frozen=True)
class Label:
    """A text that belongs to a height on an axes, in the axes' data.

    Attributes:
        x: where the line that it names ends; None: at the right edge.
    """

    y: float
    text: str
    colour: str
    bold: bool = False
    x: float | None = None


def label_right(axes: Axes, labels: Sequence[Label], *, size: float = _SMALL) -> None:
    """Write labels right of an axes, each at its height, moved apart where they would overlap."""
    figure = axes.figure
    assert isinstance(figure, Figure)  # noqa: S101 - none of ours is a subfigure
    rising = axes.get_ylim()[0] < axes.get_ylim()[1]
    ordered = sorted(labels, key=lambda label: label.y if rising else -label.y)
    texts = [
        axes.annotate(
            label.text, (1, 0.5), xycoords="axes fraction", xytext=(1.035, 0.5),
            textcoords="axes fraction", va="center", ha="left", fontsize=size,
            color=label.colour, fontweight="bold" if label.bold else "normal",
            annotation_clip=False, linespacing=1.15, parse_math=False,
        )
        for label in ordered
    ]  # fmt: skip
    # The layout makes room for the texts' width; only then is the height of the axes known.
    figure.draw_without_rendering()
    height = axes.get_window_extent().height
    dots = figure.dpi / 72
    heights = [
        (label.text.count("\n") + 1) * size * _LINE * dots / height + 0.012 for label in ordered
    ]
    wanted = [
        float(axes.transAxes.inverted().transform(axes.transData.transform((1, label.y)))[1])
        for label in ordered
    ]
    for label, text, at, place in zip(ordered, texts, wanted, spread(wanted, heights), strict=True):
        text.set_position((1.035, place))
        axes.annotate(
            "", (1.03, place), xycoords="axes fraction",
            xytext=(1, at) if label.x is None else (label.x, label.y),
            textcoords="axes fraction" if label.x is None else "data",
            arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.8,
                        "linestyle": (0, (1, 2)), "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )  # fmt: skip


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return centres near those wanted, rising, so that no two of these heights overlap.

    They stay within 0 to 1 if there is room. Neighbours that collide move apart together.
    """
    groups: list[tuple[list[int], float]] = []
    for place, centre in enumerate(wanted):
        members, middle = [place], centre
        middle = _within(middle, sum(heights[m] for m in members))
        while groups:
            before, low = groups[-1]
            above = sum(heights[m] for m in members)
            below = sum(heights[m] for m in before)
            if low + below / 2 <= middle - above / 2 + 1e-12:
                break
            groups.pop()
            members = before + members
            middle = sum(wanted[m] for m in members) / len(members)
            middle = _within(middle, above + below)
        groups.append((members, middle))
    found = [0.0] * len(wanted)
    for members, middle in groups:
        edge = middle - sum(heights[m] for m in members) / 2
        for member in members:
            found[member] = edge + heights[member] / 2
            edge += heights[member]
    return found


def _within(middle: float, height: float) -> float:
    return min(max(middle, height / 2), max(1 - height / 2, height / 2))


def wrapped(name: str) -> str:
    """Return a name in as many lines as it needs, so that the picture keeps its room."""
    return "\n".join(textwrap.wrap(name, _NAME, max_lines=3, placeholder=" …")) or " "
