"""What it costs to change one flag: inside a document, and in a column beside it.

For lesson 04. Unlike the cases of the harness it counts bytes of WAL
(what a commit writes, and what a replica receives), and needs no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg

from pglab.plans import explain

__all__ = ["SIZES", "FlagCost", "flag_costs"]

SIZES: Final = (250, 500, 1_000, 1_800, 2_500, 4_000, 8_000, 16_000, 32_000)
_ROWS: Final = 50

_CREATE: Final = """
DROP TABLE IF EXISTS flags;
CREATE TABLE flags (id integer PRIMARY KEY, seen boolean NOT NULL, doc jsonb NOT NULL)
    WITH (autovacuum_enabled = off)
"""
# Hexadecimal digits of hashes, as a thumbnail's would be: PostgreSQL finds nothing to compress.
_FILL: Final = """
INSERT INTO flags
SELECT n, false, jsonb_build_object('seen', false, 'thumbnail', left(
    (SELECT string_agg(md5(n || '/' || i), '') FROM generate_series(0, %(bytes)s / 32) AS i),
    %(bytes)s))
FROM generate_series(1, %(rows)s) AS n
"""
_IN_COLUMN: Final = "UPDATE flags SET seen = NOT seen"
_IN_DOCUMENT: Final = (
    "UPDATE flags SET doc = jsonb_set(doc, '{seen}', to_jsonb(NOT (doc ->> 'seen')::boolean))"
)


@dataclass(frozen=True)
class FlagCost:
    """The same change made in two places.

    Attributes:
        document_bytes: of one document as it is stored, on average.
        column_wal, document_wal: bytes of WAL for one row.
    """

    document_bytes: int
    column_wal: float
    document_wal: float


def flag_costs(connection: psycopg.Connection[Any], sizes: Sequence[int] = SIZES) -> list[FlagCost]:
    """Change a flag in documents of these sizes, once in a column and once in the document.

    Args:
        connection: in autocommit mode, on a lesson's database. Makes the table ``flags``, and
            drops it at the end.
        sizes: bytes of what else is in the document.

    Returns:
        One cost for each size.
    """
    costs = []
    try:
        for size in sizes:
            connection.execute(_CREATE)
            connection.execute(_FILL, {"bytes": size, "rows": _ROWS})
            connection.execute("VACUUM ANALYZE flags")
            row = connection.execute("SELECT avg(pg_column_size(doc)) FROM flags").fetchone()
            column = _wal(connection, _IN_COLUMN)
            document = _wal(connection, _IN_DOCUMENT)
            costs.append(FlagCost(round(row[0]) if row else 0, column, document))
    finally:
        connection.execute("DROP TABLE IF EXISTS flags")
    return costs


def _wal(connection: psycopg.Connection[Any], update: LiteralString) -> float:
    """Return the bytes for one row; of two runs the lower.

    After a checkpoint, the first change of a page writes the whole page. That is chance, and
    touches one run only.
    """
    runs = []
    for _ in range(2):
        runs.append(explain(connection, update, analyze=True).root.raw["WAL Bytes"])
        connection.execute("VACUUM flags")
    return float(min(runs)) / _ROWS
