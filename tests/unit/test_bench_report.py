"""The report: one page that needs nothing beside itself, and believes no name."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from unit import bench_support as made

from pglab.bench.compare import compare
from pglab.bench.report import html_page, markdown_page
from pglab.errors import ResultError

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Parses strictly: every element that is opened is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.starts, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.starts.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def tags(self, *names):
        return [(tag, attributes) for tag, attributes in self.starts if tag in names]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def result():
    cases = (made.growth_case((10_000, 31_600)), made.hit_ratio_case(), made.rate_case())
    return made.result(*cases, stopped="Ctrl-C ended it")


@pytest.fixture(scope="module")
def page(result):
    return html_page(result)


@pytest.fixture(scope="module")
def comparison(result):
    other = made.result(made.growth_case((10_000, 31_600), seed=5), environment={"machine": {}})
    return compare(result, other)


def test_the_page_is_whole(page):
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert parsed.starts[0] == ("html", {"lang": "en"})
    assert [tag for tag, _ in parsed.tags("h1", "main", "title")] == ["title", "main", "h1"]
    levels = [int(tag[1]) for tag, _ in parsed.tags("h1", "h2", "h3", "h4")]
    assert all(b - a <= 1 for a, b in pairwise(levels))


@pytest.mark.parametrize("kind", ["page", "comparison"])
def test_nothing_is_fetched_or_run(kind, page, comparison):
    text = page if kind == "page" else html_page(comparison)
    parsed = Page(text)
    assert "http" not in text
    assert not parsed.tags("script", "link", "iframe", "object", "embed")
    for tag, attributes in parsed.starts:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/svg+xml;base64,", "#"))
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("kind", ["page", "comparison"])
def test_every_picture_has_an_alternative_text_and_a_table(kind, page, comparison):
    parsed = Page(page if kind == "page" else html_page(comparison))
    seen = [(tag, attributes) for tag, attributes in parsed.tags("img", "table", "caption")]
    images = 0
    for place, (tag, attributes) in enumerate(seen):
        if tag == "img":
            images += 1
            assert len(attributes["alt"]) > 20
            assert [each for each, _ in seen[place + 1 : place + 3]] == ["table", "caption"]
    assert images == (6 if kind == "page" else 1)
    tables = len(parsed.tags("table"))
    assert tables == len(parsed.tags("caption")) >= images


def test_pictures_are_svg_and_free_of_outside_references(page):
    found = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)
    assert len(found) == 6
    for data in found:
        svg = base64.b64decode(data).decode()
        assert svg.lstrip().startswith("<?xml")
        fetched = re.findall(r'(?:xlink:href|href|src)="([^"#][^"]*)"', svg)
        assert fetched == []


def test_links_lead_somewhere(page):
    parsed = Page(page)
    ids = [attributes["id"] for _, attributes in parsed.starts if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"].removeprefix("#") for _, attributes in parsed.tags("a")}
    assert links == set(ids)


def test_the_page_has_what_a_dba_would_ask_for(page):
    text = Page(page).text
    for wanted in (
        "AMD EPYC 7B13", "machine: release 6.1.0-18-amd64", "PostgreSQL 17.10 on x86_64",
        "python: psycopg 3.3.9", "pglab: commit 0123456789ab", "postgres: shared_buffers 1GB",
        "redis: maxmemory 0", "placement one-core", "seed 1", "Stopped: Ctrl-C ended it",
        "Expected ≥ 450 times faster at 1 M messages", "Found 31,600 messages: index is",
        "Claimed: messages read by Seq Scan", "Planned for any value 4000 times",
        "about no index", "client and servers on core 1", "1 checkpoint(s)",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "<pre>Sort\n  Seq Scan on messages</pre>" in page


def test_markdown_has_the_same_and_every_table_is_one(result):
    text = markdown_page(result)
    for wanted in (
        "# Benchmark report", "## Run of 2026", "**Stopped:** Ctrl-C ended it", "- Expected: ≥ 450",
        "- Found: 31,600 messages: index is", "      Seq Scan on messages", "| machine: cpu |",
    ):  # fmt: skip
        assert wanted in text, wanted
    tables = [block.splitlines() for block in text.split("\n\n") if re.match(r"\|.*\n\| -", block)]
    assert len(tables) == 3 * 2 + 3
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "\n\n\n" not in text


def test_hostile_names_stay_text(comparison):
    plan = made.plan("</pre>" + made.HOSTILE, buffers=1, claim="<i>")
    variants = [
        made.variant(made.HOSTILE, 100, plan=plan),
        made.variant("b", 50, about=made.HOSTILE, notes=(made.HOSTILE,)),
    ]
    case = made.case(
        {1_000: variants}, name=made.HOSTILE, question=made.HOSTILE, expected=made.HOSTILE
    )
    environment = {"machine": {"cpu": made.HOSTILE}, "postgres": {"settings": {"<b>": "<script>"}}}
    result = made.result(
        case, created_at=made.HOSTILE, stopped=made.HOSTILE, environment=environment,
        options={"<script>": made.HOSTILE},
    )  # fmt: skip
    for page in (html_page(result, title=made.HOSTILE), html_page(compare(result, result))):
        parsed = Page(page)
        assert not parsed.tags("script", "i", "b")
        assert "<script>alert('é')</script>" in parsed.text
    for text in (markdown_page(result, title=made.HOSTILE), markdown_page(compare(result, result))):
        outside = [line for line in text.splitlines() if not line.startswith("    ")]
        assert "<script" not in "\n".join(outside)
    assert "</pre>" in markdown_page(result)


def test_a_comparison_of_unlike_runs_begins_with_the_differences(result):
    environment = {**made.ENVIRONMENT, "machine": {**made.ENVIRONMENT["machine"], "cores": 8}}
    other = made.result(made.growth_case((10_000,)), environment=environment)
    comparison = compare(result, other, force=True)
    text = Page(html_page(comparison)).text
    assert text.index("These runs are unlike") < text.index("machine.cores: 2 → 8")
    assert text.index("machine.cores: 2 → 8") < text.index("A: 2026")
    assert "machine.cores: 2 → 8" in markdown_page(comparison).splitlines()[2]


def test_several_runs_make_one_page(result):
    second = made.result(made.bars_case({"a": 1, "b": 2}), created_at="2027-01-01T00:00:00+00:00")
    text = Page(html_page([result, second])).text
    assert text.index("Run of 2026") < text.index("Run of 2027")
    with pytest.raises(ResultError, match="a report needs a run"):
        html_page([])


def test_a_case_without_a_finished_size_is_said_to_have_none():
    empty = dataclasses.replace(made.bars_case({"a": 1, "b": 2}), sizes=())
    assert "No size was finished." in Page(html_page(made.result(empty))).text
    assert "no size was finished" in markdown_page(made.result(empty))
