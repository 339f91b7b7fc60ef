"""Two ANALYZEs of a lesson's tables say the same, so that its plans are the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pglab.config import Settings
from pglab.lab import Lab

pytestmark = pytest.mark.server

SAID = """
    SELECT attname, n_distinct, correlation, most_common_vals::text, most_common_freqs,
           histogram_bounds::text
    FROM pg_stats WHERE schemaname = 'seed' AND tablename = 'messages' ORDER BY attname
"""


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("PGLAB_SCOPE", "statistics")
    lab = Lab("statistics", "small", Settings.from_environment(), progress=False)
    try:
        yield lab
    finally:
        lab.drop()


def _statistics(lab: Lab) -> list[tuple[Any, ...]]:
    with lab.connection(autocommit=True) as connection:
        connection.execute("ANALYZE seed.messages")
        return connection.execute(SAID).fetchall()


def test_every_analyze_finds_the_same(lab: Lab) -> None:
    with lab.connection() as connection:
        as_made = connection.execute(SAID).fetchall()
    assert len(as_made) == 9
    assert _statistics(lab) == as_made
    lab.reset()
    assert _statistics(lab) == as_made


def test_with_the_servers_own_target_they_differ(lab: Lab) -> None:
    with lab.connection(autocommit=True) as connection:
        connection.execute("SET default_statistics_target = 10")
        connection.execute("ANALYZE seed.messages")
        one = connection.execute(SAID).fetchall()
        connection.execute("ANALYZE seed.messages")
        assert connection.execute(SAID).fetchall() != one
