"""SQLAlchemy models of our tables, as ``sql/schema.sql`` makes them.

The SQL is the source; these classes describe it, name by name, and a test compares the two. Nothing
here should create tables: call :func:`pglab.schema.create`.
"""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from typing import Annotated, Any, ClassVar

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import BigInteger, Uuid

__all__ = [
    "Base",
    "Chat",
    "ChatKind",
    "ConnectionState",
    "Contact",
    "Instance",
    "Message",
    "MessageSource",
    "MessageStatus",
    "MessageType",
    "MessageUpdate",
    "Session",
    "Webhook",
]


class ConnectionState(enum.StrEnum):
    """How an instance stands with WhatsApp."""

    close = enum.auto()
    connecting = enum.auto()
    open = enum.auto()
    refused = enum.auto()


class ChatKind(enum.StrEnum):
    """Whom a chat is with."""

    person = enum.auto()
    group = enum.auto()


class MessageType(enum.StrEnum):
    """What a message carries."""

    text = enum.auto()
    image = enum.auto()
    audio = enum.auto()
    video = enum.auto()
    document = enum.auto()
    sticker = enum.auto()
    location = enum.auto()
    contact = enum.auto()
    reaction = enum.auto()
    poll = enum.auto()


class MessageStatus(enum.StrEnum):
    """How far a message's delivery has come, in this order."""

    error = enum.auto()
    pending = enum.auto()
    server_ack = enum.auto()
    delivery_ack = enum.auto()
    read = enum.auto()
    played = enum.auto()


class MessageSource(enum.StrEnum):
    """The kind of device that a message was written on."""

    unknown = enum.auto()
    android = enum.auto()
    ios = enum.auto()
    web = enum.auto()
    desktop = enum.auto()


def _existing(kind: type[enum.StrEnum], name: str) -> Enum:
    """Refer to an enum type that schema.sql made; metadata.create_all() must not make another."""
    return Enum(kind, name=name, create_type=False)


Json = dict[str, Any]
JsonArray = list[Any]

BigId = Annotated[int, mapped_column(BigInteger, Identity(always=False), primary_key=True)]
Now = Annotated[dt.datetime, mapped_column(server_default=text("now()"))]
InstanceId = Annotated[
    uuid.UUID,
    # The constraint's name is PostgreSQL's own pattern, spelt by the naming convention below.
    mapped_column(ForeignKey("instances.id", ondelete="CASCADE")),
]


class Base(DeclarativeBase):
    """The registry of our tables, and which PostgreSQL type each Python type is."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        bytes: BYTEA(),
        uuid.UUID: Uuid(),
        dt.datetime: DateTime(timezone=True),
        Json: JSONB(),
        JsonArray: JSONB(),
        ConnectionState: _existing(ConnectionState, "connection_state"),
        ChatKind: _existing(ChatKind, "chat_kind"),
        MessageType: _existing(MessageType, "message_type"),
        MessageStatus: _existing(MessageStatus, "message_status"),
        MessageSource: _existing(MessageSource, "message_source"),
    }


Base.metadata.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
}


class Instance(Base):
    """One connected WhatsApp number."""

    __tablename__ = "instances"
    __table_args__ = (
        UniqueConstraint("name", name="instances_name_key"),
        CheckConstraint(
            "name = btrim(name) AND length(name) BETWEEN 1 AND 100", name="instances_name_check"
        ),
        CheckConstraint("phone_number ~ '^[1-9][0-9]{6,14}$'", name="instances_phone_number_check"),
        CheckConstraint("jsonb_typeof(settings) = 'object'", name="instances_settings_check"),
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, server_default=text("gen_random_uuid()")
    )
    name: Mapped[str]
    phone_number: Mapped[str | None]
    connection_state: Mapped[ConnectionState] = mapped_column(server_default=text("'close'"))
    settings: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[Now]
    state_changed_at: Mapped[dt.datetime | None]
    phone_changed_at: Mapped[dt.datetime | None]

    session: Mapped[Session | None] = relationship(back_populates="instance", passive_deletes=True)
    webhooks: Mapped[list[Webhook]] = relationship(back_populates="instance", passive_deletes=True)
    contacts: Mapped[list[Contact]] = relationship(back_populates="instance", passive_deletes=True)
    chats: Mapped[list[Chat]] = relationship(back_populates="instance", passive_deletes=True)


class Session(Base):
    """What lets an instance log in again: ciphertext, one row a number."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("octet_length(credentials) > 0", name="sessions_credentials_check"),
    )

    instance_id: Mapped[InstanceId] = mapped_column(primary_key=True)
    # Out of the repr that a notebook shows, and fetched only when asked for.
    credentials: Mapped[bytes] = mapped_column(deferred=True)
    key_id: Mapped[str | None]
    created_at: Mapped[Now]
    updated_at: Mapped[Now]

    instance: Mapped[Instance] = relationship(back_populates="session")


