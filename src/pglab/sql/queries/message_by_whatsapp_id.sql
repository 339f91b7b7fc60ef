-- One message by the identifier that events carry. It is unique within a tenant, not on the whole server.
SELECT m.id, m.whatsapp_id, m.sent_at, m.from_me, m.sender_jid, m.status,
       m.body, m.edited_at, m.deleted_at
FROM messages AS m
WHERE m.instance_id = %(instance_id)s AND m.whatsapp_id = %(whatsapp_id)s
