"""All measures by name, in the order of a round: who is there, what hurts, where time goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pglab.errors import ConfigError
from pglab.monitor import (
    bloat,
    indexes,
    replication,
    server,
    sessions,
    sizes,
    statements,
    tables,
)
from pglab.monitor.measure import Measure

__all__ = ["MEASURES", "SURVEY", "find"]

MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for module in (sessions, server, replication, sizes, tables, bloat, statements, indexes)
    for measure in module.MEASURES
}

SURVEY: Final = tuple(name for name, measure in MEASURES.items() if not measure.reads_tables)
"""What ``survey`` asks: all that reads counters and catalogs, and no table."""


def find(names: Iterable[str]) -> list[Measure]:
    """Return measures by name.

    Raises:
        ConfigError: one of the names is unknown; the message lists those that there are.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        raise ConfigError(f"no measure is called {unknown[0]!r}; choose of: {', '.join(MEASURES)}")
    return [MEASURES[name] for name in wanted]
