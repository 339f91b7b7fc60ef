"""The server as a whole: work done, the log, reads and writes, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import count, percent, size

__all__ = ["MEASURES"]

_ACTIVITY: Final = """\
SELECT d.datname::text AS database,
       d.xact_commit AS commits, d.xact_rollback AS rollbacks,
       d.tup_returned AS rows_read, d.tup_fetched AS rows_fetched,
       d.tup_inserted AS rows_inserted, d.tup_updated AS rows_updated,
       d.tup_deleted AS rows_deleted,
       d.blks_hit AS pages_hit, d.blks_read AS pages_read,
       d.deadlocks, d.temp_files AS temporary_files, d.temp_bytes AS temporary_bytes,
       d.sessions, d.sessions_abandoned + d.sessions_fatal + d.sessions_killed
           AS sessions_ended_badly,
       extract(epoch FROM pg_catalog.clock_timestamp() - d.stats_reset)::float8 AS counted_s
FROM pg_catalog.pg_stat_database AS d
WHERE d.datname = pg_catalog.current_database()"""


def _judge_activity(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        ended = row["commits"] + row["rollbacks"]
        if row["deadlocks"]:
            found.append(
                Finding(
                    "warning",
                    f"{count(row['deadlocks'], 'deadlock')} since the statistics began",
                    "lock rows in one order everywhere, and retry on 40P01",
                )
            )
        if row["temporary_bytes"] > 1024**3:
            found.append(
                Finding(
                    "note",
                    f"{size(row['temporary_bytes'])} of sorts and hashes did not fit in memory",
                    "find them: log_temp_files, statements; then an index, or more work_mem",
                )
            )
        if ended > 1000 and row["rollbacks"] > 0.1 * ended:
            found.append(
                Finding(
                    "note",
                    f"{percent(row['rollbacks'], ended)} of the transactions were rolled back",
                    "look into the log for their errors",
                )
            )
    return found


_POSITION: Final = """\
pg_catalog.pg_wal_lsn_diff(
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END, '0/0')::float8 AS position_bytes"""

_WAL: Final = f"""\
SELECT w.wal_records AS records, w.wal_fpi AS full_pages, w.wal_bytes::float8 AS wal_bytes,
       w.wal_buffers_full AS buffers_full,
       w.wal_write AS writes, w.wal_sync AS syncs,
       {_POSITION},
       extract(epoch FROM pg_catalog.clock_timestamp() - w.stats_reset)::float8 AS counted_s
FROM pg_catalog.pg_stat_wal AS w"""  # noqa: S608 (words of ours)

# From 18 on what was written and flushed is counted where all reads and writes are.
_WAL_18: Final = f"""\
SELECT w.wal_records AS records, w.wal_fpi AS full_pages, w.wal_bytes::float8 AS wal_bytes,
       w.wal_buffers_full AS buffers_full,
       (SELECT sum(i.writes)::bigint FROM pg_catalog.pg_stat_io AS i
        WHERE i.object = 'wal' AND i.context = 'normal') AS writes,
       (SELECT sum(i.fsyncs)::bigint FROM pg_catalog.pg_stat_io AS i
        WHERE i.object = 'wal' AND i.context = 'normal') AS syncs,
       {_POSITION},
       extract(epoch FROM pg_catalog.clock_timestamp() - w.stats_reset)::float8 AS counted_s
FROM pg_catalog.pg_stat_wal AS w"""  # noqa: S608 (words of ours)


def _judge_wal(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "note",
            f"the log holds {row['full_pages']:,} whole pages in {row['records']:,} records: the "
            "first change of a page after each checkpoint copies the page",
            "fewer checkpoints: see checkpoints; or wal_compression",
        )
        for row in rows
        if row["records"] > 100_000 and row["full_pages"] > 0.2 * row["records"]
    ]


_CHECKPOINTS: Final = """\
SELECT b.checkpoints_timed AS timed, b.checkpoints_req AS requested,
       b.checkpoint_write_time AS write_ms, b.checkpoint_sync_time AS sync_ms,
       b.buffers_checkpoint AS pages_by_checkpoints, b.buffers_clean AS pages_by_writer,
       b.buffers_backend AS pages_by_backends,
       extract(epoch FROM pg_catalog.clock_timestamp() - b.stats_reset)::float8 AS counted_s
