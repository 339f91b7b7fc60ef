"""The inbox, four ways, on two shapes of data: few large chats, and many small ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.cases._sql import PAGE_INDEX
from pglab.bench.operations import Query
from pglab.queries import sql

__all__ = ["CASES"]

_INDEX: Final = "messages_chat_id_sent_at_idx"
_KEYS: Final = ("ALTER TABLE chats ADD PRIMARY KEY (id)", PAGE_INDEX)

# Every row is wanted, in the order of the index: the planner sorts them, or, from a size on that
# depends on the version and on work_mem, walks the whole index. Neither skips a row.
_ALL_ROWS: Final = ("Seq Scan", "Index Scan")

_VARIANTS: Final = (
    Variant(
        "DISTINCT ON",
        Query(sql("inbox_distinct_on")),
        setup=_KEYS,
        claim=Claim(scan=_ALL_ROWS, needs=("Unique",)),
        theory="O(n log n)",
        about="Reads the tenant's whole history in order, and keeps the first of each chat.",
    ),
    Variant(
        "window",
        Query(sql("inbox_window")),
        setup=_KEYS,
        claim=Claim(scan=_ALL_ROWS, needs=("WindowAgg",)),
        theory="O(n log n)",
        about="The same, with every message numbered within its chat.",
    ),
    Variant(
        "LATERAL",
        Query(sql("inbox_lateral")),
        setup=_KEYS,
        claim=Claim(index=_INDEX, scan=("Index Scan",), needs=("Nested Loop",)),
        # The chats are a fixed share of the messages; one look-up each.
        theory="O(n log n)",
        about="For each of the tenant's chats the first entry of the index.",
    ),
    Variant(
        "skip scan",
        Query(sql("inbox_skip_scan")),
        setup=_KEYS,
        claim=Claim(index=_INDEX, scan=("Index Scan",), needs=("Recursive Union",)),
        theory="O(n log n)",
        about="Leaps through the index from one chat to the next; of all tenants, since the index "
        "does not know the tenant.",
    ),
)

# One tenant has it all, and a chat has 500 messages: the shape of the reference.
_TENANT: Final = "'00000000-0000-4000-8000-000000000001'::uuid"
_CHATS: Final = "GREATEST(1, {size} / 500)"
_LARGE_CHATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "messages": f"SELECT id, {_TENANT} AS instance_id, id % {_CHATS} + 1 AS chat_id, "  # noqa: S608
        "whatsapp_id, sender_jid, from_me, message_type, body, status, source, key, message, "
        "sent_at, edited_at, deleted_at, created_at FROM messages ORDER BY id",
        "chats": f"SELECT n::bigint AS id, {_TENANT} AS instance_id, 'chat ' || n AS name "  # noqa: S608
        f"FROM generate_series(1, {_CHATS}) AS n",
    }
)

_INBOX_LARGE: Final = Case(
    name="inbox-long-chats",
    group="inbox",
    question="How should one ask for the newest message of every chat, if chats are long?",
    variants=_VARIANTS,
    twins=_LARGE_CHATS,
    parameters=Draw(f"SELECT {_TENANT} AS instance_id, 20 AS limit"),
    unit="inbox",
    expected="Chats of 500 messages, one tenant, all variants with the same composite index. "
    "DISTINCT ON took 362 to 385 ms at 1 M rows and the skip scan 5 to 7 (PostgreSQL 15, without "
    "parallel workers; benchmarking.md): at least 20 times faster. There it sorted; PostgreSQL 17 "
    "walks the whole index at that size, row by row, and gains nothing by it.",
)

_INBOX_SMALL: Final = Case(
    name="inbox-short-chats",
    group="inbox",
    question="Is it still so if chats are short, and other tenants have chats of their own?",
    variants=_VARIANTS,
    twins={
        "messages": "SELECT * FROM messages ORDER BY id",
        "chats": "SELECT * FROM chats ORDER BY id",
    },
    parameters=Draw(
        "SELECT instance_id, 20 AS limit FROM messages GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    ),
    unit="inbox",
    expected="The course's own shape: 40 messages a chat, and the largest tenant, with 58 % of "
    "the rows. A leap saves 40 rows instead of 500, so much less is gained, and more pages may be "
    "touched than by reading all. LATERAL is ahead: the skip scan visits the other tenants' chats, "
    "too.",
)

CASES: Final = (_INBOX_LARGE, _INBOX_SMALL)
"""The reference's shape, and the course's."""
