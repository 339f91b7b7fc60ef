"""The seed's table of sessions, and its two bets on it: one index is a copy, one has few values."""

from __future__ import annotations

from typing import Final

from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.operations import Query

__all__ = ["BY_NAME", "LARGE", "REDUNDANT", "SESSIONS", "STATUS_COMMON", "STATUS_RARE", "UNIQUE"]

LARGE: Final = (100_000, 1_000_000)
"""Sizes of a case that is not about growth."""

# One session for each chat, so as many as messages/40: a large provider's. Four of five are
# connected, one in 250 waits for its QR code; 900 bytes stand for the credentials.
SESSIONS: Final = """
SELECT md5(c.id::text)::uuid AS id,
       ('bot-' || c.id)::varchar(255) AS instance_name,
       jsonb_build_object('creds', md5(c.id::text) || repeat(md5(c.jid), 27)) AS session_data,
       NULL::text AS qr_code,
       (CASE WHEN c.id % 250 = 7 THEN 'qr'
             WHEN c.id % 5 = 0 THEN 'disconnected' ELSE 'connected' END)::varchar(50) AS status,
       c.created_at::timestamp AS created_at,
       c.updated_at::timestamp AS updated_at
FROM chats AS c
ORDER BY c.id
"""
"""Rows of the seed's table ``sessions``, columns in its order."""

_BY_NAME: Final = """
SELECT session_data, status FROM sessions
WHERE instance_name = %(instance_name)s AND status = 'connected'
"""
UNIQUE: Final = (
    "ALTER TABLE sessions ADD PRIMARY KEY (id)",
    "ALTER TABLE sessions ADD CONSTRAINT sessions_instance_name_key UNIQUE (instance_name)",
)
REDUNDANT: Final = "CREATE INDEX idx_sessions_instance_name ON sessions (instance_name)"
_STATUS: Final = "CREATE INDEX idx_sessions_status ON sessions (status)"
_READ_ALL: Final = Claim(relation="sessions", scan=("Seq Scan",))

BY_NAME: Final = Case(
    name="session-name",
    group="indexes",
    question="Does an index help on a column that is UNIQUE already?",
    variants=(
        Variant(
            "unique",
            Query(_BY_NAME),
            setup=UNIQUE,
            claim=Claim(relation="sessions", index="sessions_instance_name_key"),
            theory="O(log n)",
            about="UNIQUE is kept by an index, and that index finds the session.",
        ),
        Variant(
            "unique and index",
            Query(_BY_NAME),
            setup=(*UNIQUE, REDUNDANT),
            # Which of the two copies it reads is a matter of chance, and makes no difference.
            claim=Claim(relation="sessions", scan=("Index Scan",)),
            theory="O(log n)",
            about="The seed's idx_sessions_instance_name, a copy of the index of UNIQUE.",
        ),
    ),
    twins={"sessions": SESSIONS},
    parameters=Draw(
        "SELECT instance_name FROM sessions WHERE status = 'connected' ORDER BY instance_name"
    ),
    sizes=LARGE,
    picture="bars",
    expected="No difference: the second index is a copy of the first. What it costs a write is "
    "the case session-insert.",
)

STATUS_COMMON: Final = Case(
    name="status-common",
    group="indexes",
    question="Does an index on a session's status find the connected ones sooner?",
    variants=(
        Variant(
            "no index",
            Query("SELECT instance_name FROM sessions WHERE status = 'connected'"),
            claim=_READ_ALL,
            theory="O(n)",
        ),
        Variant(
            "index",
            Query("SELECT instance_name FROM sessions WHERE status = 'connected'"),
            setup=(_STATUS,),
            claim=_READ_ALL,
            theory="O(n)",
            about="The seed's idx_sessions_status: it is there, and the planner leaves it alone.",
        ),
    ),
    twins={"sessions": SESSIONS},
    sizes=LARGE,
    unit="list",
    picture="bars",
    expected="No difference: four of five sessions are connected, so every page has to be read.",
)

STATUS_RARE: Final = Case(
    name="status-rare",
    group="indexes",
    question="Does the same index find the few sessions that wait for a QR code?",
    variants=(
        Variant(
            "no index",
            Query("SELECT instance_name FROM sessions WHERE status = 'qr'"),
            claim=_READ_ALL,
            theory="O(n)",
        ),
        Variant(
            "index",
            Query("SELECT instance_name FROM sessions WHERE status = 'qr'"),
            setup=(_STATUS,),
            claim=Claim(relation="sessions", index="idx_sessions_status"),
            about="The seed's idx_sessions_status.",
        ),
        Variant(
            "partial index",
            Query("SELECT instance_name FROM sessions WHERE status = 'qr'"),
            setup=(
                "CREATE INDEX sessions_waiting ON sessions (instance_name) WHERE status = 'qr'",
            ),
            claim=Claim(relation="sessions", index="sessions_waiting"),
            about="Only the rows that are asked for, and the column that is wanted.",
        ),
    ),
    twins={"sessions": SESSIONS},
    sizes=LARGE,
    unit="list",
    picture="bars",
    expected="Faster: one session in 250 waits for its QR code. The planner decides by value, not "
    "by column (compare status-common).",
)
