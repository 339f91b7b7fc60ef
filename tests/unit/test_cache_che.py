"""The hit ratios that theory expects, against simulations of the caches that they speak of."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict

import numpy as np
import pytest

from pglab.cache.che import (
    characteristic_time,
    lru_hit_ratio,
    random_hit_ratio,
    ttl_hit_ratio,
    zipf_popularity,
)
from pglab.errors import ConfigError

OBJECTS = 1_000
REQUESTS = 120_000
# Of a simulation with so many requests, and of Che's approximation; both are far below it.
TOLERANCE = 0.01


def stream(exponent, seed=1):
    popularity = zipf_popularity(OBJECTS, exponent)
    draw = np.random.default_rng(seed)
    return popularity, draw.choice(OBJECTS, size=REQUESTS, p=popularity).tolist(), draw


def simulated_lru(requests, size):
    held: OrderedDict[int, None] = OrderedDict()
    hits = counted = 0
    for number, key in enumerate(requests):
        hit = key in held
        if hit:
            held.move_to_end(key)
        else:
            held[key] = None
            if len(held) > size:
                held.popitem(last=False)
        if number >= REQUESTS // 4:  # it is full, and as it will stay
            counted += 1
            hits += hit
    return hits / counted


def simulated_random(requests, size, draw):
    held: list[int] = []
    places: dict[int, int] = {}
    hits = counted = 0
    for number, key in enumerate(requests):
        hit = key in places
        if not hit:
            if len(held) < size:
                places[key] = len(held)
                held.append(key)
            else:
                place = int(draw.integers(size))
                del places[held[place]]
                held[place] = key
                places[key] = place
        if number >= REQUESTS // 4:
            counted += 1
            hits += hit
    return hits / counted


def simulated_ttl(requests, draw, *, rate, ttl_s, jitter=0.0, renewed=False):
    moments = np.cumsum(draw.exponential(1 / rate, size=len(requests))).tolist()
    ends: dict[int, float] = {}
    hits = counted = 0
    for key, now in zip(requests, moments, strict=True):
        hit = ends.get(key, 0.0) > now
        if renewed or not hit:
            ends[key] = now + ttl_s * (1 - jitter * draw.random())
        if now >= moments[-1] / 4:
            counted += 1
            hits += hit
    return hits / counted


@pytest.mark.parametrize("exponent", [0.0, 0.6, 0.9, 1.2])
@pytest.mark.parametrize("size", [10, 100, 600])
def test_an_lru_cache(exponent, size):
    popularity, requests, _ = stream(exponent)
    assert lru_hit_ratio(popularity, size) == pytest.approx(
        simulated_lru(requests, size), abs=TOLERANCE
    )


@pytest.mark.parametrize("exponent", [0.6, 1.0])
@pytest.mark.parametrize("size", [10, 300])
def test_a_cache_that_evicts_at_random(exponent, size):
    popularity, requests, draw = stream(exponent)
    theory = random_hit_ratio(popularity, size)
    assert theory == pytest.approx(simulated_random(requests, size, draw), abs=TOLERANCE)
    assert theory < lru_hit_ratio(popularity, size)


@pytest.mark.parametrize("exponent", [0.6, 0.9, 1.2])
@pytest.mark.parametrize("ttl_s", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("how", [{}, {"jitter": 0.5}, {"renewed": True}])
def test_a_cache_with_a_ttl(exponent, ttl_s, how):
    popularity, requests, draw = stream(exponent)
    assert ttl_hit_ratio(popularity, 500.0, ttl_s, **how) == pytest.approx(
        simulated_ttl(requests, draw, rate=500.0, ttl_s=ttl_s, **how), abs=TOLERANCE
    )


def test_one_object_by_hand():
    assert ttl_hit_ratio([1.0], rate=3.0, ttl_s=1.0) == pytest.approx(3 / 4)
    assert ttl_hit_ratio([1.0], rate=3.0, ttl_s=1.0, renewed=True) == pytest.approx(
        1 - math.exp(-3)
    )
    # Of two that are asked for alike, one fits: half of the requests find theirs.
    assert lru_hit_ratio([0.5, 0.5], 1) == pytest.approx(0.5)
    assert characteristic_time([0.5, 0.5], 1) == pytest.approx(2 * math.log(2))


def test_at_the_ends():
    popularity = zipf_popularity(50, 1.0)
    for ratio in (lru_hit_ratio, random_hit_ratio):
        assert ratio(popularity, 0) == 0
        assert ratio(popularity, 50) == pytest.approx(1)
        assert ratio(popularity, 80) == pytest.approx(1)
        sizes = [ratio(popularity, size) for size in range(51)]
        assert sizes == sorted(sizes)
    assert characteristic_time(popularity, 50) == math.inf
    assert ttl_hit_ratio(popularity, 10.0, 0.0) == 0
    assert ttl_hit_ratio(popularity, 0.0, 10.0) == 0
    # One that nobody asks for takes no room.
    assert lru_hit_ratio([0.5, 0.5, 0.0], 2) == pytest.approx(1)
    assert random_hit_ratio([0.5, 0.5, 0.0], 2) == pytest.approx(1)


def test_the_popularity():
    p = zipf_popularity(3, 1.0)
    assert p.tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert zipf_popularity(4, 0).tolist() == [0.25] * 4
    assert heapq.nlargest(3, p.tolist()) == p.tolist()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: zipf_popularity(0, 1.0), "objects is 0; give 1"),
        (lambda: zipf_popularity(5, -1.0), "exponent is -1.0"),
        (lambda: zipf_popularity(5, math.nan), "exponent is nan"),
        (lambda: lru_hit_ratio([0.5, 0.2], 1), "the sum 0.7"),
        (lambda: lru_hit_ratio([[0.5, 0.5]], 1), r"shape \(1, 2\)"),
        (lambda: lru_hit_ratio([-0.5, 1.5], 1), "give probabilities"),
        (lambda: lru_hit_ratio([], 1), "give probabilities"),
        (lambda: lru_hit_ratio([1.0], -1), "size is -1"),
        (lambda: lru_hit_ratio([1.0], math.nan), "size is nan"),
        (lambda: ttl_hit_ratio([1.0], -1.0, 1.0), "rate=-1.0"),
        (lambda: ttl_hit_ratio([1.0], 1.0, math.inf), "ttl_s=inf"),
        (lambda: ttl_hit_ratio([1.0], 1.0, 1.0, jitter=1.0), "jitter=1.0"),
        (lambda: ttl_hit_ratio([1.0], 1.0, 1.0, jitter=0.5, renewed=True), "one of the two"),
    ],
)
def test_what_cannot_be_is_named(wrong, words):
    with pytest.raises(ConfigError, match=words):
        wrong()
