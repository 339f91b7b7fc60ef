"""Compare a result with the reference's: columns, rows as multisets, order as far as asked."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from pglab.exercises._results import Column, Result, Row
from pglab.exercises._values import close, family, is_float, key_function, tolerance
from pglab.exercises._verdict import Fault

__all__ = ["Wanted", "compare", "compare_columns"]

_Key = tuple[Hashable, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How far a question asks.

    Attributes:
        names: the columns' names count.
        column_order: the columns' order counts (it always does where names do not).
        exact_types: ``bigint`` and ``numeric`` are not the same.
        order_by: names of the columns that the question sorts by; empty if order does not count.
    """

    names: bool = True
    column_order: bool = False
    exact_types: bool = False
    order_by: tuple[str, ...] = ()


def compare(
    expected: Result, actual: Result, wanted: Wanted, pool: Result | None = None
) -> Fault | None:
    """Return the first difference, or None.

    Args:
        expected: the reference's result, complete.
        actual: the learner's; its rows may be cut off a little beyond the reference's.
        wanted: how far the question asks.
        pool: every row that could rightly be in the answer, where LIMIT leaves a choice between
            rows that the sort key does not tell apart.
    """
    fault = compare_columns(expected, actual, wanted)
    if fault is not None:
        return fault
    actual = _arranged(expected, actual, wanted)
    if actual.stopped or actual.seen > len(actual.rows):
        return _too_many(expected, actual)
    keys = _Keys(expected.columns, actual.columns)
    matched, missing, extra = _difference(expected.rows, actual.rows, keys)
    if pool is not None and extra and len(missing) == len(extra):
        foreign = _difference(pool.rows, actual.rows, keys)[2]
        if not foreign and _first_disorder(expected, actual, keys, wanted) is None:
            return None
    if missing or extra:
        return _rows_differ(expected, actual, missing, extra, matched)
    return _order_differs(expected, actual, keys, wanted)


def compare_columns(expected: Result, actual: Result, wanted: Wanted) -> Fault | None:
    """Return what is wrong with the columns: their number, names, order or types."""
    if wanted.names:
        fault = _names_differ(expected, actual)
        if fault is not None:
            return fault
        if wanted.column_order and expected.names != actual.names:
            return Fault(
                f"The columns are right, and their order is not: {_listed(expected.names)} are "
                f"asked for, in this order; yours are {_listed(actual.names)}."
            )
        actual = _arranged(expected, actual, wanted)
    elif len(expected.columns) != len(actual.columns):
        return Fault(
            f"{_counted(len(expected.columns), 'column')} asked for; your statement returns "
            f"{len(actual.columns)}: {_listed(actual.names)}."
        )
    for want, have in zip(expected.columns, actual.columns, strict=True):
        same = (
            want.type_name == have.type_name if wanted.exact_types else family(want) == family(have)
        )
        if not same:
            return Fault(
                f"The column {have.name} has the type {have.type_name}; "
                f"{want.type_name} is asked for."
            )
    return None


def _names_differ(expected: Result, actual: Result) -> Fault | None:
    missing = list((Counter(expected.names) - Counter(actual.names)).elements())
    extra = list((Counter(actual.names) - Counter(expected.names)).elements())
    if not missing and not extra:
        return None
    have = f"Yours: {_listed(actual.names)}." if actual.names else "Yours returns no columns."
    if missing and extra and len(expected.names) == len(actual.names):
        subject = "A column has" if len(missing) == 1 else "Columns have"
        return Fault(
            f"{subject} another name than asked for: {_listed(missing)} expected, "
            f"{_listed(extra)} found. {have}"
        )
    words = []
    if missing:
        words.append(f"The column{_s(missing)} {_listed(missing)} {_are(missing)} missing.")
    if extra:
        words.append(f"The column{_s(extra)} {_listed(extra)} {_are(extra)} not asked for.")
    return Fault(" ".join([*words, have]))


def _arranged(expected: Result, actual: Result, wanted: Wanted) -> Result:
    """Return the result with its columns in the reference's order."""
    if not wanted.names or expected.names == actual.names:
        return actual
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(actual.names):
        places[name].append(place)
    order = [places[name].pop(0) for name in expected.names]
    return Result(
        tuple(actual.columns[place] for place in order),
        tuple(tuple(row[place] for place in order) for row in actual.rows),
        actual.seen,
        actual.stopped,
    )


class _Keys:
    """How to tell the rows of two results apart."""

    def __init__(self, expected: Sequence[Column], actual: Sequence[Column]) -> None:
        pairs = list(zip(expected, actual, strict=True))
        self.floats = {
            place: tolerance(*pair)
            for place, pair in enumerate(pairs)
            if any(map(is_float, pair)) and all(family(one) == "number" for one in pair)
        }
        self._expected = [key_function(want) for want, _ in pairs]
        self._actual = [key_function(have) for _, have in pairs]

    def expected(self, row: Row) -> _Key:
        return tuple(key(value) for key, value in zip(self._expected, row, strict=True))

    def actual(self, row: Row) -> _Key:
        return tuple(key(value) for key, value in zip(self._actual, row, strict=True))


