"""How results are compared, property by property; no server is needed for that."""

from __future__ import annotations

import datetime as dt
import json
import math
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.exercises._compare import Wanted, compare
from pglab.exercises._results import Column, Result
from pglab.exercises._values import key_function
from pglab.exercises._verdict import Fault

OIDS = {
    "text": (25, "S"), "bigint": (20, "N"), "integer": (23, "N"), "numeric": (1700, "N"),
    "float8": (701, "N"), "real": (700, "N"), "boolean": (16, "B"), "jsonb": (3802, "U"),
    "json": (114, "U"), "timestamptz": (1184, "D"), "timestamp": (1114, "D"),
    "interval": (1186, "T"), "uuid": (2950, "U"), "mood": (99_999, "E"),
}  # fmt: skip


def column(name: str, kind: str) -> Column:
    oid, category = OIDS[kind]
    return Column(name, oid, kind, category)


def result(rows, **kinds: str) -> Result:
    made = tuple(tuple(row) for row in rows)
    return Result(tuple(column(n, k) for n, k in kinds.items()), made, len(made))


def same(kind: str, a: str | None, b: str | None, other: str | None = None) -> bool:
    return compare(result([(a,)], v=kind), result([(b,)], v=other or kind), Wanted()) is None


def words(expected: Result, actual: Result, **wanted) -> str:
    fault = compare(expected, actual, Wanted(**wanted))
    assert isinstance(fault, Fault)
    return fault.message


cells = st.none() | st.sampled_from(["", "a", "A", "NULL", "1", "1.0"])
tables = st.lists(st.tuples(cells, cells), max_size=8)


@given(tables.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_a_permutation_is_the_same(pair) -> None:
    rows, shuffled = pair
    assert compare(result(rows, a="text", b="text"), result(shuffled, a="text", b="text"),
                   Wanted()) is None  # fmt: skip


@given(tables, tables)
def test_the_same_means_the_same_multiset(one, other) -> None:
    fault = compare(result(one, a="text", b="text"), result(other, a="text", b="text"), Wanted())
    key = lambda row: tuple((v is None, v or "") for v in row)  # noqa: E731
    assert (fault is None) == (sorted(one, key=key) == sorted(other, key=key))


@given(tables.filter(bool), st.data())
def test_a_duplicate_and_a_loss_are_noticed(rows, data) -> None:
    chosen = data.draw(st.sampled_from(rows))
    expected = result(rows, a="text", b="text")
    more = words(expected, result([*rows, chosen], a="text", b="text"))
    assert "some come more often than they should" in more
    fewer = list(rows)
    fewer.remove(chosen)
    fault = compare(expected, result(fewer, a="text", b="text"), Wanted())
    assert fault is not None
    assert fault.tables


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12), st.data())
def test_ties_may_come_in_any_order_and_nothing_else(rows, data) -> None:
    ordered = sorted(rows)
    shuffled = data.draw(st.permutations(rows))
    asked = {"order_by": ("a",)}
    text = [tuple(map(str, row)) for row in ordered]
    other = [tuple(map(str, row)) for row in shuffled]
    fault = compare(result(text, a="integer", b="integer"), result(other, a="integer", b="integer"),
                    Wanted(**asked))  # fmt: skip
    in_order = [a for a, _ in shuffled] == [a for a, _ in ordered]
    assert (fault is None) == in_order
    if fault is not None:
        assert "The right rows in the wrong order" in fault.message


numbers = st.decimals(allow_nan=True, allow_infinity=True, places=None)


@given(numbers, st.integers(0, 6))
def test_the_scale_of_a_number_does_not_count(number: Decimal, zeros: int) -> None:
    plain = f"{number:f}" if number.is_finite() else str(number)
    padded = plain
    if number.is_finite() and zeros:
        padded += ("" if "." in plain else ".") + "0" * zeros
    if "sNaN" not in plain:
        assert same("numeric", plain, padded)


@given(st.integers(-(10**18), 10**18))
def test_a_whole_number_is_the_same_in_each_type(number: int) -> None:
    assert same("bigint", str(number), f"{number}.00", "numeric")
    assert same("bigint", str(number), repr(float(number)), "float8")
    assert not same("bigint", str(number), str(number + 1))


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(-9, 9))
def test_floats_have_a_tolerance_and_no_more(number: float, steps: int) -> None:
    near = number
    for _ in range(abs(steps)):
        near = math.nextafter(near, math.copysign(math.inf, steps))
    if math.isfinite(number) == math.isfinite(near):
        assert same("float8", repr(number), repr(near))
    if math.isfinite(number) and 1e-3 < abs(number) < 1e300:
        assert not same("float8", repr(number), repr(number * (1 + 1e-6)))
        assert same("real", repr(number), repr(number * (1 + 1e-7)), "float8")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.data())
def test_floats_match_whatever_their_order(values, data) -> None:
    shuffled = data.draw(st.permutations(values))
    expected = result([("x", repr(v)) for v in values], a="text", v="float8")
    actual = result([("x", repr(v * (1 + 1e-12))) for v in shuffled], a="text", v="float8")
    assert compare(expected, actual, Wanted()) is None


