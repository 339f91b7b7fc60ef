"""Cached against uncached: four objects of the gateway, by hit, by miss, and by a mix of both.

A case of hits and misses has them apart, so that the break-even hit rate can be computed; a mix
has Zipf's requests, and what the cache holds decides. The mixes bound the in-process cache in
keys, and both caches in time. Redis is not bounded in keys: its ``maxmemory`` counts bytes, and
holds for the whole server, where lessons have their own keys. TTLs are milliseconds because one
client that never pauses asks a thousand times a second: what counts is requests for a key within
its TTL.

Look-ups by a key have their in-process caches in cases of their own, compared with Redis: beside
PostgreSQL they would win by the round trip that they save, and say nothing about caching a row that
an index finds.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pglab.bench.cache_findings import ALONE
from pglab.bench.cache_reads import Read
from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.cases._reading import MISS_TTL_MS, Reading
from pglab.bench.cases._sql import PAGE_INDEX
from pglab.queries import ChatMessage, InboxRow, sql

__all__ = ["CASES"]


def _hits_and_misses(
    read: Read, claim: Claim | None, cache: Literal["Redis", "in-process"]
) -> tuple[Variant, Variant]:
    kind = {
        "Redis": "redis-py: GET, and JSON decoded by msgspec",
        "in-process": "cachetools' TTLCache behind a lock: the very objects",
    }[cache]
    return (
        Variant(f"{cache} hit", Reading(read, cache), about=f"{kind}; all is there"),
        Variant(
            f"{cache} miss",
            Reading(read, cache, "miss", ttl_ms=MISS_TTL_MS),
            claim=claim,
            about="asked for in vain, fetched from PostgreSQL, and stored",
        ),
    )


def _alone(read: Read, claim: Claim | None) -> Variant:
    return Variant(
        ALONE,
        Reading(read),
        claim=claim,
        about="psycopg cursor, prepared; rows as dictionaries",
    )


def _sized(read: Read, claim: Claim | None, most: Sequence[int]) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"in-process, {keys:,} {'key' if keys == 1 else 'keys'}",
            Reading(read, "in-process", "mix", most=keys),
            claim=claim,
            about="the least recently used key goes first; TTL of an hour",
        )
        for keys in most
    )


def _timed(
    read: Read,
    claim: Claim | None,
    cache: Literal["Redis", "in-process"],
    ttls_ms: Sequence[int],
) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{cache}, TTL {ttl_ms} ms",
            Reading(read, cache, "mix", ttl_ms=ttl_ms),
            claim=claim,
            about="no bound on the number of keys",
        )
        for ttl_ms in ttls_ms
    )


@dataclass(frozen=True)
class _Session:
    id: uuid.UUID
    name: str
    phone_number: str | None
    connection_state: str
    settings: dict[str, Any]
    state_changed_at: dt.datetime | None
    key_id: str | None
    session_updated_at: dt.datetime | None


_SESSION: Final = Read(
    # Not the credentials: a cache is no place for secrets.
    "SELECT i.id, i.name, i.phone_number, i.connection_state, i.settings, i.state_changed_at, "
    "s.key_id, s.updated_at AS session_updated_at "
    "FROM instances AS i LEFT JOIN sessions AS s ON s.instance_id = i.id WHERE i.name = %(name)s",
    _Session,
)
_MESSAGE: Final = Read(
    "SELECT id, whatsapp_id, sent_at, from_me, sender_jid, status, body, edited_at, deleted_at "
    "FROM messages WHERE id = %(id)s",
    ChatMessage,
)
_PAGE: Final = Read(sql("chat_page"), ChatMessage)
_INBOX: Final = Read(sql("inbox_lateral"), InboxRow)

_MESSAGE_CLAIM: Final = Claim(scan=("Index Scan",), index="messages_pkey")
_PAGE_CLAIM: Final = Claim(index="messages_chat_id_sent_at_idx")
_INBOX_CLAIM: Final = Claim(
    scan=("Index Scan",), index="messages_chat_id_sent_at_idx", without=("WindowAgg", "Unique")
)

# Columns in the order of the placeholders. The busiest first, as Zipf's draw wants it.
_SESSIONS: Final = "SELECT name FROM instances ORDER BY created_at"
_PAGES: Final = (
    "SELECT instance_id, chat_id, 'infinity' AS before_sent_at, 0 AS before_id, 50 AS limit "
    "FROM messages GROUP BY instance_id, chat_id HAVING count(*) >= 50 "
    "ORDER BY count(*) DESC, chat_id"
)
_INBOXES: Final = (
    "SELECT instance_id, 20 AS limit FROM messages GROUP BY instance_id "
    "ORDER BY count(*) DESC, instance_id"
)

_KEY_LOOK_UP: Final = (
    "about as fast as PostgreSQL, which has the row in memory, too: 1.04 times on two cores, 1.5 "
    "on one; a miss costs 4 times a look-up, so that caching pays above a hit rate of 98.6 % (88 %)"
)
_IN_PROCESS: Final = (
    "without a round trip and without JSON, some 100 times as fast as Redis; but each process has "
    "its own copy, and none of them hears of a change before the TTL ends"
)


def _case(
    name: str,
    question: str,
    draw: Draw,
    variants: tuple[Variant, ...],
    *,
    sizes: Sequence[int],
    expected: str,
    operations: int | None = None,
    twins: Mapping[str, str] | None = None,
) -> Case:
    return Case(
        name=name,
        question=question,
        variants=variants,
        twins=twins or {},
        parameters=draw,
        sizes=sizes,
        group="cached",
        unit="reading",
        operations=operations,
        picture="bars" if operations is None else "hit_ratio",
        expected=expected,
    )


_KEY_SIZES: Final = (100_000,)
_SIZES: Final = (100_000, 1_000_000)

CASES: Final = (
    _case(
        "cached-session",
        "Does Redis make the look-up of a session by its instance's name faster?",
        Draw(_SESSIONS, count=64),
        (_alone(_SESSION, None), *_hits_and_misses(_SESSION, None, "Redis")),
        sizes=_KEY_SIZES,
        expected=_KEY_LOOK_UP,
    ),
    _case(
        "cached-message",
        "Does Redis make the look-up of a message by its key faster?",
        Draw("SELECT id FROM messages ORDER BY id"),
        (_alone(_MESSAGE, _MESSAGE_CLAIM), *_hits_and_misses(_MESSAGE, _MESSAGE_CLAIM, "Redis")),
        sizes=_KEY_SIZES,
        expected=_KEY_LOOK_UP,
    ),
    _case(
        "in-process-session",
        "How much faster than Redis is a cache in the process, for a session?",
        Draw(_SESSIONS, count=64),
        (
            Variant("Redis hit", Reading(_SESSION, "Redis")),
            *_hits_and_misses(_SESSION, None, "in-process"),
            _alone(_SESSION, None),
        ),
        sizes=_KEY_SIZES,
        expected=_IN_PROCESS,
    ),
    _case(
        "in-process-message",
        "How much faster than Redis is a cache in the process, for a message?",
        Draw("SELECT id FROM messages ORDER BY id"),
        (
            Variant("Redis hit", Reading(_MESSAGE, "Redis")),
            *_hits_and_misses(_MESSAGE, _MESSAGE_CLAIM, "in-process"),
            _alone(_MESSAGE, _MESSAGE_CLAIM),
        ),
        sizes=_KEY_SIZES,
        expected=_IN_PROCESS,
    ),
    _case(
        "cached-page",
        "What does a cache make of a chat's page of 50 messages, which an index serves already?",
        Draw(_PAGES, count=256),
        (
            _alone(_PAGE, _PAGE_CLAIM),
            *_hits_and_misses(_PAGE, _PAGE_CLAIM, "Redis"),
            *_hits_and_misses(_PAGE, _PAGE_CLAIM, "in-process"),
        ),
        sizes=_SIZES,
        expected="Redis 1.7 times as fast, where the rows lie on 54 pages and Python's own json "
        "reads them (shared/reference/benchmarking.md); an index is the first cache",
    ),
    _case(
        "cached-page-scattered",
        "And what, where each of the 50 messages lies on a page of its own?",
        Draw(_PAGES, count=256),
        tuple(
            replace(each, setup=(PAGE_INDEX,))
            for each in (
                _alone(_PAGE, _PAGE_CLAIM),
                *_hits_and_misses(_PAGE, _PAGE_CLAIM, "Redis"),
            )
        ),
        twins={"messages": "SELECT * FROM messages ORDER BY hashint8(id)"},
        sizes=_SIZES,
        expected="Redis at least 1.7 times as fast: 50 rows on 50 pages, as in a table that many "
        "chats wrote at once (54 pages; shared/reference/benchmarking.md)",
    ),
    _case(
        "cached-inbox",
        "What does a cache make of the largest tenant's inbox, over the best SQL?",
        Draw(f"{_INBOXES} LIMIT 1", count=1),
        (
            _alone(_INBOX, _INBOX_CLAIM),
            *_hits_and_misses(_INBOX, _INBOX_CLAIM, "Redis"),
            *_hits_and_misses(_INBOX, _INBOX_CLAIM, "in-process"),
        ),
        sizes=_SIZES,
        expected="Redis 20 times and more as fast, the more chats the more: LATERAL asks for every "
        "chat of the tenant, and the answer is 20 rows",
    ),
    _case(
        "mix-session",
        "How long must a session's copy live for a cache to pay, if a few are asked for often?",
        Draw(_SESSIONS, how="zipf", count=8_192),
        (
            _alone(_SESSION, None),
            *_timed(_SESSION, None, "Redis", (1, 5, 25, 125)),
        ),
        sizes=_KEY_SIZES,
        expected="at a TTL of some hundred requests, and then little: a miss costs 4 look-ups",
        operations=200,
    ),
    _case(
        "mix-page",
        "How much of a chat's pages must a cache hold, and for how long, to pay?",
        Draw(_PAGES, how="zipf", count=8_192),
        (
            _alone(_PAGE, _PAGE_CLAIM),
            *_sized(_PAGE, _PAGE_CLAIM, (16, 64, 256)),
            *_timed(_PAGE, _PAGE_CLAIM, "Redis", (2, 10, 50)),
        ),
        sizes=_SIZES,
        expected="the hit ratio rises with the logarithm of the size, as Zipf's law has it",
        operations=200,
    ),
    _case(
        "mix-inbox",
        "How many inboxes must a cache hold, and for how long, to pay?",
        Draw(_INBOXES, how="zipf", count=8_192),
        (
            _alone(_INBOX, _INBOX_CLAIM),
            *_sized(_INBOX, _INBOX_CLAIM, (1, 2, 4)),
            *_timed(_INBOX, _INBOX_CLAIM, "Redis", (10, 50, 200)),
        ),
        sizes=_KEY_SIZES,
        expected="even a short TTL pays: a miss costs little more than PostgreSQL alone",
        operations=50,
    ),
)
