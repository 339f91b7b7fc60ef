"""The rows of messages, any stretch of them, computed from their numbers alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import media, rhythm
from pglab.dataset.columns import NEVER, Batch, Column, pick, table_of
from pglab.dataset.contents import Contents
from pglab.dataset.directory import Directory, instance_uuids
from pglab.dataset.plan import Plan
from pglab.dataset.streams import I64
from pglab.dataset.talk import SOURCES, Speakers, Talk

MESSAGE_TYPES = ("text", "image", "audio", "video", "document", "sticker", "location", "contact",
                 "reaction", "poll")  # fmt: skip
STATUSES = ("error", "pending", "server_ack", "delivery_ack", "read", "played")
_TEXT, _AUDIO = MESSAGE_TYPES.index("text"), MESSAGE_TYPES.index("audio")
_ERROR, _PENDING, _SERVER_ACK, _DELIVERY_ACK, _READ, _PLAYED = range(6)
# Older sent messages: nearly all were read; some people hide their blue ticks (delivery_ack), and
# some messages failed. Of the newest, many are still on their way.
_OLD_STATUS = {_READ: 8800, _DELIVERY_ACK: 1150, _ERROR: 35, _SERVER_ACK: 15}
_NEW_STATUS = {_READ: 4800, _DELIVERY_ACK: 3600, _SERVER_ACK: 1250, _PENDING: 300, _ERROR: 50}
# One text in a hundred is corrected and six messages in a thousand taken back. Per mille.
_EDITED, _DELETED = 10, 6
_VOICE_PLAYED = 700
_GROUP_SPEAKERS = 40


class Messages:
    """The messages of one plan."""

    def __init__(self, plan: Plan, directory: Directory) -> None:
        self._plan = plan
        self._directory = directory
        self._uuids = instance_uuids(plan)
        self._speakers = Speakers(plan)
        self._contents = Contents(plan, self._speakers)
        types = [MESSAGE_TYPES.index(shape.message_type) for shape in media.SHAPES]
        self._type_of_shape = np.array(types)

    def batch(self, start: int, stop: int) -> Batch:
        """Return the messages from ``start`` to ``stop``, counted from 0."""
        plan = self._plan
        talk = self._speakers.talk(np.arange(start, stop))
        source = self._speakers.source(talk)
        shape = self._contents.shape(talk)
        kind = self._type_of_shape[shape]
        whatsapp_id = self._speakers.whatsapp_id(talk.row, source)
        sender = self._sender(talk)
        arrived, late = plan.arrival(talk.row)
        body, escaped = self._contents.text(talk, shape, arrived)
        took = self._speakers.habits.delay_ms[talk.chat].astype(np.int64) * 1000
        sent = (arrived - late - took) // rhythm.SECOND * rhythm.SECOND
        edited, deleted = self._changes(talk.row, kind == _TEXT, sent)
        return Batch(
            "messages",
            {
                "id": Column("bigint", talk.row + 1),
                "instance_id": Column("uuid", self._uuids[plan.chat_instance[talk.chat]]),
                "chat_id": Column("bigint", talk.chat + 1),
                "whatsapp_id": Column("text", whatsapp_id),
                "sender_jid": Column("text", sender),
                "from_me": Column("bool", talk.from_me),
                "message_type": Column("enum", kind, MESSAGE_TYPES),
                "body": Column("text", body),
                "status": Column("enum", self._status(talk, kind), STATUSES),
                "source": Column("enum", source, SOURCES),
                "key": Column("jsonb", self._key(talk, whatsapp_id, sender)),
                "message": Column("jsonb", self._contents.message(talk, shape, escaped)),
                "sent_at": Column("timestamptz", sent),
                "edited_at": Column("timestamptz", edited),
                "deleted_at": Column("timestamptz", deleted),
                "created_at": Column("timestamptz", arrived),
            },
        )

    def _changes(self, row: I64, words: NDArray[np.bool_], sent: I64) -> tuple[I64, I64]:
        """Return when messages were edited and deleted: few, and within a quarter of an hour."""
        chance = self._plan.stream("changed").below(row, 1000)
        changed = np.flatnonzero(chance < _EDITED + _DELETED)
        after = 5 + self._plan.stream("changed.after").below(row[changed], 14 * 60)
        moment = np.minimum(sent[changed] + after * rhythm.SECOND, rhythm.END_US)
        edited, deleted = np.full((2, len(row)), NEVER)
        is_edit = chance[changed] < _EDITED
        edited[changed] = np.where(is_edit & words[changed], moment, NEVER)
        deleted[changed] = np.where(is_edit, NEVER, moment)
        return edited, deleted

    def _sender(self, talk: Talk) -> list[bytes | None]:
        sender: list[bytes | None] = [None] * len(talk.row)
        rows = np.flatnonzero(talk.group & ~talk.from_me)
        # A few members write most of a group: the lower of two draws.
        stream = self._plan.stream("member")
        member = np.minimum(
            stream.below(talk.row[rows] * 2, _GROUP_SPEAKERS),
            stream.below(talk.row[rows] * 2 + 1, _GROUP_SPEAKERS),
        )
        contact = self._plan.group_member(talk.chat[rows], member)
        for position, jid in zip(
            rows.tolist(), pick(self._directory.contact_jids, contact), strict=True
        ):
            sender[position] = jid
        return sender

    def _status(self, talk: Talk, kind: I64) -> I64:
        habits, draw = self._speakers.habits, self._plan.stream("status")
        read_turns = habits.read_turns[talk.conversation]
        waits = habits.waits[talk.conversation] & (talk.turn >= read_turns)
        status = np.where(waits, _DELIVERY_ACK, _READ)
        recent = talk.conversation >= habits.recent_from
        for rows, weights in (
            (np.flatnonzero(talk.from_me & ~recent), _OLD_STATUS),
            (np.flatnonzero(talk.from_me & recent), _NEW_STATUS),
        ):
            drawn = draw.choose(talk.row[rows], list(weights.values()))
            status[rows] = np.array(list(weights))[drawn]
        heard = np.flatnonzero((kind == _AUDIO) & (status == _READ))
        played = self._plan.stream("played").chance(talk.row[heard], _VOICE_PLAYED)
        status[heard[played]] = _PLAYED
        return status

    def _key(self, talk: Talk, whatsapp_id: list[bytes], sender: list[bytes | None]) -> list[bytes]:
        jids = pick(self._directory.chat_jids, talk.chat)
        ends = pick(table_of([b'","fromMe":false}', b'","fromMe":true}']), talk.from_me.astype(int))
        keys = [
            b"".join((b'{"id":"', identifier, b'","remoteJid":"', jid, end))
            for identifier, jid, end in zip(whatsapp_id, jids, ends, strict=True)
        ]
        for position in np.flatnonzero(talk.group & ~talk.from_me).tolist():
            keys[position] = b'%b,"participant":"%b"}' % (
                keys[position][:-1],
                sender[position] or b"",
            )
        return keys
