"""When two values are the same: as PostgreSQL's own ``=`` says, with four decisions of ours.

- Numbers of every type compare by value: 1, 1.0 and 1.00 are the same, NaN equals NaN. Where one
  side is a floating-point column, a relative difference of 1e-9 (real: 1e-6) is none, because the
  order in which the server adds up decides the last digits.
- An instant is an instant in whichever time zone it is written.
- JSON compares as jsonb does: the order of keys and the spelling of numbers do not count.
- Texts compare character by character, as in PostgreSQL: é as one code point and as e with an
  accent are two texts. The feedback says so when that is all that differs.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any

from pglab.exercises._results import Column

__all__ = ["close", "family", "is_float", "key_function"]

_REAL, _DOUBLE = 700, 701
_EXACT = {20, 21, 23, 26, 1700}
_JSON = {114, 3802}
_TIMESTAMPTZ, _INTERVAL = 1184, 1186
_CHAR, _UNKNOWN = 18, 705

_NULL = ("NULL",)


def family(column: Column) -> str:
    """Return what a column's type amounts to, for a learner: number, text, json and so on."""
    if column.oid in _EXACT or column.oid in {_REAL, _DOUBLE}:
        return "number"
    if column.category in {"S", "E"} or column.oid in {_CHAR, _UNKNOWN}:
        return "text"
    if column.oid in _JSON:
        return "json"
    return re.sub(
        r"\(.*\)", "", column.type_name
    )  # a precision is part of the value, not of its kind


def is_float(column: Column) -> bool:
    """Tell whether a column holds floating-point numbers."""
    return column.oid in {_REAL, _DOUBLE}


def tolerance(*columns: Column) -> float:
    """Return the relative difference that is none."""
    return 1e-6 if any(column.oid == _REAL for column in columns) else 1e-9


def close(a: str | None, b: str | None, relative: float) -> bool:
    """Tell whether two numbers are the same but for rounding; NULL equals NULL, NaN NaN."""
    if a is None or b is None:
        return a is b
    left, right = float(a), float(b)
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return math.isclose(left, right, rel_tol=relative, abs_tol=relative)


def key_function(column: Column) -> Callable[[str | None], Hashable]:
    """Return a function whose results are equal exactly if two values of the column are."""
    convert: Callable[[str], Hashable] = str
    if column.oid in _EXACT or is_float(column):
        convert = _number
    elif column.oid in _JSON:
        convert = _json
    elif column.oid == _TIMESTAMPTZ:
        convert = _instant
    elif column.oid == _INTERVAL:
        convert = _interval
    elif column.type_name.startswith("char"):  # blanks at the end do not count in char(n)
        convert = str.rstrip

    def key(value: str | None) -> Hashable:
        return _NULL if value is None else convert(value)

    return key


def _number(text: str) -> Hashable:
    number = Decimal(text)
    # Decimal's NaN equals nothing, not even itself; PostgreSQL's equals NaN.
    return "NaN" if number.is_nan() else number


def _json(text: str) -> Hashable:
    return _frozen(json.loads(text, parse_int=Decimal, parse_float=Decimal))


def _frozen(value: Any) -> Hashable:
    # The tags keep true apart from 1, and "1" from 1.
    if isinstance(value, dict):
        return ("object", frozenset((name, _frozen(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(_frozen, value)))
    return (type(value).__name__, value)


def _instant(text: str) -> Hashable:
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError):  # infinity, BC, beyond the year 9999: written in UTC
        return text


_PART = re.compile(r"([+-]?\d+) (year|mon|day)s?")
_CLOCK = re.compile(r"([+-]?)(\d+):(\d\d):(\d\d(?:\.\d+)?)\Z")
_MONTH_S, _DAY_S = 30 * 86_400, 86_400
_UNIT_S = {"year": 12 * _MONTH_S, "mon": _MONTH_S, "day": _DAY_S}


def _interval(text: str) -> Hashable:
    # PostgreSQL's own =: a month is 30 days, a day 24 hours (documentation, 8.5.4).
    if "infinity" in text:
        return text
    seconds = Decimal(sum(int(n) * _UNIT_S[unit] for n, unit in _PART.findall(text)))
    clock = _CLOCK.search(text)
    if clock:
        part = int(clock[2]) * 3600 + int(clock[3]) * 60 + Decimal(clock[4])
        seconds += -part if clock[1] == "-" else part
    return seconds
