"""Rounds as a picture: what was done, what was written, and what sessions waited for."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pglab.bench.canvas import Picture
from pglab.monitor.units import size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pglab.monitor.watch import Round

__all__ = ["film"]

# Okabe and Ito (2008), with a hatch each: nothing is said by colour alone.
_COLOURS: Final = ("#0072B2", "#D55E00", "#007A5E", "#B0578D", "#8A6D00", "#767676")
_HATCHES: Final = ("", "///", "...", "xxx", "\\\\\\", "++")


def film(rounds: Sequence[Round], waits: Sequence[Mapping[str, float]]) -> Picture:
    """Draw what a watch saw: commits, log and active sessions over time.

    Args:
        rounds: in order, three at least; the first has no rates.
        waits: for each, what active sessions waited for: event and sessions on average.

    Raises:
        ValueError: there are fewer than three.
    """
    if len(rounds) < 3:
        raise ValueError(f"{len(rounds)} rounds make no picture; watch for longer")
    times = _times(rounds)
    commits = [seen.rate("activity", "commits") or 0 for seen in rounds]
    log = [(seen.rate("wal", "position_bytes") or 0) / 1024**2 for seen in rounds]
    figure = Picture(figsize=(8, 6), layout="constrained", facecolor="white")
    upper, middle, lower = figure.subplots(3, 1, sharex=True)
    _line(upper, times[1:], commits[1:], "commits per second")
    _line(middle, times[1:], log[1:], "log, MB per second")
    top = _areas(lower, times, waits)
    lower.set_xlabel("seconds since the first look")
    busiest = max(commits)
    title = f"Up to {busiest:,.0f} commits and {size(max(log) * 1024**2)} of log in a second; " + (
        f"active sessions mostly: {top}" if top else "nobody was caught at work"
    )
    lines = textwrap.wrap(title, width=76)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    figure.alt = title
    return figure


def _times(rounds: Sequence[Round]) -> list[float]:
    moments = [next(r.at for r in seen.readings.values() if r.at) for seen in rounds]
    return [(moment - moments[0]).total_seconds() for moment in moments]


def _line(axes: Axes, times: Sequence[float], values: Sequence[float], label: str) -> None:
    axes.plot(times, values, color=_COLOURS[0], marker="o", markersize=3.5)
    axes.fill_between(times, values, color=_COLOURS[0], alpha=0.12)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    _plain(axes)


def _areas(axes: Axes, times: Sequence[float], waits: Sequence[Mapping[str, float]]) -> str:
    """Draw sessions by what they waited for; return what was seen most often."""
    total: dict[str, float] = {}
    for each in waits:
        for name, sessions in each.items():
            total[name] = total.get(name, 0.0) + sessions
    shown = sorted(total, key=lambda name: -total[name])[:5]
    bottoms = [0.0] * len(times)
    step = (times[-1] - times[0]) / max(1, len(times) - 1)
    for place, name in enumerate(shown):
        heights = [each.get(name, 0.0) for each in waits]
        axes.bar(
            times, heights, bottom=bottoms, width=0.8 * step, label=name,
            color=_COLOURS[place], hatch=_HATCHES[place], edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        bottoms = [low + high for low, high in zip(bottoms, heights, strict=True)]
    axes.set_ylabel("active sessions")
    if shown:
        axes.legend(fontsize=8, ncols=3, frameon=False, loc="upper left", bbox_to_anchor=(0, 1.3))
    _plain(axes)
    return shown[0] if shown else ""


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
