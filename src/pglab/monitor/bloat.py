"""How much of tables and indexes is empty. These read pages, and so are asked by name only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import percent, size

__all__ = ["MEASURES"]

# Which tables: the largest that nobody has for himself, so that the functions need not wait.
_LARGEST: Final = """\
    SELECT c.oid, n.nspname, c.relname, c.relpages
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am AS m ON m.oid = c.relam AND m.amname = {method}
    WHERE c.relkind IN ({kinds}) AND c.relpages > 0
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
      -- What CREATE INDEX CONCURRENTLY left half made is refused, and all others with it.
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i
                      WHERE i.indexrelid = c.oid AND NOT i.indisvalid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                      WHERE l.relation = c.oid AND l.locktype = 'relation'
                        AND l.mode = 'AccessExclusiveLock'
                        AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid())
    ORDER BY c.relpages DESC, c.oid
    LIMIT 10"""


def _bloat(function: str, scanned: str, dead: str, free: str, free_percent: str) -> str:
    largest = _LARGEST.replace("{method}", "'heap'").replace("{kinds}", "'r', 'm'")
    return f"""\
WITH largest AS MATERIALIZED (
{largest}
)
SELECT l.nspname::text AS schema, l.relname::text AS name,
       pg_catalog.format('%I.%I', l.nspname, l.relname) AS "table",
       b.table_len AS table_bytes, {scanned}::float8 AS scanned_share,
       b.{dead} AS dead_bytes, b.{free} AS free_bytes,
       b.{free_percent}::float8 / 100 AS free_share
FROM largest AS l, {{extension}}.{function}(l.oid::pg_catalog.regclass) AS b
ORDER BY free_bytes DESC, schema, name"""  # noqa: S608 (words of ours)


_INDEX_BLOAT: Final = f"""\
WITH largest AS MATERIALIZED (
{_LARGEST.replace("{method}", "'btree'").replace("{kinds}", "'i'")}
)
SELECT l.nspname::text AS schema, l.relname::text AS name,
       pg_catalog.format('%I.%I', l.nspname, l.relname) AS index,
       b.index_size AS index_bytes, b.leaf_pages, b.deleted_pages + b.empty_pages AS unused_pages,
       nullif(b.avg_leaf_density, 'NaN')::float8 / 100 AS leaf_density
FROM largest AS l, {{extension}}.pgstatindex(l.oid::pg_catalog.regclass) AS b
ORDER BY leaf_density, schema, name"""  # noqa: S608 (words of ours)


def _judge_bloat(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "note",
            f"{percent(row['free_share'], 1)} of {row['table']} is free ({size(row['free_bytes'])})"
            "; new rows will use it, the system does not get it back",
            f"if it is to shrink: VACUUM FULL {row['table']} (locks it), or pg_repack",
        )
        for row in rows
        if row["free_share"] >= 0.3 and row["free_bytes"] >= 1_048_576
    ]


def _judge_index_bloat(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "note",
            f"the leaves of {row['index']} are {percent(row['leaf_density'], 1)} full "
            f"({size(row['index_bytes'])}); a new index has 90 %",
            f"REINDEX INDEX CONCURRENTLY {row['index']}",
        )
        for row in rows
        if (row["leaf_density"] or 1) < 0.6 and row["index_bytes"] >= 1_048_576
    ]


_BLOAT_COLUMNS: Final = {
    "schema": "its schema",
    "name": "its name as it is",
    "table": "schema and name as SQL needs them",
    "table_bytes": "its rows on disk, without TOAST",
    "scanned_share": "of its pages that were read, 0 to 1",
    "dead_bytes": "dead rows that VACUUM has not removed",
    "free_bytes": "room for new rows",
    "free_share": "of its size, 0 to 1",
}

MEASURES: Final = (
    Measure(
        name="bloat",
        title="Free space in tables",
        question="How much of the largest tables is empty? (approximate)",
        variants=(
            Variant(
                sql=_bloat(
                    "pgstattuple_approx",
                    "b.scanned_percent / 100",
                    "dead_tuple_len",
                    "approx_free_space",
                    "approx_free_percent",
                )
            ),
        ),
        columns=_BLOAT_COLUMNS,
        rule="30 % free, and 1 MB or more; the 10 largest tables. Reads what the visibility map "
        "does not vouch for",
        judge=_judge_bloat,
        extension="pgstattuple",
        role="pg_stat_scan_tables",
        reads_tables=True,
    ),
    Measure(
        name="bloat_exact",
        title="Free space in tables, exactly",
        question="How much of the largest tables is empty? (every page is read)",
        variants=(
            Variant(sql=_bloat("pgstattuple", "1", "dead_tuple_len", "free_space", "free_percent")),
        ),
        columns=_BLOAT_COLUMNS,
        rule="30 % free, and 1 MB or more; the 10 largest tables. Reads all their pages",
        judge=_judge_bloat,
        extension="pgstattuple",
        role="pg_stat_scan_tables",
        reads_tables=True,
    ),
    Measure(
        name="index_bloat",
        title="How full indexes are",
        question="How full are the leaves of the largest B-tree indexes? (every page is read)",
        variants=(Variant(sql=_INDEX_BLOAT),),
        columns={
            "schema": "its schema",
            "name": "its name as it is",
            "index": "schema and name as SQL needs them",
            "index_bytes": "its size",
            "leaf_pages": "pages with entries",
            "unused_pages": "empty pages and deleted ones",
            "leaf_density": "how full the leaves are, 0 to 1; a new index has 0.9",
        },
        rule="less than 60 % full, and 1 MB or more; the 10 largest",
        judge=_judge_index_bloat,
        extension="pgstattuple",
        role="pg_stat_scan_tables",
        reads_tables=True,
    ),
)
