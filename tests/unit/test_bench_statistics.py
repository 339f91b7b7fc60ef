"""Ratios, intervals, verdicts and exponents: against scipy, and against answers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from pglab.bench.bootstrap import interval, student_t
from pglab.bench.histogram import Histogram
from pglab.bench.statistics import (
    THEORY,
    Growth,
    Ratio,
    break_even_hit_rate,
    expected_exponent,
    growth_exponent,
    growth_sentence,
    median_interval,
    paired_ratio,
    percentiles,
    width,
)
from pglab.bench.verdict import judge, pages_text
from pglab.errors import BenchError

positive = st.floats(1e-3, 1e9)
pairs = st.lists(st.tuples(positive, positive), min_size=2, max_size=12)


def noisy(middle, spread, count, seed):
    return (middle * np.exp(spread * np.random.default_rng(seed).standard_normal(count))).tolist()


# Percentiles


@pytest.mark.parametrize(
    ("count", "known"),
    [
        (0, []),
        (1, ["p50"]),
        (199, ["p50"]),
        (200, ["p50", "p95"]),
        (999, ["p50", "p95"]),
        (1_000, ["p50", "p95", "p99"]),
        (9_999, ["p50", "p95", "p99"]),
        (10_000, ["p50", "p95", "p99", "p99.9"]),
    ],
)
def test_a_percentile_needs_ten_latencies_beyond_it(count, known):
    found = percentiles(Histogram.of([1_000] * count))
    assert list(found) == ["p50", "p95", "p99", "p99.9"]
    assert [name for name, value in found.items() if value is not None] == known


def test_percentiles_are_in_microseconds():
    values = np.random.default_rng(6).lognormal(11, 0.5, 20_000).astype(np.int64)
    exact = np.quantile(values, [0.5, 0.95, 0.99, 0.999], method="inverted_cdf") / 1_000
    assert list(percentiles(Histogram.of(values)).values()) == pytest.approx(exact, rel=0.001)


# Student's t


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99, 0.999])
def test_students_t_is_scipys(confidence):
    freedoms = [*range(1, 31), 99, 1_000]
    assert [student_t(confidence, freedom) for freedom in freedoms] == pytest.approx(
        scipy.stats.t.ppf((1 + confidence) / 2, freedoms), rel=1e-9
    )


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95, math.nan])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises(BenchError, match="between 0 and 1"):
        paired_ratio([1, 2], [1, 2], confidence=confidence)


# The ratio


def test_the_percentiles_below_the_widening_are_scipys_paired_bootstrap():
    slow, fast = noisy(100, 0.1, 15, 1), noisy(50, 0.1, 15, 2)
    # Hesterberg's quantiles for 15 rounds, asked of scipy as a nominal confidence.
    tail = scipy.stats.norm.cdf(-math.sqrt(15 / 14) * scipy.stats.t.ppf(0.975, 14))
    theirs = scipy.stats.bootstrap(
        (slow, fast),
        lambda a, b, axis: np.median(np.log(np.divide(a, b)), axis=axis),
        paired=True,
        method="percentile",
        confidence_level=1 - 2 * tail,
        n_resamples=100_000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    ours = paired_ratio(slow, fast, resamples=100_000)
    assert ours.value == pytest.approx(np.median(np.divide(slow, fast)), rel=1e-12)
    assert (math.log(ours.low), math.log(ours.high)) == pytest.approx(
        (theirs.low, theirs.high), abs=0.002
    )
    assert (ours.confidence, ours.rounds) == (0.95, 15)


def test_with_two_rounds_the_interval_is_students_own():
    """The median of two is their mean, and nothing needs to be resampled."""
    logs = np.array([1.0, 1.3])
    draws = np.random.default_rng(1).choice(logs, (400_000, 2)).mean(axis=1)
    expected = scipy.stats.t.interval(0.95, 1, logs.mean(), scipy.stats.sem(logs))
    assert interval(1.15, draws, rounds=2, confidence=0.95) == pytest.approx(expected, rel=0.01)


def test_noise_that_both_sides_share_cancels():
    mood = np.array(noisy(1, 0.5, 12, 7))
    ratio = paired_ratio((30 * mood).tolist(), (10 * mood).tolist())
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((3, 3, 3), rel=1e-12)
    # The same numbers with the rounds of one side in another order share nothing.
    apart = paired_ratio((30 * mood).tolist(), (10 * np.roll(mood, 5)).tolist())
    assert width(apart) > 0.3


def test_a_slow_round_in_ten_moves_neither_value_nor_interval_far():
    slow, fast = noisy(20, 0.02, 10, 3), noisy(10, 0.02, 10, 4)
    slow[4] *= 50
    ratio = paired_ratio(slow, fast)
    assert ratio.value == pytest.approx(2, rel=0.03)
    assert width(ratio) < 0.15


@settings(deadline=None)
@given(pairs, st.floats(0.01, 100))
def test_the_ratio_scales_inverts_and_lies_within(rounds, factor):
    above, below = map(list, zip(*rounds, strict=True))
    ratio = paired_ratio(above, below, resamples=200)
    assert 0 < ratio.low <= ratio.value * (1 + 1e-9)
    assert ratio.value <= ratio.high * (1 + 1e-9)

    inverse = paired_ratio(below, above, resamples=200)
    assert (1 / inverse.low, 1 / inverse.high) == pytest.approx((ratio.high, ratio.low), rel=1e-6)

    scaled = paired_ratio([factor * each for each in above], below, resamples=200)
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx(
        (factor * ratio.value, factor * ratio.low, factor * ratio.high), rel=1e-6
    )


def test_the_same_seed_gives_the_same_interval_and_another_nearly():
    slow, fast = noisy(20, 0.1, 16, 8), noisy(10, 0.1, 16, 9)
    first = paired_ratio(slow, fast)
    assert paired_ratio(slow, fast) == first
    few = [paired_ratio(slow, fast, seed=seed, resamples=100) for seed in range(5)]
    assert len({(each.low, each.high) for each in few}) > 1
    other = paired_ratio(slow, fast, seed=1)
    assert (other.low, other.high) == pytest.approx((first.low, first.high), rel=0.02)


def test_more_rounds_and_less_confidence_make_it_narrower():
    def spread(rounds, confidence=0.95):
        slow, fast = noisy(20, 0.1, rounds, 8), noisy(10, 0.1, rounds, 9)
        return width(paired_ratio(slow, fast, confidence=confidence))

    assert spread(10) > spread(30) > spread(300)
    assert spread(15, 0.99) > spread(15, 0.95) > spread(15, 0.8)


def test_the_width_is_relative():
    assert width(Ratio(2.0, 1.9, 2.09, 0.95, 9)) == pytest.approx(0.10)


def test_medians_get_intervals_as_ratios_do():
    rounds = noisy(120, 0.1, 15, 5)
    found = median_interval(rounds)
    against_one = paired_ratio(rounds, [1.0] * 15)
    assert (found.value, found.low, found.high) == pytest.approx(
        (against_one.value, against_one.low, against_one.high), rel=1e-12
    )
    assert found.low < 120 < found.high


REFUSED = {
    "one round": ([1.0], [1.0], "1 finished rounds.*--rounds"),
    "no round": ([], [], "0 finished rounds.*--rounds"),
    "unlike numbers": ([1.0, 2.0, 3.0], [1.0, 2.0], "3 rounds.*denominator 2"),
    "NaN": ([1.0, math.nan], [1.0, 2.0], "numerator has the median nan in round 2"),
    "infinite": ([1.0, 2.0], [math.inf, 2.0], "denominator has the median inf in round 1"),
    "zero": ([1.0, 2.0], [1.0, 0.0], "median 0.0 in round 2"),
    "negative": ([-1.0, 2.0], [1.0, 2.0], "median -1.0 in round 1"),
}


@pytest.mark.parametrize(("above", "below", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_rounds_that_have_no_ratio_are_refused(above, below, says):
    with pytest.raises(BenchError, match=says):
        paired_ratio(above, below)


def test_medians_refuse_what_ratios_refuse():
    with pytest.raises(BenchError, match="--rounds"):
        median_interval([1.0])
    with pytest.raises(BenchError, match="median nan"):
        median_interval([1.0, math.nan])


# The verdict

VERDICTS = [
    ((12.3, 11.8, 12.9), "faster", "12.3 times as fast (11.8 to 12.9)"),
    ((612.4, 590.2, 640.9), "faster", "612 times as fast (590 to 641)"),
    ((1.08, 1.05, 1.11), "faster", "8.0 % faster (5.0 to 11 %)"),
    ((1 / 1.08, 1 / 1.11, 1 / 1.05), "slower", "8.0 % slower (5.0 to 11 %)"),
    ((0.5, 0.4, 0.625), "slower", "2.00 times as slow (1.60 to 2.50)"),
    (
        (1.004, 0.98, 1.03),
        "no difference",
        "no difference that this run can show (2.0 % slower to 3.0 % faster)",
    ),
    ((1, 1, 1), "no difference", "no difference that this run can show (0 % to 0 %)"),
    (
        (1.008, 1.003, 1.013),
        "no difference",
        "no difference that matters: 0.8 % faster (0.3 to 1.3 %)",
    ),
    (
        (1 / 1.008, 1 / 1.013, 1 / 1.003),
        "no difference",
        "no difference that matters: 0.8 % slower (0.3 to 1.3 %)",
    ),
    # It excludes 1, and may well matter.
    ((1.015, 1.005, 1.025), "faster", "1.5 % faster (0.5 to 2.5 %)"),
]


@pytest.mark.parametrize(("ends", "word", "text"), VERDICTS)
def test_a_verdict_says_what_the_interval_allows(ends, word, text):
    verdict = judge(Ratio(*ends, 0.95, 15))
    assert (verdict.word, verdict.text) == (word, text)


def test_a_wide_interval_that_holds_one_says_what_to_do():
    verdict = judge(Ratio(1.1, 0.7, 1.73, 0.95, 5))
    assert verdict.word == "too noisy"
    assert verdict.text.startswith("too noisy to tell (43 % slower to 1.73 times as fast): ")
    for remedy in ("--rounds", "--placement one-core", "close other programs"):
        assert remedy in verdict.text
    # 10 % is the border.
    assert judge(Ratio(1, 1 / 1.049, 1.048, 0.95, 5)).word == "no difference"
    assert judge(Ratio(1, 1 / 1.05, 1.05, 0.95, 5)).word == "too noisy"


def test_other_words_serve_other_quantities():
    verdict = judge(Ratio(1.2, 1.1, 1.3, 0.95, 9), faster="smaller", slower="larger")
    assert (verdict.word, verdict.text) == ("faster", "20 % smaller (10 to 30 %)")
    verdict = judge(Ratio(0.5, 0.4, 0.625, 0.95, 9), faster="smaller", slower="larger")
    assert (verdict.word, verdict.text) == ("slower", "2.00 times larger (1.60 to 2.50)")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (31_759 / 54, "588 times fewer pages"),
        (0.5, "2.00 times the pages"),
        (1, "as many pages"),
        (1.0004, "as many pages"),
    ],
)
def test_pages_are_compared_in_words(ratio, text):
    assert pages_text(ratio) == text


# Growth

SIZES = [10_000, 31_600, 100_000, 316_000, 1_000_000]


@pytest.mark.parametrize("sizes", [SIZES, SIZES[::-1], SIZES[2:], SIZES[:2]])
def test_the_exponent_is_scipys_slope(sizes):
    rounds = [noisy(size**0.8, 0.1, 9, place) for place, size in enumerate(sizes)]
    medians = [np.median(each) for each in rounds]
    theirs = scipy.stats.linregress(np.log(sizes), np.log(medians))
    growth = growth_exponent(sizes, rounds)
    assert growth.exponent == pytest.approx(theirs.slope, rel=1e-9)
    assert growth.low < growth.exponent < growth.high
    assert growth.points == tuple(sorted(zip(sizes, medians, strict=True)))
    for size in (sizes[0], 50_000):
        line = math.exp(theirs.intercept + theirs.slope * math.log(size))
        assert growth.at(size) == pytest.approx(line, rel=1e-9)


def test_a_bend_widens_the_interval_as_residuals_say():
    """Rounds that all agree leave only the lack of fit, and that is linregress's own interval."""
    bent = [100, 150, 400, 900, 5_000]
    growth = growth_exponent(SIZES, [[each] * 5 for each in bent])
    fit = scipy.stats.linregress(np.log(SIZES), np.log(bent))
    reach = scipy.stats.t.ppf(0.975, 3) * fit.stderr
    assert (growth.low, growth.high) == pytest.approx((fit.slope - reach, fit.slope + reach))


