"""How tables are read, and what is dead in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import duration, percent

__all__ = ["MEASURES"]

_CACHE: Final = """\
SELECT d.datname::text AS database,
       d.blks_hit AS hits, d.blks_read AS reads,
       d.blks_hit::float8 / nullif(d.blks_hit + d.blks_read, 0) AS ratio,
       (SELECT coalesce(sum(s.seq_tup_read), 0) FROM pg_catalog.pg_stat_user_tables AS s)::bigint
           AS rows_read_by_whole_scans,
       (SELECT coalesce(sum(s.idx_tup_fetch), 0) FROM pg_catalog.pg_stat_user_tables AS s)::bigint
           AS rows_fetched_by_indexes,
       extract(epoch FROM pg_catalog.clock_timestamp() - d.stats_reset)::float8 AS counted_s
FROM pg_catalog.pg_stat_database AS d
WHERE d.datname = pg_catalog.current_database()"""


def _judge_cache(rows: Sequence[Row]) -> list[Finding]:
    if not rows or rows[0]["ratio"] is None:
        return []
    row = rows[0]
    share = percent(row["hits"], row["hits"] + row["reads"])
    scanned, fetched = row["rows_read_by_whole_scans"], row["rows_fetched_by_indexes"]
    if row["ratio"] >= 0.99 and scanned > 10 * fetched and scanned > 1_000_000:
        return [
            Finding(
                "note",
                f"{share} of the pages were in memory, and still {scanned:,} rows were read by "
                f"whole scans, against {fetched:,} through indexes: a high ratio also comes from "
                "reading far too much, again and again",
                "see sequential_scans and statements: count pages, not the ratio",
            )
        ]
    if row["ratio"] < 0.9 and row["hits"] + row["reads"] > 100_000:
        return [
            Finding(
                "note",
                f"{share} of the pages were in PostgreSQL's memory; the rest was asked from the "
                "system, which may have had them in its own",
                "see io for how long that took",
            )
        ]
    return []


_SCANS: Final = """\
SELECT s.schemaname::text AS schema, s.relname::text AS name,
       pg_catalog.format('%I.%I', s.schemaname, s.relname) AS "table",
       s.seq_scan AS whole_scans, s.seq_tup_read AS rows_read,
       s.seq_tup_read / nullif(s.seq_scan, 0) AS rows_per_scan,
       coalesce(s.idx_scan, 0) AS index_scans,
       s.n_live_tup AS live_rows,
       c.relpages * pg_catalog.current_setting('block_size')::bigint AS estimated_bytes
FROM pg_catalog.pg_stat_user_tables AS s
JOIN pg_catalog.pg_class AS c ON c.oid = s.relid
WHERE s.seq_scan > 0
ORDER BY s.seq_tup_read DESC, schema, name
LIMIT 20"""


def _judge_scans(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"{row['table']} was read from end to end {row['whole_scans']:,} times, "
            f"{row['rows_per_scan']:,} rows each time",
            "see statements for the query; ask EXPLAIN which condition lacks an index",
        )
        for row in rows
        if row["whole_scans"] >= 50 and row["rows_per_scan"] >= 10_000
    ]


# The limit as autovacuum computes it: a number, plus a share of the rows; tables may have their
# own. From PostgreSQL 18 on it has an upper bound. (src/backend/postmaster/autovacuum.c)
def _dead(bound: str) -> str:
    return f"""\
