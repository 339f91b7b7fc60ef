"""How large databases and tables are: by number or quoted name, never by a name that is pasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.locked import CLOSED
from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import percent, size

__all__ = ["MEASURES"]

_DATABASES: Final = """\
SELECT d.datname::text AS database,
       pg_catalog.quote_ident(d.datname) AS quoted,
       d.datname = pg_catalog.current_database() AS is_this,
       -- The number, not the name; without the right to look, NULL instead of an error.
       CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
              OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_catalog.pg_database_size(d.oid) END AS size_bytes,
       s.numbackends AS backends,
       pg_catalog.age(d.datfrozenxid) AS age_transactions,
       pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint AS freeze_at
FROM pg_catalog.pg_database AS d
LEFT JOIN pg_catalog.pg_stat_database AS s ON s.datid = d.oid
ORDER BY size_bytes DESC NULLS LAST, database"""

_WRAPAROUND: Final = 1_200_000_000  # of 2^31; autovacuum hurries from 1.6 billion on


def _judge_databases(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "fault",
            f"database {row['quoted']} has gone {row['age_transactions']:,} transactions without "
            "a freeze; at about 2 billion the server stops writing",
            "find what holds VACUUM back (open transactions, slots), then VACUUM FREEZE",
        )
        for row in rows
        if row["age_transactions"] >= _WRAPAROUND
    ]


# What is locked is estimated from the catalog: the size functions would wait.
_TABLES: Final = f"""\
{CLOSED}, tables AS (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind,
           c.reltuples, c.relpages, c.reltoastrelid,
           EXISTS (SELECT FROM closed AS x
                   WHERE x.oid IN (c.oid, c.reltoastrelid)
                      OR x.oid IN (SELECT i.indexrelid FROM pg_catalog.pg_index AS i
                                   WHERE i.indrelid IN (c.oid, c.reltoastrelid))) AS is_closed
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND n.nspname !~ '^pg_(toast|temp_)'
), rough AS MATERIALIZED (
    -- One file each, and the catalog's word for indexes: enough to see which are worth measuring.
    SELECT t.*,
           CASE WHEN t.is_closed THEN t.relpages * b.bytes
                ELSE pg_catalog.pg_relation_size(t.oid)
                     + coalesce(pg_catalog.pg_relation_size(nullif(t.reltoastrelid, 0)), 0) END
           + coalesce(i.pages, 0) * b.bytes AS rough_bytes
    FROM tables AS t
    CROSS JOIN (SELECT pg_catalog.current_setting('block_size')::bigint AS bytes) AS b
    LEFT JOIN (SELECT x.indrelid, sum(c.relpages)::bigint AS pages
               FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS c ON c.oid = x.indexrelid
               GROUP BY x.indrelid) AS i ON i.indrelid = t.oid
), largest AS MATERIALIZED (
    SELECT r.*, sum(r.rough_bytes) OVER ()::bigint AS all_bytes
    FROM rough AS r ORDER BY r.rough_bytes DESC, r.oid LIMIT 40
), measured AS MATERIALIZED (
    SELECT l.*,
           CASE WHEN l.is_closed THEN l.rough_bytes ELSE pg_catalog.pg_table_size(l.oid) END
               AS table_bytes,
           CASE WHEN NOT l.is_closed THEN pg_catalog.pg_indexes_size(l.oid) END AS indexes_bytes
    FROM largest AS l
)
SELECT m.schema, m.name,
       pg_catalog.format('%I.%I', m.schema, m.name) AS "table",
       CASE m.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
       CASE WHEN m.reltuples >= 0 THEN m.reltuples::bigint END AS estimated_rows,
       m.table_bytes, m.indexes_bytes,
       m.table_bytes + coalesce(m.indexes_bytes, 0) AS total_bytes,
       m.all_bytes,
       m.is_closed AS locked
FROM measured AS m
ORDER BY total_bytes DESC, m.schema, m.name
LIMIT 20"""  # noqa: S608 (words of ours)


def _judge_tables(rows: Sequence[Row]) -> list[Finding]:
    if not rows:
        return []
    first = rows[0]
    found = [
        Finding(
            "note",
            f"{first['table']} takes {size(first['total_bytes'])}, "
            f"about {percent(first['total_bytes'], max(first['all_bytes'], first['total_bytes']))} "
            "of what all tables take",
        )
    ]
    for row in rows:
        indexes = row["indexes_bytes"]
        if indexes and indexes > 1_048_576 and indexes > 2 * row["table_bytes"]:
            found.append(
                Finding(
                    "warning",
                    f"the indexes of {row['table']} ({size(indexes)}) are more than twice its size "
                    f"({size(row['table_bytes'])})",
                    "see unused_indexes, duplicate_indexes and index_bloat",
                )
            )
    return found


MEASURES: Final = (
    Measure(
        name="database_sizes",
        slow=True,
        title="Databases",
        question="How large is each database, and how far from transaction wrap-around?",
        variants=(Variant(sql=_DATABASES),),
        columns={
            "database": "its name",
            "quoted": "its name as SQL needs it",
            "is_this": "the one that you are connected to",
            "size_bytes": "on disk, with indexes; NULL without the right to look",
            "backends": "processes connected to it",
            "age_transactions": "transactions since the oldest unfrozen row",
            "freeze_at": "age from which autovacuum freezes, whatever else",
        },
        rule="1.2 billion transactions without a freeze",
        judge=_judge_databases,
        scope="server",
    ),
    Measure(
        name="table_sizes",
        slow=True,
        title="Largest tables",
        question="Which tables of this database are the largest, with their indexes and TOAST?",
        variants=(Variant(sql=_TABLES),),
        columns={
            "schema": "its schema",
            "name": "its name as it is",
            "table": "schema and name as SQL needs them",
            "kind": "table or materialized view",
            "estimated_rows": "the planner's estimate; NULL before the first ANALYZE",
            "table_bytes": "rows, TOAST and maps",
            "indexes_bytes": "all its indexes",
            "total_bytes": "both",
            "all_bytes": "of all tables of the database, roughly",
            "locked": "somebody holds or wants it for himself: estimated, indexes_bytes is NULL",
        },
        rule="names the largest; indexes that take more than twice their table (from 1 MB)",
        judge=_judge_tables,
    ),
)
