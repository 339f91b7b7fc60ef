-- The same page by its number: the server finds every row of the pages before it, and throws them away.
SELECT m.id, m.whatsapp_id, m.sent_at, m.from_me, m.sender_jid, m.status,
       m.body, m.edited_at, m.deleted_at
FROM messages AS m
WHERE m.instance_id = %(instance_id)s AND m.chat_id = %(chat_id)s
ORDER BY m.sent_at DESC, m.id DESC
LIMIT %(limit)s OFFSET %(offset)s
