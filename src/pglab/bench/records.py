"""A run as JSON: ``data/benchmarks/README.md`` has every field with its unit.

History of the schema:

1. The first: a run with its environment and options; cases, sizes, variants; every round's raw
   numbers with a sparse histogram of its latencies.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from pglab.bench.fields import Field, plain
from pglab.bench.histogram import Histogram
from pglab.bench.results import (
    CaseResult,
    PlanRecord,
    Result,
    Round,
    SizeResult,
    VariantResult,
)
from pglab.errors import BenchError

__all__ = ["FORMAT", "SCHEMA", "from_json", "to_json"]

FORMAT: Final = "pglab.bench"
"""What the field ``format`` of every file says: this file is ours."""
SCHEMA: Final = 1
"""The version that is written; whoever changes the fields adds one, and a line to the history."""


def to_json(result: Result) -> dict[str, Any]:
    """Return a run as JSON knows it, with ``format`` and ``schema``.

    Raises:
        ResultError: it holds NaN, an infinite number, or something that JSON cannot.
    """
    fields = {each.name: getattr(result, each.name) for each in dataclasses.fields(result)}
    fields["cases"] = [_record(each) for each in result.cases]
    found: dict[str, Any] = plain({"format": FORMAT, "schema": SCHEMA, **fields}, "")
    return found


def from_json(document: Any) -> Result:
    """Return the run that ``to_json`` was given.

    Raises:
        ResultError: a field is missing, mistyped or impossible; the message names its path.
    """
    whole = Field(document)
    if whole["format"].text() != FORMAT:
        raise whole["format"].wrong(f"must be {FORMAT!r}")
    if whole["schema"].count() != SCHEMA:
        raise whole["schema"].wrong(f"is {whole['schema'].value}, and {SCHEMA} is read here")
    return Result(
        whole["created_at"].text(),
        whole["environment"].object(),
        whole["options"].object(),
        tuple(_case(each) for each in whole["cases"]),
        whole["stopped"].text(),
    )


def _record(value: Any) -> Any:
    """Return a dataclass of results as a mapping, all the way down."""
    if isinstance(value, Histogram):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        return {each.name: _record(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_record(each) for each in value]
    return value


def _case(case: Field) -> CaseResult:
    texts = ("name", "question", "unit", "group", "picture", "baseline", "rows", "expected")
    sizes = tuple(_size(each) for each in case["sizes"])
    _once([each.size for each in sizes], case["sizes"])
    return CaseResult(**{name: case[name].text() for name in texts}, sizes=sizes)


def _size(size: Field) -> SizeResult:
    variants = tuple(_variant(each) for each in size["variants"])
    if not variants:
        raise size["variants"].wrong("is empty, and at least one variant is needed")
    _once([each.name for each in variants], size["variants"])
    return SizeResult(
        size["size"].count(1), variants, size["placement"].text(), size["background"].texts()
    )


def _variant(variant: Field) -> VariantResult:
    rounds = tuple(_round(each) for each in variant["rounds"])
    if not rounds:
        raise variant["rounds"].wrong("is empty, and zero rounds say nothing")
    _once([each.number for each in rounds], variant["rounds"])
    plan = variant["plan"].optional()
    measures = variant["measures"]
    return VariantResult(
        variant["name"].text(),
        variant["theory"].text(),
        variant["about"].text(),
        rounds,
        None if plan is None else _plan(plan),
        variant["warm_up_operations"].count(),
        variant["stable"].flag(),
        {name: measures[name].number(negative=True) for name in measures.object()},
        variant["notes"].texts(),
    )


def _plan(plan: Field) -> PlanRecord:
    plans = {name: plan[name].optional() for name in ("generic", "custom")}
    return PlanRecord(
        plan["claim"].text(),
        plan["nodes"].texts(),
        plan["buffers"].number(),
        **{name: None if each is None else each.count() for name, each in plans.items()},
    )


def _round(each: Field) -> Round:
    return Round(
        each["number"].count(1),
        each["place"].count(1),
        each["seconds"].number(positive=True),
        each["median_us"].number(positive=True),
        each["rows"].count(),
        _histogram(each["latencies"]),
    )


def _histogram(field: Field) -> Histogram:
    try:
        found = Histogram.from_json(field.value)
    except (BenchError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise field.wrong(f"is no histogram ({error})") from error
    if not found.count:
        raise field.wrong("counts no operation, and at least one is needed")
    return found


def _once(names: list[Any], field: Field) -> None:
    for name in names:
        if names.count(name) > 1:
            raise field.wrong(f"has {name!r} twice")
