"""The seed document's diagram of a cached read, with live counters of a cache of ours.

It is the ``on_event`` hook of a :class:`pglab.cache.CacheAside`:

    diagram = CacheDiagram()
    sessions = diagram.watch(CacheAside(…, on_event=diagram))
    with diagram.live():
        sessions.get("shop-lima")

Its marks carry the meaning, not its colours; it has a background of its own, so that it reads the
same on light and dark pages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pglab.cache.metrics import Counts

if TYPE_CHECKING:
    from pglab.cache import CacheAside, Event

__all__ = ["CacheDiagram"]

K = TypeVar("K")
V = TypeVar("V")

_REDRAW_S: Final = 0.1
# Wide enough for an eye, as of the diagram of a schema.
_WIDTH, _HEIGHT = 860, 330
_INK, _PALE, _LINE = "#1f2933", "#5b6773", "#9aa5b1"
_RED, _BLUE, _GREEN = "#b3261e", "#336791", "#1b7f4b"
_FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"

# Which arrows a step lights up.
_ARROWS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "hit": ("check", "hit"),
        "negative": ("check", "hit"),
        "stale": ("check", "hit"),
        "miss": ("check", "miss"),
        "fallthrough": ("around",),
        "load": ("load",),
        "store": ("store",),
    }
)
_READS: Final = frozenset({"hit", "negative", "stale", "miss", "fallthrough"})


class CacheDiagram:
    """The ways that a read can take, how often each was taken, and the last one in bold."""

    def __init__(self) -> None:
        self._cache: CacheAside[Any, Any] | None = None
        self._lit: frozenset[str] = frozenset()
        self._last = ""
        self._handle: Any = None
        self._thread = 0
        self._drawn = 0.0

    def watch(self, cache: CacheAside[K, V]) -> CacheAside[K, V]:
        """Take the counters of this cache from now on; return it."""
        self._cache = cache
        return cache

    def __call__(self, event: Event) -> None:
        """Note a step; while :meth:`live`, redraw now and then."""
        arrows = _ARROWS.get(event.step)
        if arrows is None:
            return
        begins = event.step in _READS
        self._lit = frozenset(arrows) if begins else self._lit | frozenset(arrows)
        self._last = event.step if begins else self._last
        # Other threads must not draw into a cell that is not theirs.
        if self._handle is not None and threading.get_ident() == self._thread:
            now = time.monotonic()
            if now - self._drawn >= _REDRAW_S:
                self._drawn = now
                self._handle.update(self)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the diagram, redraw it while the body reads, and once more at its end."""
        from IPython.display import display

        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            handle, self._handle = self._handle, None
            if handle is not None:
                handle.update(self)

    @property
    def counts(self) -> Counts:
        """The cache's counters as they are now; zeros while none is watched."""
        return Counts() if self._cache is None else self._cache.metrics

    def __repr__(self) -> str:
        return self.text()

    def _repr_svg_(self) -> str:
        return self.svg()

    def text(self) -> str:
        """Return the same facts in words, for terminals and screen readers."""
        n = self.counts
        answered = (
            f"{_answered(n)} answered by Redis, {n.misses} misses, {n.fallthrough} past Redis"
        )
        lines = [
            f"{n.reads} reads: {answered}",
            f"PostgreSQL was asked {n.loads} times, {n.stores} values were stored in Redis",
            f"hit ratio {n.hit_ratio:.0%}, breaker {n.breaker}".replace("%", " %"),
        ]
        return "\n".join(lines + ([f"last read: {self._last}"] if self._last else []))

    def svg(self) -> str:
        """Return the picture; its description is what :meth:`text` returns."""
        n = self.counts
        asked = n.reads - n.fallthrough
        arrows = [
            self._arrow("check", "M170 80H330", (250, 70), f"1. check cache   {asked:,}"),
            self._arrow("hit", "M470 80H680", (575, 70), f"HIT   {_answered(n):,}", _GREEN),
            self._arrow("miss", "M385 106V222", (377, 168), f"MISS   {n.misses:,}", _RED, "end"),
            self._arrow("load", "M470 248H740V106", (575, 268), f"read data   {n.loads:,}", _BLUE),
            self._arrow(
                "store", "M430 222V106", (440, 168), f"store   {n.stores:,}", _BLUE, "start"
            ),
            self._arrow(
                "around",
                "M100 106V248H330",
                (110, 268),
                f"past Redis   {n.fallthrough:,}",
                _RED,
                "start",
            ),
        ]
        boxes = [
            _box(30, "request", "Evolution API request", _INK, 54),
            _box(330, "redis", "Redis", "#a82a20", 54),
            _box(680, "return", "return data", _GREEN, 54),
            _box(330, "postgres", "PostgreSQL", _BLUE, 222),
        ]
        foot = (
            f"hit ratio {n.hit_ratio:.0%}   ·   breaker {n.breaker}   ·   "
            f"waited for another's load {n.coalesced:,}   ·   removed by writes {n.invalidated:,}"
        ).replace("%", " %")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" style="max-width:100%;height:auto" role="img" '
            f'font-family="{_FONT}" font-size="13">'
            "<title>A cached read: where the answers came from</title>"
            f"<desc>{escape(self.text())}</desc>"
            '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>'
            + "".join(arrows)
            + "".join(boxes)
            + _words(30, 312, foot, _PALE, "start", 12)
            + "</svg>"
        )

    def _arrow(  # noqa: PLR0917 - a table's columns
        self,
        name: str,
        path: str,
        label_at: tuple[int, int],
        label: str,
        colour: str = _INK,
        anchor: str = "middle",
    ) -> str:
        lit = name in self._lit
        stroke, width = (colour, 3.5) if lit else (_LINE, 1.5)
        x, y = label_at
        weight = "700" if lit else "400"
        return (
            f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
            + _head(path, stroke)
            + _words(x, y, label, colour, anchor, 13, weight)
        )


