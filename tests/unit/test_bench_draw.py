"""Drawing: Zipf's distribution against its definition, and which parameters are to miss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pglab.bench.draw import Drawn, zipf_ranks


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("exponent", [0.5, 0.99, 1.0, 1.5])
def test_ranks_follow_zipfs_law(exponent):
    candidates, count = 20, 50_000
    found = np.bincount(zipf_ranks(rng(), candidates, count, exponent), minlength=candidates)
    weights = 1.0 / np.arange(1, candidates + 1) ** exponent
    expected = weights / weights.sum() * count
    # One in 10,000 such samples would be refused; the seed is fixed.
    assert stats.chisquare(found, expected).pvalue > 1e-4


def test_another_exponent_is_told_apart():
    found = np.bincount(zipf_ranks(rng(), 20, 50_000, 0.99), minlength=20)
    weights = 1.0 / np.arange(1, 21) ** 1.1
    assert stats.chisquare(found, weights / weights.sum() * 50_000).pvalue < 1e-4


def test_the_same_seed_draws_the_same_and_another_does_not():
    first = zipf_ranks(rng(1), 1_000, 100, 0.99)
    assert (first == zipf_ranks(rng(1), 1_000, 100, 0.99)).all()
    assert (first != zipf_ranks(rng(2), 1_000, 100, 0.99)).any()


@pytest.mark.parametrize("candidates", [1, 2, 1_000_000])
def test_ranks_are_places_in_the_list(candidates):
    found = zipf_ranks(rng(), candidates, 10_000, 0.99)
    assert found.min() >= 0
    assert found.max() < candidates


def test_a_draw_of_exactly_one_stays_in_the_list():
    class Most(np.random.Generator):
        def random(self, size):
            return np.full(size, np.nextafter(1.0, 0.0))

    assert zipf_ranks(Most(np.random.PCG64(1)), 7, 3, 0.99).tolist() == [6, 6, 6]


def test_misses_are_counted_round_and_round():
    drawn = Drawn(["a", "b", "c", "d"], [False, True, False, True], candidates=2)
    assert list(drawn) == ["a", "b", "c", "d"]
    assert [drawn.misses(first, 4) for first in range(5)] == [2] * 5
    assert drawn.misses(0, 1) == 0
    assert drawn.misses(1, 1) == 1
    assert drawn.misses(3, 2) == 1, "number 4 is the first again"
    assert drawn.misses(0, 4_002) == 2_001
    assert drawn.misses(7, 0) == 0
    assert Drawn([], [], 0).misses(0, 100) == 0
