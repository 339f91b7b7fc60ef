"""Intervals hold the truth as often as they claim: simulated, seeded, and so the same each time.

The kinds of noise are those that machines make. What a plain percentile bootstrap covers is
asserted beside it, which proves that the simulation can tell the difference.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from pglab.bench.bootstrap import medians_of_log_ratios
from pglab.bench.statistics import growth_exponent, median_interval, paired_ratio, width
from pglab.bench.verdict import judge

ROUNDS = (5, 7, 10, 20, 30)
TRIALS = 400
RESAMPLES = 1_000
CLAIMED = 0.94


def unshared(rng, n):
    return np.exp(0.05 * rng.standard_normal((2, n)))


def shared(rng, n):
    """The machine's mood moves both sides of a round by the same factor."""
    return np.exp(0.2 * rng.standard_normal(n)) * np.exp(0.02 * rng.standard_normal((2, n)))


def heavy_tails(rng, n):
    """Student's t with two degrees of freedom: its variance is infinite."""
    return np.exp(0.03 * rng.standard_t(2, (2, n)))


def rare_slow_round(rng, n):
    """One round in ten takes three times as long, on either side by itself."""
    return np.exp(0.03 * rng.standard_normal((2, n))) * np.where(rng.random((2, n)) < 0.1, 3, 1)


def one_side_louder(rng, n):
    return np.exp(np.array([[0.2], [0.02]]) * rng.standard_normal((2, n)))


def skewed(rng, n):
    """Never below a floor, as latencies are."""
    return 1 + 0.1 * rng.exponential(size=(2, n))


def two_clocks(rng, n):
    """The machine runs at full clock in one half of the rounds and at half in the other."""
    return np.where(rng.random(n) < 0.5, 2, 1) * np.exp(0.02 * rng.standard_normal((2, n)))


NOISES = (unshared, shared, heavy_tails, rare_slow_round, one_side_louder, skewed, two_clocks)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_interval_of_a_ratio_covers_what_it_claims(noise, rounds):
    rng = np.random.default_rng([rounds, NOISES.index(noise)])
    truth = 1.3
    held = 0
    for _ in range(TRIALS):
        above, below = noise(rng, rounds)
        ratio = paired_ratio(truth * above, below, resamples=RESAMPLES)
        held += ratio.low <= truth <= ratio.high
    assert held / TRIALS >= CLAIMED


def test_a_plain_percentile_bootstrap_would_not():
    """Were this to pass, the simulation above would prove nothing."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(TRIALS):
        above, below = one_side_louder(rng, 7)
        _, logs = medians_of_log_ratios(above, below, seed=0, resamples=RESAMPLES)
        low, high = np.quantile(logs, [0.025, 0.975])
        held += low <= 0 <= high
    assert held / TRIALS < 0.92


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
@pytest.mark.parametrize("rounds", [7, 15])
def test_a_variant_against_itself_holds_one_in_94_of_100_runs(noise, rounds):
    held = 0
    for run in range(100):
        above, below = noise(np.random.default_rng([run, rounds]), rounds)
        ratio = paired_ratio(above, below, resamples=RESAMPLES)
        held += ratio.low <= 1 <= ratio.high
    assert held >= 94


@pytest.mark.parametrize(("rounds", "widest"), [(5, 0.40), (7, 0.30), (10, 0.20), (30, 0.10)])
def test_it_does_not_cover_by_being_wide(rounds, widest):
    """The least that 5 % of noise a side allows, by Student's t on its mean, is 17 % to 5 %."""
    rng = np.random.default_rng(3)
    widths = [width(paired_ratio(*unshared(rng, rounds), resamples=RESAMPLES)) for _ in range(100)]
    assert np.median(widths) < widest


def test_a_mood_that_both_sides_share_does_not_widen_it():
    """The ratio of the two medians over all rounds would be several times as wide."""
    rng = np.random.default_rng(5)
    widths, apart = [], []
    for _ in range(100):
        above, below = shared(rng, 15)
        widths.append(width(paired_ratio(above, below, resamples=RESAMPLES)))
        apart.append(width(paired_ratio(above, rng.permutation(below), resamples=RESAMPLES)))
    assert np.median(widths) < 0.05 < 0.2 < np.median(apart)


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(4)
    words = [
        judge(paired_ratio(1.1 * above, below, resamples=RESAMPLES)).word
        for above, below in (0.4 * (shared(rng, 15) - 1) + 1 for _ in range(100))
    ]
    assert words.count("faster") >= 80
    assert "slower" not in words


@pytest.mark.parametrize("noise", [unshared, heavy_tails, rare_slow_round])
@pytest.mark.parametrize("rounds", [5, 7, 15])
def test_the_interval_of_a_median_covers_what_it_claims(noise, rounds):
    rng = np.random.default_rng([rounds, 5])
    # A slow round in ten puts the median of all where 5/9 of the normal ones are below.
    shift = 0.1397 * 0.03 if noise is rare_slow_round else 0
    truth = 120 * math.exp(shift)
    held = 0
    for _ in range(TRIALS):
        found = median_interval(120 * noise(rng, rounds)[0], resamples=RESAMPLES)
        held += found.low <= truth <= found.high
    assert held / TRIALS >= CLAIMED


@pytest.mark.parametrize("bend", [0, 0.1])
@pytest.mark.parametrize("sizes", [3, 5])
def test_the_interval_of_an_exponent_covers_what_it_claims(sizes, bend):
    """With a bend, each size has its own offset from the line: more rounds do not remove it."""
    rng = np.random.default_rng(sizes)
    every = np.geomspace(1e4, 1e6, sizes).round().astype(int)
    held = 0
    for _ in range(TRIALS):
        offsets = np.exp(bend * rng.standard_normal(sizes))
        rounds = (
            every[:, None] ** 0.9
            * offsets[:, None]
            * np.exp(0.05 * rng.standard_normal((sizes, 7)))
        )
        growth = growth_exponent(every.tolist(), rounds, resamples=200)
        held += growth.low <= 0.9 <= growth.high
    assert held / TRIALS >= CLAIMED
