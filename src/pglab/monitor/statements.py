"""What the server spends its time on: pg_stat_statements, by total and not by mean time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import count, percent

__all__ = ["MEASURES"]


# Columns by version of the extension, which may be older than the server: 1.10 (PostgreSQL 15),
# 1.11 (17; blk_read_time was renamed), 1.12 (18; wal_buffers_full).
def _top(read: str, write: str, full: str) -> str:
    return f"""\
SELECT s.queryid::text AS query_id,
       r.rolname::text AS username,
       s.calls,
       s.total_exec_time AS total_ms,
       s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0) AS time_share,
       s.mean_exec_time AS mean_ms,
       s.stddev_exec_time AS deviation_ms,
       s.max_exec_time AS longest_ms,
       s.rows,
       (s.shared_blks_hit + s.shared_blks_read)::float8 / nullif(s.calls, 0) AS pages_per_call,
       s.shared_blks_hit AS pages_hit, s.shared_blks_read AS pages_read,
       s.temp_blks_written AS temporary_pages_written,
       {read} AS read_ms, {write} AS write_ms,
       s.wal_bytes::float8 AS wal_bytes,
       {full} AS wal_buffers_full,
       pg_catalog.left(pg_catalog.regexp_replace(s.query, '\\s+', ' ', 'g'), 300) AS query
FROM {{extension}}.pg_stat_statements AS s
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.userid
WHERE s.toplevel
  AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database AS d
                WHERE d.datname = pg_catalog.current_database())
ORDER BY s.total_exec_time DESC, s.queryid
LIMIT 20"""  # noqa: S608 (words of ours)


def _judge(rows: Sequence[Row]) -> list[Finding]:
    if not rows or not rows[0]["total_ms"]:
        return []
    first = rows[0]
    if first["time_share"] < 0.25 or first["total_ms"] < 1000:
        return []
    # The view has no text where the file that keeps them was lost.
    text = (first["query"] or "(its text is lost)")[:80]
    return [
        Finding(
            "note",
            f"one statement takes {percent(first['time_share'], 1)} of this database's time: "
            f"{count(first['calls'], 'call')}, {first['mean_ms']:.2f} ms and "
            f"{first['pages_per_call']:,.0f} pages each: {text}",
            "EXPLAIN (ANALYZE, BUFFERS) it; what costs most is calls times time, not time",
        )
    ]


MEASURES: Final = (
    Measure(
        name="statements",
        title="Statements by total time",
        question="Which statements take most of this database's time?",
        variants=(
            Variant(sql=_top("s.blk_read_time", "s.blk_write_time", "NULL::bigint")),
            Variant(
                sql=_top("s.shared_blk_read_time", "s.shared_blk_write_time", "NULL::bigint"),
                extension=(1, 11),
            ),
            Variant(
                sql=_top("s.shared_blk_read_time", "s.shared_blk_write_time", "s.wal_buffers_full"),
                extension=(1, 12),
            ),
        ),
        columns={
            "query_id": "the statement's number, the same for all values of its constants",
            "username": "who ran it",
            "calls": "how often",
            "total_ms": "time in all calls",
            "time_share": "of this database's, 0 to 1",
            "mean_ms": "time of one call",
            "deviation_ms": "its standard deviation",
            "longest_ms": "the longest call",
            "rows": "returned or written",
            "pages_per_call": "8 kB pages touched in one call",
            "pages_hit": "found in shared_buffers",
            "pages_read": "asked from the system",
            "temporary_pages_written": "of sorts and hashes that did not fit into work_mem",
            "read_ms": "time in reading; 0 while track_io_timing is off",
            "write_ms": "time in writing; 0 while track_io_timing is off",
            "wal_bytes": "written to the log",
            "wal_buffers_full": "times the log's buffers were full (from PostgreSQL 18)",
            "query": "its text with $1 for constants, 300 characters",
        },
        rule="one statement takes a quarter of the time, and a second at least",
        judge=_judge,
        extension="pg_stat_statements",
        role="pg_read_all_stats",
        counters=("calls", "total_ms", "rows", "pages_hit", "pages_read", "wal_bytes"),
        key=("query_id", "username"),
    ),
)
