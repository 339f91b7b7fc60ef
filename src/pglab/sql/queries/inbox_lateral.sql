-- The same, chat by chat: the index on (chat_id, sent_at DESC, id DESC) has the newest message of each in front.
SELECT c.id AS chat_id, c.name, latest.message_id, latest.sent_at, latest.from_me, latest.body
FROM chats AS c
CROSS JOIN LATERAL (
    SELECT m.id AS message_id, m.sent_at, m.from_me, m.body
    FROM messages AS m
    WHERE m.chat_id = c.id AND m.deleted_at IS NULL
    ORDER BY m.sent_at DESC, m.id DESC
    LIMIT 1
) AS latest
WHERE c.instance_id = %(instance_id)s
ORDER BY latest.sent_at DESC, latest.message_id DESC
LIMIT %(limit)s
