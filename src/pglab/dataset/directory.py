"""The rows of the small tables: instances, sessions, webhooks, contacts, chats."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pglab.dataset import phrases, rhythm
from pglab.dataset.columns import NEVER, Batch, Column, Octets, pick, table_of
from pglab.dataset.plan import INSTANCES, Plan
from pglab.dataset.streams import I64

CONNECTION_STATES = ("close", "connecting", "open", "refused")
CHAT_KINDS = ("person", "group")
_NUMBERS = 10**8
# Most people are in Peru; the others make lengths differ. The last is not a telephone number but
# WhatsApp's hidden identity (@lid), which the same person may have beside it.
_PREFIXES = ("519", "5730", "55119", "52155", "1305", "4915", "1000000")
_PREFIX_WEIGHTS = (880, 25, 25, 20, 10, 10, 30)
_EVENTS = ("MESSAGES_UPSERT", "MESSAGES_UPDATE", "CONNECTION_UPDATE", "SEND_MESSAGE",
           "CONTACTS_UPSERT", "QRCODE_UPDATED", "GROUPS_UPSERT")  # fmt: skip
_CREDENTIAL_BYTES = 1800  # What a login's keys come to, encrypted.


def as_json(value: object) -> bytes:
    """Write JSON with its letters as they are, not as escapes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def instance_uuids(plan: Plan) -> NDArray[Any]:
    """Return the instances' identifiers, 16 bytes each."""
    return np.array([identifier.bytes for identifier in plan.instance_ids], dtype="V16")


