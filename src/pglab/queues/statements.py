"""Statements of the queue in PostgreSQL, on the table ``queue_messages``."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLAIMABLE",
    "DEAD",
    "DONE",
    "DONE_IN_HAND",
    "FAILED",
    "KEEP",
    "LOCK_ONE",
    "NOTIFY",
    "PUBLISH",
    "PUBLISHED",
    "PURGE",
    "RECEIVE",
    "REJECT",
    "REVIVE",
    "STATE",
    "WAITING",
]

PUBLISH: Final = """
INSERT INTO queue_messages (queue, key, body, visible_at)
VALUES (%(queue)s, nullif(%(key)s, ''), %(body)s, now() + %(delay_s)s * interval '1 second')
ON CONFLICT (queue, key) DO NOTHING
RETURNING id
"""
# Apart, and not by DO UPDATE: that would wait for the consumer who has the row locked.
PUBLISHED: Final = "SELECT id FROM queue_messages WHERE queue = %(queue)s AND key = %(key)s"
NOTIFY: Final = "SELECT pg_notify(%s, '')"
WAITING: Final = """
    SELECT id FROM queue_messages
    WHERE queue = %(queue)s AND visible_at <= now() AND done_at IS NULL AND dead_at IS NULL
    ORDER BY visible_at, id
    FOR UPDATE SKIP LOCKED
    LIMIT %(count)s
"""
# MATERIALIZED: run once. As a subquery, a plan may run it again for each row, and claim too many.
RECEIVE: Final = f"""
WITH picked AS MATERIALIZED ({WAITING}
), judged AS (
    UPDATE queue_messages SET
        attempts = attempts + (attempts < %(most)s)::integer,
        receipt = gen_random_uuid(),
        visible_at = now() + %(visible_s)s * interval '1 second',
        dead_at = CASE WHEN attempts >= %(most)s THEN now() END,
        reason = CASE WHEN attempts >= %(most)s
                      THEN 'no answer to ' || attempts || ' deliveries' ELSE reason END
    WHERE id IN (SELECT id FROM picked)
    RETURNING id, body, coalesce(key, ''), attempts, receipt::text, dead_at IS NULL AS alive
)
SELECT * FROM judged ORDER BY id
"""  # noqa: S608 - two texts of this file
LOCK_ONE: Final = f"""
WITH picked AS MATERIALIZED ({WAITING})
SELECT id, body, coalesce(key, ''), attempts FROM queue_messages
WHERE id IN (SELECT id FROM picked)
"""  # noqa: S608 - two texts of this file
CLAIMABLE: Final = f"""
WITH picked AS MATERIALIZED ({WAITING})
SELECT EXISTS (SELECT FROM picked)
"""  # noqa: S608 - two texts of this file
DONE: Final = """
UPDATE queue_messages SET done_at = now(), receipt = NULL
WHERE id = %s AND receipt IS NOT DISTINCT FROM %s AND done_at IS NULL AND dead_at IS NULL
"""
DONE_IN_HAND: Final = "UPDATE queue_messages SET done_at = now(), receipt = NULL WHERE id = %s"
REJECT: Final = """
UPDATE queue_messages SET
    receipt = NULL,
    reason = %(reason)s,
    visible_at = now() + %(delay_s)s * interval '1 second',
    dead_at = CASE WHEN attempts >= %(most)s THEN now() END
WHERE id = %(id)s AND receipt = %(receipt)s::uuid AND done_at IS NULL
RETURNING dead_at IS NOT NULL
"""
FAILED: Final = """
UPDATE queue_messages SET
    attempts = attempts + 1,
    reason = %(reason)s,
    visible_at = now() + %(delay_s)s * interval '1 second',
    dead_at = CASE WHEN attempts + 1 >= %(most)s THEN now() END
WHERE id = %(id)s AND done_at IS NULL AND dead_at IS NULL
"""
KEEP: Final = """
UPDATE queue_messages SET visible_at = now() + %s * interval '1 second'
WHERE id = %s AND receipt = %s::uuid AND done_at IS NULL AND dead_at IS NULL
"""
DEAD: Final = """
SELECT id, body, coalesce(key, ''), attempts, reason FROM queue_messages
WHERE queue = %s AND dead_at IS NOT NULL ORDER BY dead_at, id LIMIT %s
"""
REVIVE: Final = """
UPDATE queue_messages SET dead_at = NULL, attempts = 0, visible_at = now()
WHERE id = %s AND dead_at IS NOT NULL
"""
STATE: Final = """
SELECT count(*) FILTER (WHERE done_at IS NULL AND dead_at IS NULL AND visible_at <= now()),
       count(*) FILTER (WHERE done_at IS NULL AND dead_at IS NULL AND visible_at > now()),
       count(*) FILTER (WHERE dead_at IS NOT NULL),
       count(*) FILTER (WHERE done_at IS NOT NULL)
FROM queue_messages WHERE queue = %s
"""
PURGE: Final = """
DELETE FROM queue_messages
WHERE queue = %s AND done_at < now() - %s * interval '1 second'
"""
