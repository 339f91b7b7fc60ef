"""Two readings make a rate; many moments make a picture of what is waited for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pglab.errors import ConfigError
from pglab.monitor.asking import ask, recognise
from pglab.monitor.catalogue import MEASURES, SURVEY
from pglab.monitor.measure import Finding, Reading

if TYPE_CHECKING:
    from pglab.monitor.asking import Server

__all__ = ["Round", "Watch", "rates", "sample_waits"]

_WEIGHTS: Final = {"fault": 0, "warning": 1, "note": 2}


def rates(before: Reading, after: Reading) -> list[dict[str, Any]]:
    """Return what a measure's counters grew by, per second, between two readings of it.

    Rows that the first reading lacks are left out. A counter that fell was reset meanwhile, and
    its rate is None.

    Args:
        before: the earlier reading.
        after: the later one, of the same measure.

    Returns:
        For each row its key, and each counter's name with ``_per_s``.

    Raises:
        ConfigError: the measure has no counters, or the readings are not two moments of one.
    """
    measure = after.measure
    if before.measure is not measure or not measure.counters:
        raise ConfigError(
            f"{before.name} and {after.name} make no rate; give two readings of one measure that "
            f"counts: {', '.join(name for name, m in MEASURES.items() if m.counters)}"
        )
    if before.at is None or after.at is None or before.at >= after.at:
        raise ConfigError(f"the second reading of {after.name} is not later than the first")
    seconds = (after.at - before.at).total_seconds()
    known = {tuple(row[name] for name in measure.key): row for row in before.rows}
    found = []
    for row in after.rows:
        key = tuple(row[name] for name in measure.key)
        if key not in known:
            continue
        grown: dict[str, Any] = dict(zip(measure.key, key, strict=True))
        for name in measure.counters:
            old, new = known[key][name], row[name]
            fell = old is None or new is None or new < old
            grown[f"{name}_per_s"] = None if fell else (new - old) / seconds
        found.append(grown)
    return found


def sample_waits(
    connection: psycopg.Connection[Any], *, seconds: float = 1.0, every_s: float = 0.02
) -> list[dict[str, Any]]:
    """Look many times at what active sessions wait for, and count.

    One look shows what is waited for now; the share of many looks is the share of the time.

    Args:
        connection: not in a transaction.
        seconds: how long to look.
        every_s: seconds between two looks.

    Returns:
        For each wait event, most frequent first: type, event, seen (session-moments), share (of
        all of them, 0 to 1) and sessions (on average at a time).

    Raises:
        ServerUnreachableError: the connection is lost.
    """
    server = recognise(connection)
    seen: Counter[tuple[str, str]] = Counter()
    looks = 0
    end = time.monotonic() + seconds
    while looks == 0 or time.monotonic() < end:
        began = time.monotonic()
        (reading,) = ask(connection, ["waits"], server)
        seen.update({(row["type"], row["event"]): row["sessions"] for row in reading.rows})
        looks += 1
        time.sleep(max(0.0, every_s - (time.monotonic() - began)))
    total = seen.total()
    return [
        {
            "type": kind,
            "event": event,
            "seen": number,
            "share": number / total,
            "sessions": number / looks,
        }
        for (kind, event), number in seen.most_common()
    ]


@dataclass(frozen=True)
class Round:
    """What one look around a server showed.

    Attributes:
        server: its version and the role's rights.
        readings: by name; of slow measures the last one.
        rates: by name, per second since the round before; empty in the first.
        took_ms: milliseconds from the first question to the last answer.
    """

    server: Server
    readings: dict[str, Reading]
    rates: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    took_ms: float = 0.0

    @property
    def findings(self) -> list[Finding]:
        """Return all findings, the gravest first."""
        found = [finding for reading in self.readings.values() for finding in reading.findings]
        return sorted(found, key=lambda finding: _WEIGHTS[finding.weight])

    def rate(self, measure: str, counter: str) -> float | None:
        """Return the sum over all rows of a counter's rate, per second; None if unknown."""
        values = [row[f"{counter}_per_s"] for row in self.rates.get(measure, [])]
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "server_version": self.server.version,
            "took_ms": round(self.took_ms, 3),
            "readings": [reading.to_json() for reading in self.readings.values()],
            "rates": self.rates,
        }


class Watch:
    """Looks around a server again and again, and remembers the round before.

    What changes slowly (sizes, indexes) is asked less often than what is over in a moment.

    Args:
        connection: used by nobody else meanwhile.
        names: which measures.
        slow_every_s: seconds between two readings of slow ones.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        names: Iterable[str] = SURVEY,
        *,
        slow_every_s: float = 30.0,
    ) -> None:
        self._connection = connection
        self._names = tuple(names)
        self._slow_every_s = slow_every_s
        self._slow_at = -float("inf")
        self._server: Server | None = None
        self._last: dict[str, Reading] = {}

    def next(self) -> Round:
        """Look around.

        Raises:
            ConfigError: there is no such measure.
            ServerUnreachableError: the connection is lost.
        """
        began = time.monotonic()
        slow = began - self._slow_at >= self._slow_every_s
        if slow or self._server is None:  # rights and extensions change, if seldom
            self._server = recognise(self._connection)
            self._slow_at = began
        names = [n for n in self._names if slow or n not in MEASURES or not MEASURES[n].slow]
        fresh = {r.name: r for r in ask(self._connection, names, self._server)}
        found = {name: fresh.get(name) or self._last[name] for name in self._names}
        grown = {
            name: rates(self._last[name], reading)
            for name, reading in fresh.items()
            if reading.measure.counters
            and not reading.skipped
            and name in self._last
            and not self._last[name].skipped
        }
        self._last = found
        took_ms = 1000 * (time.monotonic() - began)
        return Round(self._server, found, grown, took_ms)