FROM pg_catalog.pg_stat_bgwriter AS b"""

# Split in 17. What backends write themselves is in pg_stat_io from 16 on, and only there from 17.
_CHECKPOINTS_17: Final = """\
SELECT c.num_timed AS timed, c.num_requested AS requested,
       c.write_time AS write_ms, c.sync_time AS sync_ms,
       c.buffers_written AS pages_by_checkpoints, b.buffers_clean AS pages_by_writer,
       (SELECT sum(i.writes)::bigint FROM pg_catalog.pg_stat_io AS i
        WHERE i.backend_type = 'client backend' AND i.object = 'relation') AS pages_by_backends,
       extract(epoch FROM pg_catalog.clock_timestamp() - c.stats_reset)::float8 AS counted_s
FROM pg_catalog.pg_stat_checkpointer AS c, pg_catalog.pg_stat_bgwriter AS b"""


def _judge_checkpoints(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"{row['requested']:,} of {row['timed'] + row['requested']:,} checkpoints came early: "
            "the log had reached max_wal_size, or a command asked for them",
            "log_checkpoints says why: 'wal' means to raise max_wal_size; 'force' was a command "
            "(CHECKPOINT, a base backup, CREATE or DROP DATABASE)",
        )
        for row in rows
        if row["requested"] >= 10 and row["requested"] > row["timed"]
    ]


def _io(read: str, written: str, extended: str) -> str:
    return f"""\
SELECT i.backend_type AS by, i.object, i.context,
       coalesce(i.reads, 0) AS reads, coalesce(i.writes, 0) AS writes,
       coalesce(i.extends, 0) AS extends, coalesce(i.hits, 0) AS hits,
       coalesce(i.evictions, 0) AS evictions, coalesce(i.fsyncs, 0) AS syncs,
       coalesce({read}, 0)::float8 AS read_bytes,
       coalesce({written}, 0)::float8 AS written_bytes,
       coalesce({extended}, 0)::float8 AS extended_bytes,
       coalesce(i.read_time, 0) AS read_ms, coalesce(i.write_time, 0) AS write_ms
FROM pg_catalog.pg_stat_io AS i
WHERE coalesce(i.reads, 0) + coalesce(i.writes, 0) + coalesce(i.extends, 0)
      + coalesce(i.hits, 0) + coalesce(i.fsyncs, 0) > 0
