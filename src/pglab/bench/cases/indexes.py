"""Indexed against unindexed: the seed's four bets, and the look-ups that a gateway lives on."""

from __future__ import annotations

from typing import Final

from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.cases._sessions import BY_NAME, LARGE, STATUS_COMMON, STATUS_RARE
from pglab.bench.cases._sql import PAGE_INDEX
from pglab.bench.operations import Query
from pglab.queries import sql

__all__ = ["CASES"]

_OF_INSTANCE: Final = "SELECT count(body) FROM messages WHERE instance_id = %(instance_id)s"
_BY_INSTANCE: Final = "CREATE INDEX idx_messages_instance_id ON messages (instance_id)"
_BY_SIZE: Final = "SELECT instance_id FROM messages GROUP BY instance_id ORDER BY count(*)"
_TABLE: Final = Claim(scan=("Seq Scan",))
# Not prepared: a plan for any tenant suits the large ones badly, and which plan is taken would
# depend on the plan cache (lesson 05), which is not the question here.
_PLANNED: Final = Query(_OF_INSTANCE, meter="simple")

_INSTANCE_LARGEST: Final = Case(
    name="instance-largest",
    group="indexes",
    question="Does an index on instance_id help the tenant that has most of the messages?",
    variants=(
        Variant("no index", _PLANNED, claim=_TABLE, theory="O(n)"),
        Variant(
            "index",
            _PLANNED,
            setup=(_BY_INSTANCE,),
            claim=_TABLE,
            theory="O(n)",
            about="The seed's idx_messages_instance_id: the planner leaves it alone.",
        ),
    ),
    parameters=Draw(f"{_BY_SIZE} DESC LIMIT 1"),
    sizes=LARGE,
    unit="sum",
    picture="bars",
    expected="No difference: the largest tenant has 58 % of the rows, on nearly every page.",
)

_INSTANCE_SMALLEST: Final = Case(
    name="instance-smallest",
    group="indexes",
    question="Does an index on instance_id help a tenant that has few messages?",
    variants=(
        Variant("no index", _PLANNED, claim=_TABLE, theory="O(n)"),
        Variant(
            "index",
            _PLANNED,
            setup=(_BY_INSTANCE,),
            claim=Claim(index="idx_messages_instance_id"),
            # Two rows in a thousand are its own, however many there are.
            theory="O(n)",
            about="The seed's idx_messages_instance_id.",
        ),
    ),
    parameters=Draw(f"{_BY_SIZE} LIMIT 1"),
    unit="sum",
    expected="Faster by a factor that stays: the smallest tenant has 0.2 % of the rows, so both "
    "grow as the table does.",
)

_NEWEST_SQL: Final = """
SELECT id, chat_id, sent_at, from_me, status, body FROM messages ORDER BY sent_at DESC LIMIT 50
"""

_NEWEST: Final = Case(
    name="newest-messages",
    group="indexes",
    question="What does an index on the time give whoever wants the newest 50 messages?",
    variants=(
        Variant(
            "no index",
            Query(_NEWEST_SQL),
            claim=Claim(scan=("Seq Scan",), needs=("Sort",)),
            theory="O(n)",
            about="Reads all, and keeps the best 50 on the way (a top-N heapsort).",
        ),
        Variant(
            "index",
            Query(_NEWEST_SQL),
            setup=("CREATE INDEX idx_messages_timestamp ON messages (sent_at DESC)",),
            claim=Claim(index="idx_messages_timestamp", without=("Sort",)),
            theory="O(k)",
            about="The seed's idx_messages_timestamp: it is in that order already.",
        ),
    ),
    unit="list",
    expected="The index makes it independent of the size: 50 rows are read, however many there "
    "are.",
)

_PAGE: Final = Query(sql("chat_page"))

