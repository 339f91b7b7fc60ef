"""Who speaks in which row, and in which conversation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import phrases
from pglab.dataset.plan import INSTANCES, Plan
from pglab.dataset.streams import I64, hexadecimal

SOURCES = ("unknown", "android", "ios", "web", "desktop")
_THEIR_SOURCES = (5, 700, 220, 60, 15)
_OUR_SOURCES = (30, 50, 0, 920, 0)
# WhatsApp's identifiers tell the device: 32 digits from Android, 3A… from an iPhone, 3EB0… from
# the web. A prefix by source, 16 digits that are a one-to-one hash of the row, hence unique, and
# some more for the length.
_ID_PREFIXES = (b"BAE5", b"", b"3A", b"3EB0", b"3EB0")
_ID_EXTRA_DIGITS = (0, 16, 2, 2, 2)

# The bot answers every question but a few; people send two messages in a row; in a group the bot
# speaks when asked. Five in a hundred conversations are begun by a campaign. Per mille.
_OUT_OF_TURN, _GROUP_ANSWER, _CAMPAIGN = 80, 150, 50
# Only the last thirty-second of the conversations may still wait: everything older was read, so
# that a partial index on unread messages holds about half a per cent of the rows (lesson 05).
_RECENT_SHARE = 32
_WAITING = 600


@dataclass(frozen=True)
class Talk:
    """Who speaks in some rows, and where in the conversation."""

    row: I64
    conversation: I64
    turn: I64
    before: I64
    final: NDArray[np.bool_]
    chat: I64
    group: NDArray[np.bool_]
    from_me: NDArray[np.bool_]


class Habits:
    """What stays the same through a chat, and through a conversation; looked up, not drawn."""

    def __init__(self, plan: Plan) -> None:
        chat = np.arange(len(plan.chat_instance))
        self.career = plan.stream("career").below(chat, len(phrases.CAREERS)).astype(np.int8)
        # A person keeps one device: mostly Android, in South America.
        self.device = plan.stream("device").choose(chat, _THEIR_SOURCES).astype(np.int8)
        # What the network took is one number a chat, so that a chat's messages keep their order
        # while neighbours in the table do not: nearly, not quite sorted by sent_at (BRIN).
        self.delay_ms = (200 + plan.stream("delay").below(chat, 2300)).astype(np.int16)
        self.language = np.zeros(len(chat), dtype=np.int8)
        for number, instance in enumerate(INSTANCES):
            own = np.flatnonzero(plan.chat_instance == number)
            self.language[own] = plan.stream("language").choose(own, instance.languages)

        conversation = np.arange(plan.conversations)
        self.campaign = plan.stream("campaign").chance(conversation, _CAMPAIGN)
        topic = plan.stream("topic").choose(conversation, (26, 20, 18, 12, 10, 6, 8))
        self.topic = topic.astype(np.int8)
        self.greeting = plan.stream("greeting").below(conversation, 8).astype(np.int8)
        self.recent_from = plan.conversations - max(1, plan.conversations // _RECENT_SHARE)
        # Unread is the end of a chat, never its middle: what comes after was read with it.
        last = np.zeros(plan.conversations, dtype=np.bool_)
        last[plan.chat_last[plan.chat_last >= 0]] = True
        self.waits = last & plan.stream("waiting").chance(conversation, _WAITING)
        self.waits[: self.recent_from] = False
        self.read_turns = plan.stream("waiting.from").below(conversation, 3).astype(np.int8)


class Speakers:
    """Who wrote each message of one plan, from which device, under which identifier."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.habits = Habits(plan)

    def talk(self, row: I64) -> Talk:
        """Return who speaks in the given rows."""
        plan = self._plan
        window, slot = row // plan.window, row % plan.window
        speaker, turn, before, final = plan.interleavings
        order = plan.stream("order").below(window, len(speaker))
        conversation = window * plan.per_window + speaker[order, slot]
        said = turn[order, slot]
        back = before[order, slot]
        chat = plan.conversation_chat[conversation].astype(np.int64)
        group = plan.chat_is_group[chat]
        swap = plan.stream("swap").below(row, 1000)
        answers = ((said % 2 == 1) ^ self.habits.campaign[conversation]) ^ (
            (swap < _OUT_OF_TURN) & (said > 0)
        )
        return Talk(
            row=row,
            conversation=conversation,
            turn=said,
            before=np.where(back < 0, -1, window * plan.window + back),
            final=final[order, slot],
            chat=chat,
            group=group,
            from_me=np.where(group, (swap < _GROUP_ANSWER) & (said > 0), answers),
        )

    def source(self, talk: Talk) -> I64:
        """Return places in SOURCES. We send through the gateway, and at times from the phone."""
        source = self.habits.device[talk.chat].astype(np.int64)
        ours = np.flatnonzero(talk.from_me)
        source[ours] = self._plan.stream("source").choose(talk.row[ours], _OUR_SOURCES)
        return source

    def whatsapp_id(self, row: I64, source: I64) -> list[bytes]:
        """Return WhatsApp's identifiers of messages, ``key.id`` in an event."""
        digits = np.zeros((len(row), 32), dtype=np.uint8)
        stream = self._plan.stream("whatsapp_id")
        unique = hexadecimal(stream.bits(row)).view(np.uint8).reshape(-1, 16)
        more = hexadecimal(self._plan.stream("whatsapp_id.more").bits(row))
        rest = more.view(np.uint8).reshape(-1, 16)
        for number, prefix in enumerate(_ID_PREFIXES):
            rows = np.flatnonzero(source == number)
            width = len(prefix)
            digits[rows, :width] = np.frombuffer(prefix, dtype=np.uint8)
            digits[rows, width : width + 16] = unique[rows]
            extra = _ID_EXTRA_DIGITS[number]
            digits[rows, width + 16 : width + 16 + extra] = rest[rows, :extra]
        return list(digits.view("S32").reshape(-1).tolist())
