"""What is said: the text of a message, and its ``message`` object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import media, phrases, rhythm
from pglab.dataset.columns import pick, table_of
from pglab.dataset.phrasebook import Phrasebook
from pglab.dataset.plan import Plan
from pglab.dataset.streams import I64, hexadecimal
from pglab.dataset.talk import Speakers, Talk

# Places in phrases.OPENERS: by the hour, and for the half of people who greet in their own way.
_GREETING_BY_HOUR = np.array([3] * 5 + [1] * 7 + [2] * 7 + [3] * 5)
_OTHER_GREETING = np.array([0, 0, 0, 0, 0, 4, 5, 6])

Rows = NDArray[np.integer]


def _join_at(values: list[Any], rows: Rows, parts: Callable[[Rows], Any]) -> None:
    """Replace some values by the concatenation of their parts."""
    for position, joined in zip(
        rows.tolist(), map(b"".join, zip(*parts(rows), strict=True)), strict=True
    ):
        values[position] = joined


class Contents:
    """Texts and ``message`` objects of one plan."""

    def __init__(self, plan: Plan, speakers: Speakers) -> None:
        self._plan, self._speakers = plan, speakers
        self._book = Phrasebook()
        shapes = media.SHAPES
        self._parts = [
            table_of(column) for column in zip(*(s.segments() for s in shapes), strict=True)
        ]
        self._has = {h: np.array([h in s.holes() for s in shapes]) for h in media.HOLES}
        self._is_media = self._has["K"] | self._has["S"] | self._has["D"]
        self._before_text = np.sum(self._parts[:4], axis=0)
        self._after_text = np.sum(self._parts[4:], axis=0)
        self._has_body = np.array([s.has_body for s in shapes])
        self._role_of = np.array([phrases.ROLES.index(s.role) if s.role else -1 for s in shapes])
        self._thresholds = [np.cumsum([s.weights[who] for s in shapes]) for who in range(3)]

    def shape(self, talk: Talk) -> I64:
        """Return the place in media.SHAPES of each message."""
        stream = self._plan.stream("shape")
        drawn = stream.below(talk.row, 100_000)
        column = np.where(talk.group & ~talk.from_me, 2, talk.from_me)
        shape = np.empty(len(drawn), dtype=np.int64)
        for number in range(3):
            rows = column == number
            shape[rows] = np.searchsorted(self._thresholds[number], drawn[rows], side="right")
        # Nobody can answer or like what was not said: the first message is plain words.
        shape[(talk.before < 0) & self._has["P"][shape]] = 0
        return shape

    def text(self, talk: Talk, shape: I64, arrived: I64) -> tuple[list[bytes | None], list[bytes]]:
        """Return the body, and the same text as it stands inside JSON."""
        plan, book, habits = self._plan, self._book, self._speakers.habits
        language = habits.language[talk.chat]
        role = self._role_of[shape]
        dialogue = role < 0
        role = np.where(dialogue, self._dialogue_role(talk), role)
        topic = habits.topic[talk.conversation]
        sentence = book.first[language, topic, role] + plan.stream("sentence").below(
            talk.row, book.count[language, topic, role]
        )
        core = sentence * book.careers + habits.career[talk.chat]
        # Only a first message greets, by the hour of the day in Lima; we always do.
        greets = np.flatnonzero(dialogue & (talk.turn == 0))
        by_hour = _GREETING_BY_HOUR[rhythm.local_hour(arrived[greets])]
        habit = habits.greeting[talk.conversation[greets]]
        opener = np.full(len(talk.row), book.openers - 1)
        opener[greets] = np.where(
            (habit < 4) | talk.from_me[greets], by_hour, _OTHER_GREETING[habit]
        )
        opener += language * book.openers
        tail = np.where(dialogue, plan.stream("tail").below(talk.row, book.tails), 0)
        tail += talk.from_me * book.tails
        plain = pick(book.plain, core)
        # Most sentences stand alone, and most read the same inside JSON: one object serves both.
        _join_at(
            plain,
            np.flatnonzero((opener % book.openers < book.openers - 1) | book.tail_is_text[tail]),
            lambda rows: (
                pick(book.opener, opener[rows]),
                pick(book.plain, core[rows]),
                pick(book.tail, tail[rows]),
            ),
        )
        escaped = list(plain)
        _join_at(
            escaped,
            np.flatnonzero(book.plain_differs[core] | book.tail_differs[tail]),
            lambda rows: (
                pick(book.opener, opener[rows]),
                pick(book.escaped, core[rows]),
                pick(book.tail_escaped, tail[rows]),
            ),
        )
        body: list[bytes | None] = list(plain)
        for position in np.flatnonzero(~self._has_body[shape]).tolist():
            body[position] = None
        return body, escaped

    @staticmethod
    def _dialogue_role(talk: Talk) -> I64:
        role = phrases.ROLES.index
        theirs = np.where(talk.turn == 0, role("question"),
                          np.where(talk.final, role("thanks"), role("more")))  # fmt: skip
        ours = np.where(talk.turn <= 1, role("answer"),
                        np.where(talk.final, role("goodbye"), role("reply")))  # fmt: skip
        return np.where(talk.from_me, ours, np.where(talk.group, role("group"), theirs))

    def message(self, talk: Talk, shape: I64, text: list[bytes]) -> list[bytes]:
        """Return the ``message`` objects around texts that ``text`` escaped for JSON."""
        plan, parts = self._plan, self._parts
        before = pick(self._before_text, shape)
        after = pick(self._after_text, shape)
        for position in np.flatnonzero(~self._has["T"][shape]).tolist():
            text[position] = b""

        def media(rows: Rows) -> Any:
            row, form = talk.row[rows], shape[rows]
            token = plan.stream("token")
            halves = np.stack([hexadecimal(token.bits(row * 2 + half)) for half in range(2)], 1)
            halves[~self._has["K"][form]] = b""
            sizes = (100_000 + plan.stream("size").below(row, 900_000)).astype("S6")
            sizes[~self._has["S"][form]] = b""
            # Voice messages are short: the lower of two draws.
            length = plan.stream("seconds")
            seconds = np.minimum(length.below(row * 2, 240), length.below(row * 2 + 1, 240))
            small = (1 + seconds).astype("S3")
            small[~self._has["D"][form]] = b""
            columns = halves[:, 0], halves[:, 1], sizes, small
            kind = [pick(part, form) for part in parts]
            first, second, size, number = (column.tolist() for column in columns)
            return kind[0], first, second, kind[1], size, kind[2], number, kind[3]

        def quoting(rows: Rows) -> Any:
            earlier = self._speakers.talk(talk.before[rows])
            identifiers = self._speakers.whatsapp_id(earlier.row, self._speakers.source(earlier))
            return pick(parts[4], shape[rows]), identifiers, pick(parts[5], shape[rows])

        _join_at(before, np.flatnonzero(self._is_media[shape]), media)
        _join_at(after, np.flatnonzero(self._has["P"][shape]), quoting)
        return list(map(b"".join, zip(before, text, after, strict=True)))
