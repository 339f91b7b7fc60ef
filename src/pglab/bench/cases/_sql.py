"""SQL that several groups of cases share."""

from __future__ import annotations

from typing import Final

__all__ = ["MESSAGE_COLUMNS", "PAGE_INDEX"]

MESSAGE_COLUMNS: Final = (
    "id, instance_id, chat_id, whatsapp_id, sender_jid, from_me, message_type, body, status, "
    "source, key, message, sent_at, edited_at, deleted_at, created_at"
)
"""Of ``messages``, in their order."""

PAGE_INDEX: Final = (
    "CREATE INDEX messages_chat_id_sent_at_idx ON messages (chat_id, sent_at DESC, id DESC)"
)
"""The course's own index for a chat's page (schema.sql)."""
