"""Who is connected, what they wait for, and who stands in whose way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import count, duration

__all__ = ["MEASURES"]

# A role without pg_read_all_stats sees other users' sessions with empty columns.
_ROLE: Final = "pg_read_all_stats"
_CROWDED: Final = 0.8
_IDLE_IN_TRANSACTION_S: Final = 10.0
_LONG_TRANSACTION_S: Final = 300.0

_CONNECTIONS: Final = """\
SELECT a.datname::text AS database,
       coalesce(a.state, 'starting') AS state,
       count(*) AS sessions,
       extract(epoch FROM max(pg_catalog.clock_timestamp() - a.state_change))::float8 AS longest_s,
       sum(count(*)) OVER ()::bigint AS all_sessions,
       (pg_catalog.current_setting('max_connections')::int
        - pg_catalog.current_setting('superuser_reserved_connections')::int
        - coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0)) AS room
FROM pg_catalog.pg_stat_activity AS a
WHERE a.backend_type = 'client backend'
GROUP BY a.datname, a.state
ORDER BY sessions DESC, database, state"""


def _judge_connections(rows: Sequence[Row]) -> list[Finding]:
    if not rows:
        return []
    used, room = rows[0]["all_sessions"], rows[0]["room"]
    found = []
    if used >= _CROWDED * room:
        found.append(
            Finding(
                "fault" if used >= 0.95 * room else "warning",
                f"{count(used, 'client connection')} of {room:,} that may be",
                "put a pool (PgBouncer) before the server; raising max_connections costs memory",
            )
        )
    idle = sum(row["sessions"] for row in rows if row["state"] == "idle")
    if used >= 20 and idle >= 0.8 * used:
        found.append(
            Finding("note", f"{idle:,} of {used:,} client connections are idle", "share them: pool")
        )
    return found


_WAITS: Final = """\
SELECT coalesce(a.wait_event_type, 'CPU') AS type,
       coalesce(a.wait_event, 'running') AS event,
       count(*) AS sessions
FROM pg_catalog.pg_stat_activity AS a
WHERE a.backend_type = 'client backend' AND a.state = 'active'
  AND a.pid <> pg_catalog.pg_backend_pid()
GROUP BY a.wait_event_type, a.wait_event
ORDER BY sessions DESC, type, event"""

_LONG: Final = """\
SELECT a.pid, a.datname::text AS database, a.usename::text AS username,
       a.application_name AS application, a.state,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS transaction_s,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)::float8 AS in_state_s,
       greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid))
           AS holds_back_transactions,
       a.backend_xid IS NOT NULL AS has_written,
       pg_catalog.left(pg_catalog.regexp_replace(a.query, '\\s+', ' ', 'g'), 200) AS last_query
FROM pg_catalog.pg_stat_activity AS a
WHERE a.backend_type = 'client backend' AND a.xact_start IS NOT NULL
  AND a.pid <> pg_catalog.pg_backend_pid()
ORDER BY a.xact_start
LIMIT 50"""


def _judge_long(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        who = f"session {row['pid']} ({row['application'] or row['username']})"
        idle = str(row["state"]).startswith("idle in transaction")
        end = f"SELECT pg_terminate_backend({row['pid']})"
        if idle and row["in_state_s"] >= _IDLE_IN_TRANSACTION_S:
            held = row["holds_back_transactions"] is not None
            found.append(
                Finding(
                    "warning",
                    f"{who} is {row['state']} for {duration(row['in_state_s'])}: it keeps its "
                    "locks" + (", and VACUUM away from what died since" if held else ""),
                    f"{end}; set idle_in_transaction_session_timeout",
                )
            )
        elif row["transaction_s"] >= _LONG_TRANSACTION_S:
            found.append(
                Finding(
                    "warning",
                    f"{who} is in one transaction for {duration(row['transaction_s'])}",
                    # To cancel means the statement, and one that is idle has none.
                    f"{end}; set transaction_timeout (17)"
                    if idle
                    else f"SELECT pg_cancel_backend({row['pid']}); set statement_timeout",
                )
            )
    return found


_LOCK_WAITS: Final = """\
SELECT l.pid, l.locktype, l.mode,
       CASE WHEN l.locktype IN ('relation', 'tuple', 'page', 'extend')
            THEN CASE WHEN c.oid IS NULL THEN l.relation::text  -- of another database
                      ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END
       END AS relation,
       coalesce(l.transactionid::text, l.virtualxid) AS of_transaction,
       extract(epoch FROM pg_catalog.clock_timestamp() - l.waitstart)::float8 AS waiting_s,
       d.datname::text AS database
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_database AS d ON d.oid = l.database
LEFT JOIN pg_catalog.pg_class AS c
       ON c.oid = l.relation AND d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT l.granted
