"""The entity-relationship diagram of a live schema, as an SVG picture and as text.

SVG and not Mermaid: not every place that shows a notebook draws Mermaid in an output, and Mermaid
has no mark for NOT NULL. No text/html is offered, because a page that prefers it may strip the
picture out of it (GitHub does). The picture has a background of its own, so that it reads the same
on light and dark pages; its marks carry the meaning, not its colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import psycopg
from wcwidth import wcswidth

from pglab.notebook.catalog import CatalogTable, ForeignKey, TableColumn, read_schema
from pglab.notebook.layout import HEAD, ROW, Box, Line, place
from pglab.notebook.results import short_type
from pglab.notebook.session import HasConnection
from pglab.notebook.values import visible

__all__ = ["Diagram", "er_diagram"]

# Estimated, because a picture cannot measure its fonts; generous, so that nothing overlaps.
_LETTER, _BOLD, _SMALL_LETTER, _BADGE = 8.0, 9.0, 6.9, 7.0
_PAD = 12.0
# JupyterLab shows an SVG as an image of the size that it names, and cuts what is wider than a cell.
_WIDEST = 940.0
_LEGEND = 34.0

_INK, _PALE, _LINE, _HEAD_FILL = "#1f2933", "#5b6773", "#3d6b99", "#e4edf6"
_FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"


class Diagram:
    """A picture of tables and their references; shows itself in a notebook."""

    def __init__(self, schema: str, tables: Sequence[CatalogTable]) -> None:
        self.schema = schema
        self.tables = list(tables)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return self.text()

    def svg(self) -> str:
        """Return the picture; its description is what ``text`` returns."""
        layout = place(self.tables, {table.name: _width(table) for table in self.tables})
        width = max(layout.width, 560.0)
        height = layout.height + _LEGEND
        scale = min(1.0, _WIDEST / width)
        body = [_line(line) for line in layout.lines] + [_box(box) for box in layout.boxes]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width * scale:.0f}" height="{height * scale:.0f}" '
            'style="max-width:100%;height:auto" '
            f'role="img" font-family="{_FONT}" font-size="13">'
            f"<title>Entity-relationship diagram of the schema {escape(self.schema)}</title>"
            f"<desc>{escape(self.text())}</desc>"
            f'<rect width="100%" height="100%" rx="8" fill="#ffffff"/>'
            + "".join(body)
            + _legend(height)
            + "</svg>"
        )

    def text(self) -> str:
        """Return the same facts in words, for terminals and screen readers."""
        lines = [f"Schema {self.schema}: {len(self.tables)} tables"]
        for table in self.tables:
            lines.append(f"{table.name}")
            lines += [f"  {_words(table, column)}" for column in table.columns]
            lines += [
                f"  U{number}: unique ({', '.join(key)})"
                for number, key in enumerate(table.wide_keys(), 1)
            ]
            lines += [f"  {_reference(table, key)}" for key in table.foreign_keys]
        return "\n".join(visible(line, 1_000) for line in lines)


def er_diagram(
    source: HasConnection | psycopg.Connection[Any],
    schema: str = "public",
    tables: Sequence[str] | None = None,
) -> Diagram:
    """Draw the tables of a schema with their columns, keys and references, as they are now.

    Args:
        source: a lab, or a psycopg connection (whose open transaction the diagram then sees).
        schema: the schema's name, without quotes.
        tables: names of the tables to draw; all by default. Partitions are left out.

    Raises:
        ValueError: the schema, or a table that was asked for, does not exist.
    """
    if isinstance(source, psycopg.Connection):
        return Diagram(schema, read_schema(source, schema, tables))
    with source.connection(autocommit=True) as connection:
        return Diagram(schema, read_schema(connection, schema, tables))


def _words(table: CatalogTable, column: TableColumn) -> str:
    marks = table.marks(column.name) + (["NOT NULL"] if column.not_null else [])
    return f"{column.name} {short_type(column.type_name)}" + (
        f" [{', '.join(marks)}]" if marks else ""
    )


def _reference(table: CatalogTable, key: ForeignKey) -> str:
    many = "zero or one" if table.at_most_one(key) else "zero or many"
    one = "exactly one" if table.is_mandatory(key) else "zero or one"
    return (
        f"({', '.join(key.columns)}) references {key.target} ({', '.join(key.target_columns)}): "
        f"{one} {key.target} for each of {table.name}, {many} {table.name} for each of {key.target}"
    )


def _width(table: CatalogTable) -> float:
    rows = [
        _type_offset(table)
        + _letters(short_type(column.type_name)) * _SMALL_LETTER
        + 16
        + _badges(table, column)
        for column in table.columns
    ]
    rows += [_PAD + 40 + _letters(", ".join(key)) * _SMALL_LETTER for key in table.wide_keys()]
    head = _PAD + _letters(table.name) * (_BOLD + 0.6)
    return max([*rows, head, 130.0]) + _PAD


def _type_offset(table: CatalogTable) -> float:
    """Return how far from the left the types begin: after the longest name."""
    longest = max(
        (
            _letters(column.name) * (_BOLD if "PK" in table.marks(column.name) else _LETTER)
            for column in table.columns
        ),
        default=0.0,
    )
    return _PAD + 16 + longest + 12


def _badges(table: CatalogTable, column: TableColumn) -> float:
    return sum(_badge(mark) + 3 for mark in table.marks(column.name))


def _badge(mark: str) -> float:
    return 8 + _BADGE * len(mark)


def _letters(text: str) -> int:
    return max(wcswidth(visible(text)), len(text))


def _text(x: float, y: float, text: str, **style: str) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(visible(text))}</text>'


def _box(box: Box) -> str:
    table = box.table
    assert table is not None  # noqa: S101 (for the type checker)
    x, y = box.x, box.y
    frame = f'rx="6" fill="#ffffff" stroke="{_PALE}"'
    head = f"M{x:.1f} {y + HEAD:.1f}v{6 - HEAD:.1f}a6 6 0 0 1 6-6h{box.width - 12:.1f}"
    head += f"a6 6 0 0 1 6 6v{HEAD - 6:.1f}z"
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" ']
    parts += [frame, "/>", f'<path d="{head}" fill="{_HEAD_FILL}" stroke="{_PALE}"/>']
    parts.append(_text(x + _PAD, y + 20, table.name, fill=_INK, font_size="14", font_weight="600"))
    parts += [_row(box, table, column) for column in table.columns]
    for number, key in enumerate(table.wide_keys(), 1):
        bottom = y + HEAD + ROW * (len(table.columns) + number - 0.5)
        label = f"U{number}: ({', '.join(key)})"
        parts.append(
            _text(x + _PAD, bottom + 4, label, fill=_PALE, font_size="11", font_style="italic")
        )
    return "<g>" + "".join(parts) + "</g>"


def _row(box: Box, table: CatalogTable, column: TableColumn) -> str:
    x, middle = box.x + _PAD, box.row(column.name)
    marks = table.marks(column.name)
    fill = _INK if column.not_null else "none"
    parts = [
        f'<circle cx="{x + 4:.1f}" cy="{middle:.1f}" r="3.5" fill="{fill}" stroke="{_INK}"/>',
        _text(
            x + 16,
            middle + 4.5,
            column.name,
            fill=_INK,
            font_weight="600" if "PK" in marks else "400",
        ),
        _text(
            box.x + _type_offset(table),
            middle + 4,
            short_type(column.type_name),
            fill=_PALE,
            font_size="12",
        ),
    ]
    edge = box.x + box.width - _PAD + 3 - _badges(table, column)
    for mark in marks:
        size = _badge(mark)
        outline = f'rx="3" fill="{_HEAD_FILL}" stroke="{_LINE}" stroke-width=".7"'
        box_at = f'x="{edge:.1f}" y="{middle - 8:.1f}" width="{size:.1f}" height="16"'
        parts.append(f"<rect {box_at} {outline}/>")
        label = edge + size / 2
        parts.append(
            _text(label, middle + 3.8, mark, fill=_INK, font_size="10", text_anchor="middle")
        )
        edge += size + 3
    return "".join(parts)


def _line(line: Line) -> str:
    points = line.points
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    (x0, y0), (x1, _) = points[0], points[1]
    (xn, yn), (xm, _) = points[-1], points[-2]
    child = _end(x0, y0, 1 if x1 > x0 else -1, not line.child.at_most_one(line.key), True)
    parent = _end(xn, yn, 1 if xm > xn else -1, False, not line.child.is_mandatory(line.key))
    title = escape(f"{line.child.name} {_reference(line.child, line.key)}")
    stroke = f'fill="none" stroke="{_LINE}" stroke-width="1.6" stroke-linejoin="round"'
    return f'<g><title>{title}</title><path d="{path}" {stroke}/>{child}{parent}</g>'


def _end(x: float, y: float, away: int, many: bool, optional: bool) -> str:
    """Return the crow's foot: many or one at the table, then a circle (may be none) or a bar."""
    stroke = f'stroke="{_LINE}" stroke-width="1.6"'
    if many:
        tip = x + 12 * away
        foot = f"M{x:.1f} {y - 6:.1f}L{tip:.1f} {y:.1f}L{x:.1f} {y + 6:.1f}"
        near = f'<path d="{foot}" fill="none" {stroke}/>'
    else:
        bar = x + 8 * away
        near = f'<path d="M{bar:.1f} {y - 6:.1f}v12" {stroke}/>'
    if optional:
        far = f'<circle cx="{x + 17 * away:.1f}" cy="{y:.1f}" r="4.5" fill="#ffffff" {stroke}/>'
    else:
        far = f'<path d="M{x + 13 * away:.1f} {y - 6:.1f}v12" {stroke}/>'
    return near + far