class Directory:
    """Who there is: the small tables of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._uuids = instance_uuids(plan)

    def instances(self) -> Batch:
        """Return the instances; created before the first message, in the order of their size."""
        count = len(INSTANCES)
        settings: list[bytes | None] = [
            as_json(
                {
                    "rejectCall": number % 2 == 0,
                    "msgCall": "Este número no recibe llamadas 📵" if number % 2 == 0 else "",
                    "groupsIgnore": number == 2,
                    "alwaysOnline": number < 2,
                    "readMessages": number != 3,
                    "readStatus": False,
                    "syncFullHistory": number == 0,
                    "bot": {"language": "es", "handoff": {"minutes": 10 + 5 * number}},
                }
            )
            for number in range(count)
        ]
        created = rhythm.START_US - (40 - 5 * np.arange(count)) * 24 * rhythm.HOUR
        states = [CONNECTION_STATES.index(instance.connection_state) for instance in INSTANCES]
        return Batch(
            "instances",
            {
                "id": Column("uuid", self._uuids),
                "name": Column("text", [instance.name.encode() for instance in INSTANCES]),
                "phone_number": Column("text", [i.phone_number.encode() if i.phone_number else None
                                                for i in INSTANCES]),
                "connection_state": Column("enum", np.array(states), CONNECTION_STATES),
                "settings": Column("jsonb", settings),
                "created_at": Column("timestamptz", created),
                "state_changed_at": Column("timestamptz", self._state_changed()),
            },
        )  # fmt: skip

    def _state_changed(self) -> I64:
        count = len(INSTANCES)
        ago = self._plan.stream("instance.state").below(np.arange(count), 20 * 24 * 60)
        changed = rhythm.END_US - ago * rhythm.MINUTE
        changed[-1] = NEVER  # The demo was refused at its first attempt: it never had a state.
        return changed

    def sessions(self) -> Batch:
        """Return the credentials: random bytes, as ciphertext looks. The demo never logged in."""
        count = len(INSTANCES) - 1
        words = self._plan.stream("session").bits(np.arange(count * _CREDENTIAL_BYTES // 8))
        octets = words.astype(">u8").tobytes()
        created = rhythm.START_US - (39 - 5 * np.arange(count)) * 24 * rhythm.HOUR
        credentials = [
            octets[start : start + _CREDENTIAL_BYTES]
            for start in range(0, len(octets), _CREDENTIAL_BYTES)
        ]
        return Batch(
            "sessions",
            {
                "instance_id": Column("uuid", self._uuids[:count]),
                "credentials": Column("bytea", credentials),
                "key_id": Column("text", [None] * count),
                "created_at": Column("timestamptz", created),
                "updated_at": Column("timestamptz", self._state_changed()[:count]),
            },
        )

    def webhooks(self) -> Batch:
        """Return one webhook for each instance and a second, disabled one for the largest."""
        owners = np.array([0, *range(len(INSTANCES))])
        count = len(owners)
        urls = [
            f"https://bot.example.edu/{'legacy' if number == 0 else 'webhook'}/"
            f"{INSTANCES[owner].name}".encode()
            for number, owner in enumerate(owners)
        ]
        # Containment (@>) finds some and not others, and lower-case names find none (lesson 04).
        events = [
            as_json(list(_EVENTS[2 if number >= count - 2 else 0 : 3 + number]))
            for number in range(count)
        ]
        headers = [
            as_json({"X-Instance": INSTANCES[owner].name}) if number % 2 else b"{}"
            for number, owner in enumerate(owners)
        ]
        created = rhythm.START_US - (38 - 5 * owners) * 24 * rhythm.HOUR
        return Batch(
            "webhooks",
            {
                "id": Column("bigint", np.arange(1, count + 1)),
                "instance_id": Column("uuid", self._uuids[owners]),
                "url": Column("text", urls),
                "events": Column("jsonb", events),
                "headers": Column("jsonb", headers),
                "enabled": Column("bool", np.arange(count) != 0),
                "created_at": Column("timestamptz", created),
            },
        )

    @cached_property
    def contact_jids(self) -> NDArray[np.object_]:
        """The address of each contact; no two of one instance are alike."""
        plan = self._plan
        contact = np.arange(len(plan.contact_serial))
        # Multiplying by a number without the factors 2 and 5 permutes the last eight digits.
        digits = (plan.contact_serial * 61_803_399 + 27_182_818) % _NUMBERS
        prefix = plan.stream("contact.prefix").choose(contact, _PREFIX_WEIGHTS)
        hidden = len(_PREFIXES) - 1
        return table_of(
            [
                f"{_PREFIXES[p]}{d:08d}@{'lid' if p == hidden else 's.whatsapp.net'}".encode()
                for p, d in zip(prefix.tolist(), digits.tolist(), strict=True)
            ]
        )

    @cached_property
    def chat_jids(self) -> NDArray[np.object_]:
        """The address of each chat: its person's, or a group's own."""
        plan = self._plan
        jids = np.empty(len(plan.chat_is_group), dtype=object)
        jids[plan.person_chats] = self.contact_jids[: len(plan.person_chats)]
        groups = np.flatnonzero(plan.chat_is_group)
        jids[groups] = [f"120363{400_000_000_000 + int(g) * 7}@g.us".encode() for g in groups]
        return jids

    def _names(self, contact: I64) -> Octets:
        stream = self._plan.stream("contact.name")
        first = stream.below(contact * 4, len(phrases.FIRST_NAMES)).tolist()
        last = stream.below(contact * 4 + 1, len(phrases.SURNAMES)).tolist()
        tail = stream.below(contact * 4 + 2, len(phrases.NAME_TAILS)).tolist()
        # Some never told their name (NULL) and some set it to nothing (''): not the same.
        told = stream.below(contact * 4 + 3, 1000).tolist()
        return [
            None if t < 60 else b"" if t < 80 else
            f"{phrases.FIRST_NAMES[f]} {phrases.SURNAMES[s]}{phrases.NAME_TAILS[e]}".encode()
            for f, s, e, t in zip(first, last, tail, told, strict=True)
        ]  # fmt: skip

    def contacts(self, start: int, stop: int) -> Batch:
        """Return the contacts from ``start`` to ``stop``, counted from 0."""
        plan = self._plan
        contact = np.arange(start, stop)
        pictures = plan.stream("contact.picture").below(contact, 1 << 31).tolist()
        seen = plan.stream("contact.seen").below(contact, plan.conversations)
        own = contact < len(plan.person_chats)
        last = plan.chat_last[plan.person_chats[contact[own]]]
        seen[own] = np.where(last < 0, seen[own], last)
        return Batch(
            "contacts",
            {
                "id": Column("bigint", contact + 1),
                "instance_id": Column("uuid", self._uuids[plan.contact_instance[contact]]),
                "jid": Column("text", pick(self.contact_jids, contact)),
                "push_name": Column("text", self._names(contact)),
                "profile_picture_url": Column(
                    "text",
                    [
                        None if p % 5 < 2 else f"https://pps.example.net/v/{p:08x}.jpg".encode()
                        for p in pictures
                    ],
                ),
                "updated_at": Column("timestamptz", plan.conversation_end(seen)),
            },
        )

    def chats(self, start: int, stop: int) -> Batch:
        """Return the chats from ``start`` to ``stop``, counted from 0."""
        plan = self._plan
        chat = np.arange(start, stop)
        group = plan.chat_is_group[chat]
        names: list[bytes | None] = [None] * len(chat)
        title = plan.stream("chat.title")
        for position in np.flatnonzero(group).tolist():
            kind = int(title.below(chat[position] * 2, len(phrases.GROUP_NAMES))[0])
            career = int(title.below(chat[position] * 2 + 1, len(phrases.CAREERS))[0])
            text = phrases.GROUP_NAMES[kind].format(career=phrases.CAREERS[career][0])
            names[position] = text.encode()
        persons = np.flatnonzero(~group)
        for position, name in zip(
            persons.tolist(), self._names(plan.chat_contact(chat[persons])), strict=True
        ):
            names[position] = name
        labels = table_of([label.encode() for label in phrases.LABELS])
        label = plan.stream("chat.labels").below(chat, len(labels))
        # The chat appears with its first message, which took some seconds to arrive.
        created = plan.conversation_start(plan.chat_first[chat]) - 5 * rhythm.SECOND
        last = np.maximum(plan.chat_last[chat], 0)
        updated = np.where(plan.chat_last[chat] < 0, created, plan.conversation_end(last))
        return Batch(
            "chats",
            {
                "id": Column("bigint", chat + 1),
                "instance_id": Column("uuid", self._uuids[plan.chat_instance[chat]]),
                "jid": Column("text", pick(self.chat_jids, chat)),
                "kind": Column("enum", group.astype(np.int64), CHAT_KINDS),
                "name": Column("text", names),
                "labels": Column("jsonb", pick(labels, label)),
                "created_at": Column("timestamptz", created),
                "updated_at": Column("timestamptz", updated),
            },
        )
