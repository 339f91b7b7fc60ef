"""Tables as HTML that is readable without its style sheet, and as aligned text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from wcwidth import wcswidth

from pglab.framed import framed
from pglab.notebook import values
from pglab.notebook.values import Cell

__all__ = ["Shown", "Table", "side_by_side", "table"]

# GitHub drops this: alignment is repeated as attributes, and meaning never depends on colour.
# !important, because JupyterLab's own rules for tables (right-aligned) are more specific.
STYLE = (
    "<style>.pglab{margin:.3em 0;overflow-x:auto}"
    ".pglab table{border-collapse:collapse;margin:0;font-size:inherit;"
    "font-variant-numeric:tabular-nums}"
    ".pglab caption{caption-side:top;text-align:left;padding:.2em 0;color:inherit;opacity:.85;"
    "white-space:nowrap}"
    ".pglab th,.pglab td{padding:.25em .7em!important;vertical-align:top!important;"
    "text-align:left!important;white-space:pre!important}"
    ".pglab thead th{border-bottom:1px solid currentColor}"
    ".pglab thead small{font-weight:normal;opacity:.75}.pglab i{opacity:.75}"
    ".pglab .n{text-align:right!important}"
    ".pglab .w{white-space:pre-wrap!important;overflow-wrap:anywhere;min-width:22em;max-width:48em}"
    ".pglab pre{margin:.3em 0;line-height:1.35;white-space:pre;overflow-x:auto;"
    "font-family:monospace}"
    ".pglab .e{white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere}"
    ".pglab-pair{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}</style>"
)
_LONG = 48  # characters; a longer value may break into lines


@dataclass(frozen=True)
class Shown:
    """Something to show, as HTML for the eye and as text for terminals and screen readers."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return STYLE + framed(self.html)

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """A table to show.

    Attributes:
        names: column names, which may repeat.
        types: PostgreSQL types, shown below the names; may be empty.
        caption: what the table is; shown above it.
        remark: shown below it, as "first 10 of 25 rows".
    """

    names: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    types: Sequence[str] = ()
    caption: str = ""
    remark: str = ""
    numeric: Sequence[bool] = field(default_factory=list)

    def show(self) -> Shown:
        """Return the table as HTML and as text."""
        return Shown(self.html(), self.text())

    def _is_numeric(self, column: int) -> bool:
        if self.numeric:
            return self.numeric[column]
        kept = [row[column] for row in self.rows if not row[column].is_null]
        return bool(kept) and all(cell.is_number for cell in kept)

    def html(self) -> str:
        """Return a <table> with a caption and scoped headings."""
        right = [self._is_numeric(column) for column in range(len(self.names))]
        marks = [' class="n" align="right"' if flag else ' align="left"' for flag in right]
        types = self.types or [""] * len(self.names)
        head = "".join(
            f'<th scope="col"{mark}>{_html(values.visible(name))}'
            + (f"<br><small>{escape(kind)}</small>" if kind else "")
            + "</th>"
            for name, kind, mark in zip(self.names, types, marks, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(_td(cell, mark) for cell, mark in zip(row, marks, strict=True))
            + "</tr>"
            for row in self.rows
        )
        remark = f"<div>{escape(self.remark)}</div>" if self.remark else ""
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return (
            f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remark}"
        )

    def text(self) -> str:
        """Return the table with columns aligned by their width on a screen."""
        head = [[values.visible(name) for name in self.names]]
        if any(self.types):
            head.append(list(self.types))
        body = [[_isolated(cell.text) for cell in row] for row in self.rows]
        widths = [
            max(_width(line[column]) for line in head + body) for column in range(len(self.names))
        ]
        right = [self._is_numeric(column) for column in range(len(self.names))]

        def line(cells: Sequence[str]) -> str:
            padded = [
                " " * (width - _width(cell)) + cell if flag else cell + " " * (width - _width(cell))
                for cell, width, flag in zip(cells, widths, right, strict=True)
            ]
            return " " + " | ".join(padded).rstrip()

        rule = "-" + "-+-".join("-" * width for width in widths) + "-"
        lines = [self.caption] if self.caption else []
        lines += [*map(line, head), rule, *map(line, body)]
        return "\n".join([*lines, self.remark] if self.remark else lines)


def table(
    rows: Any, caption: str = "", columns: Sequence[str] | None = None, limit: int = 50
) -> Shown:
    """Show Python data in the look of a ``%%sql`` result.

    Args:
        rows: mappings, sequences (then ``columns`` names them), or a pandas DataFrame.
        caption: what the table is; shown above it.
        columns: column names; by default the keys of the first mapping, or 1, 2, 3 …
        limit: rows shown at most; a remark tells how many there are.
    """
    return _table(rows, caption, columns, limit).show()


def side_by_side(
    left: Any, right: Any, captions: tuple[str, str] = ("", ""), limit: int = 50
) -> Shown:
    """Show two tables (anything that ``table`` takes) next to each other to compare them."""
    pair = [
        _table(rows, caption, None, limit)
        for rows, caption in zip((left, right), captions, strict=True)
    ]
    html = "".join(f"<div>{one.html()}</div>" for one in pair)
    lines = [one.text().splitlines() for one in pair]
    width = max(map(_width, lines[0]), default=0)
    height = max(map(len, lines))
    filled = [column + [""] * (height - len(column)) for column in lines]
    text = "\n".join(
        f"{a}{' ' * (width - _width(a))}   {b}".rstrip() for a, b in zip(*filled, strict=True)
    )
    return Shown(f'<div class="pglab-pair">{html}</div>', text)


def _table(rows: Any, caption: str, columns: Sequence[str] | None, limit: int) -> Table:
    if hasattr(rows, "itertuples"):  # a DataFrame, without importing pandas to find out
        columns = [str(name) for name in rows.columns]
        every: list[Any] = list(rows.itertuples(index=False, name=None))
    else:
        every = list(rows)
    first = every[0] if every else ()
    if isinstance(first, Mapping):
        keys = list(columns or first)
        every = [[row.get(key) for key in keys] for row in every]
        names: Sequence[str] = [str(key) for key in keys]
    else:
        names = columns or [str(number) for number in range(1, len(first) + 1)]
    remark = f"first {limit} of {len(every):,} rows" if len(every) > limit else ""
    cells = [[values.from_python(value) for value in row] for row in every[:limit]]
    return Table(names, cells, caption=caption, remark=remark)


def _td(cell: Cell, mark: str) -> str:
    if cell.is_null:
        return f"<td{mark}><i>NULL</i></td>"
    # dir=auto keeps a right-to-left value from reordering its neighbours.
    attributes = mark if cell.text.isascii() else f'{mark} dir="auto"'
    if len(cell.text) > _LONG and not cell.is_number:
        attributes += ' class="w"'
    return f"<td{attributes}>{_html(cell.text)}</td>"


def _html(text: str) -> str:
    """Escape a text; a line break shows as its mark and breaks the line as well."""
    return escape(text).replace("↵", "↵<br>")


def _isolated(text: str) -> str:
    """Wrap a text that has right-to-left letters, so that the columns after it stay in order."""
    if text.isascii() or not _has_right_to_left(text):
        return text
    return f"\u2068{text}\u2069"


def _has_right_to_left(text: Iterable[str]) -> bool:
    return any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in text)


def _width(text: str) -> int:
    width = wcswidth(text)
    return width if width >= 0 else len(text)