WITH options AS (
    SELECT c.oid, c.reltuples, c.relfrozenxid,
           (SELECT o.option_value FROM pg_catalog.pg_options_to_table(c.reloptions) AS o
            WHERE o.option_name = 'autovacuum_vacuum_threshold')::float8 AS own_threshold,
           (SELECT o.option_value FROM pg_catalog.pg_options_to_table(c.reloptions) AS o
            WHERE o.option_name = 'autovacuum_vacuum_scale_factor')::float8 AS own_factor,
           coalesce((SELECT o.option_value FROM pg_catalog.pg_options_to_table(c.reloptions) AS o
            WHERE o.option_name = 'autovacuum_enabled')::boolean, true) AS is_enabled,
           (SELECT o.option_value FROM pg_catalog.pg_options_to_table(c.reloptions) AS o
            WHERE o.option_name = 'autovacuum_vacuum_max_threshold')::float8 AS own_most
    FROM pg_catalog.pg_class AS c
    WHERE c.relkind IN ('r', 'm')
)
SELECT s.schemaname::text AS schema, s.relname::text AS name,
       pg_catalog.format('%I.%I', s.schemaname, s.relname) AS "table",
       s.n_live_tup AS live_rows, s.n_dead_tup AS dead_rows,
       s.n_dead_tup::float8 / nullif(s.n_live_tup + s.n_dead_tup, 0) AS dead_share,
       floor({bound})::bigint
           AS autovacuum_at,
       o.is_enabled AS autovacuum_enabled,
       pg_catalog.current_setting('autovacuum')::boolean AS autovacuum_on_server,
       s.n_mod_since_analyze AS changed_since_analyze,
       extract(epoch FROM pg_catalog.clock_timestamp()
           - greatest(s.last_vacuum, s.last_autovacuum))::float8 AS vacuumed_ago_s,
       s.vacuum_count AS vacuums, s.autovacuum_count AS autovacuums,
       s.n_tup_upd AS updates, s.n_tup_hot_upd AS hot_updates,
       CASE WHEN o.relfrozenxid::text <> '0' THEN pg_catalog.age(o.relfrozenxid) END
           AS age_transactions
FROM pg_catalog.pg_stat_user_tables AS s
JOIN options AS o ON o.oid = s.relid
ORDER BY s.n_dead_tup DESC, schema, name
LIMIT 20"""  # noqa: S608 (words of ours)


_LIMIT: Final = """\
(coalesce(o.own_threshold,
                 pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8)
        + coalesce(o.own_factor,
                   pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8)
          * greatest(o.reltuples, 0))"""
_BOUNDED: Final = f"""\
least(
           nullif(coalesce(o.own_most,
               pg_catalog.current_setting('autovacuum_vacuum_max_threshold')::float8), -1),
           {_LIMIT})"""


def _judge_dead(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        dead = f"{row['table']} has {row['dead_rows']:,} dead rows, {row['live_rows']:,} live"
        if row["dead_rows"] > 1000 and not row["autovacuum_on_server"]:
            found.append(
                Finding(
                    "warning",
                    f"{dead}, and autovacuum is off on the whole server",
                    "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()",
                )
            )
        elif row["dead_rows"] > 1000 and not row["autovacuum_enabled"]:
            found.append(
                Finding(
                    "warning",
                    f"{dead}, and autovacuum is off for it",
                    f"ALTER TABLE {row['table']} RESET (autovacuum_enabled)",
                )
            )
        elif row["dead_rows"] > 1000 and row["dead_rows"] > 2 * row["autovacuum_at"]:
            found.append(
                Finding(
                    "warning",
                    f"{dead}; autovacuum was due at {row['autovacuum_at']:,}",
                    "see long_transactions and replication_slots for what holds it back; then "
                    f"VACUUM {row['table']}",
                )
            )
    return found


_VACUUMS: Final = """\
SELECT p.pid, p.datname::text AS database,
       CASE WHEN c.oid IS NULL THEN p.relid::text  -- of another database
            ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END AS "table",
       a.backend_type AS by, p.phase,
       p.heap_blks_scanned::float8 / nullif(p.heap_blks_total, 0) AS scanned_share,
       p.heap_blks_total * pg_catalog.current_setting('block_size')::bigint AS table_bytes,
       p.index_vacuum_count AS index_rounds,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS running_s
