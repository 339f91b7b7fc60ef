"""The sentences of pglab.dataset.phrases as tables to look up."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import phrases
from pglab.dataset.columns import table_of


class Phrasebook:
    """All sentences, once as they are and once as they stand inside a JSON string."""

    def __init__(self) -> None:
        sentences: list[str] = []
        shape = (len(phrases.LANGUAGES), len(phrases.TOPICS), len(phrases.ROLES))
        self.first, self.count = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for language, code in enumerate(phrases.LANGUAGES):
            for topic, subject in enumerate(phrases.TOPICS):
                for role, name in enumerate(phrases.ROLES):
                    known = self._sentences(code, subject, name)
                    self.first[language, topic, role] = len(sentences)
                    self.count[language, topic, role] = len(known)
                    sentences += known
        self.careers = len(phrases.CAREERS)
        expanded = [
            sentence.format(career=career, fee=fee, date=date, place=place)
            for sentence in sentences
            for career, fee, date, place in phrases.CAREERS
        ]
        openers = [text for code in phrases.LANGUAGES for text in phrases.OPENERS[code]]
        self.openers = len(phrases.OPENERS["es"])
        self.plain, self.escaped = self._both(expanded)
        self.opener = table_of([text.encode() for text in openers])  # Nothing to escape in them.
        self.tails = len(phrases.TAILS[0])
        self.tail, self.tail_escaped = self._both([text for side in phrases.TAILS for text in side])
        self.tail_is_text = self.tail != b""
        self.tail_differs = self.tail != self.tail_escaped
        self.plain_differs = self.plain != self.escaped

    @staticmethod
    def _sentences(code: str, subject: str, role: str) -> tuple[str, ...]:
        if role in {"question", "answer"}:
            return phrases.TOPICAL[code][subject][role]
        if role == "emoji":
            return phrases.EMOJI
        return phrases.GENERAL[code].get(role, ("",))

    @staticmethod
    def _both(texts: list[str]) -> tuple[NDArray[np.object_], ...]:
        escaped = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts]
        return table_of([text.encode() for text in texts]), table_of(escaped)
