-- The newest message of every chat of a tenant, newest chat first: sort the whole history, keep the first of each chat.
SELECT latest.*
FROM (
    SELECT DISTINCT ON (m.chat_id)
           m.chat_id, c.name, m.id AS message_id, m.sent_at, m.from_me, m.body
    FROM messages AS m
    JOIN chats AS c ON c.id = m.chat_id
    WHERE m.instance_id = %(instance_id)s AND m.deleted_at IS NULL
    ORDER BY m.chat_id, m.sent_at DESC, m.id DESC
) AS latest
ORDER BY latest.sent_at DESC, latest.message_id DESC
LIMIT %(limit)s
