"""The same questions to each, and the same answers as plain Python gives."""

from __future__ import annotations

from collections import Counter

from pglab.comparison.checks.ground import prepared
from pglab.comparison.places import Place
from pglab.comparison.seen import Seen
from pglab.comparison.workload import BUSY, rows

__all__ = ["finds_in_json", "right_answers"]

MESSAGES = 2_000


def right_answers(place: Place, setup: str) -> Seen:
    """Ask for the inbox, and for a count over three tables."""
    with prepared(place, setup, MESSAGES) as session:
        inbox = session.inbox(BUSY)
        joined = session.joined()
        settings = place.engine.settings()
    right = inbox == _inbox() and joined == _joined()
    return Seen(
        "right_answers", place.engine.name, setup,
        f"Store {MESSAGES:,} messages; ask for the inbox of {BUSY} (one message a chat) and for "
        "the messages of each chat of each instance (three tables).",
        f"{len(inbox)} chats, and {len(joined)} counts: "
        + ("the answers of plain Python." if right else "other answers than plain Python's.")
        + (" There is no server: it is in the process that asks." if place.engine.library else ""),
        right,
        {"inbox": len(inbox), "joined": len(joined), "settings": settings,
         "library": place.engine.library, "product": place.engine.product},
    )  # fmt: skip


def finds_in_json(place: Place, setup: str) -> Seen:
    """Ask the stored JSON for one event, and count the rows that are looked at for it."""
    wanted = rows(MESSAGES).messages[MESSAGES // 2]["event"]["id"]
    with prepared(place, setup, MESSAGES, json_index=True) as session:
        found, looked_at = session.by_id_in_json(wanted)
        kind = place.engine.json_kind()
    return Seen(
        "finds_in_json", place.engine.name, setup,
        f"Store {MESSAGES:,} events as JSON; ask for the one with a certain id inside.",
        f"The column is {kind}. {found} found; {looked_at:,} of {MESSAGES:,} rows looked at.",
        found == 1 and looked_at < MESSAGES,
        {"kind": kind, "found": found, "looked_at": looked_at, "rows": MESSAGES},
    )  # fmt: skip


def _inbox() -> list[tuple[int, str]]:
    newest: dict[int, tuple[object, int, str]] = {}
    for row in rows(MESSAGES).messages:
        if row["instance"] == BUSY:
            this = (row["sent_at"], row["id"], row["whatsapp_id"])
            newest[row["chat"]] = max(newest.get(row["chat"], this), this)
    return [(chat, newest[chat][2]) for chat in sorted(newest)]


def _joined() -> list[tuple[str, str, int]]:
    there = rows(MESSAGES)
    counts = Counter(row["chat"] for row in there.messages)
    return sorted(
        (row["instance"], row["jid"], counts[row["id"]]) for row in there.chats if counts[row["id"]]
    )
