"""Storing rows in batches that were made beforehand, and counting what a clock does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import tuple_row

from pglab.bench.operations import Opened, Parameters, Query

if TYPE_CHECKING:
    from collections.abc import Callable

    from pglab.bench.ground import Place

__all__ = ["Storing", "incoming"]

_EXPLAIN: Final = "EXPLAIN (ANALYZE, WAL, TIMING OFF, FORMAT JSON) "


def incoming(table: str) -> tuple[str, ...]:
    """Return the set-up of a table ``incoming`` of rows to come, each with its batch's number."""
    return (
        (
            "CREATE UNLOGGED TABLE incoming (batch bigint, "
            f"LIKE {table}) WITH (autovacuum_enabled = off)"
        ),
        "CREATE INDEX ON incoming (batch)",
        "CREATE SEQUENCE batches MINVALUE 0",
    )


@dataclass(frozen=True)
class Storing:
    """An operation that stores the next batch of rows out of ``incoming``.

    The rows of a round are made before it, outside the timing, and stay: tables grow as tables do,
    by as much in each variant. To delete them again would leave pages half empty for the next
    round, and spare it the splits.

    At the end it counts, in bytes for each row, ``wal_bytes_per_row`` and
    ``wal_bytes_per_row_after_checkpoint``, when the first change of a page writes the whole page to
    the log; and ``index_pages``, of 8 kB, that all of the table's indexes have. PostgreSQL counts
    the log of one statement (``EXPLAIN (ANALYZE, WAL)``), which is rolled back.

    Attributes:
        table: where to.
        columns: of it, all of them.
        made: these columns as expressions of ``n``, the new row's number, and of ``m``, a message
            that is there already.
        rows: that one operation stores.
    """

    table: str
    columns: str
    made: str
    rows: int

    @property
    def query(self) -> Query:
        """The statement, and how its rows are made."""
        rows = self.rows
        return Query(
            f"INSERT INTO {self.table} SELECT {self.columns} FROM incoming "  # noqa: S608 (ours)
            # A query of its own, so that it is asked once and not for each row.
            "WHERE batch = (SELECT nextval('batches'))",
            before=(
                "TRUNCATE incoming",
                # One batch more than the round has, for whoever looks at the plan after it.
                (
                    f"INSERT INTO incoming SELECT (n - {{size}} - 1) / {rows} AS batch, "  # noqa: S608
                    f"{self.made} FROM generate_series({{size}} + {{first}} * {rows} + 1, "
                    f"{{size}} + ({{first}} + {{count}} + 1) * {rows}) AS n "
                    "JOIN public.messages AS m ON m.id = 1 + n % {size} ORDER BY n"
                ),
                "SELECT setval('batches', {first}, false)",
            ),
        )

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:
        """Prepare the statement on the place's connection.

        Raises:
            psycopg.Error: it is no SQL, or a table is missing.
        """
        opened = self.query.open(place, parameters)
        following = 0

        def make(first: int, count: int) -> None:
            nonlocal following
            following = first + count
            if opened.before is not None:
                opened.before(first, count)

        return replace(opened, before=make, measures=lambda: self._measures(place, make, following))

    def _measures(
        self, place: Place, make: Callable[[int, int], object], number: int
    ) -> Mapping[str, float]:
        """Count, with batch ``number``; whatever ended the run, its rounds are worth keeping."""
        found: dict[str, float] = {}
        with suppress(psycopg.Error):
            with suppress(psycopg.errors.InsufficientPrivilege):
                place.connection.execute("CHECKPOINT")
                make(number, 1)
                found["wal_bytes_per_row_after_checkpoint"] = self._wal_bytes(place) / self.rows
            # The same rows twice: the second time all of their pages are in the log already.
            for _ in range(2):
                make(number, 1)
                found["wal_bytes_per_row"] = self._wal_bytes(place) / self.rows
            pages = "SELECT pg_indexes_size(%s::regclass) / 8192"
            found["index_pages"] = float(_value(place, pages, [self.table]))
        return found

    def _wal_bytes(self, place: Place) -> float:
        with place.connection.transaction(force_rollback=True):
            plan = _value(place, _EXPLAIN + self.query.sql)
        return float(plan[0]["Plan"]["WAL Bytes"])


def _value(place: Place, query: str, parameters: Sequence[str] | None = None) -> Any:
    cursor = place.connection.cursor(row_factory=tuple_row)
    row = cursor.execute(query.encode(), parameters).fetchone()
    return row[0] if row is not None else None