ORDER BY waiting_s DESC NULLS LAST, l.pid"""


def _judge_lock_waits(rows: Sequence[Row]) -> list[Finding]:
    # A row's lock has the same mode while somebody deletes it, and readers do not wait for that.
    exclusive = [
        row
        for row in rows
        if row["mode"] == "AccessExclusiveLock" and row["locktype"] == "relation"
    ]
    return [
        Finding(
            "warning",
            f"session {row['pid']} waits for {row['mode']} on {row['relation']} for "
            f"{duration(row['waiting_s'])}: whoever comes after it waits, too, even to read",
            "set lock_timeout before DDL, and try again",
        )
        for row in exclusive
    ]


# pg_blocking_pids takes every partition of the lock table for a moment: only who waits is asked.
_TREE: Final = """\
WITH RECURSIVE waiting AS MATERIALIZED (
    SELECT a.pid, pg_catalog.pg_blocking_pids(a.pid) AS blockers
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.wait_event_type = 'Lock'
), edges AS MATERIALIZED (
    -- Parallel workers name their leader twice; 0 is a prepared transaction, of no session.
    SELECT DISTINCT w.pid, b.pid AS blocker
    FROM waiting AS w, pg_catalog.unnest(w.blockers) AS b(pid)
), behind AS (  -- every pair once, however many ways lead from one to the other
    SELECT e.blocker AS ahead, e.pid FROM edges AS e
    UNION
    SELECT b.ahead, e.pid FROM behind AS b JOIN edges AS e ON e.blocker = b.pid
), roots AS (
    SELECT DISTINCT e.blocker AS pid FROM edges AS e
    WHERE e.blocker NOT IN (SELECT w.pid FROM edges AS w)
), tree AS (
    SELECT 0 AS depth, r.pid, NULL::int AS blocked_by, ARRAY[r.pid] AS path FROM roots AS r
    UNION ALL
    SELECT t.depth + 1, e.pid, t.pid, t.path || e.pid
    FROM tree AS t JOIN edges AS e ON e.blocker = t.pid
    -- A deadlock is a ring for up to deadlock_timeout.
    WHERE e.pid <> ALL (t.path) AND t.depth < 50
), shown AS MATERIALIZED (
    -- Who joins a queue waits for all in it, and the ways through it double: no more of them are
    -- made than are read, the shortest first.
    SELECT * FROM tree LIMIT 200
)
SELECT t.depth, t.pid, t.blocked_by,
       (SELECT count(*) FROM behind AS b WHERE b.ahead = t.pid AND b.pid <> t.pid) AS holds_up,
       a.datname::text AS database, a.usename::text AS username,
       CASE WHEN t.pid = 0 THEN '(prepared transaction)' ELSE a.application_name END
           AS application,
       a.state,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS transaction_s,
       extract(epoch FROM pg_catalog.clock_timestamp()
               - (SELECT min(l.waitstart) FROM pg_catalog.pg_locks AS l
                  WHERE l.pid = t.pid AND NOT l.granted))::float8 AS waiting_s,
       pg_catalog.left(pg_catalog.regexp_replace(a.query, '\\s+', ' ', 'g'), 200) AS query
