"""The seed's hit/miss diagram: counters of a cache, the last read's way, and no other thread's."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET

import pytest

from pglab.cache import Counts, Event
from pglab.notebook.cache_diagram import CacheDiagram


class Watched:
    """What a diagram needs of a cache."""

    metrics = Counts(
        hits=1_200, negative=30, stale=4, misses=7, fallthrough=3, loads=10, stores=6, coalesced=2,
        invalidated=5, breaker="half-open",
    )  # fmt: skip


@pytest.fixture
def diagram():
    return CacheDiagram()


def labels(svg):
    return [node.text for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def bold(svg):
    return {
        node.text.split("   ")[0]
        for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
        if node.get("font-weight") == "700"
    }


def test_it_shows_the_counters_of_its_cache(diagram):
    watched = Watched()
    assert diagram.watch(watched) is watched
    shown = labels(diagram.svg())
    for label in (
        "1. check cache   1,241", "HIT   1,234", "MISS   7", "read data   10", "store   6",
        "past Redis   3",
    ):  # fmt: skip
        assert label in shown
    assert any("breaker half-open" in label and "load 2" in label for label in shown)
    assert "1244 reads" in diagram.text()
    assert repr(diagram) == diagram.text()


def test_without_a_cache_it_shows_zeros(diagram):
    assert "HIT   0" in labels(diagram.svg())
    assert "last read" not in diagram.text()


@pytest.mark.parametrize(
    ("steps", "lit"),
    [
        (["hit"], {"1. check cache", "HIT"}),
        (["negative"], {"1. check cache", "HIT"}),
        (["miss", "load", "store"], {"1. check cache", "MISS", "read data", "store"}),
        (["error", "fallthrough", "load"], {"past Redis", "read data"}),
        (["miss", "load", "store", "hit"], {"1. check cache", "HIT"}),
        (["hit", "breaker", "invalidate"], {"1. check cache", "HIT"}),
    ],
)
def test_the_last_reads_way_is_bold(diagram, steps, lit):
    diagram.watch(Watched())
    for step in steps:
        diagram(Event(step))
    assert bold(diagram.svg()) == lit
    assert diagram.text().endswith(
        [s for s in steps if s not in {"load", "store", "breaker", "invalidate"}][-1]
    )


class Handle:
    """A display handle that counts, and notes which thread drew."""

    def __init__(self):
        self.threads = []

    def update(self, shown):
        assert shown.svg()
        self.threads.append(threading.get_ident())


def test_live_redraws_at_its_end_and_only_in_its_own_thread(diagram, monkeypatch):
    handle = Handle()
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    with diagram.live():
        for _ in range(1_000):
            diagram(Event("hit"))
        here = len(handle.threads)
        other = threading.Thread(target=lambda: [diagram(Event("hit")) for _ in range(1_000)])
        diagram._drawn = 0
        other.start()
        other.join(10)
        assert len(handle.threads) == here
    assert len(handle.threads) == here + 1 < 100
    assert set(handle.threads) == {threading.get_ident()}
    diagram(Event("hit"))
    assert len(handle.threads) == here + 1


def test_live_ends_when_a_read_raises(diagram, monkeypatch):
    handle = Handle()
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    with pytest.raises(LookupError), diagram.live():
        raise LookupError
    assert len(handle.threads) == 1
    assert diagram._handle is None
