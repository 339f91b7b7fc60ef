"""Which backups stay: the rules' own words, and what holds for every history of backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.backup.retention import GrandfatherFatherSon, KeepFor, decide
from pglab.errors import ConfigError

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)

times = st.lists(
    st.datetimes(
        min_value=datetime(2024, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(2026, 12, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
    max_size=60,
)
rules = st.one_of(
    st.builds(KeepFor, st.integers(1, 400)),
    st.builds(GrandfatherFatherSon, st.integers(1, 10), st.integers(0, 6), st.integers(0, 14)),
)


def kept(verdict):
    return {time for time, reason in verdict.items() if reason is not None}


def nightly(days):
    return [NOW - timedelta(days=n, hours=12) for n in range(days)]


def test_the_seeds_rule_keeps_the_last_seven_days():
    verdict = decide(nightly(30), KeepFor(7), now=NOW)
    assert kept(verdict) == set(nightly(7))


def test_a_backup_of_exactly_seven_days_stays():
    edge = NOW - timedelta(days=7)
    newest = NOW - timedelta(hours=1)
    verdict = decide([newest, edge, edge - timedelta(microseconds=1)], KeepFor(7), now=NOW)
    assert kept(verdict) == {newest, edge}


def test_grandfather_father_son_over_a_year_of_nights():
    verdict = decide(nightly(400), GrandfatherFatherSon(7, 4, 12), now=NOW)
    # 2026-11-24 is a Tuesday: Sundays end ISO weeks, and are the fathers.
    words = {time.date().isoformat(): reason for time, reason in verdict.items() if reason}
    assert words["2026-11-24"] == "daily, weekly, monthly"
    assert words["2026-11-22"] == "daily, weekly"
    assert words["2026-11-15"] == "weekly"
    assert words["2026-11-08"] == "weekly"
    assert words["2026-10-31"] == "monthly"
    assert words["2025-12-31"] == "monthly"
    assert len(words) == 7 + 2 + 11


def test_after_a_pause_the_old_ones_are_still_there():
    old = [NOW - timedelta(days=200 + n) for n in range(10)]
    assert len(kept(decide(old, GrandfatherFatherSon(7, 0, 0), now=NOW))) == 7
    # By age alone nothing would be left; the newest is kept all the same.
    assert kept(decide(old, KeepFor(7), now=NOW)) == {old[0]}


def test_the_newest_good_one_stays_though_newer_ones_are_there():
    history = [*nightly(3), NOW - timedelta(days=100), NOW - timedelta(days=101)]
    good = NOW - timedelta(days=100)
    verdict = decide(history, KeepFor(2), now=NOW, is_good=lambda time: time <= good)
    assert verdict[good] == "the newest good one"
    assert verdict[NOW - timedelta(days=101)] is None
    assert verdict[history[2]] == "newer than the newest good one"


def test_a_clock_that_went_wrong_deletes_nothing_of_the_future():
    future = NOW + timedelta(days=900)
    assert decide([future], KeepFor(1), now=NOW) == {future: "from the future"}


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ConfigError, match="without a zone"):
        decide([datetime(2026, 1, 1)], KeepFor(7), now=NOW)  # noqa: DTZ001


@pytest.mark.parametrize("rule", [lambda: KeepFor(0), lambda: GrandfatherFatherSon(0, 0, 0)])
def test_a_rule_that_keeps_nothing_is_refused(rule):
    with pytest.raises(ConfigError, match="keeps none"):
        rule()


@given(times, rules, st.data())
def test_the_newest_good_backup_always_stays(history, rule, data):
    bad = set(data.draw(st.lists(st.sampled_from(history), unique=True)) if history else [])
    verdict = decide(history, rule, now=NOW, is_good=lambda time: time not in bad)
    good = [time for time in history if time not in bad]
    if good:
        assert max(good) in kept(verdict)
    assert set(verdict) == set(history)


@given(times, rules)
def test_deciding_again_deletes_nothing_more(history, rule):
    once = kept(decide(history, rule, now=NOW))
    assert kept(decide(once, rule, now=NOW)) == once


@given(times, rules, st.randoms())
def test_the_order_in_which_backups_are_listed_does_not_matter(history, rule, random):
    shuffled = list(history)
    random.shuffle(shuffled)
    assert decide(shuffled, rule, now=NOW) == decide(history, rule, now=NOW)


@given(times, st.integers(1, 10), st.integers(0, 6), st.integers(0, 14))
def test_no_more_stay_than_the_rule_has_places(history, daily, weekly, monthly):
    past = [time for time in history if time <= NOW]
    stays = kept(decide(past, GrandfatherFatherSon(daily, weekly, monthly), now=NOW))
    assert len(stays) <= daily + weekly + monthly
    assert len(stays) >= min(daily, len({time.date() for time in past}))


@given(times, st.integers(1, 400))
def test_age_alone_decides_under_the_seeds_rule(history, days):
    stays = kept(decide(history, KeepFor(days), now=NOW))
    for time in history:
        if NOW - time <= timedelta(days=days):
            assert time in stays
        elif time != max(history):
            assert time not in stays