def test_noise_of_rounds_widens_the_interval_of_a_perfect_line():
    rounds = [[size / 2, size, size * 2, size * 0.9, size * 1.1] for size in SIZES]
    growth = growth_exponent(SIZES, rounds)
    assert growth.exponent == pytest.approx(1)
    assert growth.low < 0.95 < 1.05 < growth.high


def test_the_measured_reference_grows_as_it_says():
    """shared/reference/benchmarking.md: a chat's page, psycopg, p50 over 10 k to 1 M rows."""
    indexed = growth_exponent(SIZES, [[us] * 3 for us in (135, 222, 175, 241, 238)])
    serial = growth_exponent(SIZES[2:], [[ms] * 3 for ms in (17.8, 55, 165)])
    assert indexed.exponent == pytest.approx(0.11, abs=0.005)
    assert serial.exponent == pytest.approx(0.97, abs=0.005)
    assert indexed.low < 0.09 < indexed.high


@pytest.mark.parametrize(
    ("theory", "expected"), [("O(1)", 0), ("O(k)", 0), ("O(n)", 1), ("O(log n)", 0.087)]
)
def test_theory_predicts_an_exponent(theory, expected):
    assert expected_exponent(theory, SIZES) == pytest.approx(expected, abs=0.002)


def test_logarithms_have_the_slope_of_their_derivative():
    # d log(log n) / d log n = 1 / log n, so over a narrow range that is the exponent.
    assert expected_exponent("O(log n)", [99_000, 101_000]) == pytest.approx(
        1 / math.log(100_000), rel=1e-3
    )
    assert expected_exponent("O(n log n)", SIZES) == pytest.approx(
        1 + expected_exponent("O(log n)", SIZES)
    )


