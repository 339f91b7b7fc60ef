"""Two runs compared: refused when they are unlike, and judged by rounds when they are not."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from unit import bench_support as made

from pglab.bench.compare import compare
from pglab.bench.results import Result
from pglab.errors import ResultError


def elsewhere(**changes):
    """Return an environment with other values, ``machine__cpu="…"`` naming one of them."""
    environment = copy.deepcopy(made.ENVIRONMENT)
    for path, value in changes.items():
        *steps, last = path.split("__")
        target = environment
        for step in steps:
            target = target[step]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return environment


def pair(**second):
    case = made.bars_case({"slow": 100, "fast": 50})
    other = made.bars_case({"slow": 100, "fast": 50}, seed=1)
    return made.result(case), made.result(other, **second)


def row(comparison, variant):
    (found,) = (each for each in comparison.rows if each.variant == variant)
    return found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"machine__cpu": "Apple M4"}, "machine.cpu: AMD EPYC 7B13 → Apple M4"),
        ({"machine__cores": 8}, "machine.cores: 2 → 8"),
        ({"machine__memory_bytes": 2**33}, "machine.memory_bytes: 23.0 GiB → 8.0 GiB"),
        ({"machine__system": "Darwin"}, "machine.system: Linux → Darwin"),
        ({"postgres__version": "18"}, "postgres.version: PostgreSQL 17.10 on x86_64-pc-linux"),
        ({"postgres__source": "containers"}, "postgres.source: embedded → containers"),
        ({"postgres__settings__jit": "on"}, "postgres.settings.jit: off → on"),
        ({"redis__version": "7.0"}, "redis.version: 9.1.2 → 7.0"),
    ],
)
def test_another_machine_server_or_setting_is_refused(changes, told):
    a, b = pair(environment=elsewhere(**changes))
    with pytest.raises(ResultError, match="these runs are unlike") as caught:
        compare(a, b)
    assert told in str(caught.value)
    assert "--force" in str(caught.value)
    assert str(caught.value).count("→") == 1
    forced = compare(a, b, force=True)
    assert told in forced.text().splitlines()[0]
    assert forced.text().startswith("UNLIKE: ")
    assert forced.rows


@pytest.mark.parametrize("option", ["seed", "placement", "protocol"])
def test_another_option_that_matters_is_refused(option):
    case = made.bars_case({"slow": 100, "fast": 50})
    a = made.result(case, options={option: "one"})
    b = made.result(case, options={option: "another"})
    with pytest.raises(ResultError, match=f"options.{option}: one → another"):
        compare(a, b)


def test_every_difference_is_listed():
    changes = {"machine__cpu": "Apple M4", "machine__cores": 8, "postgres__settings__fsync": "off"}
    with pytest.raises(ResultError) as caught:
        compare(*pair(environment=elsewhere(**changes), options={**made.OPTIONS, "seed": 9}))
    assert str(caught.value).count(" → ") == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"machine__memory_bytes": int(24_696_061_952 * 0.97)},
        {"machine__load_average": [9.0, 9.0, 9.0]},
        {"machine__clock_cost_ns": 80.0},
    ],
)
def test_what_differs_from_run_to_run_is_not_told(changes):
    comparison = compare(*pair(environment=elsewhere(**changes)))
    assert comparison.differences == comparison.remarks == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"machine__release": "6.9"}, "machine.release: 6.1.0-18-amd64 → 6.9"),
        ({"pglab__commit": "beef"}, "pglab.commit: 0123456789ab → beef"),
        ({"python__psycopg": "3.4"}, "python.psycopg: 3.3.9 → 3.4"),
        ({"machine__cpu": None}, "machine.cpu: AMD EPYC 7B13 → not recorded"),
        ({"redis": None}, "redis.version: 9.1.2 → not recorded"),
    ],
)
def test_what_a_reader_should_know_bars_nothing(changes, told):
    comparison = compare(*pair(environment=elsewhere(**changes)))
    assert comparison.differences == ()
    assert told in comparison.remarks
    assert told in comparison.text()


def test_placement_counts_and_the_number_of_the_core_does_not():
    def placed(words):
        case = made.bars_case({"slow": 100, "fast": 50})
        (at,) = case.sizes
        return made.result(
            dataclasses.replace(case, sizes=(dataclasses.replace(at, placement=words),))
        )

    here = placed("client and servers on core 1")
    assert compare(here, placed("client and servers on core 7")).differences == ()
    with pytest.raises(ResultError, match="placement of inbox at 100,000"):
        compare(here, placed("unpinned"))


def test_runs_with_nothing_in_common_are_refused_even_with_force():
    a = made.result(made.bars_case({"x": 1}, size=1_000))
    b = made.result(made.bars_case({"x": 1}, size=2_000))
    with pytest.raises(ResultError, match="inbox at 1,000 in A, inbox at 2,000 in B"):
        compare(a, b, force=True)


def test_a_variant_that_became_faster_is_called_so():
    a = made.result(made.bars_case({"base": 100, "index": 50}))
    b = made.result(made.bars_case({"base": 100, "index": 25}, seed=1))
    found = compare(a, b)
    index, base = row(found, "index"), row(found, "base")
    assert (index.verdict, index.ratio_verdict) == ("faster", "faster")
    assert index.change.low < 2 < index.change.high
    assert index.ratio_a.value == pytest.approx(2, rel=0.05)
    assert index.ratio_b.value == pytest.approx(4, rel=0.05)
    assert index.ratio_change.low < 2 < index.ratio_change.high
    assert base.verdict == "no difference"
    assert base.ratio_change is base.ratio_verdict is None
    back = row(compare(b, a), "index")
    assert (back.verdict, back.ratio_verdict) == ("slower", "slower")
    assert back.change.value == pytest.approx(1 / index.change.value)


def test_a_slower_machine_moves_times_and_not_ratios():
    a = made.result(made.bars_case({"base": 100, "index": 50}))
    b = made.result(made.bars_case({"base": 130, "index": 65}, seed=1))
    index = row(compare(a, b), "index")
    assert index.verdict == "slower"
    assert index.ratio_verdict == "no difference"


def test_noise_is_confessed():
    a = made.result(made.bars_case({"base": 100, "index": 50}, noise=0.3))
    b = made.result(made.bars_case({"base": 100, "index": 50}, noise=0.3, seed=1))
    assert {each.verdict for each in compare(a, b).rows} == {"too noisy"}


def test_intervals_cover_what_did_not_change():
    """Rounds of two runs are no pairs: drawn as pairs, these intervals would be too narrow."""
    held = 0
    for seed in range(60):
        a = made.case({1_000: [made.variant("x", 100, seed=seed, operations=50, noise=0.05)]})
        b = made.case({1_000: [made.variant("x", 100, seed=999 + seed, operations=50, noise=0.05)]})
        change = compare(made.result(a), made.result(b)).rows[0].change
        held += change.low <= 1 <= change.high
    assert held >= 53  # 95 % of 60 is 57; 52 or fewer come in 1 of 80 runs


def test_a_run_with_itself_is_no_difference_and_its_interval_is_not_a_point():
    a = made.result(made.bars_case({"x": 100}))
    change = compare(a, a).rows[0].change
    assert change.value == 1
    assert change.low < 0.999 < 1.001 < change.high


def test_what_only_one_run_has_is_told():
    a = made.result(made.growth_case((10_000, 31_600, 100_000)), made.bars_case({"x": 1}))
    b = made.result(made.growth_case((100_000, 316_000)))
    comparison = compare(a, b)
    assert {(each.case, each.size) for each in comparison.rows} == {("chat-page", 100_000)}
    assert comparison.remarks == (
        "only in A: chat-page (index, no index) at 10,000 and 31,600 messages",
        "only in A: inbox (x) at 100,000 messages",
        "only in B: chat-page (index, no index) at 316,000 messages",
    )


def test_another_plan_is_told():
    a = made.result(made.growth_case((10_000,)))
    other = made.plan("Bitmap Heap Scan on messages", buffers=60)
    case = made.case(
        {
            10_000: [
                dataclasses.replace(each, plan=other) if each.name == "index" else each
                for each in a.cases[0].sizes[0].variants
            ]
        }
    )
    comparison = compare(a, made.result(case))
    assert [each.plan_changed for each in comparison.rows] == [False, True]
    assert "index at 10,000 messages: another plan in B than in A" in comparison.text()
    assert "another plan" in comparison.markdown()


def test_one_round_is_compared_with_nothing():
    a = made.result(made.case({1_000: [made.variant("x", 10, rounds=1)]}))
    b = made.result(made.case({1_000: [made.variant("x", 10, rounds=5)]}))
    (found,) = compare(a, b).rows
    assert found.change is found.verdict is None
    assert found.a_us == pytest.approx(10, rel=0.2)
    assert "–" in compare(a, b).text()


def test_a_comparison_as_json_frame_and_html():
    comparison = compare(*pair())
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert document["rows"][1]["variant"] == "fast"
    assert document["rows"][1]["change"]["confidence"] == 0.95
    assert document["rows"][0]["ratio_a"] is None
    frame = comparison.frame()
    assert list(frame["variant"]) == ["slow", "fast"]
    assert frame.loc[1, "change_low"] < frame.loc[1, "change"] < frame.loc[1, "change_high"]
    assert frame["ratio_a"].isna().tolist() == [True, False]
    assert "<table>" in comparison._repr_html_()


def test_names_are_escaped_everywhere():
    case = made.bars_case({made.HOSTILE: 100, "b\x1b[31m|": 50})
    a = made.result(case, created_at="<script>")
    b = Result(a.created_at, elsewhere(machine__release="<img>"), a.options, a.cases)
    comparison = compare(a, b)
    assert "<script" not in comparison._repr_html_() + comparison.markdown()
    assert "<img" not in comparison._repr_html_() + comparison.markdown()
    assert "\x1b" not in comparison.text()
