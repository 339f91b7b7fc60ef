"""A table of finished words, as HTML, Markdown and text that lines up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["STYLE", "Grid", "escaped_markdown"]

# Alignment is repeated as attributes and nothing depends on colour: GitHub drops style sheets.
STYLE: Final = (
    "<style>.pglab-bench table{border-collapse:collapse;margin:.3em 0;font-size:inherit;"
    "font-variant-numeric:tabular-nums}"
    ".pglab-bench caption{caption-side:top;text-align:left;padding:.2em 0;color:inherit}"
    ".pglab-bench th,.pglab-bench td{padding:.25em .7em!important;text-align:left!important;"
    "vertical-align:top!important;white-space:nowrap}"
    ".pglab-bench thead th{border-bottom:1px solid currentColor}"
    ".pglab-bench tbody th{font-weight:normal}"
    ".pglab-bench .n{text-align:right!important}"
    ".pglab-bench ul{margin:.2em 0 .8em;padding-left:1.4em;opacity:.85}"
    ".pglab-bench .scroll{overflow-x:auto}</style>"
)
# What Markdown or the HTML within it could take for markup; | would end a cell.
_MARKUP: Final = str.maketrans(
    {"|": "\\|", "<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "`": "\\`", "*": "\\*"}
    | {"_": "\\_", "[": "\\[", "\\": "\\\\"}
)


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: what it is, shown above it.
        names: of the columns; the first one names its row.
        rows: as many cells each.
        numeric: columns that are aligned at the right.
        notes: sentences below it.
    """

    caption: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def html(self) -> str:
        """Return a <table> with caption and scoped headings, and the notes as a list."""

        def cell(tag: str, column: int, text: str) -> str:
            align = ' class="n" align="right"' if column in self.numeric else ' align="left"'
            return f"<{tag}{align}>{escape(text)}</{tag.split(maxsplit=1)[0]}>"

        head = "".join(cell('th scope="col"', place, name) for place, name in enumerate(self.names))
        body = "".join(
            "<tr>"
            + "".join(
                cell("td" if place else 'th scope="row"', place, text)
                for place, text in enumerate(row)
            )
            + "</tr>\n"
            for row in self.rows
        )
        listed = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f'<div class="scroll"><table><caption>{escape(self.caption)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
            + (f"<ul>{listed}</ul>" if listed else "")
        )

    def markdown(self) -> str:
        """Return a table as GitHub's Markdown has it, the caption above and the notes below."""
        rule = ["---:" if place in self.numeric else "---" for place in range(len(self.names))]
        lines = [f"**{escaped_markdown(self.caption)}**", "", _piped(self.names, escaped=True)]
        lines += [_piped(rule), *(_piped(row, escaped=True) for row in self.rows)]
        if self.notes:
            lines += ["", *(f"- {escaped_markdown(note)}" for note in self.notes)]
        return "\n".join(lines)

    def text(self) -> str:
        """Return the table for a terminal, each column as wide as its widest cell."""
        lines = [[_one_line(cell) for cell in row] for row in (self.names, *self.rows)]
        widths = [max(_width(line[place]) for line in lines) for place in range(len(self.names))]

        def padded(line: Sequence[str]) -> str:
            cells = []
            for place, (cell, width) in enumerate(zip(line, widths, strict=True)):
                space = " " * (width - _width(cell))
                cells.append(space + cell if place in self.numeric else cell + space)
            return "  ".join(cells).rstrip()

        rule = "  ".join("─" * width for width in widths)
        found = [_one_line(self.caption), padded(lines[0]), rule, *map(padded, lines[1:])]
        return "\n".join([*found, *(f"· {_one_line(note)}" for note in self.notes)])


def _width(text: str) -> int:
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def _one_line(text: str) -> str:
    """Keep a terminal from obeying what a name says to it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def escaped_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _one_line(text).translate(_MARKUP)


def _piped(cells: Sequence[str], *, escaped: bool = False) -> str:
    return f"| {' | '.join(escaped_markdown(cell) if escaped else cell for cell in cells)} |"
