-- A page of a chat, newest first: start where the page before ended. sent_at alone is no place: two messages of one
-- second share it, so the id decides between them, here and in the order.
SELECT m.id, m.whatsapp_id, m.sent_at, m.from_me, m.sender_jid, m.status,
       m.body, m.edited_at, m.deleted_at
FROM messages AS m
WHERE m.instance_id = %(instance_id)s AND m.chat_id = %(chat_id)s
  AND (m.sent_at, m.id) < (%(before_sent_at)s, %(before_id)s)
ORDER BY m.sent_at DESC, m.id DESC
LIMIT %(limit)s