FROM pg_catalog.pg_stat_progress_vacuum AS p
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = p.pid
LEFT JOIN pg_catalog.pg_class AS c
       ON c.oid = p.relid AND p.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY running_s DESC NULLS LAST, p.pid"""


def _judge_vacuums(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "note",
            f"VACUUM goes over {row['table']} for {duration(row['running_s'])}: {row['phase']}, "
            f"{row['index_rounds']} rounds over its indexes",
            "more than one round: raise maintenance_work_mem" if row["index_rounds"] > 1 else "",
        )
        for row in rows
    ]


MEASURES: Final = (
    Measure(
        name="cache_hit_ratio",
        slow=True,
        title="Cache hit ratio",
        question="How many of the pages that were asked for were in shared_buffers?",
        variants=(Variant(sql=_CACHE),),
        columns={
            "database": "this one",
            "hits": "pages found in shared_buffers",
            "reads": "pages asked from the system, which may have them in memory, too",
            "ratio": "hits of all, 0 to 1",
            "rows_read_by_whole_scans": "rows that whole scans went over",
            "rows_fetched_by_indexes": "rows that indexes led to",
            "counted_s": "seconds since they were reset; NULL: never",
        },
        rule="never a fault: under 90 % it sends you to io, and over 99 % with mostly whole scans "
        "it says why that is no good news",
        judge=_judge_cache,
        counters=("hits", "reads"),
        key=("database",),
    ),
    Measure(
        name="sequential_scans",
        slow=True,
        title="Whole scans",
        question="Which tables are read from end to end, how often, and how many rows each time?",
        variants=(Variant(sql=_SCANS),),
        columns={
            "schema": "its schema",
            "name": "its name as it is",
            "table": "schema and name as SQL needs them",
            "whole_scans": "since the statistics began",
            "rows_read": "by them altogether",
            "rows_per_scan": "on average",
            "index_scans": "scans through any of its indexes",
            "live_rows": "estimated",
            "estimated_bytes": "its pages at the last VACUUM or ANALYZE",
        },
        rule="50 whole scans of 10,000 rows or more each",
        judge=_judge_scans,
        counters=("whole_scans", "rows_read", "index_scans"),
        key=("schema", "name"),
    ),
    Measure(
        name="dead_rows",
        slow=True,
        title="Dead rows and autovacuum",
        question="Where do dead rows pile up, and when will autovacuum come?",
        variants=(
            Variant(sql=_dead(_LIMIT)),
            Variant(sql=_dead(_BOUNDED), server=180_000),
        ),
        columns={
            "schema": "its schema",
            "name": "its name as it is",
            "table": "schema and name as SQL needs them",
            "live_rows": "estimated",
            "dead_rows": "estimated; not yet removed",
            "dead_share": "of both, 0 to 1",
            "autovacuum_at": "dead rows at which autovacuum comes, from the settings",
            "autovacuum_enabled": "false if it is off for this table",
            "autovacuum_on_server": "false if it is off altogether",
            "changed_since_analyze": "rows written since the planner's statistics were made",
            "vacuumed_ago_s": "seconds since the last VACUUM; NULL: never",
            "vacuums": "by hand",
            "autovacuums": "by itself",
            "updates": "rows updated",
            "hot_updates": "of them on the same page, with no new index entries",
            "age_transactions": "transactions since its oldest unfrozen row",
        },
        rule="more than 1,000 dead rows and twice autovacuum's limit, or autovacuum off",
        judge=_judge_dead,
        counters=("updates", "hot_updates", "autovacuums"),
        key=("schema", "name"),
    ),
    Measure(
        name="vacuum_progress",
        title="VACUUM at work",
        question="Which VACUUMs run, and how far are they?",
        variants=(Variant(sql=_VACUUMS),),
        columns={
            "pid": "the process",
            "database": "where",
            "table": "which; its number if it is in another database",
            "by": "autovacuum worker, or a client",
            "phase": "what it does",
            "scanned_share": "of the table's pages, 0 to 1",
            "table_bytes": "the table's size",
            "index_rounds": "rounds over the indexes so far; more than one: too little memory",
            "running_s": "seconds",
        },
        rule="names each",
        judge=_judge_vacuums,
        scope="server",
        role="pg_read_all_stats",
    ),
)