EARLY, LATE = dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)  # noqa: DTZ001 - zones follow


@given(st.datetimes(EARLY, LATE), st.integers(-14, 14))
def test_an_instant_is_the_same_in_every_zone(moment: dt.datetime, hours: int) -> None:
    utc = moment.replace(tzinfo=dt.UTC)
    there = utc.astimezone(dt.timezone(dt.timedelta(hours=hours)))
    assert same("timestamptz", utc.isoformat(" "), there.isoformat(" "))
    later = utc + dt.timedelta(microseconds=1)
    assert not same("timestamptz", utc.isoformat(" "), later.isoformat(" "))
    assert not same("timestamptz", utc.isoformat(" "), moment.isoformat(" "), "timestamp")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner,
                                                               max_size=3),
    max_leaves=8,
)  # fmt: skip


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def tagged(value):
    """Return a value in which 1 and true differ, as they do in JSON and do not in Python."""
    if isinstance(value, dict):
        return {key: tagged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [tagged(item) for item in value]
    return (type(value).__name__, value)


@given(values, values)
def test_json_compares_as_jsonb_does(one, other) -> None:
    assert same("jsonb", json.dumps(one), json.dumps(reversed_keys(one), indent=1), "json")
    assert same("jsonb", json.dumps(one), json.dumps(other)) == (tagged(one) == tagged(other))
    assert same("jsonb", "[1, 2.50]", "[1.0, 2.5]")
    assert not same("jsonb", "[1, 0]", "[true, false]")
    assert not same("jsonb", "1", '"1"')


@given(st.text(max_size=6))
def test_texts_compare_code_point_by_code_point(text: str) -> None:
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, text)
        assert same("text", text, other) == (text == other)


def test_a_difference_that_nobody_can_see_is_explained() -> None:
    expected, actual = result([("caf\u00e9",)], v="text"), result([("cafe\u0301",)], v="text")
    assert "Unicode normalisation" in words(expected, actual)


@given(st.integers(-40, 40), st.integers(-40, 40))
def test_an_interval_counts_as_the_server_counts(days: int, hours: int) -> None:
    total = days * 24 + hours
    mixed = f"{days} days {'-' if hours < 0 else ''}{abs(hours):02}:00:00"
    assert same("interval", mixed, f"{'-' if total < 0 else ''}{abs(total):02}:00:00")


def test_null_is_only_null() -> None:
    for kind in OIDS:
        key = key_function(column("v", kind))
        assert key(None) == key(None)
    for kind, value in {"text": "", "integer": "0", "jsonb": "null", "float8": "0"}.items():
        assert not same(kind, None, value)
        assert same(kind, None, None)


NAMES = result([("1", "x")], n="bigint", word="text")


@pytest.mark.parametrize(
    ("actual", "wanted", "says"),
    [
        (result([("1",)], n="bigint"), {}, "The column word is missing. Yours: n."),
        (result([("1", "x", "y")], n="bigint", word="text", more="text"), {},
         "The column more is not asked for."),
        (result([("1", "x")], m="bigint", word="text"), {},
         "A column has another name than asked for: n expected, m found."),
        (result([("x", "1")], word="text", n="bigint"), {"column_order": True},
         "The columns are right, and their order is not"),
        (result([("1", "x")], n="text", word="text"), {},
         "The column n has the type text; bigint is asked for."),
        (result([("1", "x")], n="integer", word="text"), {"exact_types": True},
         "The column n has the type integer; bigint is asked for."),
        (result([("1",)], x="bigint"), {"names": False}, "2 columns asked for"),
        (result([("2", "x")], n="bigint", word="text"), {}, "The number of rows is right (1)"),
        (result([], n="bigint", word="text"), {}, "1 row missing: 1 expected, 0 found."),
        (result([("1", "x"), ("2", "y")], n="bigint", word="text"), {},
         "1 row too many: 1 expected, 2 found."),
        (Result((), (), 1), {}, "The columns n, word are missing. Yours returns no columns."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(actual: Result, wanted: dict[str, bool], says: str) -> None:
    assert says in words(NAMES, actual, **wanted)


def test_what_does_not_matter_passes() -> None:
    for actual, wanted in [
        (result([("x", "1")], word="text", n="bigint"), {}),
        (result([("1", "x")], n="numeric", word="mood"), {}),
        (result([("1", "x")], other="integer", names="text"), {"names": False}),
    ]:
        assert compare(NAMES, actual, Wanted(**wanted)) is None


def test_names_may_repeat() -> None:
    twice = Result((column("a", "text"), column("a", "text")), (("1", "2"),), 1)
    assert compare(twice, twice, Wanted()) is None
    assert "The column a is missing" in words(twice, result([("1",)], a="text"))


def test_a_flood_is_not_counted_out() -> None:
    rows = tuple(("1", "x") for _ in range(21))
    flood = Result(NAMES.columns, rows, 21, stopped=True)
    assert "Far too many rows: 1 expected, more than 20 found." in words(NAMES, flood)
