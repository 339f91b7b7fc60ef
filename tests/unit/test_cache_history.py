"""The checker of histories: what it must find, and what it must let pass."""

from __future__ import annotations

import pytest

from pglab.cache.history import History, Read, Write, check

AT = 100.0


def write(version, began, acknowledged, *, applied=True, cache=0, key="k"):
    return Write(key, version, AT + began, AT + acknowledged, applied, cache)


def read(version, began, *, took=0.1, cache=0, key="k"):
    return Read(key, version, AT + began, AT + began + took, cache)


def verdict(*events, stored=None, slack_s=0.0):
    history = History(
        [event for event in events if isinstance(event, Read)],
        [event for event in events if isinstance(event, Write)],
    )
    if stored is None:
        stored = {(w.key, w.version) for w in history.writes}
    return check(history, stored, max_age_s=10, slack_s=slack_s)


def test_an_empty_history_is_fine():
    assert verdict().kept


def test_a_read_after_the_acknowledgement_must_see_the_write():
    found = verdict(write(1, 0, 1), read(0, 1.5))
    assert (found.stale, found.late, found.kept) == (1, 1, False)
    assert found.latest_s == pytest.approx(0.5)
    assert "should have seen version 1" in str(found)
    assert verdict(write(1, 0, 1), read(1, 1.5)).kept


@pytest.mark.parametrize("version", [0, 1])
def test_a_read_during_the_write_may_see_either(version):
    assert verdict(write(1, 0, 1), read(version, 0.5, took=2)).kept


def test_a_newer_version_is_as_good():
    assert verdict(write(1, 0, 1), write(2, 2, 3), read(2, 2.5)).kept


def test_acknowledgements_may_overtake_each_other():
    # The second write was acknowledged first: whoever reads after it must see the second.
    overtaking = (write(2, 0, 1), write(1, 0, 5))
    assert verdict(*overtaking, read(1, 2)).stale == 1
    assert verdict(*overtaking, read(1, 6)).stale == 1
    assert verdict(*overtaking, read(2, 6)).kept


def test_while_an_invalidation_is_pending_only_its_own_cache_must_see_the_write():
    pending = write(1, 0, 1, applied=False, cache=0)
    assert verdict(pending, read(0, 2, cache=0)).stale == 1
    other = verdict(pending, read(0, 2, cache=1))
    assert (other.stale, other.late, other.unapplied) == (0, 1, 1)
    assert verdict(pending, read(0, 11.5, cache=1)).stale == 1


def test_a_load_may_be_late_by_as_much_as_is_promised():
    assert verdict(write(1, 0, 1), read(0, 1.2), slack_s=0.25).kept
    assert verdict(write(1, 0, 1), read(0, 1.3), slack_s=0.25).stale == 1


def test_a_version_from_the_future_is_impossible():
    assert verdict(write(1, 5, 6), read(1, 1)).impossible == 1
    assert verdict(read(3, 1)).impossible == 1
    assert verdict(write(1, 1.05, 6), read(1, 1)).kept


def test_keys_are_told_apart():
    assert verdict(write(1, 0, 1, key="a"), read(0, 2, key="b")).kept


def test_a_write_that_the_database_does_not_have_is_lost():
    found = verdict(write(1, 0, 1), write(2, 2, 3), stored={("k", 2)})
    assert (found.lost, found.kept) == (1, False)
    assert "is not in the database" in found.examples[0]


def test_a_failed_read_is_an_error():
    found = verdict(Read("k", None, AT, AT + 1, error="ConnectionError: away"))
    assert (found.errors, found.kept) == (1, False)
    assert "ConnectionError: away" in str(found)
