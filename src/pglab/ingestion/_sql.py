"""The statements that store a batch, each taking its rows as one array a column.

Every rule here gives the same rows for the same records in any order, however often they come:

- the earliest version of a message is its first one; what happened to it later is kept apart in
  message_updates and merged in whenever either side arrives;
- a status only moves forward, the latest edit and the first deletion count;
- a name, a picture, a number and a state each belong to the last who wrote them by the gateway's
  clock, which is why each has a column with its time; the greater value wins a tie.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CHATS",
    "CONNECTIONS",
    "CONTACTS",
    "CREATE_INSTANCES",
    "LOCK_INSTANCES",
    "MERGE",
    "MESSAGES",
    "UPDATES",
]

CREATE_INSTANCES: Final = """
INSERT INTO instances (name)
SELECT name FROM unnest(%s::text[]) AS given (name) ORDER BY name COLLATE "C"
ON CONFLICT (name) DO NOTHING
RETURNING id
"""

# NO KEY: other writers' foreign keys may still look at the row.
LOCK_INSTANCES: Final = """
SELECT name, id FROM instances WHERE name = ANY (%s)
ORDER BY name COLLATE "C" FOR NO KEY UPDATE
"""

CONNECTIONS: Final = """
WITH given AS (
    SELECT id, state::connection_state, state_at, phone, phone_at
    FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::timestamptz[])
        AS given (id, state, state_at, phone, phone_at)
), judged AS (
    SELECT given.*,
        (state_at, state) > (coalesce(state_changed_at, '-infinity'), connection_state)
            AS state_is_newer,
        phone IS NOT NULL AND (phone_at, phone COLLATE "C")
            > (coalesce(phone_changed_at, '-infinity'), coalesce(phone_number, '') COLLATE "C")
            AS phone_is_newer
    FROM given JOIN instances USING (id)
)
UPDATE instances SET
    connection_state = CASE WHEN state_is_newer THEN state ELSE connection_state END,
    state_changed_at = CASE WHEN state_is_newer THEN state_at ELSE state_changed_at END,
    phone_number     = CASE WHEN phone_is_newer THEN phone ELSE phone_number END,
    phone_changed_at = CASE WHEN phone_is_newer THEN phone_at ELSE phone_changed_at END
FROM judged WHERE judged.id = instances.id AND (state_is_newer OR phone_is_newer)
RETURNING instances.id
"""

CONTACTS: Final = """
INSERT INTO contacts AS old
    (instance_id, jid, push_name, name_changed_at, profile_picture_url, picture_changed_at)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[],
                     %s::text[], %s::timestamptz[]) AS given ORDER BY 1, 2
ON CONFLICT (instance_id, jid) DO UPDATE SET
    (push_name, name_changed_at) = (
        SELECT name, at FROM (VALUES
            (old.push_name, old.name_changed_at),
            (excluded.push_name, excluded.name_changed_at)) AS claims (name, at)
        ORDER BY name IS NOT NULL DESC, at DESC NULLS LAST, name COLLATE "C" DESC LIMIT 1),
    (profile_picture_url, picture_changed_at) = (
        SELECT url, at FROM (VALUES
            (old.profile_picture_url, old.picture_changed_at),
            (excluded.profile_picture_url, excluded.picture_changed_at)) AS claims (url, at)
        ORDER BY url IS NOT NULL DESC, at DESC NULLS LAST, url COLLATE "C" DESC LIMIT 1),
    updated_at = now()
WHERE excluded.push_name IS NOT NULL AND (excluded.name_changed_at, excluded.push_name COLLATE "C")
        > (coalesce(old.name_changed_at, '-infinity'), coalesce(old.push_name, '') COLLATE "C")
   OR excluded.profile_picture_url IS NOT NULL
        AND (excluded.picture_changed_at, excluded.profile_picture_url COLLATE "C")
        > (coalesce(old.picture_changed_at, '-infinity'),
           coalesce(old.profile_picture_url, '') COLLATE "C")
RETURNING id
"""

CHATS: Final = """
INSERT INTO chats AS old (instance_id, jid, kind, name, name_changed_at)
SELECT instance_id, jid, kind::chat_kind, name, at
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
    AS given (instance_id, jid, kind, name, at)
ORDER BY instance_id, jid
ON CONFLICT (instance_id, jid) DO UPDATE
SET name = excluded.name, name_changed_at = excluded.name_changed_at, updated_at = now()
WHERE excluded.name IS NOT NULL AND (excluded.name_changed_at, excluded.name COLLATE "C")
    > (coalesce(old.name_changed_at, '-infinity'), coalesce(old.name, '') COLLATE "C")
