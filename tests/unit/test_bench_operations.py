"""Placeholders of a statement, and the parameters that fit them; psycopg decides what is right."""

from __future__ import annotations

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from pglab.bench.operations import positional, values
from pglab.errors import BenchError


def by_psycopg(sql, parameters):
    query = PostgresQuery(Transformer())
    query.convert(sql, parameters)
    return query.query.decode()


@pytest.mark.parametrize(
    ("sql", "names", "parameters"),
    [
        ("SELECT 1", [], None),
        ("SELECT '100%' LIKE '%%'", [], None),
        ("SELECT %s", [""], (1,)),
        ("SELECT %s, %s", ["", ""], (1, 2)),
        ("SELECT %(a)s, %(b)s", ["a", "b"], {"a": 1, "b": 2}),
        ("SELECT %(b)s, %(a)s, %(b)s", ["b", "a"], {"a": 1, "b": 2}),
        ("SELECT %(a)s LIKE 'x%%' || %(a)s", ["a"], {"a": "x"}),
        ("SELECT %s %% 2, '%%s'", [""], (5,)),
        ("SELECT '{\"a\": 1}'::jsonb @> %(a)s", ["a"], {"a": "{}"}),
    ],
)
def test_placeholders_become_what_psycopg_makes_of_them(sql, names, parameters):
    text, found = positional(sql)
    assert found == names
    assert text == by_psycopg(sql, parameters)


def test_values_come_in_the_order_of_the_placeholders():
    assert values({"b": 2, "a": 1, "unused": 3}, ["b", "a"]) == [2, 1]
    assert values((1, 2), ["", ""]) == [1, 2]
    assert values((1, 2), ["b", "a"]) == [1, 2], "columns, in the order of the names"
    assert values((None,), [""]) == [None]
    assert values((), []) == []


@pytest.mark.parametrize(
    ("parameters", "names", "said"),
    [
        ((1,), ["", ""], "has 2 placeholders, and 1 parameters were drawn"),
        ((1, 2), [""], "has 1 placeholders, and 2 parameters were drawn"),
        ((), [""], "has 1 placeholders, and 0 parameters were drawn"),
        ((1,), [], "has 0 placeholders, and 1 parameters were drawn"),
        ((1,), ["a", "b"], "has 2 placeholders, and 1 parameters were drawn"),
        ({"chat": 1}, ["chat_id"], "asks for %(chat_id)s, and the parameters have chat"),
    ],
)
def test_parameters_that_do_not_fit(parameters, names, said):
    with pytest.raises(BenchError) as caught:
        values(parameters, names)
    assert said in str(caught.value)
    assert "Draw.query" in str(caught.value)
