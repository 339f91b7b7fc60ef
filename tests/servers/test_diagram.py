"""The entity-relationship diagram, drawn from a live catalogue."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.resources import files
from itertools import combinations
from typing import Any

import psycopg
import pytest
from IPython.core.formatters import DisplayFormatter
from sql_support import Lab

from pglab.notebook import er_diagram
from pglab.notebook.catalog import read_schema
from pglab.notebook.layout import place

pytestmark = pytest.mark.server

_SVG = "{http://www.w3.org/2000/svg}"

ODD = """
    CREATE SCHEMA "Odd ""one";
    SET search_path TO "Odd ""one";
    CREATE TABLE "Big Table" (id int PRIMARY KEY, "Parent" int REFERENCES "Big Table",
        n int UNIQUE);
    CREATE TABLE a (x int, y int, PRIMARY KEY (y, x));
    CREATE TABLE b (x int NOT NULL, y int NOT NULL, z int, FOREIGN KEY (y, x) REFERENCES a);
    CREATE TABLE one (id int PRIMARY KEY REFERENCES "Big Table", gone int, late int);
    ALTER TABLE one DROP COLUMN gone;
    CREATE UNIQUE INDEX ON one (late);
    CREATE UNIQUE INDEX ON b (z) WHERE z > 0;
    CREATE TABLE e (d int REFERENCES one, big int REFERENCES "Big Table");
    CREATE TABLE f (id int PRIMARY KEY, g int);
    CREATE TABLE g (id int PRIMARY KEY, f int REFERENCES f);
    ALTER TABLE f ADD FOREIGN KEY (g) REFERENCES g;
    CREATE TABLE parts (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
    CREATE TABLE empty ();
    CREATE VIEW seen AS SELECT 1;
    CREATE TABLE "<script>alert(1)</script> & ""x"" y" ("日本語" varchar(20), t timestamp(3));
"""


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


def _texts(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{_SVG}text")]


def _load(connection: psycopg.Connection[Any], name: str) -> None:
    with connection.transaction():
        connection.execute((files("pglab") / "sql" / name).read_text(encoding="utf-8"))


def test_our_schema(connection: psycopg.Connection[Any], database: str) -> None:
    _load(connection, "schema.sql")
    diagram = er_diagram(Lab(database))
    text = repr(diagram)
    assert "Schema public: 7 tables" in text
    assert "instance_id uuid [PK, FK, NOT NULL]" in text
    assert (
        "(chat_id, instance_id) references chats (id, instance_id): exactly one chats for each of "
        "messages, zero or many messages for each of chats" in text
    )
    assert "zero or one sessions for each of instances" in text
    names = _texts(diagram.svg())
    for table in ("instances", "sessions", "webhooks", "contacts", "chats", "messages"):
        assert table in names
    assert "U1: (instance_id, whatsapp_id)" in names
    assert "timestamptz" in names


def test_the_seeds_schema(connection: psycopg.Connection[Any]) -> None:
    _load(connection, "seed.sql")
    text = repr(er_diagram(connection, "seed"))
    assert "Schema seed: 3 tables" in text
    assert text.count(" references ") == 1
    assert "zero or one instances for each of messages" in text
    assert "created_at timestamp\n" in text


def test_odd_names_and_shapes(connection: psycopg.Connection[Any]) -> None:
    connection.execute(ODD)
    diagram = er_diagram(connection, 'Odd "one')
    text = repr(diagram)
    assert "zero or one Big Table for each of Big Table" in text
    assert "(y, x) references a (y, x): exactly one a for each of b" in text
    assert "zero or one one for each of Big Table" in text
    assert "late integer [U]" in text
    assert "z integer\n" in text
    assert "gone" not in text
    assert "dropped" not in text
    assert "parts_1" not in text
    assert "seen" not in text
    names = _texts(diagram.svg())
    assert '<script>alert(1)</script> & "x" y' in names
    assert "日本語" in names
    assert "timestamp(3)" in names
    assert "empty" in names


def test_no_two_tables_overlap_and_no_line_starts_in_the_air(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute(ODD)
    tables = read_schema(connection, 'Odd "one')
    layout = place(tables, {table.name: 150.0 for table in tables})
    assert len(layout.boxes) == len(tables)
    for one, other in combinations(layout.boxes, 2):
        apart = (
            one.x + one.width < other.x
            or other.x + other.width < one.x
            or one.y + one.height < other.y
            or other.y + other.height < one.y
        )
        assert apart, (one, other)
    edges = {x for box in layout.boxes for x in (box.x, box.x + box.width)}
    assert len(layout.lines) == 7
    for line in layout.lines:
        assert line.points[0][0] in edges
        assert line.points[-1][0] in edges
        for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
            assert x0 == x1 or y0 == y1, "lines run straight across or straight down"
        assert all(0 < x < layout.width and 0 < y < layout.height for x, y in line.points)


def test_no_line_crosses_a_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute(ODD)
    tables = read_schema(connection, 'Odd "one')
    layout = place(tables, {table.name: 150.0 for table in tables})
    for line in layout.lines:
        for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
            for box in layout.boxes:
                inside_x = min(x0, x1) < box.x + box.width - 1 and max(x0, x1) > box.x + 1
                inside_y = min(y0, y1) < box.y + box.height - 1 and max(y0, y1) > box.y + 1
                assert not (inside_x and inside_y), (line.key, box.table)


def test_chosen_tables_and_mistakes(connection: psycopg.Connection[Any]) -> None:
    _load(connection, "schema.sql")
    chosen = er_diagram(connection, tables=["messages", "chats"])
    assert "Schema public: 2 tables" in repr(chosen)
    with pytest.raises(ValueError, match="no schema 'nowhere'"):
        er_diagram(connection, "nowhere")
    with pytest.raises(ValueError, match=r"no table 'mesages'; it has .*messages"):
        er_diagram(connection, tables=["mesages"])


def test_a_schema_without_tables(connection: psycopg.Connection[Any]) -> None:
    assert "0 tables" in repr(er_diagram(connection))
    assert _texts(er_diagram(connection).svg())


def test_a_notebook_gets_a_picture_and_words(connection: psycopg.Connection[Any]) -> None:
    _load(connection, "seed.sql")
    data, _ = DisplayFormatter().format(er_diagram(connection, "seed"))
    assert set(data) == {"image/svg+xml", "text/plain"}
    root = ET.fromstring(data["image/svg+xml"])
    assert root.get("role") == "img"
    background = root.find(f"{_SVG}rect")
    assert background is not None
    assert background.get("fill") == "#ffffff"
    assert (root.findtext(f"{_SVG}desc") or "").startswith("Schema seed: 3 tables")
    assert data["text/plain"].startswith("Schema seed: 3 tables")
