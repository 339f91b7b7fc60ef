"""How values and tables are written."""

from __future__ import annotations

from decimal import Decimal
from html.parser import HTMLParser

import pandas as pd
import pytest

from pglab.notebook import side_by_side, table
from pglab.notebook.explain_error import condition_name, known_condition
from pglab.notebook.failures import SqlUsageError
from pglab.notebook.options import help_text, parse
from pglab.notebook.report import duration
from pglab.notebook.values import from_python, from_server

TEXT, BOOL, BYTEA, INT, JSONB = 25, 16, 17, 23, 3802


@pytest.mark.parametrize(
    ("value", "oid", "shown"),
    [
        (None, TEXT, "NULL"),
        ("", TEXT, "''"),
        ("NULL", TEXT, "'NULL'"),
        ("''", TEXT, "''''''"),
        (" a", TEXT, "' a'"),
        ("it's", TEXT, "it's"),
        ("t", BOOL, "true"),
        ("f", BOOL, "false"),
        (r"\x00ff", BYTEA, r"\x00ff"),
        (r"\x" + "ab" * 1_024, BYTEA, r"\x" + "ab" * 16 + "… (1,024 bytes)"),
        ("12.50", 1700, "12.50"),
        ("NaN", 701, "NaN"),
        ("a\nb\tc\x1b[31m", TEXT, "a↵b⇥c␛[31m"),
        ("x" * 130, TEXT, "x" * 120 + "… (+10 characters)"),
        ("abc\u202egnp.exe", TEXT, "abc<U+202E>gnp.exe"),
        ("👩‍👩‍👧", TEXT, "👩‍👩‍👧"),
        ("مرحبا", TEXT, "مرحبا"),
    ],
)
def test_a_value_is_unmistakable(value: str | None, oid: int, shown: str) -> None:
    assert from_server(value, oid).text == shown


def test_null_is_no_text() -> None:
    assert from_server(None, TEXT).is_null
    assert not from_server("NULL", TEXT).is_null


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "NULL"),
        (pd.NA, "NULL"),
        (pd.NaT, "NULL"),
        (True, "true"),
        (b"\x00", r"\x00"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        (Decimal("1.50"), "1.50"),
        ("", "''"),
    ],
)
def test_a_python_object_looks_like_the_servers(value: object, shown: str) -> None:
    assert from_python(value).text == shown


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_accessible_and_harmless() -> None:
    evil = "<script>alert(1)</script>"
    shown = table([{"<b>n": 1, "t": evil}, {"<b>n": 20, "t": None}], caption='a "caption" <i>')
    parsed = _Tags(shown._repr_html_())
    names = [tag for tag, _ in parsed.tags]
    assert "script" not in names
    assert "b" not in names
    assert evil in parsed.text
    assert 'a "caption" <i>' in parsed.text
    headings = [attributes for tag, attributes in parsed.tags if tag == "th"]
    assert [one["scope"] for one in headings] == ["col", "col"]
    cells = [attributes for tag, attributes in parsed.tags if tag == "td"]
    assert [one["align"] for one in cells] == ["right", "left", "right", "left"]
    assert names.count("caption") == 1


def test_text_is_aligned_by_width_on_the_screen() -> None:
    lines = repr(table([("日本", 1), ("a", 100), ("👍🏽", None)], columns=["w", "n"])).splitlines()
    assert lines == [
        " w    |    n",
        "------+------",
        " 日本 |    1",
        " a    |  100",
        " 👍🏽   | NULL",
    ]


def test_right_to_left_text_is_isolated() -> None:
    assert "\u2068مرحبا\u2069 | 1" in repr(table([("مرحبا", "1")], columns=["a", "b"]))
    assert 'dir="auto"' in table([("مرحبا", "1")])._repr_html_()


def test_a_data_frame_with_repeated_names() -> None:
    frame = pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])
    assert repr(table(frame)).splitlines()[0].split() == ["x", "|", "x"]


def test_a_long_table_is_bounded() -> None:
    shown = repr(table([(n,) for n in range(1_000)], limit=3))
    assert shown.endswith("first 3 of 1,000 rows")
    assert len(shown.splitlines()) == 6


def test_an_empty_table() -> None:
    assert "caption" in table([], caption="nothing")._repr_html_()


def test_side_by_side_keeps_both() -> None:
    shown = side_by_side([{"a": 1}], [{"b": 2}, {"b": 3}], captions=("left", "right"))
    assert shown._repr_html_().count("<table>") == 2
    assert repr(shown).splitlines()[0].split() == ["left", "right"]
    assert repr(shown).splitlines()[-1].strip() == "3"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.000421, "0.421 ms"),
        (0.0123, "12.3 ms"),
        (0.9, "900 ms"),
        (1.24, "1.24 s"),
        (300, "300 s"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_options_end_where_the_sql_begins() -> None:
    options = parse("""--rows 5 --as=alice df << SELECT '--rows 7'  ,"a  b" -- end""")
    assert (options.rows, options.session, options.to) == (5, "alice", "df")
    assert options.sql == """SELECT '--rows 7'  ,"a  b" -- end"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--rows", "expected one argument"),
        ("--rows 0", "not a number from 1"),
        ("--row 5", "unrecognized"),
        ("--to for", "'for' is not a name"),
        ("class <<", "'class' is not a name"),
        ("--expect 2350", "neither an SQLSTATE"),
        ("--expect unique", "neither an SQLSTATE"),
        ("--as a-b", "'a-b' is not a name"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(line: str, message: str) -> None:
    with pytest.raises(SqlUsageError, match=message):
        parse(line)


def test_help_lists_every_option() -> None:
    for option in ("--rows", "--width", "--to", "--max", "--as", "--expect", "--help"):
        assert option in help_text()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("23505", "unique_violation"),
        ("22P02", "invalid_text_representation"),
        ("XX000", "internal_error"),
        ("25P02", "in_failed_sql_transaction"),
    ],
)
def test_condition_names(code: str, name: str) -> None:
    assert condition_name(code) == name
    assert known_condition(code)
    assert known_condition(name)


def test_unknown_conditions() -> None:
    assert condition_name("99999") == ""
    assert not known_condition("99999")
    assert not known_condition("operational_error_of_mine")
