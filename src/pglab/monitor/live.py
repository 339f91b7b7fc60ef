"""A live dashboard in a notebook, and the picture of what it showed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pglab.monitor.units import duration, size
from pglab.monitor.watch import Round, Watch, sample_waits

if TYPE_CHECKING:
    import pandas as pd

    from pglab.bench.canvas import Picture

__all__ = ["LIVE", "Film", "watch_live"]

LIVE: Final = (
    *("connections", "long_transactions", "blocking_tree", "activity", "wal", "table_sizes"),
)
"""What a live dashboard asks in each round."""

_LOOK_S: Final = 0.05  # between two looks at what is waited for

_STYLE: Final = (
    "<style>.pglab-live{font-size:13px;line-height:1.5}.pglab-live b{font-size:16px}"
    ".pglab-live td,.pglab-live th{padding:.1em .8em .1em 0;text-align:left}"
    ".pglab-tiles{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}</style>"
)


class Film:
    """What a live dashboard saw, round by round; a notebook shows it as a picture.

    Attributes:
        rounds: in order.
        waits: for each round what active sessions waited for until the next: event and how many
            sessions on average.
    """

    def __init__(self, rounds: Sequence[Round], waits: Sequence[Mapping[str, float]]) -> None:
        self.rounds = tuple(rounds)
        self.waits = tuple(waits)

    def picture(self) -> Picture:
        """Return commits, log and waits over time."""
        from pglab.monitor.pictures import film

        return film(self.rounds, self.waits)

    def frame(self) -> pd.DataFrame:
        """Return one line a round: at, commits_per_s, wal_bytes_per_s, active, waiting."""
        import pandas as pd

        return pd.DataFrame([
            {
                "at": next(r.at for r in seen.readings.values() if r.at),
                "commits_per_s": seen.rate("activity", "commits"),
                "wal_bytes_per_s": seen.rate("wal", "position_bytes"),
                "active": sum(waits.values()),
                "waiting_for_locks": sum(
                    sessions for event, sessions in waits.items() if event.startswith("Lock:")
                ),
            }
            for seen, waits in zip(self.rounds, self.waits, strict=True)
        ])  # fmt: skip

    def _repr_png_(self) -> bytes:
        return self.picture().data("png")

    def __repr__(self) -> str:
        return f"<Film of {len(self.rounds)} rounds>"


def watch_live(
    connect: Callable[..., psycopg.Connection[Any]],
    *,
    seconds: float = 10.0,
    every_s: float = 1.0,
) -> Film:
    """Show a dashboard that refreshes while other threads work; return what it saw.

    Args:
        connect: opens a connection; takes ``autocommit`` and ``application_name``, as
            ``lab.connection`` does.
        seconds: how long to watch.
        every_s: seconds between two rounds. Sessions hand in their counts once a second, so that
            rates of shorter rounds jump.

    Raises:
        ServerUnreachableError: the connection is lost.
    """
    import ipywidgets  # type: ignore[import-untyped]
    from IPython.display import display

    page = ipywidgets.HTML()
    display(page)  # type: ignore[no-untyped-call]
    rounds: list[Round] = []
    waits: list[dict[str, float]] = []
    with connect(autocommit=True, application_name="pglab live dashboard") as connection:
        watch = Watch(connection, LIVE, slow_every_s=5.0)
        end = time.monotonic() + seconds
        while len(rounds) < 3 or time.monotonic() < end:
            began = time.monotonic()
            rounds.append(watch.next())
            page.value = page_of(rounds, waits)
            # The time until the next round is well spent: one look at waits says little.
            left = max(0.0, every_s - (time.monotonic() - began))
            sampled = sample_waits(connection, seconds=left, every_s=_LOOK_S)
            waits.append({_event(row): row["sessions"] for row in sampled})
    page.value += "<p>The watch has ended.</p>"
    return Film(rounds, waits)


def _event(row: Mapping[str, Any]) -> str:
    return "on the CPU" if row["type"] == "CPU" else f"{row['type']}: {row['event']}"


def page_of(rounds: Sequence[Round], waits: Sequence[Mapping[str, float]]) -> str:
    """Return the dashboard of the last round as HTML, with curves of those before."""
    seen = rounds[-1]
    connections = seen.readings["connections"].rows
    states: Counter[str] = Counter()
    for row in connections:
        states[row["state"]] += row["sessions"]
    room = f"{states.total()} of {connections[0]['room']}" if connections else "–"
    tiles = [
        _tile("connections", room),
        _tile(
            "commits/s", f"{seen.rate('activity', 'commits') or 0:,.0f}",
            [each.rate("activity", "commits") or 0 for each in rounds[1:]],
        ),
        _tile(
            "log/s", size(seen.rate("wal", "position_bytes") or 0),
            [each.rate("wal", "position_bytes") or 0 for each in rounds[1:]],
        ),
    ]  # fmt: skip
    waited = [
        [event, f"{sessions:.1f}"] for event, sessions in (waits[-1] if waits else {}).items()
    ]
    blocked = [
        [
            "\u00a0\u00a0" * row["depth"] + str(row["application"] or row["pid"]),
            row["state"],
            duration(row["waiting_s"]) if row["depth"] else f"holds up {row['holds_up']}",
        ]
        for row in seen.readings["blocking_tree"].rows
    ]
    tables = [
        [row["table"], size(row["total_bytes"])] for row in seen.readings["table_sizes"].rows[:3]
    ]
    parts = [
        f'<div class="pglab-tiles">{"".join(tiles)}</div><div class="pglab-tiles">',
        _rows(("state", "sessions"), [[name, n] for name, n in states.most_common()]),
        _rows(("active sessions", "on average"), waited),
        _rows(("who blocks whom", "", ""), blocked),
        _rows(("largest tables", ""), tables),
        "</div>",
        *(
            f"<p>{escape(reading.name)} was not asked: {escape(reading.skipped)}</p>"
            for reading in seen.readings.values()
            if reading.skipped
        ),
    ]
    return f'{_STYLE}<div class="pglab-live">{"".join(parts)}</div>'


def _tile(name: str, value: str, curve: Sequence[float] = ()) -> str:
    return f"<div>{escape(name)}<br><b>{escape(value)}</b> {_curve(curve)}</div>"


def _curve(values: Sequence[float], width: int = 140, height: int = 26) -> str:
    top = max(values, default=0)
    if top <= 0 or len(values) < 2:
        return ""
    step = width / (len(values) - 1)
    points = " ".join(
        f"{place * step:.1f},{height - 2 - (height - 4) * value / top:.1f}"
        for place, value in enumerate(values)
    )
    return (
        f'<svg width="{width}" height="{height}"><polyline points="{points}" fill="none" '
        'stroke="#0072B2" stroke-width="2"/></svg>'
    )


def _rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows[:8]
    )
    return f"<table><tr>{head}</tr>{body}</table>"
