"""How a look-up grows with its table, with an index and without: pages always, time as it comes.

A plain measurement for lesson 05, to be replaced by the benchmark harness: one table, grown in
steps with INSERT … SELECT from the lesson's own messages, and the same look-ups before and after
CREATE INDEX. The table without an index is a real one, not a planner that was told to look away.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg

from pglab.errors import LabError

__all__ = ["SIZES", "Point", "Variant", "measure", "slope"]

Variant = Literal["unindexed", "indexed"]

SIZES: Final = (2_000, 6_000, 20_000, 60_000, 200_000)
_LOOK_UPS: Final = 7
_ROUNDS: Final = 3
_EXPECTED: Final[dict[Variant, str]] = {"unindexed": "Seq Scan", "indexed": "Index Scan"}

_CREATE: Final = """
DROP TABLE IF EXISTS growth;
CREATE TABLE growth (n bigint NOT NULL, whatsapp_id text NOT NULL, body text)
    WITH (autovacuum_enabled = off)
"""
# Copies get ids of their own, spread over the key's whole range, as WhatsApp's are.
_GROW: Final = """
INSERT INTO growth
SELECT n, upper(md5(n || source.whatsapp_id)), source.body
FROM generate_series(%(start)s::bigint + 1, %(stop)s::bigint) AS n
JOIN (SELECT row_number() OVER (ORDER BY id) - 1 AS place, whatsapp_id, body FROM messages)
    AS source ON source.place = n %% %(messages)s
"""
_LOOK_UP: Final = "SELECT body FROM growth WHERE whatsapp_id = %s"


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        rows: in the table.
        variant: ``unindexed`` or ``indexed``.
        buffers: pages of 8 kB that one look-up touched, cached or not; the median.
        milliseconds: of one look-up, seen from the client, in this run; the median.
    """

    rows: int
    variant: Variant
    buffers: float
    milliseconds: float


def measure(connection: psycopg.Connection[Any], sizes: Sequence[int] = SIZES) -> list[Point]:
    """Grow a table through ``sizes``; look up single rows in it without and with an index.

    Args:
        connection: in autocommit mode, on a lesson's database. Makes the table ``growth``, and
            drops it at the end.
        sizes: numbers of rows, ascending.

    Returns:
        Two points for each size: unindexed, indexed.

    Raises:
        ValueError: the sizes do not ascend.
        LabError: the server chose another plan than the one to be measured.
    """
    if list(sizes) != sorted(set(sizes)) or not sizes or sizes[0] < 1:
        raise ValueError(f"sizes must ascend from 1 or more, and are {list(sizes)}")
    messages = _one(connection, "SELECT count(*) FROM messages")
    # Workers would share the long scans and bend the curve.
    connection.execute("SET max_parallel_workers_per_gather = 0")
    points = []
    try:
        connection.execute(_CREATE)
        grown = 0
        for rows in sizes:
            place = {"start": grown, "stop": rows, "messages": messages}
            connection.execute(_GROW, place)
            grown = rows
            connection.execute("VACUUM ANALYZE growth")
            points.append(_point(connection, rows, "unindexed"))
            connection.execute("CREATE INDEX growth_whatsapp_id ON growth (whatsapp_id)")
            points.append(_point(connection, rows, "indexed"))
            connection.execute("DROP INDEX growth_whatsapp_id")
    finally:
        connection.execute("DROP TABLE IF EXISTS growth")
        connection.execute("RESET max_parallel_workers_per_gather")
    return points


def slope(points: Iterable[Point], variant: Variant, what: str = "buffers") -> float:
    """Return the exponent with which ``buffers`` or ``milliseconds`` grow with the rows.

    The slope of a least-squares line through the logarithms: 1 is "twice the rows, twice the
    cost", 0 is "it does not matter".

    Raises:
        ValueError: there are fewer than two points of this variant.
    """
    own = [point for point in points if point.variant == variant]
    if len(own) < 2:
        raise ValueError(f"a slope needs two points or more; {variant} has {len(own)}")
    rows = [math.log(point.rows) for point in own]
    cost = [math.log(getattr(point, what)) for point in own]
    return statistics.linear_regression(rows, cost).slope


def _point(connection: psycopg.Connection[Any], rows: int, variant: Variant) -> Point:
    picked = [1 + (rows - 1) * place // (_LOOK_UPS - 1) for place in range(_LOOK_UPS)]
    keys = [
        key
        for (key,) in connection.execute(
            "SELECT whatsapp_id FROM growth WHERE n = ANY(%s) ORDER BY n", [picked]
        ).fetchall()
    ]
    buffers = [_buffers(connection, key, variant) for key in keys]
    seconds = []
    for key in keys * _ROUNDS:
        began = time.perf_counter()
        connection.execute(_LOOK_UP, [key]).fetchone()
        seconds.append(time.perf_counter() - began)
    return Point(rows, variant, statistics.median(buffers), statistics.median(seconds) * 1_000)


def _buffers(connection: psycopg.Connection[Any], key: str, variant: Variant) -> int:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {_LOOK_UP}"
    plan = _one(connection, explain, key)[0]["Plan"]
    if plan["Node Type"] != _EXPECTED[variant]:
        raise LabError(
            f"for the {variant} look-up we expected {_EXPECTED[variant]}, and the server chose "
            f"{plan['Node Type']}; a table this small, or a planner setting, may be the reason: "
            "use larger sizes, and RESET ALL"
        )
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _one(connection: psycopg.Connection[Any], query: str, *parameters: object) -> Any:
    row = connection.execute(query.encode(), parameters or None).fetchone()
    return row[0] if row else None
