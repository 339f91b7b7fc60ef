"""What pgbench and our meters are both asked, on which tables, and how far they may differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pglab.bench.case import Case, Claim, Variant
from pglab.bench.fidelity_results import Limits
from pglab.bench.operations import Meter, Query
from pglab.bench.placement import Mode

__all__ = ["CASE", "STATEMENTS", "Statement"]

_LOOK_UP: Final = (
    "SELECT id, chat_id, whatsapp_id, sent_at, from_me, sender_jid, status, source, body "
    "FROM messages WHERE id = %s"
)
_PAGE: Final = (
    "SELECT id, chat_id, whatsapp_id, sent_at, from_me, sender_jid, status, source, body "
    "FROM messages WHERE chat_id = %s ORDER BY sent_at DESC, id DESC LIMIT 50"
)
_WHOLE_PAGES: Final = (
    "SELECT count(*) FROM (SELECT FROM messages GROUP BY chat_id HAVING count(*) >= 50) c"
)


@dataclass(frozen=True)
class Statement:
    """What is asked.

    Attributes:
        name: as the table shows it.
        sql: its one parameter, %s, is a whole number from 1.
        largest: SQL for the largest number that is asked for.
        variant: whose twin it reads.
        scan: it reads the whole table, which takes every client equally long.
    """

    name: str
    sql: str
    largest: str
    variant: Variant
    scan: bool = False

    def script(self, largest: int) -> str:
        """Return it in pgbench's language."""
        return f"\\set number random(1, {largest})\n{self.sql.replace('%s', ':number')};\n"

    def limits(self, meter: Meter, mode: Mode) -> Limits:
        """Return between what the ratio to pgbench must lie."""
        if self.scan:
            return Limits(0.95, 1.05)
        if meter == "libpq":
            return Limits(0.0, 1.05)
        return Limits(0.0, 1.5 if mode == "one-core" else 1.3)


_KEY: Final = Variant(
    "by key",
    Query(_LOOK_UP),
    setup=("ALTER TABLE messages ADD PRIMARY KEY (id)",),
    claim=Claim(index="messages_pkey"),
)
_COMPOSITE: Final = Variant(
    "a page, indexed",
    Query(_PAGE),
    setup=("CREATE INDEX page ON messages (chat_id, sent_at DESC, id DESC)",),
    claim=Claim(index="page"),
)
_BARE: Final = Variant("a page, no index", Query(_PAGE), claim=Claim(scan=("Seq Scan",)))

CASE: Final = Case(
    name="fidelity",
    question="Does the harness measure what pgbench measures?",
    variants=(_KEY, _COMPOSITE, _BARE),
    # Chats numbered by their size: those of a whole page are then 1 to n, which pgbench can draw.
    twins={
        "messages": "SELECT m.id, c.number AS chat_id, m.whatsapp_id, m.sent_at, m.from_me, "
        "m.sender_jid, m.status, m.source, m.body, m.key, m.message FROM messages m JOIN "
        "(SELECT chat_id, row_number() OVER (ORDER BY count(*) DESC, chat_id) AS number "
        "FROM messages GROUP BY chat_id) c USING (chat_id) ORDER BY m.id"
    },
)
STATEMENTS: Final = (
    Statement("key look-up", _LOOK_UP, "SELECT max(id) FROM messages", _KEY),
    Statement("chat's page", _PAGE, _WHOLE_PAGES, _COMPOSITE),
    Statement("sequential scan", _PAGE, _WHOLE_PAGES, _BARE, scan=True),
)
