-- How many messages of each chat came in and were not read. Chats without any are not listed.
SELECT m.chat_id, count(*) AS unread
FROM messages AS m
WHERE m.instance_id = %(instance_id)s
  AND m.status = 'delivery_ack' AND NOT m.from_me AND m.deleted_at IS NULL
GROUP BY m.chat_id
