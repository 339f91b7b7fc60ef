"""What nothing can be faster than: a question without work, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.bench import null_comparison
from pglab.bench.case import Case, Variant
from pglab.bench.ground import Place
from pglab.bench.operations import Call, Opened, Parameters, Query

__all__ = ["CASES"]

_SELECT: Final = "SELECT 1"


def _ping(place: Place, _: Sequence[Parameters]) -> Opened:
    ping = place.redis().ping
    return Opened(lambda _: int(bool(ping())))


def _get(place: Place, _: Sequence[Parameters]) -> Opened:
    client, key = place.redis(), f"{place.prefix}:small"
    client.set(key, b"1", ex=3_600)
    get = client.get

    def once(_: int) -> int:
        return 0 if get(key) is None else 1

    return Opened(once)


CASES: Final = (
    Case(
        name="floor-postgres",
        question="What does a question to PostgreSQL cost that gives it nothing to do?",
        variants=(
            Variant("libpq", Query(_SELECT), about="prepared; the answer is counted"),
            Variant(
                "psycopg cursor",
                Query(_SELECT, meter="cursor"),
                about="prepared; the answer is decoded into Python's values",
            ),
            Variant(
                "SQLAlchemy Core",
                Query(_SELECT, meter="core"),
                about="a held connection in autocommit mode",
            ),
        ),
        twins={},
        sizes=(10_000,),
        group="floors",
        unit="round trip",
        picture="bars",
        expected="libpq as pgbench; the cursor 1.4 to 1.5 times that, Core 2.4 times with client "
        "and server on two cores, and 4.6 times on one (shared/reference/benchmarking.md)",
    ),
    Case(
        name="floor-redis",
        question="What does a question to Redis cost that gives it nothing to do?",
        variants=(
            Variant(
                "PostgreSQL SELECT 1",
                Query(_SELECT, meter="cursor"),
                about="psycopg cursor, prepared",
            ),
            Variant("PING", Call(_ping), about="redis-py"),
            Variant("GET", Call(_get), about="redis-py, a value of 1 byte"),
        ),
        twins={},
        sizes=(10_000,),
        group="floors",
        unit="round trip",
        picture="bars",
        expected="much the same as PostgreSQL: the way there and back, and the client's Python, "
        "are most of it (PING 107, GET 100, SELECT 1 80 µs on two cores; 29, 32, 21 on one)",
    ),
    # Lower than any floor: what a difference of nothing looks like.
    *null_comparison.CASES,
)
