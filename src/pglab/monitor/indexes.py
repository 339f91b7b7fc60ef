"""Indexes that nobody reads, that are there twice, and those that a foreign key lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.locked import CLOSED
from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import count, size

__all__ = ["MEASURES"]

_USE: Final = """\
SELECT s.schemaname::text AS schema, s.relname::text AS name,
       pg_catalog.format('%I.%I', s.schemaname, s.relname) AS "table",
       s.n_live_tup AS live_rows,
       s.seq_scan AS whole_scans,
       coalesce(s.idx_scan, 0) AS index_scans,
       (coalesce(s.idx_scan, 0)::float8 / nullif(s.seq_scan + coalesce(s.idx_scan, 0), 0))
           AS index_share,
       (SELECT count(*) FROM pg_catalog.pg_index AS i WHERE i.indrelid = s.relid) AS indexes
FROM pg_catalog.pg_stat_user_tables AS s
ORDER BY s.seq_scan + coalesce(s.idx_scan, 0) DESC, schema, name
LIMIT 20"""

# A unique index and one behind a constraint earn their keep by refusing, a replica identity by
# being known elsewhere.
_UNUSED: Final = f"""\
{CLOSED}, unused AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, c.relname, c.relpages, t.relname AS table_name, n.nspname
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
    JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
      AND pg_catalog.pg_stat_get_numscans(i.indexrelid) = 0 AND i.indisvalid
      AND NOT i.indisunique AND NOT i.indisexclusion AND NOT i.indisreplident
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conindid = i.indexrelid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
    ORDER BY c.relpages DESC, n.nspname, c.relname
    LIMIT 50
)
SELECT x.nspname::text AS schema, x.table_name::text AS table_name, x.relname::text AS index_name,
       pg_catalog.format('%I.%I', x.nspname, x.table_name) AS "table",
       pg_catalog.format('%I.%I', x.nspname, x.relname) AS index,
       CASE WHEN NOT EXISTS (SELECT FROM closed AS k WHERE k.oid = x.indrelid)
            THEN pg_catalog.pg_get_indexdef(x.indexrelid) END AS definition,
       x.relpages * pg_catalog.current_setting('block_size')::bigint AS estimated_bytes,
       pg_catalog.pg_stat_get_tuples_inserted(x.indrelid)
           + pg_catalog.pg_stat_get_tuples_updated(x.indrelid)
           + pg_catalog.pg_stat_get_tuples_deleted(x.indrelid) AS writes,
       extract(epoch FROM pg_catalog.clock_timestamp() - d.stats_reset)::float8 AS counted_s,
       pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I', x.nspname, x.relname) AS remedy