def _answered(counts: Counts) -> int:
    return counts.hits + counts.negative + counts.stale


def _head(path: str, colour: str) -> str:
    """Return an arrow's head at a path's end: the last letter says which way it points."""
    x, y = 0.0, 0.0
    last = ""
    for part in path.replace("M", " M").replace("H", " H").replace("V", " V").split():
        if part[0] in "MH":
            x_before, x = x, float(part[1:])
            forward = x > x_before
        elif part[0] == "V":
            y_before, y = y, float(part[1:])
            forward = y > y_before
        else:
            y = float(part)
            continue
        last = part[0]
    sign = 1 if forward else -1
    if last == "H":
        points = f"{x},{y} {x - 9 * sign},{y - 5} {x - 9 * sign},{y + 5}"
    else:
        points = f"{x},{y} {x - 5},{y - 9 * sign} {x + 5},{y - 9 * sign}"
    return f'<polygon points="{points}" fill="{colour}"/>'


def _box(x: int, name: str, label: str, colour: str, y: int) -> str:
    width = 140 if name != "return" else 120
    lines = label.split(" request")
    if len(lines) > 1:
        text = _words(x + width / 2, y + 22, lines[0], "#ffffff", "middle", 13, "600")
        text += _words(x + width / 2, y + 40, "request", "#ffffff", "middle", 13, "600")
    else:
        text = _words(x + width / 2, y + 31, label, "#ffffff", "middle", 14, "600")
    return f'<rect x="{x}" y="{y}" width="{width}" height="52" rx="7" fill="{colour}"/>' + text


def _words(  # noqa: PLR0917 - as SVG has them
    x: float, y: float, text: str, colour: str, anchor: str, size: int, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}" '
        f'font-size="{size}" font-weight="{weight}" xml:space="preserve">{escape(text)}</text>'
    )