ORDER BY coalesce(i.reads, 0) + coalesce(i.writes, 0) + coalesce(i.extends, 0) DESC,
         i.backend_type, i.object, i.context"""  # noqa: S608 (words of ours)


def _judge_io(rows: Sequence[Row]) -> list[Finding]:
    normal = [r for r in rows if r["context"] == "normal" and r["object"] == "relation"]
    mine = sum(row["writes"] for row in normal if row["by"] == "client backend")
    every = sum(row["writes"] for row in normal)
    if mine > 10_000 and mine > 0.3 * every:
        return [
            Finding(
                "note",
                f"clients wrote {percent(mine, every)} of the pages themselves, while somebody "
                "waited",
                "shared_buffers may be too small for what is written",
            )
        ]
    return []


MEASURES: Final = (
    Measure(
        name="activity",
        title="Work done",
        question="How many transactions and rows, and what went wrong?",
        variants=(Variant(sql=_ACTIVITY),),
        columns={
            "database": "this one",
            "commits": "transactions",
            "rollbacks": "transactions that failed or were given up",
            "rows_read": "rows that scans went over",
            "rows_fetched": "rows that indexes led to",
            "rows_inserted": "",
            "rows_updated": "",
            "rows_deleted": "",
            "pages_hit": "pages found in shared_buffers",
            "pages_read": "pages asked from the system",
            "deadlocks": "40P01: one of them had to go",
            "temporary_files": "of sorts and hashes that did not fit into work_mem",
            "temporary_bytes": "their size",
            "sessions": "that were opened",
            "sessions_ended_badly": "lost, ended by a fault, or terminated",
            "counted_s": "seconds since they were reset; NULL: never",
        },
        rule="a deadlock; 1 GB of temporary files; a tenth of the transactions rolled back",
        judge=_judge_activity,
        counters=(
            *("commits", "rollbacks", "rows_read", "rows_fetched", "rows_inserted"),
            *("rows_updated", "rows_deleted", "pages_hit", "pages_read"),
            *("deadlocks", "temporary_bytes"),
        ),
        key=("database",),
    ),
    Measure(
        name="wal",
        title="Write-ahead log",
        question="How much does the server write to its log?",
        variants=(Variant(sql=_WAL), Variant(sql=_WAL_18, server=180_000)),
        columns={
            "records": "changes logged",
            "full_pages": "whole pages in them; a record may hold several",
            "wal_bytes": "their size",
            "buffers_full": "times the log's buffers were full",
            "writes": "times the log was written",
            "syncs": "times it was flushed to disk",
            "position_bytes": "where the log ends, from its beginning",
            "counted_s": "seconds since they were reset",
        },
        rule="a whole page for every five records (from 100,000 records)",
        judge=_judge_wal,
        scope="server",
        counters=("records", "full_pages", "wal_bytes", "writes", "syncs", "position_bytes"),
    ),
    Measure(
        name="checkpoints",
        title="Checkpoints",
        question="Do checkpoints come by the clock, or because something asks for them?",
        variants=(Variant(sql=_CHECKPOINTS), Variant(sql=_CHECKPOINTS_17, server=170_000)),
        columns={
            "timed": "by checkpoint_timeout (also when there was nothing to do)",
            "requested": "by max_wal_size, or by a command",
            "write_ms": "time in writing",
            "sync_ms": "time in flushing",
            "pages_by_checkpoints": "written by checkpoints",
            "pages_by_writer": "written by the background writer",
            "pages_by_backends": "written by clients, who waited",
            "counted_s": "seconds since they were reset",
        },
        rule="10 or more early checkpoints, and more than timed ones",
        judge=_judge_checkpoints,
        scope="server",
        counters=("timed", "requested", "pages_by_checkpoints", "pages_by_writer"),
    ),
    Measure(
        name="io",
        title="Reads and writes",
        question="Who reads and writes pages, and how long does it take?",
        variants=(
            Variant(
                sql=_io("i.reads * i.op_bytes", "i.writes * i.op_bytes", "i.extends * i.op_bytes"),
                server=160_000,
            ),
            Variant(sql=_io("i.read_bytes", "i.write_bytes", "i.extend_bytes"), server=180_000),
        ),
        columns={
            "by": "kind of process",
            "object": "relation, temp relation, wal (from PostgreSQL 18)",
            "context": "normal; bulkread, bulkwrite and vacuum use a small ring of buffers",
            "reads": "pages (from PostgreSQL 18: operations) asked from the system",
            "writes": "written to the system",
            "extends": "by which files grew",
            "hits": "found in memory",
            "evictions": "pushed out of memory to make room",
            "syncs": "flushes to disk",
            "read_bytes": "",
            "written_bytes": "",
            "extended_bytes": "",
            "read_ms": "0 while track_io_timing is off",
            "write_ms": "0 while track_io_timing is off",
        },
        rule="clients write 30 % of the pages themselves (from 10,000)",
        judge=_judge_io,
        scope="server",
        counters=("reads", "writes", "extends", "hits", "read_bytes", "written_bytes"),
        key=("by", "object", "context"),
    ),
)
