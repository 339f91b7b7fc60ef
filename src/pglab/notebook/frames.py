"""A result as a pandas DataFrame, with types that lose nothing.

====================  =================================================
PostgreSQL            pandas
====================  =================================================
smallint … bigint     Int64 (NULL is <NA>, never a float)
real, double          float64 (NULL becomes NaN)
numeric               object of decimal.Decimal (exact)
boolean               boolean
timestamptz           datetime64[us] in the session's time zone
timestamp, date       datetime64[us] without a time zone
interval              timedelta64[us]; text if it has months or years
text, enums, …        string
jsonb, arrays, bytea, uuid, ranges    object of dict/list, list, bytes, UUID, Range
====================  =================================================

A column with a value that Python cannot hold (``infinity``, a year BC) stays text, and a remark
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from pglab.notebook.results import Column

if TYPE_CHECKING:
    import pandas as pd

    from pglab.notebook.wire import Connection

__all__ = ["to_frame"]

_INTEGERS = {20, 21, 23, 26}
_FLOATS = {700, 701}
_BOOLEAN, _TIMESTAMPTZ, _INTERVAL = 16, 1184, 1186
_INSTANTS = {1082, 1114}


def to_frame(
    columns: Sequence[Column], rows: Sequence[Sequence[str | None]], connection: Connection
) -> tuple[pd.DataFrame, list[str]]:
    """Return a result as a DataFrame, and the names of columns that had to stay text."""
    import pandas as pd

    series = []
    texts = []
    for index, column in enumerate(columns):
        raw = [row[index] for row in rows]
        try:
            series.append(_series(column, raw, connection))
        except (psycopg.Error, ValueError, OverflowError):
            series.append(pd.Series(raw, dtype="string"))
            texts.append(column.name)
    frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=range(len(rows)))
    # Set at the end: names may repeat, and pandas would otherwise merge such columns.
    frame.columns = pd.Index([column.name for column in columns])
    return frame, texts


def _series(column: Column, raw: list[str | None], connection: Connection) -> pd.Series[Any]:
    import pandas as pd

    if column.oid == _INTERVAL and any(
        value and ("mon" in value or "year" in value) for value in raw
    ):
        raise ValueError("a month has no fixed length")
    loader_class = connection.adapters.get_loader(column.oid, pq.Format.TEXT)
    if loader_class is None:
        return pd.Series(raw, dtype="string")
    loader = loader_class(column.oid, connection)
    encoding = connection.info.encoding
    loaded = [None if value is None else loader.load(value.encode(encoding)) for value in raw]
    if column.oid == _TIMESTAMPTZ:
        aware = pd.to_datetime(pd.Series(loaded, dtype="object"), utc=True).astype(
            "datetime64[us, UTC]"
        )
        return aware.dt.tz_convert(connection.info.timezone)
    return pd.Series(loaded, dtype=_dtype(column.oid, loaded))


def _dtype(oid: int, loaded: list[Any]) -> Any:
    if oid in _INTEGERS:
        return "Int64"
    if oid in _FLOATS:
        return "float64"
    if oid == _BOOLEAN:
        return "boolean"
    if oid in _INSTANTS:
        return "datetime64[us]"
    if oid == _INTERVAL:
        return "timedelta64[us]"
    texts = all(value is None or isinstance(value, str) for value in loaded)
    return "string" if texts else "object"
