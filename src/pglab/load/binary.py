"""COPY's binary format, assembled a column at a time.

The format (PostgreSQL's documentation, "COPY", file formats): a row is its number of fields (two
bytes), and each field is its length (four bytes, -1 for NULL) and its bytes, all big-endian. Fixed
fields that follow one another become one packed NumPy record, so that a row of sixteen fields is
about twenty pieces of bytes; a single join strings them together.
"""

from __future__ import annotations

import struct
from itertools import chain, groupby, islice, product
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import Batch, Column
from pglab.dataset.columns import NEVER, pick, table_of

# The signature, then no flags and no header extension; at the end, a row of -1 fields.
HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TAIL = b"\xff\xff"

# PostgreSQL counts microseconds from 2000-01-01.
_EPOCH_2000_US = 946_684_800_000_000
_JSONB_VERSION = b"\1"
_WIDTHS = {"bigint": ">i8", "timestamptz": ">i8", "uuid": "V16"}

Pieces: TypeAlias = list[list[bytes]]


# Prefixes of the lengths that occur; NumPy takes the last one for -1, which is NULL's.
_LENGTHS = table_of([struct.pack(">i", length) for length in [*range(4096), -1]])
# A join looks at its pieces twice; this many rows' pieces stay in the processor's cache meanwhile.
_ROWS_A_JOIN = 128
_NULL = struct.pack(">i", -1)


def encode(batch: Batch) -> bytes:
    """Return the rows of a batch as COPY's binary format wants them, without head and tail."""
    rows = len(batch)
    pieces = [[struct.pack(">h", len(batch.columns))] * rows]
    for form, run in groupby(batch.columns.values(), key=_form):
        pieces += _WRITERS[form](list(run), rows)
    in_order = chain.from_iterable(zip(*pieces, strict=True))
    some = _ROWS_A_JOIN * len(pieces)
    return b"".join(iter(lambda: b"".join(islice(in_order, some)), b""))


def _form(column: Column) -> str:
    if column.kind in {"enum", "bool"}:
        return "finite"
    if column.kind == "timestamptz" and NEVER in np.asarray(column.values):
        return "sparse"
    return "fixed" if column.kind in _WIDTHS else "varying"


def _fixed(columns: list[Column], rows: int) -> Pieces:
    """Pack columns whose every field has one width into one record a row."""
    layout = np.dtype(
        [
            field
            for number, column in enumerate(columns)
            for field in ((f"length{number}", ">i4"), (f"value{number}", _WIDTHS[column.kind]))
        ]
    )
    record = np.empty(rows, dtype=layout)
    for number, column in enumerate(columns):
        record[f"length{number}"] = np.dtype(_WIDTHS[column.kind]).itemsize
        record[f"value{number}"] = column.values
        if column.kind == "timestamptz":
            record[f"value{number}"] -= _EPOCH_2000_US
    return [record.view(f"V{layout.itemsize}").tolist()]


def _finite(columns: list[Column], rows: int) -> Pieces:
    """Look columns of few values up in a table of all their combinations."""
    code = np.zeros(rows, dtype=np.int64)
    fields = []
    for column in columns:
        values = [b"\0", b"\1"] if column.kind == "bool" else [x.encode() for x in column.labels]
        code = code * len(values) + np.asarray(column.values)
        fields.append([struct.pack(">i", len(value)) + value for value in values])
    return [pick(table_of(list(map(b"".join, product(*fields)))), code)]


def _sparse(columns: list[Column], rows: int) -> Pieces:
    """Write moments that are mostly NULL."""
    pieces = []
    for column in columns:
        values = np.asarray(column.values)
        known = np.flatnonzero(values != NEVER)
        content = [_NULL] * rows
        for position, value in zip(known.tolist(), values[known].tolist(), strict=True):
            content[position] = struct.pack(">iq", 8, value - _EPOCH_2000_US)
        pieces.append(content)
    return pieces


def _varying(columns: list[Column], rows: int) -> Pieces:
    """Write each column's lengths and then its bytes."""
    pieces = []
    for column in columns:
        values = cast("list[bytes | None]", column.values)
        if None in values:
            lengths = [-1 if value is None else len(value) for value in values]
            content = [value or b"" for value in values]
        else:
            content = cast("list[bytes]", values)
            lengths = list(map(len, content))
        if column.kind == "jsonb":
            if -1 in lengths:
                raise ValueError("a jsonb column of the dataset holds a NULL")
            lengths = [length + 1 for length in lengths]
        pieces.append(_prefixes(np.array(lengths)))
        if column.kind == "jsonb":
            pieces.append([_JSONB_VERSION] * rows)
        pieces.append(content)
    return pieces


def _prefixes(lengths: NDArray[np.integer]) -> list[bytes]:
    if lengths.max(initial=0) < len(_LENGTHS) - 1:
        return pick(_LENGTHS, lengths)
    return list(lengths.astype(">i4").view("V4").tolist())


_WRITERS = {"fixed": _fixed, "finite": _finite, "sparse": _sparse, "varying": _varying}
