"""A round as a terminal shows it, in any width."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pglab.monitor.units import duration, percent, size

if TYPE_CHECKING:
    from pglab.monitor.measure import Finding, Reading
    from pglab.monitor.watch import Round

__all__ = ["Dashboard", "reading_table"]

_BARS: Final = "▁▂▃▄▅▆▇█"
_KEPT: Final = 60
_NARROW: Final = 76
_MARKS: Final = {"fault": ("✘", "red"), "warning": ("!", "yellow"), "note": ("•", "cyan")}


class Dashboard:
    """Shows rounds, and remembers enough of those before for a curve.

    Args:
        name: of the database, for the heading.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._commits: deque[float] = deque(maxlen=_KEPT)
        self._wal: deque[float] = deque(maxlen=_KEPT)

    def show(
        self,
        seen: Round,
        *,
        width: int,
        redis: Sequence[Reading] = (),
        every_s: float | None = None,
    ) -> RenderableType:
        """Return what to print.

        Args:
            seen: the round.
            width: columns of the terminal.
            redis: readings of a Redis, if one runs.
            every_s: seconds until the next round; None if this is the only one.
        """
        self._commits.append(seen.rate("activity", "commits") or 0)
        self._wal.append(seen.rate("wal", "position_bytes") or 0)
        findings = [*seen.findings, *(f for reading in redis for f in reading.findings)]
        parts: list[RenderableType] = [self._heading(seen, every_s), self._numbers(seen, redis)]
        tables = [
            table
            for table in (_connections(seen), _waits(seen), _transactions(seen, width))
            if table is not None
        ]
        # What is urgent comes first: the lower end of a low terminal is cut off.
        tree = _tree(seen)
        if tree is not None:
            parts.append(tree)
        parts.append(_findings(findings))
        parts.append(Group(*tables) if width < _NARROW else Columns(tables, padding=(0, 3)))
        parts += [
            part for part in (_statements(seen, width), _tables(seen, width)) if part is not None
        ]
        skipped = [reading for reading in seen.readings.values() if reading.skipped]
        if skipped:
            parts.append(_skipped(skipped))
        return Group(*parts)

    def _heading(self, seen: Round, every_s: float | None) -> Text:
        at = next((r.at for r in seen.readings.values() if r.at), None)
        version = f"{seen.server.version // 10_000}.{seen.server.version % 100}"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("pglab monitor ", style="bold")
        text.append(f"{_plain(self._name)} · PostgreSQL {version} · as {_plain(seen.server.role)}")
        if isinstance(at, datetime):
            text.append(f" · {at:%H:%M:%S}")
        text.append(f" · asked in {seen.took_ms:.0f} ms")
        if every_s is not None:
            text.append(f" · every {every_s:g} s, Ctrl-C ends", style="dim")
        return text

    def _numbers(self, seen: Round, redis: Sequence[Reading]) -> RenderableType:
        connections = seen.readings.get("connections")
        facts: list[Text] = []
        if connections and connections.rows:
            first = connections.rows[0]
            facts.append(_fact("connections", f"{first['all_sessions']} of {first['room']}"))
        commits, wal = seen.rate("activity", "commits"), seen.rate("wal", "position_bytes")
        if commits is not None:
            facts.append(_fact("commits/s", f"{commits:,.0f}", _spark(self._commits)))
        if wal is not None:
            facts.append(_fact("log/s", size(wal), _spark(self._wal)))
        hits, reads = seen.rate("activity", "pages_hit"), seen.rate("activity", "pages_read")
        if hits is not None and reads is not None and hits + reads:
            facts.append(_fact("pages/s", f"{hits + reads:,.0f}"))
        for reading in redis:
            if reading.name == "redis_info" and reading.rows:
                row = reading.rows[0]
                ratio = "–" if row["hit_ratio"] is None else percent(row["hit_ratio"], 1)
                said = f"{row['commands_per_s']:,.0f}/s, hits {ratio}, {size(row['memory_bytes'])}"
                facts.append(_fact("Redis", said))
        return Columns(facts, padding=(0, 3))


