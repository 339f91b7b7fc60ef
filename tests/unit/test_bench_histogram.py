"""Latencies in buckets: the same as HdrHistogram's, and nothing else is read back."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from pglab.bench.histogram import HIGHEST_NS, Histogram
from pglab.errors import ResultError

ASKED = (0, 0.01, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100)

latencies = st.lists(
    st.one_of(
        st.integers(0, 5_000),
        st.integers(0, HIGHEST_NS),
        # Around powers of two, where buckets change their width.
        st.integers(1, 52).flatmap(lambda bits: st.integers(2**bits - 2, 2**bits + 2)),
    ),
    min_size=1,
    max_size=60,
)


def hdr(values):
    """Count in HdrHistogram; what is read of it walks through 45,000 buckets in Python."""
    histogram = HdrHistogram(1, HIGHEST_NS, 3)
    for value in values:
        assert histogram.record_value(value)
    return histogram


@settings(deadline=None, max_examples=40)
@given(latencies)
def test_buckets_and_percentiles_are_those_of_hdrhistogram(values):
    ours, theirs = Histogram.of(values), hdr(values)

    assert ours.count == theirs.get_total_count() == len(values)
    for bucket, lower, count in zip(ours.buckets.tolist(), *ours.to_json().values(), strict=True):
        assert theirs.get_count_at_index(bucket) == count > 0
        assert theirs.get_value_from_index(bucket) == lower
    assert {q: ours.percentile(q) for q in ASKED} == theirs.get_percentile_to_value_dict(ASKED)
    assert (ours.min, ours.max) == (theirs.get_min_value(), theirs.get_max_value())
    assert ours.mean == pytest.approx(theirs.get_mean_value(), rel=1e-12)


def test_a_measurements_worth_of_values_is_counted_as_hdrhistogram_counts():
    values = np.random.default_rng(4).lognormal(math.log(80_000), 1.2, 20_000).astype(int)
    ours, theirs = Histogram.of(values), hdr(values.tolist())
    assert {q: ours.percentile(q) for q in ASKED} == theirs.get_percentile_to_value_dict(ASKED)
    assert ours.mean == pytest.approx(theirs.get_mean_value(), rel=1e-12)


@pytest.mark.parametrize("q", [1, 25, 50, 95, 99, 99.9])
def test_percentiles_are_within_a_thousandth_of_the_exact_ones(q):
    values = np.random.default_rng(5).lognormal(11, 1, 50_000).astype(np.int64)
    exact = np.sort(values)[round(q / 100 * len(values)) - 1]
    assert Histogram.of(values).percentile(q) == pytest.approx(exact, rel=0.001)
    assert Histogram.of(values).mean == pytest.approx(values.mean(), rel=0.001)


@settings(deadline=None)
@given(latencies, latencies, latencies)
def test_merged_histograms_are_that_of_all_values(a, b, c):
    together = Histogram.of([*a, *b, *c])
    merged = Histogram.of(a).merge(Histogram.of(b), Histogram.of(c))
    assert merged == together
    assert hash(merged) == hash(together)
    assert Histogram.of(a) + Histogram.of(b) == Histogram.of([*b, *a])
    assert Histogram.of([]) + Histogram.of(a) == Histogram.of(a)


@settings(deadline=None)
@given(latencies)
def test_json_brings_back_the_same_histogram(values):
    histogram = Histogram.of(values)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_json_is_read_by_hand():
    assert Histogram.of([5, 7, 7, 30_000, 30_001]).to_json() == {
        "from_ns": [5, 7, 30_000],
        "counts": [1, 2, 2],
    }


def test_an_empty_histogram_has_no_numbers():
    empty = Histogram.of([])
    assert empty.count == 0
    assert all(map(math.isnan, (empty.percentile(50), empty.mean, empty.min, empty.max)))
    assert Histogram.from_json(empty.to_json()) == empty
    assert repr(empty) == "Histogram(empty)"


def test_a_histogram_does_not_change():
    values = np.array([1, 2, 3])
    histogram = Histogram.of(values)
    values[0] = 100
    assert histogram == Histogram.of([1, 2, 3])
    with pytest.raises(ValueError, match="read-only"):
        histogram.counts[0] = 9
    with pytest.raises(dataclasses.FrozenInstanceError):
        histogram.counts = np.array([9])
    assert histogram != Histogram.of([1, 2, 4])
    assert histogram != Histogram.of([1, 1, 2, 3])
    assert histogram != "a histogram"


def test_a_histogram_passes_between_processes():
    histogram = Histogram.of([1, 2, 3])
    assert pickle.loads(pickle.dumps(histogram)) == histogram


def test_parts_of_a_nanosecond_are_dropped():
    assert Histogram.of([2.9, 3.0]) == Histogram.of([2, 3])


@pytest.mark.parametrize(
    "values",
    [[-1], [5, -3, 7], [math.nan], [1.0, math.nan, 2.0], [math.inf], [-math.inf], [2**53]],
)
def test_what_is_no_latency_is_refused(values):
    with pytest.raises(ValueError, match="check the clock"):
        Histogram.of(values)


@pytest.mark.parametrize("q", [-1, 100.1, math.nan])
def test_what_is_no_percentile_is_refused(q):
    with pytest.raises(ValueError, match="from 0 to 100"):
        Histogram.of([1]).percentile(q)


MALFORMED = {
    "no object": [1, 2],
    "nothing": None,
    "a list missing": {"from_ns": [1]},
    "a list too many": {"from_ns": [1], "counts": [1], "more": []},
    "no list": {"from_ns": 1, "counts": [1]},
    "text for a list": {"from_ns": "1", "counts": [1]},
    "unequal lengths": {"from_ns": [1, 2], "counts": [1]},
    "a negative count": {"from_ns": [1, 2], "counts": [1, -1]},
    "a count of zero": {"from_ns": [1, 2], "counts": [1, 0]},
    "a huge count": {"from_ns": [1], "counts": [2**63]},
    "counts whose sum is huge": {"from_ns": [1, 2], "counts": [2**52, 2**52]},
    "NaN for a count": {"from_ns": [1], "counts": [math.nan]},
    "a fraction for a count": {"from_ns": [1], "counts": [1.5]},
    "true for a count": {"from_ns": [1], "counts": [True]},
    "text for a count": {"from_ns": [1], "counts": ["1"]},
    "null for a count": {"from_ns": [1], "counts": [None]},
    "a negative latency": {"from_ns": [-1], "counts": [1]},
    "a latency of ages": {"from_ns": [2**53], "counts": [1]},
    "NaN for a latency": {"from_ns": [math.nan], "counts": [1]},
    "falling buckets": {"from_ns": [2, 1], "counts": [1, 1]},
    "a bucket twice": {"from_ns": [2, 2], "counts": [1, 1]},
    "no bucket's beginning": {"from_ns": [30_001], "counts": [1]},
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_histogram_is_refused(document):
    with pytest.raises(ResultError, match="histogram"):
        Histogram.from_json(document)
