"""Who talks to whom and when, decided once for a size: conversations, chats, contacts, windows.

The plan is the only part that is computed as a whole; it holds a few arrays (about 60 MB for ten
million messages). Every row of every table then follows from it and from the row's own number.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import rhythm
from pglab.dataset.streams import I64, Stream


@dataclass(frozen=True)
class Instance:
    """One WhatsApp number of the university.

    Attributes:
        share: of ten thousand conversations, how many are its own.
        languages: how often its people write Spanish, English, Portuguese.
    """

    name: str
    phone_number: str | None
    connection_state: str
    share: int
    languages: tuple[int, int, int]


# One tenant holds most rows and one hardly any: an index on instance_id alone helps the small
# ones and not the large one, and a plan that suits one suits the other badly (lesson 05).
INSTANCES = (
    Instance("sciencebot-production", "51987650001", "open", 5800, (96, 2, 2)),
    Instance("sciencebot-posgrado", "51987650002", "open", 2200, (92, 4, 4)),
    Instance("sciencebot-becas", "51987650003", "open", 1200, (94, 2, 4)),
    Instance("sciencebot-internacional", "51987650004", "connecting", 600, (30, 40, 30)),
    Instance("sciencebot-staging", "51987650005", "close", 180, (80, 15, 5)),
    Instance("sciencebot-demo", None, "refused", 20, (60, 30, 10)),
)
# A chat has forty messages on average; most have a handful and a few have thousands.
_MESSAGES_PER_CHAT = 40
_FEWEST_CHATS = 4
_GROUP_PER_MILLE = 40
# In a group there are people who never write to the bot alone: a fifth more contacts than chats.
_LURKERS_PER_MILLE = 200
# Zipf-Mandelbrot, weight 1/(rank + 20): the law of chats' sizes. The offset keeps the first chat
# below one per cent of all rows, large enough for "the last 50 of a chat" to need its index.
_ZIPF_OFFSET = 20
_SPACE = 1 << 32
# Every third conversation goes on with the chat of one shortly before: people come back next day.
_FOLLOW_UP_PER_MILLE = 330
_FOLLOW_UP_REACH = 60
_MESSAGES_PER_CONVERSATION = 8
_MOST_WINDOWS = 20_000


class Plan:
    """The frame of a dataset of ``messages`` rows.

    Attributes:
        window: rows that lie together in time; the conversations of a window interleave.
        chat_instance, chat_is_group, chat_first, chat_last: per chat in order of its identifier:
            its instance, its kind, its first and its last conversation (-1 when it has none).
        conversation_chat: the chat (from 0) of each conversation.
    """

    def __init__(self, messages: int, seed: int) -> None:
        self.messages = messages
        self.seed = seed
        self._streams: dict[str, Stream] = {}
        self.rhythm = rhythm.Rhythm()
        # Powers of two from 16 up, so that a window is a sitting of some minutes at every size.
        self.window = 16
        while self.window < 512 and self.window * _MOST_WINDOWS < messages:
            self.window *= 2
        self.windows = -(-messages // self.window)
        self.per_window = self.window // _MESSAGES_PER_CONVERSATION
        self.conversations = self.windows * self.per_window
        self.instance_ids = [self._uuid(f"instance:{instance.name}") for instance in INSTANCES]
        self._lay_out_chats()
        self._lay_out_contacts()

    def stream(self, name: str) -> Stream:
        """Return the random numbers of one purpose; purposes never share numbers."""
        if name not in self._streams:
            self._streams[name] = Stream(self.seed, name)
        return self._streams[name]

    def _uuid(self, name: str) -> uuid.UUID:
        return uuid.UUID(bytes=sha256(f"{self.seed}:{name}".encode()).digest()[:16], version=4)

    def _lay_out_chats(self) -> None:
        share = np.array([instance.share for instance in INSTANCES])
        wanted = self.messages // _MESSAGES_PER_CHAT
        sizes = np.maximum(_FEWEST_CHATS, wanted * share // share.sum())
        by_rank = np.repeat(np.arange(len(INSTANCES)), sizes)
        ends = np.cumsum(sizes)
        rank = np.arange(len(by_rank)) - (ends - sizes)[by_rank] + 1
        # The second chat of every instance is a group, however small the instance.
        group = (rank == 2) | self.stream("chat.kind").chance(
            np.arange(len(by_rank)), _GROUP_PER_MILLE
        )

        roots = self._roots()
        chosen = np.searchsorted(
            self._chat_thresholds(share, sizes), self.stream("chat.rank").below(roots, _SPACE - 1)
        )
        conversation = np.arange(self.conversations)
        first = np.full(len(by_rank), self.conversations, dtype=np.int64)
        last = np.full(len(by_rank), -1, dtype=np.int64)
        np.minimum.at(first, chosen, conversation)
        np.maximum.at(last, chosen, conversation)
        # Identifiers are given in the order in which chats appear, as an identity column does.
        # Chats that nobody wrote in came with the phone's history, at any time.
        silent = last < 0
        first[silent] = self.stream("chat.silent").below(np.flatnonzero(silent), self.conversations)
        order = np.argsort(first, kind="stable")
        identifier = np.empty(len(order), dtype=np.int32)
        identifier[order] = np.arange(len(order), dtype=np.int32)
        self.conversation_chat: NDArray[np.int32] = identifier[chosen]
        self.chat_instance = by_rank[order].astype(np.int8)
        self.chat_is_group = group[order]
        self.chat_first, self.chat_last = first[order], last[order]

    def _roots(self) -> I64:
        """Return for each conversation the one whose chat it goes on with, or itself."""
        conversation = np.arange(self.conversations, dtype=np.int64)
        follows = self.stream("follow").chance(conversation, _FOLLOW_UP_PER_MILLE)
        back = 1 + self.stream("follow.back").below(conversation, _FOLLOW_UP_REACH)
        parent = np.where(follows, np.maximum(conversation - back, 0), conversation)
        while not np.array_equal(parent, grandparent := parent[parent]):
            parent = grandparent
        return parent

    @staticmethod
    def _chat_thresholds(share: I64, sizes: I64) -> I64:
        """Divide [0, 2**32) among the chats: the share of the instance, then Zipf within it."""
        edges = np.concatenate(([0], np.cumsum(share))) * _SPACE // share.sum()
        parts = []
        for size, low, high in zip(sizes, edges[:-1], edges[1:], strict=True):
            weights = (1 << 26) // (np.arange(1, size + 1) + _ZIPF_OFFSET)
            running = np.cumsum(weights)
            # Below 2**30 * 2**32: the running sum grows only with the logarithm of the size.
            parts.append(low + running * (high - low) // running[-1])
        return np.concatenate(parts) - 1

    def _lay_out_contacts(self) -> None:
        """Contacts come with the chats of their persons; then those known only from groups."""
        self.person_chats = np.flatnonzero(~self.chat_is_group)
        owner = self.chat_instance[self.person_chats]
        known = np.bincount(owner, minlength=len(INSTANCES))
        lurkers = np.maximum(_FEWEST_CHATS, known * _LURKERS_PER_MILLE // 1000)
        self.contact_instance = np.concatenate(
            (owner, np.repeat(np.arange(len(INSTANCES), dtype=np.int8), lurkers))
        )
        # Contacts of one instance, side by side, so that a group can draw its members.
        self._by_instance = np.argsort(self.contact_instance, kind="stable")
        self._members = known + lurkers
        self._member_base = np.cumsum(self._members) - self._members
        # The number of a contact within its instance makes its telephone number.
        self.contact_serial = np.empty(len(self.contact_instance), dtype=np.int64)
        self.contact_serial[self._by_instance] = np.arange(len(self._by_instance)) - np.repeat(
            self._member_base, self._members
        )

    def chat_contact(self, chat: I64) -> I64:
        """Return the contact (from 0) behind each chat with a person."""
        return np.searchsorted(self.person_chats, chat)

    def group_member(self, chat: I64, member: I64) -> I64:
        """Return the contact (from 0) who is the given member of each group."""
        instance = self.chat_instance[chat]
        drawn = self.stream("group.member").below(chat * 1024 + member, self._members[instance])
        return np.asarray(self._by_instance[self._member_base[instance] + drawn])

    @cached_property
    def _windows(self) -> tuple[I64, I64, I64]:
        window = np.arange(self.windows + 1, dtype=np.int64)
        position = self.rhythm.total * window // self.windows
        # A window starts in the first half of its share of the traffic and ends within it:
        # windows never overlap, so that rows are in order of arrival, and silence lies between.
        lead = self.stream("window.start").below(window[:-1], 500)
        start = self.rhythm.moment(position[:-1] + np.diff(position) * lead // 1000)
        end = self.rhythm.moment(position[1:])
        length = np.minimum(end - start, rhythm.LONGEST_WINDOW_US)
        # One window in forty was sent while the gateway had no connection, and arrived late, all
        # at once. It was sent after the window before it, so that a chat's order is kept.
        quiet = start - np.concatenate(([rhythm.START_US], (start + length)[:-1]))
        late = self.stream("window.late").chance(window[:-1], 25)
        longest = np.minimum(quiet, 2 * rhythm.HOUR)
        return start, length, np.where(late, longest * 9 // 10, 0)

    def arrival(self, row: I64) -> tuple[I64, I64]:
        """Return when each message arrived, and how late its window was (µs)."""
        start, length, late = self._windows
        window, slot = row // self.window, row % self.window
        jitter = self.stream("arrival").below(row, 1000)
        within = length[window] * (slot * 1000 + jitter) // (self.window * 1000)
        return start[window] + within, late[window]

    def conversation_start(self, conversation: I64) -> I64:
        """Return when the window of each conversation starts (µs since 1970)."""
        start, _, late = self._windows
        window = conversation // self.per_window
        return start[window] - late[window]

    def conversation_end(self, conversation: I64) -> I64:
        """Return when the window of each conversation ends (µs since 1970)."""
        start, length, _ = self._windows
        window = conversation // self.per_window
        return start[window] + length[window]

    @cached_property
    def interleavings(self) -> tuple[I64, I64, I64, NDArray[np.bool_]]:
        """Return a library of orders in which a window's conversations mix.

        Each says four things a slot: which conversation speaks, for which time, the slot in which
        it spoke before (-1 at its start), and whether it is the last time. Two or three
        conversations run at once and a new one begins as one ends: bursts, as a gateway sees them.
        """
        count = 64 if self.window <= 64 else 16
        speaker, turn, previous = np.zeros((3, count, self.window), dtype=np.int64)
        final = np.zeros((count, self.window), dtype=np.bool_)
        bits = self.stream("interleaving").bits(np.arange(count * self.window * 3))
        drawn = iter((bits >> np.uint64(33)).tolist())
        for order in range(count):
            left = self._lengths(drawn)
            said, before = [0] * self.per_window, [-1] * self.per_window
            active: list[int] = []
            waiting = list(range(self.per_window))
            for slot in range(self.window):
                while waiting and len(active) < 3:
                    active.append(waiting.pop(0))
                who = active[next(drawn) % len(active)]
                speaker[order, slot], turn[order, slot] = who, said[who]
                previous[order, slot], before[who] = before[who], slot
                said[who] += 1
                left[who] -= 1
                if not left[who]:
                    final[order, slot] = True
                    active.remove(who)
        return speaker, turn, previous, final

    def _lengths(self, drawn: Iterator[int]) -> list[int]:
        """Share a window's rows out: two for everyone, the rest to the lower of two draws.

        Most conversations are a question and its answer; a few go on for twenty turns.
        """
        lengths = [2] * self.per_window
        for _ in range(self.window - sum(lengths)):
            lengths[min(next(drawn) % self.per_window, next(drawn) % self.per_window)] += 1
        return lengths
