-- The same without a list of chats: leap through the index from one chat to the next. Where the chats are a table of
-- their own, LATERAL is simpler; this is for tables that have none (Evolution API's, the seed's).
WITH RECURSIVE latest AS (
    (SELECT m.chat_id, m.instance_id, m.id AS message_id, m.sent_at, m.from_me, m.body
     FROM messages AS m
     WHERE m.deleted_at IS NULL
     ORDER BY m.chat_id, m.sent_at DESC, m.id DESC
     LIMIT 1)
    UNION ALL
    SELECT following.*
    FROM latest AS l
    CROSS JOIN LATERAL (
        SELECT m.chat_id, m.instance_id, m.id AS message_id, m.sent_at, m.from_me, m.body
        FROM messages AS m
        WHERE m.chat_id > l.chat_id AND m.deleted_at IS NULL
        ORDER BY m.chat_id, m.sent_at DESC, m.id DESC
        LIMIT 1
    ) AS following
)
SELECT l.chat_id, c.name, l.message_id, l.sent_at, l.from_me, l.body
FROM latest AS l
JOIN chats AS c ON c.id = l.chat_id
WHERE l.instance_id = %(instance_id)s
ORDER BY l.sent_at DESC, l.message_id DESC
LIMIT %(limit)s
