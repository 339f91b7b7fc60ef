-- The same, with every message numbered within its chat.
SELECT chat_id, name, message_id, sent_at, from_me, body
FROM (
    SELECT m.chat_id, c.name, m.id AS message_id, m.sent_at, m.from_me, m.body,
           row_number() OVER (PARTITION BY m.chat_id ORDER BY m.sent_at DESC, m.id DESC) AS place
    FROM messages AS m
    JOIN chats AS c ON c.id = m.chat_id
    WHERE m.instance_id = %(instance_id)s AND m.deleted_at IS NULL
) AS numbered
WHERE place = 1
ORDER BY sent_at DESC, message_id DESC
LIMIT %(limit)s
