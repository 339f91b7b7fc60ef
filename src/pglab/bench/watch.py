"""Noticing that somebody changed a table while it was being measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from pglab.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_unchanged", "fingerprint"]

# A page that is written to loses its mark in the visibility map, and only VACUUM gives it back: so
# counting the marks finds any INSERT, UPDATE or DELETE without reading the table.
_MARKS = "(pg_visibility_map_summary(c.oid)).all_visible"
_COUNTED = "(xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %%s', c.oid::regclass), true, true, '')))[1]::text"  # noqa: E501
_FINGERPRINT = """
SELECT c.relname, c.oid, c.relfilenode, pg_relation_size(c.oid), {marks},
       ARRAY(SELECT i.indexrelid FROM pg_index AS i WHERE i.indrelid = c.oid ORDER BY 1)
FROM pg_class AS c
WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r'
ORDER BY c.relname
"""


def fingerprint(connection: psycopg.Connection[Any], schema: str) -> Mapping[str, Sequence[Any]]:
    """Return for each table of a schema what changes with any change of it.

    Uses the extension ``pg_visibility`` where a superuser can create it, and counts rows elsewhere,
    which misses an UPDATE that found room on its page.
    """
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_visibility SCHEMA public")
        marks = _MARKS
    except psycopg.errors.Error:
        marks = _COUNTED
    query = _FINGERPRINT.format(marks=marks).encode()
    rows = connection.execute(query, [schema], prepare=False).fetchall()
    return {row[0]: tuple(row[1:]) for row in rows}


def check_unchanged(
    before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]], *, whose: str
) -> None:
    """Compare two fingerprints; ``whose`` the tables are goes into the message.

    Raises:
        BenchError: a table is another one now, has other indexes, or was written to.
    """
    for table in sorted(before.keys() | after.keys()):
        was, now = before.get(table), after.get(table)
        if was == now:
            continue
        if was is None or now is None:
            what = "was made or dropped"
        elif was[-1] != now[-1]:
            what = "got or lost an index"
        else:
            what = "was written to"
        raise BenchError(
            f"the table {table} {whose} {what} by someone else during the run, "
            "so the numbers say nothing; run it again while nobody else is at work there"
        )