@pytest.mark.parametrize("theory", THEORY)
def test_exact_growth_fits_its_theory(theory):
    cost = THEORY[theory](np.array(SIZES, dtype=float))
    growth = growth_exponent(SIZES, [[each] * 5 for each in cost])
    assert growth.exponent == pytest.approx(expected_exponent(theory, SIZES))
    assert f"as {theory} predicts" in growth_sentence(growth, theory)


def test_a_sentence_puts_found_beside_expected():
    points = tuple((size, 1.0) for size in SIZES)
    steep = Growth(1.4, 1.3, 1.5, points)
    assert growth_sentence(steep, "O(n)") == (
        "grows as size^1.40 (1.30 to 1.50), more steeply than theory: "
        "O(n) predicts 1.00 over these sizes"
    )
    assert "less steeply than theory" in growth_sentence(Growth(0.8, 0.7, 0.9, points), "O(n)")
    # A small deviation is none, however narrow the interval.
    assert "as O(n) predicts" in growth_sentence(Growth(0.97, 0.965, 0.975, points), "O(n)")
    assert "as O(n) predicts" in growth_sentence(Growth(0.8, 0.5, 1.1, points), "O(n)")
    assert growth_sentence(steep, "") == "grows as size^1.40 (1.30 to 1.50)"