RETURNING id
"""

# Two versions of one message (the gateway sends some twice, not always alike): the earlier stays;
# of equally old ones, the one whose JSON sorts first, so that the order of arrival decides nothing.
MESSAGES: Final = """
INSERT INTO messages AS old (instance_id, chat_id, whatsapp_id, sender_jid, from_me, message_type,
                             body, status, source, key, message, sent_at)
SELECT DISTINCT ON (given.instance_id, whatsapp_id)
    given.instance_id, chats.id, whatsapp_id, sender_jid, from_me, message_type::message_type,
    body, status::message_status, source::message_source, key::jsonb, message::jsonb, sent_at
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::boolean[], %s::text[],
            %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
    AS given (instance_id, whatsapp_id, chat_jid, sender_jid, from_me, message_type,
              body, status, source, key, message, sent_at)
JOIN chats ON chats.instance_id = given.instance_id AND chats.jid = chat_jid
ORDER BY given.instance_id, whatsapp_id, sent_at, key::jsonb::text COLLATE "C",
    message::jsonb::text COLLATE "C", message_type::message_type, source::message_source
ON CONFLICT (instance_id, whatsapp_id) DO UPDATE SET
    chat_id = excluded.chat_id, sender_jid = excluded.sender_jid, from_me = excluded.from_me,
    message_type = excluded.message_type, body = excluded.body, source = excluded.source,
    key = excluded.key, message = excluded.message, sent_at = excluded.sent_at
WHERE (excluded.sent_at, excluded.key::text COLLATE "C", excluded.message::text COLLATE "C",
       excluded.message_type, excluded.source)
    < (old.sent_at, old.key::text COLLATE "C", old.message::text COLLATE "C",
       old.message_type, old.source)
RETURNING id, xmax = 0 AS inserted
"""

UPDATES: Final = """
INSERT INTO message_updates AS old (instance_id, whatsapp_id, kind, happened_at, payload)
SELECT DISTINCT ON (instance_id, whatsapp_id, kind, happened_at)
    instance_id, whatsapp_id, kind, happened_at, payload::jsonb
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
    AS given (instance_id, whatsapp_id, kind, happened_at, payload)
ORDER BY instance_id, whatsapp_id, kind, happened_at, payload::jsonb::text COLLATE "C" DESC
ON CONFLICT (instance_id, whatsapp_id, kind, happened_at) DO UPDATE SET payload = excluded.payload
WHERE excluded.payload::text COLLATE "C" > old.payload::text COLLATE "C"
RETURNING xmax = 0 AS inserted
"""

# For every message touched: what its updates, and its other versions' statuses, make of it.
# greatest() over the enum moves a status forward; only error, its least, must outweigh pending.
MERGE: Final = """
WITH touched AS (
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS t (instance_id, whatsapp_id, status)
), facts AS (
    SELECT instance_id, whatsapp_id,
        max(label) AS furthest,
        coalesce(bool_or(label = 'error'), false) AS failed,
        min(happened_at) FILTER (WHERE kind = 'deleted') AS deleted_at,
        max(happened_at) FILTER (WHERE kind = 'edited') AS edited_at,
        (array_agg(payload ->> 'body' ORDER BY happened_at DESC)
            FILTER (WHERE kind = 'edited'))[1] AS body
    FROM (
        SELECT instance_id, whatsapp_id, kind, happened_at, payload
        FROM touched JOIN message_updates USING (instance_id, whatsapp_id)
        UNION ALL
        SELECT instance_id, whatsapp_id, 'status:' || status, NULL, NULL
        FROM touched WHERE status IS NOT NULL
    ) AS known
    LEFT JOIN unnest(enum_range(NULL::message_status)) AS label ON kind = 'status:' || label
    GROUP BY instance_id, whatsapp_id
), merged AS (
    SELECT m.id,
        CASE WHEN greatest(m.status, furthest) <= 'pending' AND (failed OR m.status = 'error')
             THEN 'error' ELSE greatest(m.status, furthest) END AS status,
        CASE WHEN facts.edited_at >= coalesce(m.edited_at, '-infinity')
             THEN facts.body ELSE m.body END AS body,
        greatest(m.edited_at, facts.edited_at) AS edited_at,
        least(m.deleted_at, facts.deleted_at) AS deleted_at
    FROM messages AS m JOIN facts USING (instance_id, whatsapp_id)
)
UPDATE messages AS m SET
    status = merged.status, body = merged.body,
    edited_at = merged.edited_at, deleted_at = merged.deleted_at
FROM merged
WHERE m.id = merged.id AND (m.status, m.body, m.edited_at, m.deleted_at)
    IS DISTINCT FROM (merged.status, merged.body, merged.edited_at, merged.deleted_at)
RETURNING m.id
"""
