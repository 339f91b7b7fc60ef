"""Results as one page: HTML that needs nothing beside itself, or Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pglab.bench import change_picture, pictures
from pglab.bench.canvas import Picture
from pglab.bench.comparison import Comparison
from pglab.bench.findings import finding
from pglab.bench.grid import Grid, escaped_markdown
from pglab.bench.likeness import flat
from pglab.bench.results import CaseResult, Result
from pglab.bench.tables import case_grid
from pglab.bench.words import duration, machine_name, messages
from pglab.errors import ResultError

__all__ = ["html_page", "markdown_page"]

What = Result | Sequence[Result] | Comparison


def html_page(what: What, *, title: str = "") -> str:
    """Return one HTML page: no scripts, nothing fetched, every picture with its table below.

    Args:
        what: a run, several, or a comparison of two.
        title: of the page.

    Raises:
        ResultError: no run is given.
    """
    if isinstance(what, Comparison):
        rows = {name: [r for r in what.rows if r.case == name] for name in what.cases}
        return (
            _environment()
            .get_template("comparison.html.jinja")
            .render(
                title=title or "Comparison of two benchmark runs",
                differences=what.differences,
                notes=what.remarks_and_runs(),
                cases=[
                    {"name": name, **_shown(change_picture.changes(rows[name]), grid)}
                    for name, grid in zip(what.cases, what.grids(), strict=True)
                ],
            )
        )
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(title=title or "Benchmark report", runs=_runs(what, drawn=True))
    )


def markdown_page(what: What, *, title: str = "") -> str:
    """Return the same in Markdown, without pictures.

    Raises:
        ResultError: no run is given.
    """
    if isinstance(what, Comparison):
        heading = escaped_markdown(title or "Comparison of two benchmark runs")
        return f"# {heading}\n\n{what.markdown()}"
    found = (
        _environment()
        .get_template("page.md.jinja")
        .render(title=title or "Benchmark report", runs=_runs(what, drawn=False))
    )
    return re.sub(r"\n{3,}", "\n\n", found).rstrip() + "\n"


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("pglab.bench"),
        autoescape=select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["md"] = escaped_markdown
    # A line of an indented block: Markdown takes nothing in it for markup but its end.
    found.filters["line"] = lambda text: " ".join(text.splitlines())
    return found


def _runs(what: Result | Sequence[Result], *, drawn: bool) -> list[dict[str, Any]]:
    results = [what] if isinstance(what, Result) else list(what)
    if not results:
        raise ResultError("a report needs a run; name a file of results")
    return [_run(result, number, drawn) for number, result in enumerate(results, 1)]


def _run(result: Result, number: int, drawn: bool) -> dict[str, Any]:
    grids = _facts(result)
    return {
        "created_at": result.created_at,
        "machine": machine_name(result.environment),
        "stopped": result.stopped,
        "cases": [
            _case(case, f"case-{number}-{place}", drawn)
            for place, case in enumerate(result.cases, 1)
        ],
        "fact_grids": grids,
        "facts": [{"caption": grid.caption, "html": Markup(grid.html())} for grid in grids],  # noqa: S704 - Grid escapes
    }


def _case(case: CaseResult, anchor: str, drawn: bool) -> dict[str, Any]:
    grids = [case_grid(case), *([_percentiles(case)] if case.sizes else [])]
    made = [pictures.draw(case), pictures.distributions(case)] if drawn and case.sizes else []
    largest = case.at() if case.sizes else None
    return {
        "anchor": anchor,
        "name": case.name,
        "question": case.question,
        "expected": case.expected,
        "finding": finding(case),
        "grids": grids,
        "pictures": [_shown(picture, grid) for picture, grid in zip(made, grids, strict=False)],
        "variants": [
            {
                "name": each.name,
                "about": each.about,
                "plan": each.plan,
                "where": messages(largest.size),
            }
            for each in largest.variants
        ]
        if largest
        else [],
    }


def _shown(picture: Picture, grid: Grid) -> dict[str, Any]:
    data = base64.b64encode(picture.data("svg")).decode()
    return {
        "source": f"data:image/svg+xml;base64,{data}",
        "alt": f"{picture.alt}. The table below has the numbers.",
        "grid": Markup(grid.html()),  # noqa: S704 - Grid escapes
    }


def _percentiles(case: CaseResult) -> Grid:
    at = case.at()
    rows = []
    for variant in at.variants:
        known = variant.percentiles_us
        shown = [duration(known[name]) for name in ("p50", "p95", "p99", "p99.9")]
        count = f"{variant.latencies.count:,}"
        rows.append((variant.name, *shown, count))
    return Grid(
        f"Percentiles at {messages(at.size)}, where there are enough operations for them",
        ("Variant", "p50", "p95", "p99", "p99.9", "Operations"),
        tuple(rows),
        frozenset(range(1, 6)),
    )


def _facts(result: Result) -> list[Grid]:
    parts: list[tuple[str, Mapping[str, Any]]] = []
    settings: dict[str, Any] = {}
    for name, value in result.environment.items():
        if not isinstance(value, Mapping):
            parts.append((name, {name: value}))
            continue
        parts.append((name, {key: each for key, each in value.items() if key != "settings"}))
        if isinstance(value.get("settings"), Mapping):
            settings |= {f"{name}: {key}": each for key, each in value["settings"].items()}
    versions = {f"{name}: {key}": each for name, facts in parts for key, each in flat(facts)}
    grids = (
        ("Machine and versions", versions),
        ("Server settings", settings),
        ("Options", dict(flat(result.options))),
    )
    return [
        Grid(caption, ("What", "Value"), tuple((key, str(each)) for key, each in rows.items()))
        for caption, rows in grids
        if rows
    ]