_CHAT_PAGE: Final = Case(
    name="chat-page",
    group="indexes",
    question="Which index serves the newest 50 messages of a chat?",
    variants=(
        Variant("no index", _PAGE, claim=_TABLE, theory="O(n)"),
        Variant(
            "chat only",
            _PAGE,
            setup=("CREATE INDEX messages_chat_id_idx ON messages (chat_id)",),
            claim=Claim(index="messages_chat_id_idx", needs=("Sort",)),
            about="Finds the chat, fetches all of it and sorts it for a page of 50.",
        ),
        Variant(
            "composite",
            _PAGE,
            setup=(PAGE_INDEX,),
            # In a small table the planner fetches the chat by a bitmap and sorts it all the same.
            claim=Claim(index="messages_chat_id_sent_at_idx"),
            theory="O(log n)",
            about="The course's (chat_id, sent_at DESC, id DESC): the page lies side by side.",
        ),
    ),
    parameters=Draw(
        # Text, because psycopg has no Python value for a timestamp of infinity.
        "SELECT instance_id, chat_id, 'infinity' AS before_sent_at, 0 AS before_id, 50 AS limit "
        "FROM messages GROUP BY 1, 2 HAVING count(*) >= LEAST(50, {size} / 200) ORDER BY 2"
    ),
    unit="page",
    expected="With chats of 500 messages and 1 M rows, without parallel workers, the composite "
    "index was at least 450 times faster than none (800 with client and server on one core), with "
    "buffers 500 times fewer (PostgreSQL 15; benchmarking.md). Exponents: at most 0.15 with it, "
    "0.95 to 1.05 without from 100,000 rows on.",
)

_WHATSAPP_ID: Final = Case(
    name="whatsapp-id",
    group="indexes",
    question="What does a unique key give whoever looks for one message by WhatsApp's id?",
    variants=(
        Variant("no index", Query(sql("message_by_whatsapp_id")), claim=_TABLE, theory="O(n)"),
        Variant(
            "unique key",
            Query(sql("message_by_whatsapp_id")),
            setup=(
                (
                    "ALTER TABLE messages ADD CONSTRAINT messages_instance_id_whatsapp_id_key "
                    "UNIQUE (instance_id, whatsapp_id)"
                ),
            ),
            claim=Claim(index="messages_instance_id_whatsapp_id_key", scan=("Index Scan",)),
            theory="O(log n)",
            about="The course's own key, which also makes ingest idempotent.",
        ),
    ),
    # Some 5,000 candidates at every size, evenly from the whole table.
    parameters=Draw(
        "SELECT instance_id, whatsapp_id FROM messages "
        "WHERE id % GREATEST(1, {size} / 5000) = 0 ORDER BY id"
    ),
    expected="At least 500 times faster at 1 M messages, and hardly slower there than at 10,000.",
)

_UNREAD: Final = Case(
    name="unread",
    group="indexes",
    question="What does a partial index give the count of unread messages?",
    variants=(
        Variant("no index", Query(sql("unread_counts")), claim=_TABLE, theory="O(n)"),
        Variant(
            "partial index",
            Query(sql("unread_counts")),
            setup=(
                (
                    "CREATE INDEX messages_unread ON messages (instance_id, chat_id) "
                    "WHERE status = 'delivery_ack' AND NOT from_me AND deleted_at IS NULL"
                ),
            ),
            claim=Claim(index="messages_unread"),
            about="Holds the unread ones only: half a per cent of all.",
        ),
    ),
    parameters=Draw(
        "SELECT DISTINCT instance_id FROM messages WHERE status = 'delivery_ack' "
        "AND NOT from_me AND deleted_at IS NULL ORDER BY 1"
    ),
    unit="count",
    expected="Far fewer pages: half a per cent of the messages are unread, and the index holds "
    "nothing else.",
)

CASES: Final = (
    BY_NAME,
    STATUS_COMMON,
    STATUS_RARE,
    _INSTANCE_LARGEST,
    _INSTANCE_SMALLEST,
    _NEWEST,
    _CHAT_PAGE,
    _WHATSAPP_ID,
    _UNREAD,
)
"""The seed's four indexes first, then those that the course arrives at."""
