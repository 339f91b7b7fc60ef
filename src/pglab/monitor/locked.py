"""Which relations a question must leave alone, so that a monitor never hangs behind a lock."""

from __future__ import annotations

from typing import Final

__all__ = ["CLOSED"]

# The functions that measure a relation, or write out its definition, open it, and wait while
# somebody has it for himself or is next in the queue for that.
CLOSED: Final = """\
WITH closed AS MATERIALIZED (
    SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks AS l
    WHERE l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation'
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
)"""
"""The beginning of a query, which another common table expression or the query itself follows."""
