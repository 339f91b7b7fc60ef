"""Many clients at once: all begin together, all come back, and none is waited for for ever."""

from __future__ import annotations

import threading

import pytest

from pglab.cache import Event
from pglab.errors import LabError
from pglab.notebook.cache_timeline import Timeline
from pglab.notebook.crowd import longest_s, together, traffic, wait_until


def test_together_lets_all_ask_at_once():
    meet = threading.Barrier(50)
    answers = together(50, lambda: meet.wait(30) >= 0)
    assert [answer.value for answer in answers] == [True] * 50
    assert [answer.at_s for answer in answers] == sorted(answer.at_s for answer in answers)
    assert longest_s(answers) == max(answer.seconds for answer in answers) > 0


def test_an_error_is_an_answer():
    def fail():
        raise LookupError("away")

    answers = together(3, fail)
    assert [str(answer.error) for answer in answers] == ["away"] * 3
    assert [answer.value for answer in answers] == [None] * 3
    assert longest_s([]) == 0


def test_who_does_not_come_back_is_not_waited_for_for_ever():
    gate = threading.Event()
    try:
        with pytest.raises(LabError, match=r"2 of 2 clients did not come back within 0\.1 s"):
            together(2, lambda: gate.wait(30), patience_s=0.1)
    finally:
        gate.set()


def test_traffic_asks_until_the_time_is_over():
    asked = threading.Event()
    answers = traffic([lambda: 1, lambda: 2], seconds=0.1, meanwhile=asked.set)
    assert asked.is_set()
    assert {answer.value for answer in answers} == {1, 2}
    assert len(answers) > 2
    assert not [t for t in threading.enumerate() if t.name == "pglab crowd"]


def test_traffic_ends_when_the_disturbance_fails():
    def fail():
        raise LookupError("the disturbance")

    with pytest.raises(LookupError, match="the disturbance"):
        traffic([lambda: 1], seconds=30, meanwhile=fail)
    assert not [t for t in threading.enumerate() if t.name == "pglab crowd"]


def test_waiting_ends():
    wait_until("true", lambda: True)
    with pytest.raises(LabError, match=r"within 0.01 s this did not come about: false"):
        wait_until("false", lambda: False, patience_s=0.01)


# The timeline


def test_steps_are_counted_by_their_moments():
    timeline = Timeline()
    timeline._steps += [
        (0.01, "load", ""),
        (0.02, "hit", ""),
        (0.04, "load", ""),
        (0.19, "load", ""),
    ]
    assert timeline.moments("load") == [0.01, 0.04, 0.19]
    assert timeline.per_bin("load", 0.05, seconds=0.2) == [2, 0, 0, 1]
    assert timeline.per_bin("load", 0.05, seconds=0.1) == [2, 0]


def test_events_are_noted_with_their_moments():
    timeline = Timeline()
    timeline(Event("breaker", detail="closed → open"))
    timeline(Event("hit"))
    [(at, state)] = timeline.breaker()
    assert state == "open"
    assert 0 <= at < 30
    timeline.mark("here")
    timeline.begin()
    assert timeline.breaker() == timeline.moments("hit") == timeline._marks == []


def test_the_picture_shows_reads_marks_and_the_open_breaker():
    from matplotlib.figure import Figure

    timeline = Timeline()
    timeline._steps += [(0.1, "hit", ""), (0.3, "fallthrough", "")]
    timeline._steps += [(0.2, "breaker", "closed → open"), (0.4, "breaker", "half-open → closed")]
    timeline._marks.append((0.2, "killed"))
    axes = Figure().add_subplot()
    timeline.draw_reads(axes, seconds=1)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["hit", "past Redis, to PostgreSQL", "breaker not closed"]
    assert [text.get_text() for text in axes.texts] == ["killed"]


def test_an_empty_picture_can_be_drawn():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    Timeline().draw_reads(axes, seconds=1)
    assert axes.get_xlabel() == "seconds"
