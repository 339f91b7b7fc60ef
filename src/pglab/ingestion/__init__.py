"""The gateway's events, stored: idempotent, in any order, all of a batch or nothing.

    pglab.ingest(connection, json_text)

What the tables hold afterwards depends only on the set of events ever ingested, not on their order,
their number or how they were cut into batches. The rules that make it so stand in ``_sql.py``.

Decisions worth knowing:

- An instance that nobody has heard of is created, by its name, by the first event of it that stores
  anything: webhooks overtake each other, and dropping what came early loses it.
- The envelope's ``apikey`` is never read; credentials and QR codes are counted, not looked into.
- ``date_time`` is the gateway's local time with a false ``Z``. It is read on the clock of ``zone``
  and orders states, names, acknowledgements and deletions among themselves. When a message was
  sent or edited comes from WhatsApp's own timestamps, which are UTC.
- A failed message (``error``) shows as such until an acknowledgement proves it wrong.
- A deletion marks the message and keeps its text; deletions of chats and instances are ignored.
- A ``messageType`` that we do not know is ignored and counted; a known field of a wrong type is an
  error, and so is an event name that the gateway does not have.
- A text may have :data:`MAX_TEXT_BYTES`; media embedded by ``webhookBase64`` are usually more.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from pglab.ingestion._envelope import decode
from pglab.ingestion._fields import MAX_DEPTH, MAX_TEXT_BYTES
from pglab.ingestion._parse import parse
from pglab.ingestion._records import IngestReport
from pglab.ingestion._store import store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import tzinfo

    import psycopg

__all__ = ["MAX_DEPTH", "MAX_TEXT_BYTES", "IngestReport", "ingest"]


def ingest(
    connection: psycopg.Connection[Any],
    events: Iterable[Mapping[str, Any]] | Mapping[str, Any] | str | bytes,
    *,
    zone: tzinfo = UTC,
) -> IngestReport:
    """Store a batch of the gateway's events in one transaction.

    Args:
        connection: to a database with our tables. The batch is committed, unless a transaction is
            open already: that one stays open and is the caller's to commit. Two batches in one
            transaction hold their locks until its end: where others ingest at the same time, make
            them one batch.
        events: one event or many, as objects or as JSON text.
        zone: the time zone that the gateway's machine keeps; its ``date_time`` does not say.

    Raises:
        IngestError: an event is malformed; ``field`` is the path of what is wrong.
        psycopg.Error: the server refused. Either way nothing of the batch was stored.
    """
    return store(connection, parse(decode(events), zone))
