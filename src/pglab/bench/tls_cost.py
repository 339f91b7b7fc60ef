"""What TLS costs: a unix socket, TCP and TLS to one server, for a query and for a connection.

    python -m pglab.bench.tls_cost

A scratch server of its own, since the lab's has no certificate. The ways take turns in short
rounds, in an order that is drawn anew, and are compared by their rounds' medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pglab.bench.statistics import Ratio, paired_ratio
from pglab.bench.words import duration
from pglab.errors import BenchError
from pglab.servers.scratch import ScratchFolder, ScratchPostgres
from pglab.tls import CertificateAuthority

if TYPE_CHECKING:
    import psycopg

__all__ = ["BASELINE", "WAYS", "TlsCost", "tls_cost"]

WAYS: Final = ("unix socket", "TCP", "TLS", "TLS, verify-full")
BASELINE: Final = "TCP"
_QUERIES: Final = {
    "1 row": b"SELECT 1",
    "10 kB": b"SELECT repeat('x', 10000)",
    "1 MB": b"SELECT repeat('x', 1000000)",
}
_TURNS: Final = {"connection": 3, "1 row": 100, "10 kB": 50, "1 MB": 3}


@dataclass(frozen=True)
class TlsCost:
    """What came of it.

    Attributes:
        medians_us: of each operation and way, for each round, microseconds.
        tls: version and cipher, as pg_stat_ssl has them.
    """

    medians_us: Mapping[str, Mapping[str, Sequence[float]]]
    tls: str

    def middle_us(self, operation: str, way: str) -> float:
        """Return the median over rounds."""
        return statistics.median(self.medians_us[operation][way])

    def times_slower(self, operation: str, way: str) -> Ratio:
        """Return how many times slower than TCP a way is, with its interval."""
        rounds = self.medians_us[operation]
        return paired_ratio(rounds[way], rounds[BASELINE])

    def rows(self) -> list[tuple[str, str, float, Ratio | None]]:
        """Return operation, way, median in µs, and the ratio to TCP (None for TCP itself)."""
        return [
            (
                operation,
                way,
                self.middle_us(operation, way),
                None if way == BASELINE else self.times_slower(operation, way),
            )
            for operation, ways in self.medians_us.items()
            for way in ways
        ]

    def text(self) -> str:
        """Return a table, a line for each operation and way."""
        lines = [self.tls]
        for operation, way, middle_us, ratio in self.rows():
            times = (
                f"{ratio.value:.2f} times {BASELINE} ({ratio.low:.2f} to {ratio.high:.2f})"
                if ratio is not None
                else ""
            )
            lines.append(f"{operation:<12}{way:<18}{duration(middle_us):>10}  {times}".rstrip())
        return "\n".join(lines)

    __str__ = text


def tls_cost(*, rounds: int = 30, seed: int = 22) -> TlsCost:
    """Measure on a server of its own.

    Args:
        rounds: in each of which every way has its turn with every operation; 2 at least.
        seed: of the order of ways within each round.

    Raises:
        BenchError: too few rounds.
        NoServerError: PostgreSQL's programs are not here.
        ServerStartError: the server did not start, for example because it was built without TLS.
    """
    if rounds < 2:
        raise BenchError(f"rounds={rounds}; an interval needs 2 at least, and 10 say more")
    authority = CertificateAuthority.create("pglab bench")
    issued = authority.issue(["localhost"])
    with ExitStack() as stack:
        folder = stack.enter_context(ScratchFolder())
        root = folder.path / "root.crt"
        root.write_bytes(authority.root_pem)
        server = stack.enter_context(
            ScratchPostgres(
                settings={"ssl": "on"},
                files={"server.key": issued.key_pem, "server.crt": issued.cert_pem},
                tcp=True,
            )
        )
        return _measure(server, root, rounds, seed)


def _measure(server: ScratchPostgres, root: Path, rounds: int, seed: int) -> TlsCost:
    ways = _ways(root)
    with ExitStack() as stack:
        held = {
            way: stack.enter_context(server.connect(autocommit=True, **options))
            for way, options in ways.items()
        }
        tls = _check(held)
        operations: dict[str, dict[str, Callable[[], object]]] = {
            "connection": {way: _connecting(server, options) for way, options in ways.items()},
            **{
                name: {way: _asking(held[way], query) for way in ways}
                for name, query in _QUERIES.items()
            },
        }
        return TlsCost(_in_turns(operations, rounds, seed), tls)


def _ways(root: Path) -> dict[str, dict[str, Any]]:
    tcp = {"host": "localhost", "hostaddr": "127.0.0.1"}
    # GSSAPI would be tried first where the machine has a ticket.
    common = {"gssencmode": "disable"}
    found = (
        common,
        {**common, **tcp, "sslmode": "disable"},
        # Without a root file: encrypted, and nobody is asked who he is.
        {**common, **tcp, "sslmode": "require", "sslrootcert": "/nonexistent"},
        {**common, **tcp, "sslmode": "verify-full", "sslrootcert": str(root)},
    )
    return dict(zip(WAYS, found, strict=True))


def _check(held: Mapping[str, psycopg.Connection[Any]]) -> str:
    """Return the TLS that is spoken, once every way is known to be what its name says."""
    said = {}
    for way, connection in held.items():
        row = connection.execute(
            "SELECT s.ssl, a.client_addr IS NOT NULL, concat_ws(', ', s.version, s.cipher) "
            "FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a USING (pid) "
            "WHERE pid = pg_backend_pid()"
        ).fetchone()
        wanted = (way.startswith("TLS"), way != "unix socket")
        if row is None or row[:2] != wanted:
            raise BenchError(f"the way {way!r} is {row}, and not (TLS, TCP) = {wanted}")
        said[way] = str(row[2])
    return said["TLS"]


def _connecting(server: ScratchPostgres, options: Mapping[str, Any]) -> Callable[[], object]:
    return lambda: server.connect(**options).close()


def _asking(connection: psycopg.Connection[Any], query: bytes) -> Callable[[], object]:
    cursor = connection.cursor()

    def once() -> object:
        cursor.execute(query, prepare=True)
        return cursor.fetchall()

    return once


def _in_turns(
    operations: Mapping[str, Mapping[str, Callable[[], object]]], rounds: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, list[float]]] = {
        name: {way: [] for way in ways} for name, ways in operations.items()
    }
    for number in range(rounds + 1):  # the first is the warm-up
        for name, ways in operations.items():
            for index in rng.permutation(len(ways)):
                way = list(ways)[index]
                median_us = _median_us(ways[way], _TURNS[name])
                if number:
                    found[name][way].append(median_us)
    return found


def _median_us(once: Callable[[], object], turns: int) -> float:
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        once()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m pglab.bench.tls_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args(arguments)
    print(tls_cost(rounds=given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
