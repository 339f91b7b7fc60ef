"""The tables of the queues in PostgreSQL, and the consumer's note of what it has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg

__all__ = ["create_tables", "first_time"]

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS queue_messages (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue        text NOT NULL,
    key          text,
    body         jsonb NOT NULL,
    attempts     integer NOT NULL DEFAULT 0,
    -- Nobody sees it before: a claim moves it into the future.
    visible_at   timestamptz NOT NULL DEFAULT now(),
    -- Of the last claim: whose time has run out has another's here.
    receipt      uuid,
    published_at timestamptz NOT NULL DEFAULT now(),
    done_at      timestamptz,
    dead_at      timestamptz,
    reason       text,
    CONSTRAINT queue_messages_queue_key_key UNIQUE (queue, key)
);
-- What is done stays for a while, for the sake of its key, and costs a claim nothing.
CREATE INDEX IF NOT EXISTS queue_messages_waiting_idx ON queue_messages (queue, visible_at, id)
    WHERE done_at IS NULL AND dead_at IS NULL;
CREATE TABLE IF NOT EXISTS outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Messages of one key keep their order.
    key          text NOT NULL,
    body         jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX IF NOT EXISTS outbox_unpublished_idx ON outbox (id) WHERE published_at IS NULL;
CREATE TABLE IF NOT EXISTS seen_messages (
    consumer text NOT NULL,
    message  text NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT seen_messages_pkey PRIMARY KEY (consumer, message)
)
"""
_SEE: Final = """
INSERT INTO seen_messages (consumer, message) VALUES (%s, %s) ON CONFLICT DO NOTHING
"""


def create_tables(connection: psycopg.Connection[Any]) -> None:
    """Create ``queue_messages``, ``outbox`` and ``seen_messages``, unless they exist.

    Args:
        connection: committed, unless a transaction is open already.
    """
    with connection.transaction():
        connection.execute(_TABLES)


def first_time(connection: psycopg.Connection[Any], consumer: str, message: str) -> bool:
    """Note that a consumer handles a message; return whether it is for the first time.

    Call it in the transaction of the effects: the two are committed together or not at all, so that
    a message which is delivered again has its effects once. If another transaction is just handling
    the same one, this waits for its end.

    Args:
        connection: with the transaction of the effects open.
        consumer: who; each handles a message once.
        message: what names it at each delivery, such as :attr:`Message.key`.
    """
    return connection.execute(_SEE, (consumer, message)).rowcount == 1
