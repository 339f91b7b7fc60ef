"""What fidelity and the null comparison say of numbers, and of a machine without pgbench."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest

from pglab.bench import pgbench
from pglab.bench.fidelity_results import Compared, Fidelity, Limits
from pglab.bench.fidelity_statements import STATEMENTS
from pglab.bench.null_comparison import NullComparison, null_comparison
from pglab.bench.pgbench import find_pgbench, median_us
from pglab.bench.statistics import Ratio, paired_ratio
from pglab.config import Secret
from pglab.errors import BenchError
from pglab.servers.endpoint import PostgresEndpoint

STEADY = (99.0, 100.0, 101.0, 100.0, 99.5, 100.5)
AT_MOST = Limits(0.0, 1.05)
SHAKY = (60.0, 100.0, 160.0, 100.0, 70.0, 140.0)


def compared(factor, limits=AT_MOST, rounds=STEADY):
    return Compared(
        statement="key look-up", placement="one-core", meter="libpq", limits=limits,
        operations=10, pgbench_us=rounds, meter_us=tuple(factor * each for each in rounds[::-1]),
    )  # fmt: skip


def found(*comparisons, **changes):
    whole = Fidelity(
        size=10_000, rounds=6, compared=comparisons, pgbench="pgbench (PostgreSQL) 17.10",
        server="PostgreSQL 17.10, unix socket", placements={"one-core": "on core 1"},
        own_cost_ns=213.4, clock_cost_ns=58.1, environment={"machine": {}},
    )  # fmt: skip
    return replace(whole, **changes)


@pytest.mark.parametrize(
    ("factor", "limits", "rounds", "verdict"),
    [
        (1.00, AT_MOST, STEADY, "ok"),
        (1.20, AT_MOST, STEADY, "over"),
        (0.80, AT_MOST, STEADY, "ok"),
        (0.80, Limits(0.95, 1.05), STEADY, "under"),
        (1.05, Limits(0.95, 1.05), SHAKY, "ok?"),
        (1.06, Limits(0.95, 1.05), SHAKY, "over?"),
        (0.94, Limits(0.95, 1.05), SHAKY, "under?"),
    ],
)
def test_a_ratio_is_judged_by_its_limits_and_doubted_by_its_interval(
    factor, limits, rounds, verdict
):
    one = compared(factor, limits, rounds)
    assert one.verdict == verdict
    assert one.passed is verdict.startswith("ok")
    assert found(one).passed is one.passed


def test_the_limits_are_those_that_are_promised():
    promised = {
        (statement.name, meter, mode): str(statement.limits(meter, mode))
        for statement in STATEMENTS
        for meter in ("libpq", "cursor")
        for mode in ("one-core", "two-cores", "unpinned")
    }
    for name in ("key look-up", "chat's page"):
        assert promised[name, "libpq", "one-core"] == "≤ 1.05"
        assert promised[name, "libpq", "two-cores"] == "≤ 1.05"
        assert promised[name, "libpq", "unpinned"] == "≤ 1.05"
        assert promised[name, "cursor", "one-core"] == "≤ 1.5"
        assert promised[name, "cursor", "two-cores"] == "≤ 1.3"
        assert promised[name, "cursor", "unpinned"] == "≤ 1.3"
    scans = {limits for (name, _, _), limits in promised.items() if name == "sequential scan"}
    assert scans == {"0.95 to 1.05"}


def test_the_text_says_plainly_what_is_off():
    text = found(compared(1.0), compared(1.2)).text()
    assert text.endswith(
        "NOT passed: 1 of 2 ratios are off. "
        "key look-up through libpq (one-core): 1.200, not ≤ 1.05."
    )
    assert "213 ns an operation" in text
    assert "clock 58 ns" in text
    assert found(compared(1.0)).text().endswith("Passed: all 1 ratios lie within their limits.")


def test_what_ended_early_has_not_passed():
    early = found(compared(1.0), stopped="Ctrl-C ended it")
    assert not early.passed
    assert early.text().endswith("NOT passed: Ctrl-C ended it.")


def test_json_keeps_every_round():
    told = json.loads(json.dumps(found(compared(1.2)).to_json()))
    assert told["passed"] is False
    assert told["compared"][0]["pgbench_us"] == list(STEADY)
    assert told["compared"][0]["ratio"]["value"] == pytest.approx(1.2)
    assert told["compared"][0]["limits"] == {"low": 0.0, "high": 1.05}


def test_a_median_of_whole_microseconds_is_finer_than_they_are():
    # What a clock that is cut to whole microseconds makes of durations of 14.3 µs, near enough.
    rng = np.random.default_rng(1)
    begin = rng.uniform(0, 1_000_000, 5_000)
    cut = (np.floor(begin + 14.3) - np.floor(begin)).astype(int).tolist()
    assert statistics.median(cut) == 14
    assert median_us(cut) == pytest.approx(14.3, abs=0.2)


def test_a_script_draws_over_the_whole_range():
    script = STATEMENTS[0].script(100_000)
    assert script.startswith("\\set number random(1, 100000)\nSELECT ")
    assert script.endswith("WHERE id = :number;\n")


def test_without_pgbench_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pgbench, "embedded_postgres", lambda: None)
    endpoint = PostgresEndpoint(
        source="url", user="someone", password=Secret("hidden"), port=5432, programs=tmp_path
    )
    with pytest.raises(BenchError, match=r"pgbench is neither .*install the package.*postgresql"):
        find_pgbench(endpoint)
    (tmp_path / f"pgbench{pgbench.EXE}").touch()
    assert find_pgbench(endpoint) == tmp_path / f"pgbench{pgbench.EXE}"


def test_intervals_around_noise_hold_1_and_around_a_difference_do_not():
    rng = np.random.default_rng(7)

    def a_run(factor):
        once, again = rng.lognormal(0, 0.03, (2, 15))
        return paired_ratio(factor * again, once)

    null = NullComparison(100, tuple(a_run(1.0) for _ in range(100)), 15, "unpinned")
    slower = NullComparison(100, tuple(a_run(1.3) for _ in range(100)), 15, "unpinned")
    faster = NullComparison(100, tuple(a_run(0.7) for _ in range(100)), 15, "unpinned")
    assert null.holding >= 92
    assert null.runs == 100
    assert 0.02 < null.median_width < 0.15
    assert null.widest >= null.median_width
    assert slower.holding == faster.holding == 0
    assert not slower.passed
    assert slower.text().startswith("0 of 100 intervals hold 1.0")


def test_a_null_comparison_passes_with_94_of_100_and_narrow_intervals():
    def with_widths(holding, percent, placement="one-core"):
        reach = 1 + percent / 100
        hold = Ratio(1.0, 1.0, reach, 0.95, 15)
        miss = Ratio(1.2, 1.2, 1.2 * reach, 0.95, 15)
        ratios = (hold,) * holding + (miss,) * (100 - holding)
        return NullComparison(100, ratios, 15, placement)

    assert with_widths(94, 2.4).passed
    assert not with_widths(93, 2.4).passed
    assert not with_widths(100, 2.6).passed
    assert with_widths(94, 19, "unpinned").passed
    assert not with_widths(94, 21, "unpinned").passed
    assert not replace(with_widths(94, 2.4), asked=101).passed


@pytest.mark.parametrize("runs", [0, -1])
def test_no_runs_are_refused_before_a_server_is_asked(runs):
    with pytest.raises(BenchError, match=f"runs={runs}; at least 1"):
        null_comparison(runs)
