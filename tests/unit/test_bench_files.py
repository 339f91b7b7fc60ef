"""Files of results: exact round-trips, and a clear refusal of everything else."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit import bench_support as made

from pglab.bench import files
from pglab.bench.histogram import Histogram
from pglab.bench.results import (
    CaseResult,
    PlanRecord,
    Result,
    Round,
    SizeResult,
    VariantResult,
)
from pglab.errors import ResultError

README = Path(__file__).parents[2] / "data" / "benchmarks" / "README.md"


@pytest.fixture
def document():
    cases = (made.growth_case((10_000, 100_000)), made.rate_case(), made.hit_ratio_case())
    return files.to_json(made.result(*cases))


@pytest.fixture
def written(tmp_path, document):
    """Write a document, however wrong, to a file."""

    def write(text=None):
        path = tmp_path / "run.json"
        path.write_text(json.dumps(document) if text is None else text, encoding="utf-8")
        return path

    return write


def refused(path):
    """Return the one sentence with which a file is refused."""
    with pytest.raises(ResultError) as caught:
        files.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


positive = st.floats(1e-9, 1e12)
names = st.text(max_size=20)
histograms = st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=30).map(Histogram.of)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
plans = st.builds(
    PlanRecord,
    claim=names,
    nodes=st.lists(names, max_size=3).map(tuple),
    buffers=st.floats(0, 1e9),
    generic=st.none() | st.integers(0, 10**6),
    custom=st.none() | st.integers(0, 10**6),
)


def several(strategy, key, most=3):
    unique = st.lists(
        strategy, min_size=1, max_size=most, unique_by=lambda each: getattr(each, key)
    )
    return unique.map(tuple)


rounds = st.builds(
    Round,
    number=st.integers(1, 10**6),
    place=st.integers(1, 9),
    seconds=positive,
    median_us=positive,
    rows=st.integers(0, 10**12),
    latencies=histograms,
)
variants = st.builds(
    VariantResult,
    name=names,
    theory=names,
    about=names,
    rounds=several(rounds, "number"),
    plan=st.none() | plans,
    warm_up_operations=st.integers(0, 10**9),
    stable=st.booleans(),
    measures=st.dictionaries(names, st.floats(-1e300, 1e300), max_size=3),
    notes=st.lists(names, max_size=3).map(tuple),
)
sizes = st.builds(
    SizeResult,
    size=st.integers(1, 10**12),
    variants=several(variants, "name", 2),
    placement=names,
    background=st.lists(names, max_size=2).map(tuple),
)
cases = st.builds(
    CaseResult,
    **dict.fromkeys(
        ("name", "question", "unit", "group", "picture", "baseline", "rows", "expected"), names
    ),
    sizes=several(sizes, "size", 2),
)
results = st.builds(
    Result,
    created_at=names,
    environment=st.dictionaries(names, anything, max_size=3),
    options=st.dictionaries(names, anything, max_size=3),
    cases=st.lists(cases, max_size=2).map(tuple),
    stopped=names,
)


@given(results)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_was_saved_is_loaded_exactly(tmp_path, result):
    path = files.save(result, tmp_path / "run.json")
    assert files.load(path) == result


def test_a_whole_run_comes_back_with_what_is_computed_from_it(tmp_path):
    result = made.result(made.growth_case(), made.bars_case({"a": 10, "b": 20}), stopped="Ctrl-C")
    loaded = files.load(files.save(result, tmp_path / "deep" / "er" / "run.json"))
    assert loaded == result
    assert loaded.case("inbox").ratio("b") == result.case("inbox").ratio("b")
    assert loaded.case("chat-page").growth("index") == result.case("chat-page").growth("index")


def test_every_round_is_one_line_of_the_file(tmp_path):
    text = files.save(made.result(made.bars_case({"a": 10, "b": 20})), tmp_path / "r").read_text()
    assert sum('"median_us"' in line for line in text.splitlines()) == text.count('"median_us"') > 0


def test_saving_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("older")
    files.save(made.result(), path)
    assert files.load(path) == made.result()
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_cannot_be_saved_harms_no_older_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("older")
    with pytest.raises(ResultError, match=r"this result cannot be saved: options\.seconds is nan"):
        files.save(made.result(options={"seconds": math.nan}), path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": math.nan}, r"rounds\[0\]\.seconds is nan, and no finite number"),
        ({"median_us": math.inf}, r"rounds\[0\]\.median_us is inf, and no finite number"),
        ({"median_us": 0.0}, r"rounds\[0\]\.median_us is 0, and must be above 0"),
        ({"rows": -1}, r"rounds\[0\]\.rows is -1, and cannot be below 0"),
        ({"latencies": Histogram.of([])}, r"rounds\[0\]\.latencies counts no operation"),
    ],
)
def test_save_refuses_what_load_would(tmp_path, change, said):
    variant = made.variant("only", 10)
    broken = dataclasses.replace(variant.rounds[0], **change)
    variant = dataclasses.replace(variant, rounds=(broken, *variant.rounds[1:]))
    with pytest.raises(ResultError, match=r"cases\[0\]\.sizes\[0\]\.variants\[0\]\." + said):
        files.save(made.result(made.case({1_000: [variant]})), tmp_path / "run.json")
    assert not list(tmp_path.iterdir())


def test_save_refuses_zero_rounds_and_what_json_has_no_word_for(tmp_path):
    empty = dataclasses.replace(made.variant("only", 10), rounds=())
    with pytest.raises(ResultError, match=r"variants\[0\]\.rounds is empty, and zero rounds"):
        files.save(made.result(made.case({1_000: [empty]})), tmp_path / "run.json")
    with pytest.raises(ResultError, match=r"options\.path is a PosixPath; a result holds numbers"):
        files.save(made.result(options={"path": tmp_path}), tmp_path / "run.json")


def test_save_says_when_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"cannot be written \(.+\); choose another path"):
        files.save(made.result(), tmp_path / "file" / "run.json")


def test_a_file_cut_anywhere_is_called_cut_short(written):
    path = written()
    whole = path.read_bytes()
    anywhere = range(1, len(whole), max(1, len(whole) // 300))
    # After a brace the text ends as a whole one does.
    braces = [place + 1 for place, letter in enumerate(whole[:-1]) if letter == ord("}")]
    for length in (*anywhere, *braces[:20], *braces[-20:]):
        path.write_bytes(whole[:length])
        assert refused(path).startswith("FILE is cut short")
    files.save(made.result(options={"note": "é" * 80}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index("é".encode()) + 1])
    assert refused(path).startswith("FILE is cut short")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE is empty; run the benchmark again"),
        ("  \n", "FILE is empty"),
        ("<html></html>", "FILE is not JSON (line 1: Expecting value)"),
        ("{'a': 1}", "FILE is not JSON"),
        ("[" * 100_000, "FILE is not JSON"),
        ("[1, 2]", "FILE is JSON, but no result of pglab bench"),
        ('{"format": "other", "schema": 1}', "FILE is JSON, but no result of pglab bench"),
        ('{"format": "pglab.bench"}', "FILE is damaged: schema is missing; run"),
        ('{"format": "pglab.bench", "schema": "1"}', "FILE is damaged: schema is '1', and a count"),
        ('{"format": "pglab.bench", "schema": 0}', "FILE is damaged: schema is 0, and 1 is read"),
        ('{"format": "pglab.bench", "schema": true}', "FILE is damaged: schema is true"),
        (
            '{"format": "pglab.bench", "schema": 2, "runs": []}',
            "FILE was written by a newer pglab (schema 2; this one reads 1): upgrade",
        ),
        ('{"format": "pglab.bench", "x": NaN}', "FILE holds NaN, which is no number"),
        ('{"format": "pglab.bench", "x": -Infinity}', "FILE holds -Infinity, which is no number"),
        (f'{{"format": "pglab.bench", "x": {"9" * 5_000}}}', "FILE is not JSON"),
    ],
)
def test_what_is_no_result_is_refused(written, text, said):
    assert refused(written(text)).startswith(said)


def test_a_file_that_is_not_there_or_is_a_directory(tmp_path):
    assert "cannot be read (No such file" in refused(tmp_path / "none.json")
    assert "cannot be read (Is a directory" in refused(tmp_path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(path).startswith("FILE is not JSON")


FIRST = "cases[0].sizes[1].variants[0]"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("created_at", 5, "is 5, and a string is needed"),
        ("environment", [], "is a list, and an object is needed"),
        ("cases", {}, "is an object, and a list is needed"),
        ("cases[0].name", None, "is null, and a string is needed"),
        ("cases[0].sizes[1].size", 0, "is 0, and cannot be below 1"),
        ("cases[0].sizes[1].size", 1.5, "is 1.5, and a count is needed"),
        ("cases[0].sizes[1].size", True, "is true, and a count is needed"),
        ("cases[0].sizes[1].background[0]", 1, "is 1, and a string is needed"),
        ("cases[0].sizes[1].variants", [], "is empty, and at least one variant is needed"),
        (f"{FIRST}.rounds", [], "is empty, and zero rounds say nothing"),
        (f"{FIRST}.rounds", None, "is null, and a list is needed"),
        (f"{FIRST}.stable", 1, "is 1, and true or false is needed"),
        (f"{FIRST}.plan.buffers", "many", "is 'many', and a number is needed"),
        (f"{FIRST}.plan.generic", -4, "is -4, and cannot be below 0"),
        (f"{FIRST}.measures", 3, "is 3, and an object is needed"),
        (f"{FIRST}.warm_up_operations", -1, "is -1, and cannot be below 0"),
        (f"{FIRST}.rounds[2].seconds", -0.5, "is -0.5, and must be above 0"),
        (f"{FIRST}.rounds[2].seconds", 10**400, "is a huge number, and no finite number"),
        (f"{FIRST}.rounds[2].median_us", False, "is false, and a number is needed"),
        (f"{FIRST}.rounds[2].latencies", {"from_ns": [1], "counts": [-1]}, "is no histogram ("),
        (f"{FIRST}.rounds[2].latencies", {"from_ns": [], "counts": []}, "counts no operation"),
        (f"{FIRST}.rounds[2].number", 1, None),
        ("cases[2].sizes[0].variants[1].measures.hit_ratio", "x", "is 'x', and a number is needed"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(written, document, path, value, said):
    target, last = walk(document, path)
    assert target[last] != value or type(target[last]) is not type(value)
    target[last] = value
    if said is None:
        path, said = f"{FIRST}.rounds", "has 1 twice"
    assert refused(written()).startswith(f"FILE is damaged: {path} {said}")


def test_a_number_beyond_floats_is_refused(written, document):
    text = json.dumps(document)
    seconds = json.dumps(document["cases"][0]["sizes"][0]["variants"][0]["rounds"][0]["seconds"])
    path = written(text.replace(f'"seconds": {seconds}', '"seconds": 1e999', 1))
    assert "cases[0].sizes[0].variants[0].rounds[0].seconds is inf" in refused(path)


def test_every_field_that_is_missing_is_named(written, document):
    checked = 0
    for path in list(paths(document)):
        target, last = walk(document, path)
        if path.startswith(("environment.", "options.")) or ".measures." in path:
            continue
        kept = target.pop(last)
        message = refused(written())
        target[last] = kept
        checked += 1
        if path == "format":
            assert "no result of pglab bench" in message
        elif ".latencies." in path:
            assert f"{path.rpartition('.')[0]} is no histogram" in message
        else:
            assert f"{path} is missing" in message
    assert checked >= 35
    assert files.load(written())


def test_what_is_not_known_is_ignored(written, document):
    document["cases"][0]["colour"] = "of a later minor version"
    assert files.load(written()).cases[0].name == "chat-page"


def test_the_readme_names_every_field(document):
    text = README.read_text(encoding="utf-8")
    names = {re.sub(r"\[\d+\]", "", path).rpartition(".")[2] for path in paths(document)}
    # Every kind of record occurs, the fields that are null here included.
    for kind in (Result, CaseResult, SizeResult, VariantResult, PlanRecord, Round):
        names |= {each.name for each in dataclasses.fields(kind)}
    free = {name for key in ("environment", "options") for name in keys(document[key])}
    missing = [name for name in sorted(names - free) if f"`{name}`" not in text]
    assert missing == []
    assert f"schema {files.SCHEMA}" in text.lower()


def keys(value):
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in keys(each)}
    return set()


def paths(value, at=""):
    """Yield the path of every field of an object, in the first entry of each list."""
    if isinstance(value, dict):
        for key, each in value.items():
            here = f"{at}.{key}" if at else key
            yield here
            yield from paths(each, here)
    elif isinstance(value, list) and value:
        yield from paths(value[0], f"{at}[0]")


def walk(document, path):
    """Return the container of a path's value, and its key there."""
    steps = [int(s) if s.isdigit() else s for s in re.findall(r"[^.\[\]]+", path)]
    for step in steps[:-1]:
        document = document[step]
    return document, steps[-1]