def _plain(value: Any) -> str:
    """Return a value without what would steer the terminal: names are other people's words."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def _short(value: Any, most: int) -> str:
    text = _plain(value)
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _fact(name: str, value: str, curve: str = "") -> Text:
    text = Text(no_wrap=True)
    text.append(f"{name} ", style="dim")
    text.append(value, style="bold")
    if curve:
        text.append(f" {curve}", style="green")
    return text


def _spark(values: Sequence[float], width: int = 16) -> str:
    last = list(values)[-width:]
    top = max(last, default=0)
    if top <= 0:
        return ""
    return "".join(_BARS[min(7, int(8 * value / top))] for value in last)


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        show_edge=False, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=True,
            overflow="ellipsis", header_style="dim",
        )  # fmt: skip
    return table


def _rows(seen: Round, name: str) -> Sequence[dict[str, Any]]:
    reading = seen.readings.get(name)
    return reading.rows if reading else ()


def _connections(seen: Round) -> Table | None:
    states: dict[str, tuple[int, float]] = {}
    for row in _rows(seen, "connections"):
        number, longest = states.get(row["state"], (0, 0.0))
        states[row["state"]] = number + row["sessions"], max(longest, row["longest_s"] or 0)
    if not states:
        return None
    table = _table("Connections", "state", "sessions", "longest", right=("sessions", "longest"))
    for state, (number, longest) in sorted(states.items(), key=lambda item: -item[1][0]):
        table.add_row(_plain(state), str(number), duration(longest))
    return table


def _waits(seen: Round) -> Table | None:
    rows = _rows(seen, "waits")
    if not rows:
        return None
    table = _table("Active sessions wait for", "type", "event", "sessions", right=("sessions",))
    for row in rows[:5]:
        table.add_row(_plain(row["type"]), _plain(row["event"]), str(row["sessions"]))
    return table


def _transactions(seen: Round, width: int) -> Table | None:
    rows = _rows(seen, "long_transactions")
    if not rows:
        return None
    table = _table("Oldest transactions", "pid", "who", "state", "open", right=("pid", "open"))
    for row in rows[:4]:
        who = _plain(row["application"] or row["username"])[: max(8, width // 4)]
        table.add_row(str(row["pid"]), who, _plain(row["state"]), duration(row["transaction_s"]))
    return table


def _tree(seen: Round) -> RenderableType | None:
    rows = _rows(seen, "blocking_tree")
    if not rows:
        return None
    lines = []
    for row in rows[:12]:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append("  " * row["depth"] + ("└ " if row["depth"] else ""))
        line.append(f"{row['pid']} {_plain(row['application'] or row['username'])}", style="bold")
        if row["depth"]:
            line.append(f" waits {duration(row['waiting_s'])}", style="yellow")
        else:
            line.append(f" {_plain(row['state'])}, holds up {row['holds_up']}", style="red")
        line.append(f"  {_plain(row['query'])}", style="dim")
        lines.append(line)
    return Panel(Group(*lines), title="Who blocks whom", title_align="left", border_style="red")


def _statements(seen: Round, width: int) -> Table | None:
    rows = _rows(seen, "statements")
    if not rows:
        return None
    numbers = ("time", "calls", "mean", "pages each")
    shown = numbers if width >= _NARROW else numbers[:2]
    table = _table("Statements by total time", *shown, "statement", right=shown)
    for row in rows[:5]:
        cells = (
            percent(row["time_share"] or 0, 1),
            f"{row['calls']:,}",
            f"{row['mean_ms']:,.2f} ms",
            f"{row['pages_per_call'] or 0:,.0f}",
        )
        table.add_row(*cells[: len(shown)], _short(row["query"], width - 14 * len(shown)))
    return table


def _tables(seen: Round, width: int) -> Table | None:
    rows = _rows(seen, "table_sizes")
    if not rows:
        return None
    dead = {(r["schema"], r["name"]): r["dead_rows"] for r in _rows(seen, "dead_rows")}
    scans = {(r["schema"], r["name"]): r["whole_scans"] for r in _rows(seen, "sequential_scans")}
    numbers = ("size", "indexes", "dead rows", "whole scans")
    shown = numbers if width >= _NARROW else numbers[:1]
    table = _table("Largest tables", *shown, "table", right=shown)
    for row in rows[:5]:
        place = row["schema"], row["name"]
        cells = (
            size(row["total_bytes"]),
            size(row["indexes_bytes"]),
            f"{dead[place]:,}" if place in dead else "–",
            f"{scans[place]:,}" if place in scans else "–",
        )
        table.add_row(*cells[: len(shown)], _short(row["table"], width - 14 * len(shown)))
    return table


def _findings(findings: Sequence[Finding], most: int = 5) -> RenderableType:
    if not findings:
        return Text("✔ nothing to find fault with", style="green")
    lines = Table.grid(padding=(0, 1))
    lines.add_column(width=1)
    lines.add_column(overflow="fold")
    for finding in findings[:most]:
        mark, colour = _MARKS[finding.weight]
        text = Text(_plain(finding.text))
        if finding.remedy:
            text.append(f" → {_plain(finding.remedy)}", style="dim")
        lines.add_row(Text(mark, style=colour), text)
    if len(findings) > most:
        lines.add_row("", Text(f"… and {len(findings) - most} more: pglab monitor --json"))
    return Panel(lines, title="Findings", title_align="left", border_style="dim")


def _skipped(readings: Sequence[Reading]) -> Text:
    text = Text("not asked: ", style="dim")
    text.append("; ".join(f"{reading.name} ({_plain(reading.skipped)})" for reading in readings))
    return text


def reading_table(reading: Reading) -> RenderableType:
    """Return one reading as a table with all its columns, and what it found."""
    measure = reading.measure
    heading = Text(f"{measure.title}: {measure.question}", style="bold")
    if reading.skipped:
        return Group(heading, Text(f"not asked: {_plain(reading.skipped)}\n", style="yellow"))
    if not reading.rows:
        return Group(heading, Text("no rows\n", style="dim"))
    # Where the name as SQL needs it is there, its parts are for programs.
    spare = {"schema", "name", "table_name", "index_name", "quoted"}
    whole = bool({"table", "index", "quoted"} & set(measure.columns))
    shown = [name for name in measure.columns if not (whole and name in spare)]
    numbers = [
        name
        for name in shown
        if all(isinstance(row[name], int | float | None) for row in reading.rows)
    ]
    table = _table("", *shown, right=numbers)
    for row in reading.rows:
        table.add_row(*(_cell(name, row[name]) for name in shown))
    return Group(heading, table, _findings(reading.findings))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes"):
        return size(value)
    if name.endswith("_s") and not name.endswith("_per_s"):
        return duration(value)
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and name != "pid" else _plain(value)
