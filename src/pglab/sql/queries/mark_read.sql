-- What came in up to a moment is read now. A status only moves forward: what was played stays so.
UPDATE messages AS m
SET status = 'read'
WHERE m.instance_id = %(instance_id)s AND m.chat_id = %(chat_id)s
  AND NOT m.from_me AND m.status < 'read' AND m.sent_at <= %(until)s
