"""What the generator hands over: columns of one table, cheap to encode and easy to read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Kind = Literal["bigint", "bool", "bytea", "enum", "jsonb", "text", "timestamptz", "uuid"]
Octets: TypeAlias = Sequence[bytes | None]

# Times are whole microseconds since the Unix epoch. NEVER stands for a NULL among them.
NEVER = np.iinfo(np.int64).min
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Column:
    """Values of one column.

    Attributes:
        kind: the type in PostgreSQL.
        values: for bigint and timestamptz (µs since 1970, NEVER for NULL) int64; for bool bool_;
            for uuid 16 raw bytes (V16); for enum positions in ``labels``; else bytes or None.
        labels: an enum's labels.
    """

    kind: Kind
    values: NDArray[Any] | Octets
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def python(self) -> list[Any]:
        """Return the values as psycopg would read them back from PostgreSQL."""
        values = self.values.tolist() if isinstance(self.values, np.ndarray) else self.values
        return [self._one(value) for value in values]

    def _one(self, value: Any) -> Any:
        if value is None or (self.kind == "timestamptz" and value == NEVER):
            return None
        match self.kind:
            case "timestamptz":
                return _EPOCH + timedelta(microseconds=value)
            case "uuid":
                return uuid.UUID(bytes=value)
            case "enum":
                return self.labels[value]
            case "text":
                return value.decode()
            case "jsonb":
                return json.loads(value)
        return value


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of one table."""

    table: str
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as psycopg would read them back from PostgreSQL."""
        return zip(*(column.python() for column in self.columns.values()), strict=True)


def pick(table: NDArray[np.object_], index: NDArray[np.integer]) -> list[Any]:
    """Look up each index in a table of Python objects; no object is copied."""
    return list(table[index].tolist())


def table_of(values: Sequence[Any]) -> NDArray[np.object_]:
    """Make a table that ``pick`` can look things up in."""
    table = np.empty(len(values), dtype=object)
    table[:] = values
    return table