class Webhook(Base):
    """Where an instance's events are sent."""

    __tablename__ = "webhooks"
    __table_args__ = (
        UniqueConstraint("instance_id", "url", name="webhooks_instance_id_url_key"),
        CheckConstraint("url ~ '^https?://[^[:space:]]+$'", name="webhooks_url_check"),
        CheckConstraint("jsonb_typeof(events) = 'array'", name="webhooks_events_check"),
        CheckConstraint("jsonb_typeof(headers) = 'object'", name="webhooks_headers_check"),
    )

    id: Mapped[BigId]
    instance_id: Mapped[InstanceId]
    url: Mapped[str]
    events: Mapped[JsonArray] = mapped_column(server_default=text("'[]'"))
    headers: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[Now]

    instance: Mapped[Instance] = relationship(back_populates="webhooks")


class Contact(Base):
    """A person known to an instance."""

    __tablename__ = "contacts"
    __table_args__ = (
        UniqueConstraint("instance_id", "jid", name="contacts_instance_id_jid_key"),
        CheckConstraint(
            r"jid ~ '^[^@[:space:]]+@(s\.whatsapp\.net|lid)$'", name="contacts_jid_check"
        ),
    )

    id: Mapped[BigId]
    instance_id: Mapped[InstanceId]
    jid: Mapped[str]
    push_name: Mapped[str | None]
    profile_picture_url: Mapped[str | None]
    name_changed_at: Mapped[dt.datetime | None]
    picture_changed_at: Mapped[dt.datetime | None]
    updated_at: Mapped[Now]

    instance: Mapped[Instance] = relationship(back_populates="contacts")


class Chat(Base):
    """A conversation with a person or a group."""

    __tablename__ = "chats"
    __table_args__ = (
        UniqueConstraint("instance_id", "jid", name="chats_instance_id_jid_key"),
        UniqueConstraint("id", "instance_id", name="chats_id_instance_id_key"),
        CheckConstraint(
            r"CASE kind WHEN 'group' THEN jid ~ '^[^@[:space:]]+@g\.us$' "
            r"ELSE jid ~ '^[^@[:space:]]+@(s\.whatsapp\.net|lid)$' END",
            name="chats_jid_kind_check",
        ),
        CheckConstraint("jsonb_typeof(labels) = 'array'", name="chats_labels_check"),
    )

    id: Mapped[BigId]
    instance_id: Mapped[InstanceId]
    jid: Mapped[str]
    kind: Mapped[ChatKind]
    name: Mapped[str | None]
    name_changed_at: Mapped[dt.datetime | None]
    labels: Mapped[JsonArray] = mapped_column(server_default=text("'[]'"))
    created_at: Mapped[Now]
    updated_at: Mapped[Now]

    instance: Mapped[Instance] = relationship(back_populates="chats")
    messages: Mapped[list[Message]] = relationship(back_populates="chat", passive_deletes=True)


class Message(Base):
    """A message, and how far it has come."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("instance_id", "whatsapp_id", name="messages_instance_id_whatsapp_id_key"),
        ForeignKeyConstraint(
            ["chat_id", "instance_id"],
            ["chats.id", "chats.instance_id"],
            ondelete="CASCADE",
        ),
        CheckConstraint("length(whatsapp_id) BETWEEN 1 AND 128", name="messages_whatsapp_id_check"),
        CheckConstraint("jsonb_typeof(key) = 'object'", name="messages_key_check"),
        CheckConstraint("jsonb_typeof(message) = 'object'", name="messages_message_check"),
        CheckConstraint(
            "sent_at >= '2009-01-01 00:00+00' AND sent_at < '2100-01-01 00:00+00'",
            name="messages_sent_at_check",
        ),
    )

    id: Mapped[BigId]
    instance_id: Mapped[uuid.UUID]
    chat_id: Mapped[int] = mapped_column(BigInteger)
    whatsapp_id: Mapped[str]
    sender_jid: Mapped[str | None]
    from_me: Mapped[bool]
    message_type: Mapped[MessageType]
    body: Mapped[str | None]
    status: Mapped[MessageStatus] = mapped_column(server_default=text("'pending'"))
    source: Mapped[MessageSource] = mapped_column(server_default=text("'unknown'"))
    key: Mapped[Json]
    message: Mapped[Json]
    sent_at: Mapped[dt.datetime]
    edited_at: Mapped[dt.datetime | None]
    deleted_at: Mapped[dt.datetime | None]
    created_at: Mapped[Now]

    chat: Mapped[Chat] = relationship(back_populates="messages")


Index("messages_chat_id_sent_at_idx", Message.chat_id, Message.sent_at.desc(), Message.id.desc())


class MessageUpdate(Base):
    """An acknowledgement, an edit or a deletion; it may arrive before its message."""

    __tablename__ = "message_updates"
    __table_args__ = (
        PrimaryKeyConstraint("instance_id", "whatsapp_id", "kind", "happened_at"),
        CheckConstraint(
            "kind ~ '^(status:[a-z_]+|edited|deleted)$'", name="message_updates_kind_check"
        ),
        CheckConstraint("jsonb_typeof(payload) = 'object'", name="message_updates_payload_check"),
    )

    instance_id: Mapped[InstanceId]
    whatsapp_id: Mapped[str]
    kind: Mapped[str]
    happened_at: Mapped[dt.datetime]
    payload: Mapped[Json] = mapped_column(server_default=text("'{}'"))
