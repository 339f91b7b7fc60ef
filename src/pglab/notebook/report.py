"""What a cell shows: tables, one line for each statement without rows, and remarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from psycopg import pq

from pglab.notebook import values
from pglab.notebook.results import Note, Outcome
from pglab.notebook.session import MAIN
from pglab.notebook.tables import Shown, Table

__all__ = ["Page", "duration", "kept_note", "transaction_notes"]


class Page:
    """Collects one-line messages, so that a script of many statements is one output."""

    def __init__(self, display: Callable[[Any], Any]) -> None:
        self._display = display
        self._lines: list[Shown] = []

    def flush(self) -> None:
        """Show the lines that were collected."""
        if self._lines:
            html = "".join(line.html for line in self._lines)
            text = "\n".join(line.text for line in self._lines)
            self._lines.clear()
            self._display(Shown(html, text))

    def notes(self, notes: Sequence[Note]) -> None:
        """Add remarks: what the server noticed, and what we have to say about the session."""
        for note in notes:
            first, *rest = note.message.splitlines() or [""]
            html = "<br>".join(escape(part) for part in (first, *rest))
            self._lines.append(
                Shown(
                    f"<div><strong>{escape(note.severity)}</strong>: {html}</div>",
                    "\n".join([f"{note.severity}: {first}", *rest]),
                )
            )

    def outcome(self, outcome: Outcome, number: int, total: int, rows: int, width: int) -> None:
        """Add how a statement ended, with its table if it returned rows."""
        self.notes(outcome.notes)
        place = f"{number} of {total}: " if total > 1 else ""
        if not outcome.columns:
            self._lines.append(_line(place, outcome))
            return
        self.flush()
        time = duration(outcome.seconds)
        if outcome.statement.verb == "EXPLAIN":
            self._display(_verbatim(outcome, f"{place}EXPLAIN · {time}"))
        else:
            self._display(_table(outcome, f"{place}{_count(outcome)} · {time}", rows, width))

    def expected(self, message: str) -> None:
        """Show an error that the cell announced."""
        self.flush()
        title = "Expected error, as announced"
        html = f'<div><strong>{title}</strong></div><pre class="e">{escape(message)}</pre>'
        self._display(Shown(html, f"{title}:\n{message}"))


def duration(seconds: float) -> str:
    """Return a time with three significant digits: 0.42 ms, 12.3 ms, 1.24 s."""
    if seconds >= 1:
        return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
    milliseconds = seconds * 1_000
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def transaction_notes(status: pq.TransactionStatus, session: str) -> list[Note]:
    """Return a remark if a transaction was left open or has failed."""
    where = "" if session == MAIN else f" in the session {session}"
    if status == pq.TransactionStatus.INTRANS:
        return [
            Note(
                "TRANSACTION OPEN",
                f"A transaction is open{where}: no other session sees its changes until COMMIT; "
                "ROLLBACK undoes them.",
            )
        ]
    if status == pq.TransactionStatus.INERROR:
        return [
            Note(
                "TRANSACTION FAILED",
                f"The open transaction{where} has failed: the server refuses every statement "
                "until ROLLBACK, and nothing since BEGIN is kept.",
            )
        ]
    return []


def kept_note(name: str, rows: int, columns: int, texts: Sequence[str]) -> Note:
    """Return a remark on the DataFrame that was made."""
    message = f"{name} is a DataFrame: {_plural(rows, 'row')} × {_plural(columns, 'column')}."
    if texts:
        message += f" Kept as text, because pandas has no such value: {', '.join(texts)}."
    return Note("KEPT", message)


def _line(place: str, outcome: Outcome) -> Shown:
    command = outcome.command
    facts = [duration(outcome.seconds)]
    if outcome.columns is not None:
        facts.insert(0, f"{_plural(outcome.seen, 'row')} without columns")
    elif outcome.affected is not None:
        facts.insert(0, _plural(outcome.affected, "row"))
    rest = " · ".join(facts)
    return Shown(
        f"<div>{place}<code>{escape(command)}</code> · {rest}</div>", f"{place}{command} · {rest}"
    )


def _count(outcome: Outcome) -> str:
    if outcome.stopped:
        return f"more than {outcome.seen_at_stop:,} rows"
    counted = _plural(outcome.seen, "row")
    return counted if outcome.command in {"SELECT", "SHOW"} else f"{outcome.command} · {counted}"


def _table(outcome: Outcome, caption: str, rows: int, width: int) -> Shown:
    columns = outcome.columns or []
    shown = outcome.rows[:rows]
    cells = [
        [
            values.from_server(value, column.oid, width)
            for value, column in zip(row, columns, strict=True)
        ]
        for row in shown
    ]
    return Table(
        [column.name for column in columns],
        cells,
        [column.type_name for column in columns],
        caption,
        _remark(outcome, len(shown)),
        [column.oid in values.NUMBERS for column in columns],
    ).show()


def _remark(outcome: Outcome, shown: int) -> str:
    if outcome.stopped:
        return (
            f"First {_plural(shown, 'row')} of more than {outcome.seen_at_stop:,}: the server was "
            "told to stop, so the total is not known. count(*) tells it; --rows N shows more."
        )
    if outcome.seen > shown:
        return f"First {_plural(shown, 'row')} of {outcome.seen:,}. --rows N shows more."
    return ""


def _verbatim(outcome: Outcome, caption: str) -> Shown:
    """Show a plan as the text that it is."""
    text = "\n".join(" | ".join(value or "" for value in row) for row in outcome.rows)
    return Shown(f"<div>{escape(caption)}</div><pre>{escape(text)}</pre>", f"{caption}\n{text}")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