def _difference(
    expected: Sequence[Row], actual: Sequence[Row], keys: _Keys
) -> tuple[int, list[Row], list[Row]]:
    """Return how many rows match, which are missing and which are too many, each in its order."""
    wanted = Counter(keys.expected(row) for row in expected)
    extra: list[Row] = []
    for row in actual:
        key = keys.actual(row)
        if wanted[key] > 0:
            wanted[key] -= 1
        else:
            extra.append(row)
    missing: list[Row] = []
    # From the end, so that of equal rows the later ones are called missing.
    for row in reversed(expected):
        key = keys.expected(row)
        if wanted[key] > 0:
            wanted[key] -= 1
            missing.append(row)
    missing.reverse()
    if keys.floats and missing and extra:
        missing, extra = _match_floats(missing, extra, keys)
    return len(actual) - len(extra), missing, extra


def _match_floats(missing: list[Row], extra: list[Row], keys: _Keys) -> tuple[list[Row], list[Row]]:
    """Pair the rows that differ in the last digits of floating-point numbers only."""

    def rest(key: _Key) -> _Key:
        return tuple(value for place, value in enumerate(key) if place not in keys.floats)

    def by_floats(row: Row) -> list[float]:
        return [float(row[place] or "nan") for place in sorted(keys.floats)]

    waiting: dict[_Key, list[Row]] = defaultdict(list)
    for row in sorted(extra, key=by_floats):
        waiting[rest(keys.actual(row))].append(row)
    unmatched: list[Row] = []
    for row in sorted(missing, key=by_floats):
        candidates = waiting[rest(keys.expected(row))]
        for place, candidate in enumerate(candidates):
            if all(close(row[at], candidate[at], r) for at, r in keys.floats.items()):
                del candidates[place]
                break
        else:
            unmatched.append(row)
    return unmatched, [row for rows in waiting.values() for row in rows]


def _too_many(expected: Result, actual: Result) -> Fault:
    keys = _Keys(expected.columns, actual.columns)
    _, _, extra = _difference(expected.rows, actual.rows, keys)
    total = f"more than {actual.seen - 1:,}" if actual.stopped else f"{actual.seen:,}"
    return Fault(
        f"Far too many rows: {len(expected.rows):,} expected, {total} found.",
        [actual.table(extra, "rows that are not expected")] if extra else [],
    )


def _rows_differ(
    expected: Result, actual: Result, missing: list[Row], extra: list[Row], matched: int
) -> Fault:
    keys = _Keys(expected.columns, actual.columns)
    same = {keys.expected(row) for row in expected.rows} == {
        keys.actual(row) for row in actual.rows
    }
    tables = []
    if extra:
        tables.append(actual.table(extra, "yours, not expected"))
    if missing:
        tables.append(expected.table(missing, "expected, not in yours"))
    count = f"{len(expected.rows):,} expected, {len(actual.rows):,} found"
    if extra and not missing and same:
        words = (
            f"The right rows, but some come more often than they should: {count}. "
            "A join that finds several partners repeats a row."
        )
    elif missing and not extra and same:
        words = f"The right rows, but some should come more than once: {count}."
    elif extra and not missing:
        words = f"{_counted(len(extra), 'row')} too many: {count}."
    elif missing and not extra:
        words = f"{_counted(len(missing), 'row')} missing: {count}."
    elif len(missing) == len(extra):
        words = f"The number of rows is right ({len(expected.rows):,}), and "
        if matched:
            words += f"{_counted(len(missing), 'row')} {'is' if len(missing) == 1 else 'are'} not."
        else:
            words += "none of them is." if len(missing) > 1 else "its values are not."
    else:
        words = f"{_counted(len(missing), 'row')} missing and {len(extra):,} too many: {count}."
    if missing and extra and _normal(missing[0]) == _normal(extra[0]):
        words += (
            " The first two look the same and are not: their letters are composed differently "
            "(Unicode normalisation; see normalize())."
        )
    return Fault(words, tables)


def _normal(row: Row) -> list[str | None]:
    return [None if value is None else unicodedata.normalize("NFC", value) for value in row]


def _first_disorder(expected: Result, actual: Result, keys: _Keys, wanted: Wanted) -> int | None:
    """Return the first place where the sort keys differ: rows that share one may swap."""
    places = [expected.names.index(name) for name in wanted.order_by]
    for number, (want, have) in enumerate(zip(expected.rows, actual.rows, strict=True)):
        want_key, have_key = keys.expected(want), keys.actual(have)
        for place in places:
            if want_key[place] == have_key[place]:
                continue
            if place in keys.floats and close(want[place], have[place], keys.floats[place]):
                continue
            return number
    return None


def _order_differs(expected: Result, actual: Result, keys: _Keys, wanted: Wanted) -> Fault | None:
    place = _first_disorder(expected, actual, keys, wanted)
    if place is None:
        return None
    return Fault(
        f"The right rows in the wrong order: they are to be sorted by {_listed(wanted.order_by)}. "
        f"Row {place + 1:,} is the first that differs.",
        [
            actual.table([actual.rows[place]], f"row {place + 1:,} of yours"),
            expected.table([expected.rows[place]], f"row {place + 1:,} expected"),
        ],
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _s(items: Sequence[object]) -> str:
    return "" if len(items) == 1 else "s"


def _are(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