NO_GROWTH = {
    "one size": ([10_000], [[1, 2]], "two sizes"),
    "no size": ([], [], "two sizes"),
    "one size twice": ([10_000, 10_000], [[1, 2], [1, 2]], "two sizes"),
    "a size twice": ([500, 10_000, 500], [[1, 2]] * 3, "given once"),
    "an empty table": ([0, 10_000], [[1, 2], [1, 2]], "number of rows"),
    "a series missing": ([500, 10_000], [[1, 2]], "1 series"),
    "one round": ([500, 10_000], [[1, 2], [1]], "size 10,000 has 1 finished rounds"),
    "NaN": ([500, 10_000], [[1, math.nan], [1, 2]], "size 500 has the median nan"),
}


@pytest.mark.parametrize(("sizes", "rounds", "says"), NO_GROWTH.values(), ids=NO_GROWTH.keys())
def test_what_has_no_exponent_is_refused(sizes, rounds, says):
    with pytest.raises(BenchError, match=says):
        growth_exponent(sizes, rounds)


def test_an_unknown_theory_is_refused():
    with pytest.raises(BenchError, match=r"O\(n²\).*use one of O\(1\)"):
        expected_exponent("O(n²)", SIZES)


# The break-even hit rate


def test_the_reference_breaks_even_where_it_says():
    """shared/reference/benchmarking.md: a key look-up, unpinned 98.6 % and on one core 88 %."""
    assert break_even_hit_rate(117, 481, 122) == pytest.approx(0.986, abs=0.0005)
    # Of rounded µs: between 86.4 and 87.7 %.
    assert break_even_hit_rate(36, 191, 56) == pytest.approx(0.88, abs=0.01)


@settings(deadline=None)
@given(*[st.floats(0.1, 1e6)] * 3)
def test_at_the_break_even_both_ways_cost_the_same(hit, miss, direct):
    rate = break_even_hit_rate(hit, miss, direct)
    if hit >= direct:
        assert rate is None
    elif miss <= direct:
        assert rate == 0
    else:
        assert 0 <= rate <= 1
        assert rate * hit + (1 - rate) * miss == pytest.approx(direct, rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_what_is_no_latency_has_no_break_even(place, value):
    latencies = [100.0, 400.0, 200.0]
    latencies[place] = value
    with pytest.raises(BenchError, match=("hit_us", "miss_us", "direct_us")[place]):
        break_even_hit_rate(*latencies)