FROM shown AS t
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = t.pid
ORDER BY t.path"""


def _judge_tree(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"session {row['pid']} ({row['application'] or row['username']}, {row['state']}) holds "
            f"up {count(row['holds_up'], 'other')}",
            f"end it: SELECT pg_terminate_backend({row['pid']})"
            if row["pid"]
            else "SELECT gid FROM pg_prepared_xacts; then ROLLBACK PREPARED",
        )
        for row in rows
        if row["depth"] == 0
    ]


MEASURES: Final = (
    Measure(
        name="connections",
        title="Connections",
        question="How many clients are connected, and what do they do?",
        variants=(Variant(sql=_CONNECTIONS),),
        columns={
            "database": "which database they are in",
            "state": "active, idle, idle in transaction, …",
            "sessions": "how many; background processes of the server are not counted",
            "longest_s": "seconds that the longest of them has been in this state",
            "all_sessions": "client connections altogether",
            "room": "how many the server allows to ordinary roles",
        },
        rule="from 80 % of the connections that ordinary roles may have; 20 or more, nearly all "
        "of them idle",
        judge=_judge_connections,
        scope="server",
        role=_ROLE,
    ),
    Measure(
        name="waits",
        title="Wait events",
        question="What do the sessions that work wait for at this moment?",
        variants=(Variant(sql=_WAITS),),
        columns={
            "type": "kind of wait: Lock, IO, LWLock, Client, …; CPU when it waits for nothing",
            "event": "what for",
            "sessions": "how many active sessions",
        },
        rule="says nothing by itself: one moment is a coin tossed once; see sample_waits",
        scope="server",
        role=_ROLE,
    ),
    Measure(
        name="long_transactions",
        title="Open transactions",
        question="Who has a transaction open, since when, and is it doing anything?",
        variants=(Variant(sql=_LONG),),
        columns={
            "pid": "the session's process",
            "database": "its database",
            "username": "its role",
            "application": "its application_name",
            "state": "active, idle in transaction, …",
            "transaction_s": "seconds since its transaction began",
            "in_state_s": "seconds in this state",
            "holds_back_transactions": "age in transactions of its snapshot or of its own "
            "number, whichever is older: VACUUM removes nothing that died since; NULL: it holds "
            "nothing back",
            "has_written": "it holds a transaction id: locks on rows are likely",
            "last_query": "its last or current statement, 200 characters",
        },
        rule="idle in transaction for 10 s, or in one transaction for 5 min",
        judge=_judge_long,
        scope="server",
        role=_ROLE,
    ),
    Measure(
        name="lock_waits",
        title="Waiting for locks",
        question="Who waits for which lock?",
        variants=(Variant(sql=_LOCK_WAITS),),
        columns={
            "pid": "who waits",
            "locktype": "relation, tuple, transactionid (a row that somebody wrote), …",
            "mode": "the lock's mode",
            "relation": "schema and name; its number if it is in another database",
            "of_transaction": "whose end is waited for",
            "waiting_s": "seconds",
            "database": "where",
        },
        rule="somebody waits for a table's AccessExclusiveLock: all who come later wait behind him",
        judge=_judge_lock_waits,
        scope="server",
    ),
    Measure(
        name="blocking_tree",
        title="Who blocks whom",
        question="Who stands in whose way, and who is at the root?",
        variants=(Variant(sql=_TREE),),
        columns={
            "depth": "0 at the root: it waits for nobody",
            "pid": "the session's process; 0 for a prepared transaction",
            "blocked_by": "whom it waits for",
            "holds_up": "how many sessions wait behind it, directly or not",
            "database": "its database",
            "username": "its role",
            "application": "its application_name",
            "state": "active, idle in transaction, …",
            "transaction_s": "seconds since its transaction began",
            "waiting_s": "seconds that it has waited for a lock",
            "query": "its last or current statement, 200 characters",
        },
        rule="anybody waits for anybody",
        judge=_judge_tree,
        scope="server",
        role=_ROLE,
    ),
)