FROM unused AS x
LEFT JOIN pg_catalog.pg_stat_database AS d ON d.datname = pg_catalog.current_database()
ORDER BY x.relpages DESC, schema, index_name"""  # noqa: S608 (words of ours)


def _judge_unused(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "note",
            f"{row['index']} ({size(row['estimated_bytes'])}) was never read since the statistics "
            f"began; {count(row['writes'], 'row')} of its table were written meanwhile",
            f"look at the replicas and at a whole month first; then {row['remedy']}",
        )
        for row in rows
    ]


# int2vector counts from 0, and its slices are cut as text: '1 2 ' begins '1 2 3 '.
_DUPLICATES: Final = f"""\
{CLOSED}, candidates AS MATERIALIZED (
    SELECT i.*, count(*) OVER (PARTITION BY i.indrelid, i.indkey[0]) AS alike
    FROM pg_catalog.pg_index AS i
    WHERE i.indrelid >= 16384  -- the server's own tables are older
      AND i.indrelid NOT IN (SELECT k.oid FROM closed AS k)
), indexes AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, i.indisunique, i.indisvalid, c.relam,
           i.indisprimary OR i.indisexclusion OR i.indisreplident
               OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
                          WHERE k.conindid = i.indexrelid) AS is_needed,
           i.indnullsnotdistinct, i.indkey::int2[] AS attributes,
           (SELECT pg_catalog.string_agg(pg_catalog.format('%s/%s/%s/%s ',
                       CASE k.attnum
                         WHEN 0 THEN pg_catalog.pg_get_indexdef(i.indexrelid, k.place::int, true)
                         ELSE k.attnum::text END,
                       i.indclass[k.place - 1], i.indcollation[k.place - 1],
                       i.indoption[k.place - 1]), '' ORDER BY k.place)
            FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
            WHERE k.place <= i.indnkeyatts) AS keys,
           (SELECT coalesce(pg_catalog.array_agg(k.attnum ORDER BY k.attnum), '{{}}')
            FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
            WHERE k.place > i.indnkeyatts) AS included,
           coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid, true), '') AS predicate,
           c.relname, c.relkind, c.relpages, t.relname AS table_name, n.nspname
    FROM candidates AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
    WHERE i.alike > 1 AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND n.nspname !~ '^pg_(toast|temp_)'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
), pairs AS (
    SELECT a.*, b.relname AS by_name, b.indexrelid AS by_oid,
           a.keys = b.keys AND a.included = b.included AS is_same,
           pg_catalog.row_number() OVER (PARTITION BY a.indexrelid
               ORDER BY a.keys = b.keys DESC, b.is_needed DESC, b.indexrelid) AS choice
    FROM indexes AS a
    JOIN indexes AS b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid
                     AND b.relam = a.relam AND b.predicate = a.predicate
    WHERE NOT a.is_needed AND b.indisvalid
      AND a.included <@ b.attributes
      AND CASE
            -- The same keys: the younger goes, unless only it refuses duplicates.
            WHEN a.keys = b.keys AND a.included = b.included AND a.indisunique = b.indisunique
                 AND a.indnullsnotdistinct = b.indnullsnotdistinct
              THEN b.is_needed OR b.indexrelid < a.indexrelid
            WHEN a.indisunique THEN false
            WHEN a.keys = b.keys THEN true
            -- Only a B-tree serves the questions of its first columns alone.
            ELSE a.relam = (SELECT m.oid FROM pg_catalog.pg_am AS m WHERE m.amname = 'btree')
                 AND pg_catalog.starts_with(b.keys, a.keys)
          END
), chosen AS MATERIALIZED (
    SELECT * FROM pairs AS p WHERE p.choice = 1
    ORDER BY p.is_same DESC, p.relpages DESC, p.nspname, p.relname
    LIMIT 50
)
SELECT p.nspname::text AS schema, p.table_name::text AS table_name, p.relname::text AS index_name,
       pg_catalog.format('%I.%I', p.nspname, p.table_name) AS "table",
       pg_catalog.format('%I.%I', p.nspname, p.relname) AS index,
       pg_catalog.format('%I.%I', p.nspname, p.by_name) AS covered_by,
       CASE WHEN p.is_same THEN 'the same' ELSE 'its beginning' END AS relation,
       pg_catalog.pg_get_indexdef(p.indexrelid) AS definition,
       pg_catalog.pg_get_indexdef(p.by_oid) AS covering_definition,
       p.relpages * pg_catalog.current_setting('block_size')::bigint AS estimated_bytes,
       -- A partitioned table's index can neither be dropped nor made concurrently.
       pg_catalog.format('DROP INDEX %s%I.%I', CASE p.relkind WHEN 'I' THEN ''
                         ELSE 'CONCURRENTLY ' END, p.nspname, p.relname) AS remedy
FROM chosen AS p
ORDER BY p.is_same DESC, p.relpages DESC, schema, index_name"""  # noqa: S608 (words of ours)


def _judge_duplicates(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "warning" if row["relation"] == "the same" else "note",
            f"{row['index']} ({size(row['estimated_bytes'])}) is "
            + (
                f"the same as {row['covered_by']}"
                if row["relation"] == "the same"
                else f"the beginning of {row['covered_by']}"
            )
            + ": every write maintains both",
            row["remedy"],
        )
        for row in rows
    ]


# The server looks for children by "key = $1", which a NULL never is: an index on those that are NOT
# NULL serves as well. (With several columns, the predicate on any of them.)
_SERVES: Final = """\
(i.indpred IS NULL OR EXISTS (
             SELECT FROM pg_catalog.unnest(k.conkey) AS f(attnum)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = f.attnum
             WHERE pg_catalog.pg_get_expr(i.indpred, i.indrelid)
                   = pg_catalog.format('(%I IS NOT NULL)', a.attname)))"""

_FOREIGN_KEYS: Final = f"""\
{CLOSED}
SELECT n.nspname::text AS schema, t.relname::text AS table_name, k.conname::text AS constraint_name,
       pg_catalog.format('%I.%I', n.nspname, t.relname) AS "table",
       (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY f.place)
        FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS f(attnum, place)
        JOIN pg_catalog.pg_attribute AS a
          ON a.attrelid = k.conrelid AND a.attnum = f.attnum) AS columns,
       pg_catalog.format('%I.%I', rn.nspname, r.relname) AS refers_to,
       CASE k.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT'
            WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS on_delete,
       -- A key of several columns is half served by an index that begins with one of them.
       (SELECT min(pg_catalog.format('%I.%I', n.nspname, c.relname))
        FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = k.conrelid AND i.indisvalid AND {_SERVES}
          AND i.indkey[0] = ANY (k.conkey)) AS half_served_by,
       CASE WHEN t.reltuples >= 0 THEN t.reltuples::bigint END AS estimated_rows,
       greatest(t.relpages, 0) * pg_catalog.current_setting('block_size')::bigint
           AS estimated_bytes,
       pg_catalog.format('CREATE INDEX %sON %I.%I (%s)', CASE t.relkind WHEN 'p' THEN ''
                         ELSE 'CONCURRENTLY ' END, n.nspname, t.relname,
           (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY f.place)
            FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS f(attnum, place)
            JOIN pg_catalog.pg_attribute AS a
              ON a.attrelid = k.conrelid AND a.attnum = f.attnum)) AS remedy
