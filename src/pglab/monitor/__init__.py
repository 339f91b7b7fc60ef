"""Watching a PostgreSQL server and a Redis: named questions, and what the answers mean.

    from pglab.monitor import look, survey

    with lab.connection() as connection:
        look(connection, "blocking_tree").frame()
        for reading in survey(connection):
            print(reading.findings)

Any database, any identifiers, PostgreSQL 15 to 18; a role in ``pg_monitor``, never a superuser.
On the command line: ``pglab monitor``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pglab.monitor.asking import look, survey
    from pglab.monitor.catalogue import MEASURES
    from pglab.monitor.gateway import Gateway
    from pglab.monitor.live import Film, watch_live
    from pglab.monitor.measure import Finding, Measure, Reading
    from pglab.monitor.quarrel import Quarrel
    from pglab.monitor.redis import REDIS_MEASURES, look_at_redis
    from pglab.monitor.watch import Round, Watch, rates, sample_waits

_HOMES = {
    "Film": "live",
    "Finding": "measure",
    "Gateway": "gateway",
    "MEASURES": "catalogue",
    "Measure": "measure",
    "Quarrel": "quarrel",
    "REDIS_MEASURES": "redis",
    "Reading": "measure",
    "Round": "watch",
    "Watch": "watch",
    "look": "asking",
    "look_at_redis": "redis",
    "rates": "watch",
    "sample_waits": "watch",
    "survey": "asking",
    "watch_live": "live",
}

__all__ = [
    "MEASURES",
    "REDIS_MEASURES",
    "Film",
    "Finding",
    "Gateway",
    "Measure",
    "Quarrel",
    "Reading",
    "Round",
    "Watch",
    "look",
    "look_at_redis",
    "rates",
    "sample_waits",
    "survey",
    "watch_live",
]


def __getattr__(name: str) -> Any:
    # Fetched when first used: who asks PostgreSQL need not load redis.
    if name not in _HOMES:
        raise AttributeError(f"module 'pglab.monitor' has no attribute {name!r}")
    return getattr(import_module(f"pglab.monitor.{_HOMES[name]}"), name)
