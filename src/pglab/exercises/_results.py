"""A result as the server sent it: typed columns, and values in the server's text form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pglab.notebook import values
from pglab.notebook.tables import Table

__all__ = ["Column", "Result", "Row"]

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        oid: of its type.
        type_name: as people write it, such as ``timestamptz``.
        category: the server's ``typcategory``: S for strings, E for enums, N for numbers …
    """

    name: str
    oid: int
    type_name: str
    category: str


@dataclass(frozen=True)
class Result:
    """Rows, or the first of them.

    Attributes:
        seen: how many rows there were; more than ``rows`` holds when the rest was not kept.
        stopped: the server was told to stop after these; the total is unknown.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    seen: int = 0
    stopped: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns' names."""
        return tuple(column.name for column in self.columns)

    def table(
        self, rows: Sequence[Row], caption: str, most: int = 5, total: int | None = None
    ) -> Table:
        """Return the first of some rows as a table; ``total`` is how many there are in all."""
        total = len(rows) if total is None else total
        return Table(
            self.names,
            [
                [
                    values.from_server(value, column.oid)
                    for value, column in zip(row, self.columns, strict=True)
                ]
                for row in rows[:most]
            ],
            [column.type_name for column in self.columns],
            caption,
            f"First {most} of {total:,}." if total > most else "",
            [column.oid in values.NUMBERS for column in self.columns],
        )
