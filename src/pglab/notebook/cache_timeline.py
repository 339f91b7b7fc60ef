"""What a cache did, and when: an ``on_event`` hook that notes each step, and draws them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pglab.cache import Event

__all__ = ["Timeline"]

_READS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "hit": ("#1b7f4b", "hit"),
        "negative": ("#7fb69a", "hit: known not to exist"),
        "stale": ("#c9a227", "stale"),
        "miss": ("#b3261e", "miss"),
        "fallthrough": ("#336791", "past Redis, to PostgreSQL"),
    }
)


class Timeline:
    """Steps with their moments; many threads may append."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps: list[tuple[float, str, str]] = []
        self._marks: list[tuple[float, str]] = []

    def __call__(self, event: Event) -> None:
        """Note a step."""
        self._steps.append((time.monotonic() - self._began, event.step, event.detail))

    def begin(self) -> None:
        """Forget what was, and count the seconds from now."""
        self._began = time.monotonic()
        self._steps.clear()
        self._marks.clear()

    def mark(self, words: str) -> None:
        """Note that something happened now that a picture should show."""
        self._marks.append((time.monotonic() - self._began, words))

    def moments(self, step: str) -> list[float]:
        """Return when a step was taken, seconds since the beginning."""
        return [at for at, taken, _ in self._steps if taken == step]

    def breaker(self) -> list[tuple[float, str]]:
        """Return when the circuit breaker went into which state."""
        return [
            (at, detail.rpartition(" ")[2]) for at, step, detail in self._steps if step == "breaker"
        ]

    def per_bin(self, step: str, bin_s: float, *, seconds: float) -> list[int]:
        """Return how often a step was taken in each ``bin_s``, from 0 to ``seconds``."""
        counts = [0] * max(1, round(seconds / bin_s))
        for at in self.moments(step):
            place = int(at / bin_s)
            if place < len(counts):
                counts[place] += 1
        return counts

    def draw_reads(self, axes: Axes, *, seconds: float, bin_s: float = 0.1) -> None:
        """Draw who answered the reads over time, the breaker's state, and what was marked.

        Args:
            axes: of Matplotlib.
            seconds: where the picture ends.
            bin_s: width of a step, seconds.
        """
        edges = [number * bin_s for number in range(max(1, round(seconds / bin_s)))]
        drawn = {
            step: counts
            for step in _READS
            if any(counts := self.per_bin(step, bin_s, seconds=seconds))
        }
        if drawn:
            axes.stackplot(
                edges,
                *drawn.values(),
                colors=[_READS[step][0] for step in drawn],
                labels=[_READS[step][1] for step in drawn],
                step="post",
                alpha=0.85,
            )
        self._shade_open(axes, seconds)
        top = axes.get_ylim()[1] * 1.15  # room for the words above the reads
        for at, words in self._marks:
            axes.axvline(at, color="#1f2933", linestyle="--", linewidth=1)
            axes.annotate(
                words, (at, top * 0.98), xytext=(4, 0), textcoords="offset points", va="top"
            )
        axes.set(
            xlabel="seconds",
            ylabel=f"reads in {bin_s * 1e3:g} ms",
            xlim=(0, seconds),
            ylim=(0, top),
        )
        if drawn:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    def _shade_open(self, axes: Axes, seconds: float) -> None:
        shade: Any = {"color": "#1f2933", "alpha": 0.12, "linewidth": 0}
        opened, label = None, "breaker not closed"
        for at, state in [*self.breaker(), (seconds, "closed")]:
            if state == "closed" and opened is not None:
                axes.axvspan(opened, at, label=label, **shade)
                opened, label = None, "_"
            elif state != "closed" and opened is None:
                opened = at