def _legend(height: float) -> str:
    y = height - 16
    return (
        f'<g fill="{_PALE}" font-size="11">'
        f'<circle cx="30" cy="{y - 4:.1f}" r="3.5" fill="{_INK}" stroke="{_INK}"/>'
        + _text(38, y, "NOT NULL")
        + f'<circle cx="108" cy="{y - 4:.1f}" r="3.5" fill="none" stroke="{_INK}"/>'
        + _text(116, y, "may be NULL")
        + f'<g transform="translate(206 0)"><path d="M0 {y - 4:.1f}h34" stroke="{_LINE}" '
        f'stroke-width="1.6"/>{_end(0, y - 4, 1, True, True)}</g>'
        + _text(248, y, "zero or many")
        + f'<g transform="translate(334 0)"><path d="M0 {y - 4:.1f}h34" stroke="{_LINE}" '
        f'stroke-width="1.6"/>{_end(0, y - 4, 1, False, True)}</g>'
        + _text(376, y, "zero or one")
        + f'<g transform="translate(452 0)"><path d="M0 {y - 4:.1f}h34" stroke="{_LINE}" '
        f'stroke-width="1.6"/>{_end(0, y - 4, 1, False, False)}</g>'
        + _text(494, y, "exactly one")
        + "</g>"
    )