FROM pg_catalog.pg_constraint AS k
JOIN pg_catalog.pg_class AS t ON t.oid = k.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_class AS r ON r.oid = k.confrelid
JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid NOT IN (SELECT c.oid FROM closed AS c)
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_index AS i
      WHERE i.indrelid = k.conrelid AND i.indisvalid AND {_SERVES}
        AND i.indnkeyatts >= pg_catalog.cardinality(k.conkey)
        -- The key's columns are the index's first, in any order. (A slice of indkey counts from 0.)
        AND (i.indkey::int2[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey
        AND k.conkey @> (i.indkey::int2[])[0:pg_catalog.cardinality(k.conkey) - 1]
        AND (SELECT m.amname FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
             WHERE c.oid = i.indexrelid) IN ('btree', 'hash'))
ORDER BY t.relpages DESC, schema, table_name, constraint_name
LIMIT 100"""  # noqa: S608 (words of ours)


def _judge_foreign_keys(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        what = f"{row['table']} ({row['columns']}) refers to {row['refers_to']}"
        if row["half_served_by"]:
            found.append(
                Finding(
                    "note",
                    f"{what}; {row['half_served_by']} serves only a part of that key",
                    f"enough if that part is nearly unique; else {row['remedy']}",
                )
            )
            continue
        found.append(
            Finding(
                "warning" if (row["estimated_rows"] or 0) >= 10_000 else "note",
                f"{what} and has no index: each DELETE there reads all "
                f"{row['estimated_rows'] or 0:,} rows here",
                row["remedy"],
            )
        )
    return found


MEASURES: Final = (
    Measure(
        name="index_use",
        slow=True,
        title="Use of indexes",
        question="Which tables are read through an index, and which from end to end?",
        variants=(Variant(sql=_USE),),
        columns={
            "schema": "its schema",
            "name": "its name as it is",
            "table": "schema and name as SQL needs them",
            "live_rows": "estimated",
            "whole_scans": "scans of the whole table since the statistics began",
            "index_scans": "scans through any of its indexes",
            "index_share": "index scans of all scans, 0 to 1; NULL if never read",
            "indexes": "how many indexes it has",
        },
        rule="says nothing by itself: a small table is best read whole; see sequential_scans",
        counters=("whole_scans", "index_scans"),
        key=("schema", "name"),
    ),
    Measure(
        name="unused_indexes",
        slow=True,
        title="Unused indexes",
        question="Which indexes has nobody read, though every write maintains them?",
        variants=(Variant(sql=_UNUSED),),
        columns={
            "schema": "its schema",
            "table_name": "its table's name as it is",
            "index_name": "its name as it is",
            "table": "the table as SQL needs it",
            "index": "the index as SQL needs it",
            "definition": "how it was made; NULL while somebody has the table for himself",
            "estimated_bytes": "its pages at the last VACUUM or ANALYZE",
            "writes": "rows of its table written since the statistics began",
            "counted_s": "seconds since they were reset; NULL: never",
            "remedy": "the statement that drops it",
        },
        rule="no scan since the statistics began; not unique, no constraint's, no replica identity",
        judge=_judge_unused,
    ),
    Measure(
        name="duplicate_indexes",
        slow=True,
        title="Duplicate indexes",
        question="Which indexes do what another one does as well?",
        variants=(Variant(sql=_DUPLICATES),),
        columns={
            "schema": "its schema",
            "table_name": "its table's name as it is",
            "index_name": "its name as it is",
            "table": "the table as SQL needs it",
            "index": "the index that could go",
            "covered_by": "the index that does its work",
            "relation": "the same (keys, operators, collations, condition), or its beginning",
            "definition": "how the first was made",
            "covering_definition": "how the second was made",
            "estimated_bytes": "its pages at the last VACUUM or ANALYZE",
            "remedy": "the statement that drops it",
        },
        rule="the same keys twice; or a B-tree that is the beginning of a longer one (smaller, and "
        "sometimes kept for that). Tables that somebody has for himself are left out",
        judge=_judge_duplicates,
    ),
    Measure(
        name="foreign_keys_without_index",
        slow=True,
        title="Foreign keys without an index",
        question="Which foreign keys make a DELETE of one row read a whole table?",
        variants=(Variant(sql=_FOREIGN_KEYS),),
        columns={
            "schema": "its schema",
            "table_name": "its table's name as it is",
            "constraint_name": "the foreign key's name",
            "table": "the table as SQL needs it",
            "columns": "its columns as SQL needs them",
            "refers_to": "the table that it refers to",
            "on_delete": "what a DELETE there does here",
            "half_served_by": "an index that begins with one of its columns; NULL: none",
            "estimated_rows": "rows here; NULL before the first ANALYZE",
            "estimated_bytes": "its pages at the last VACUUM or ANALYZE",
            "remedy": "the statement that makes the index",
        },
        rule="no B-tree (or hash) index, without condition, begins with its columns; a warning "
        "from 10,000 rows",
        judge=_judge_foreign_keys,
    ),
)
