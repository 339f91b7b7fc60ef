"""Replicas: how far behind they are, and for whom the server keeps its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pglab.monitor.measure import Finding, Measure, Row, Variant
from pglab.monitor.units import duration, size

__all__ = ["MEASURES"]

_ROLE: Final = "pg_read_all_stats"
_LAG_BYTES: Final = 64 * 1024 * 1024
_LAG_S: Final = 10.0

# Bytes are behind the sender's own position; on a replica that feeds others, what it has replayed.
_REPLICATION: Final = """\
SELECT r.pid, r.application_name AS application, r.client_addr::text AS address,
       r.state, r.sync_state,
       pg_catalog.pg_wal_lsn_diff(p.lsn, r.sent_lsn)::float8 AS unsent_bytes,
       pg_catalog.pg_wal_lsn_diff(p.lsn, r.flush_lsn)::float8 AS unflushed_bytes,
       pg_catalog.pg_wal_lsn_diff(p.lsn, r.replay_lsn)::float8 AS lag_bytes,
       extract(epoch FROM r.write_lag)::float8 AS write_lag_s,
       extract(epoch FROM r.flush_lag)::float8 AS flush_lag_s,
       extract(epoch FROM r.replay_lag)::float8 AS replay_lag_s
FROM pg_catalog.pg_stat_replication AS r,
     (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                  ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) AS p
ORDER BY lag_bytes DESC NULLS LAST, r.pid"""


def _judge_replication(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"replica {row['application']} is {size(row['lag_bytes'])} behind"
            + (f", {duration(row['replay_lag_s'])}" if row["replay_lag_s"] else ""),
            "look at its io and long_transactions; a query there may hold the replay up",
        )
        for row in rows
        if (row["lag_bytes"] or 0) >= _LAG_BYTES or (row["replay_lag_s"] or 0) >= _LAG_S
    ]


_SLOTS: Final = """\
SELECT s.slot_name::text AS slot, s.slot_type::text AS kind, s.database::text AS database,
       s.active, s.wal_status,
       pg_catalog.pg_wal_lsn_diff(p.lsn, s.restart_lsn)::float8 AS retained_bytes,
       pg_catalog.age(coalesce(s.xmin, s.catalog_xmin)) AS holds_back_transactions
FROM pg_catalog.pg_replication_slots AS s,
     (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                  ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) AS p
ORDER BY retained_bytes DESC NULLS LAST, slot"""


def _judge_slots(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"nobody reads the replication slot {row['slot']}, and the server keeps "
            f"{size(row['retained_bytes'])} of its log for it",
            f"if its reader is gone for good: SELECT pg_drop_replication_slot('{row['slot']}')",
        )
        for row in rows
        if not row["active"]
    ]


# A replica that has replayed all it got is not late, however long ago the last transaction was.
_REPLICA: Final = """\
SELECT pg_catalog.pg_is_in_recovery() AS is_replica,
       w.status AS receiver, w.sender_host AS primary_host,
       -- Once it was restarted, receiving begins at a segment's start, below what is replayed.
       greatest(0, pg_catalog.pg_wal_lsn_diff(
           pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()))::float8
           AS unreplayed_bytes,
       CASE WHEN pg_catalog.pg_last_wal_receive_lsn() <= pg_catalog.pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM pg_catalog.clock_timestamp()
                                    - pg_catalog.pg_last_xact_replay_timestamp()) END::float8
           AS lag_s,
       coalesce(c.conflicts, 0) AS queries_cancelled
FROM (SELECT 1) AS one
LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON true
LEFT JOIN pg_catalog.pg_stat_database AS c ON c.datname = pg_catalog.current_database()
WHERE pg_catalog.pg_is_in_recovery()"""


def _judge_replica(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for row in rows:
        if row["receiver"] is None:
            found.append(
                Finding(
                    "fault",
                    "this replica receives nothing: no WAL receiver runs",
                    "look into its log; is the primary up, and primary_conninfo right?",
                )
            )
        if (row["lag_s"] or 0) >= _LAG_S:
            found.append(
                Finding(
                    "warning",
                    f"this replica shows the state of {duration(row['lag_s'])} ago",
                    "a long query here may hold the replay up: see long_transactions",
                )
            )
    return found


MEASURES: Final = (
    Measure(
        name="replication",
        title="Replicas",
        question="Who replicates from here, and how far behind are they?",
        variants=(Variant(sql=_REPLICATION),),
        columns={
            "pid": "the process that serves it",
            "application": "its application_name",
            "address": "where it is; NULL on a unix socket",
            "state": "streaming, catchup, backup, …",
            "sync_state": "async, sync, quorum",
            "unsent_bytes": "of the log, not sent to it",
            "unflushed_bytes": "not on its disk",
            "lag_bytes": "not replayed: not visible there",
            "write_lag_s": "seconds; NULL when it has caught up and nothing is written",
            "flush_lag_s": "seconds",
            "replay_lag_s": "seconds until a COMMIT here is visible there",
        },
        rule="64 MB or 10 s behind",
        judge=_judge_replication,
        scope="server",
        role=_ROLE,
    ),
    Measure(
        name="replication_slots",
        title="Replication slots",
        question="For whom does the server keep its log?",
        variants=(Variant(sql=_SLOTS),),
        columns={
            "slot": "its name",
            "kind": "physical or logical",
            "database": "of a logical one",
            "active": "somebody reads it now",
            "wal_status": "reserved, extended, unreserved, lost",
            "retained_bytes": "of the log, kept for it",
            "holds_back_transactions": "VACUUM removes nothing that died since",
        },
        rule="a slot that nobody reads",
        judge=_judge_slots,
        scope="server",
    ),
    Measure(
        name="replica",
        title="This server as a replica",
        question="Is this a replica, and how old is what it shows?",
        variants=(Variant(sql=_REPLICA),),
        columns={
            "is_replica": "no row at all on a primary",
            "receiver": "state of the process that receives the log; NULL: none runs",
            "primary_host": "from whom",
            "unreplayed_bytes": "received, not yet replayed",
            "lag_s": "age of the last transaction replayed; 0 when all is replayed",
            "queries_cancelled": "because they stood in the replay's way",
        },
        rule="nothing is received, or what it shows is 10 s old",
        judge=_judge_replica,
        scope="server",
        role=_ROLE,
    ),
)
