"""The null comparison, on a real server."""

from __future__ import annotations

import json

import pytest

from pglab.bench.null_comparison import CASES, main, null_comparison
from pglab.bench.options import Options
from pglab.bench.runner import run

pytestmark = pytest.mark.server

SHORT = Options(rounds=3, round_seconds=0.005, warm_up_seconds=0.05, placement="unpinned")


def test_each_run_is_a_comparison_of_its_own(lab_home):
    found = null_comparison(3, options=SHORT, size=2_000, progress=False)
    assert found.runs == 3
    assert [each.rounds for each in found.ratios] == [3, 3, 3]
    assert len({each.value for each in found.ratios}) == 3
    assert all(each.low <= each.value <= each.high for each in found.ratios)
    assert f"{found.holding} of 3 intervals hold 1.0" in found.text()
    assert json.loads(json.dumps(found.to_json()))["runs"] == 3


def test_the_command_prints_the_count(lab_home, capsys):
    words = "--runs 2 --rounds 2 --round-seconds 0.005 --size 2000 --placement unpinned --json"
    status = main(words.split())
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 2
    assert 0 <= told["holding"] <= 2
    assert status == (0 if told["passed"] else 1)


def test_the_command_says_what_is_wrong(lab_home, capsys):
    assert main(["--runs", "1", "--rounds", "1"]) == 1
    assert "rounds=1; an interval needs at least 2" in capsys.readouterr().err


def test_it_is_a_case_like_any_other(lab_home):
    (case,) = CASES
    result = run(case, sizes=[2_000], options=SHORT, progress=False)
    once, again = result.case().at().variants
    assert once.plan is not None
    assert once.plan.nodes == again.plan.nodes
    assert result.case().ratio("the same again").rounds == 3
