"""Problems of lesson 03: the queries of a gateway, with the cases that go wrong in production."""

from __future__ import annotations

from typing import Final

from pglab.exercises import Accepts, Problem, Refuses, Rows, Solution, State, Wrong

__all__ = ["PROBLEMS"]

# A problem's own tables stand in a schema of their own, before ours in the search path.
_MINE: Final = "CREATE SCHEMA mine; SET search_path TO mine, public;"

_ARRIVALS: Final = """
CREATE TABLE arrivals (instance_name text, remote_jid text, message_id text, content text,
                       "timestamp" bigint);
INSERT INTO arrivals VALUES
    ('sciencebot-production', '51900000001@s.whatsapp.net', '3EB0ARRIVAL1', 'Hola', 1772000001),
    ('sciencebot-produccion', '51900000002@s.whatsapp.net', '3EB0ARRIVAL2', 'Hello', 1772000002),
    ('sciencebot-becas',      '51900000003@s.whatsapp.net', '3EB0ARRIVAL3', NULL, 1772000003),
    ('SCIENCEBOT-BECAS',      '51900000004@s.whatsapp.net', '3EB0ARRIVAL4', 'Olá', 1772000004);
"""

_NO_ORPHAN: Final = Problem(
    id="queries.1",
    title="No orphans",
    prompt="""Four messages wait in the table `arrivals` (`instance_name`, `remote_jid`,
`message_id`, `content`, `timestamp`). Two of them name an instance that does not exist.

Store in `seed.messages` those whose instance exists, in one `INSERT`: a new `id`, the instance's
id, the four values, and `from_me` false. Of the others, nothing.""",
    answer="write",
    setup=_MINE + _ARRIVALS,
    checks=(
        State(
            probe="""
                SELECT i.name AS instance, m.remote_jid, m.message_id, m.content, m.timestamp,
                       m.from_me
                FROM seed.messages AS m LEFT JOIN seed.instances AS i ON i.id = m.instance_id
                WHERE m.message_id LIKE '3EB0ARRIVAL%' OR m.instance_id IS NULL
            """,
            about="the arrivals in seed.messages",
        ),
    ),
    solutions=(
        Solution(
            sql="""INSERT INTO seed.messages (id, instance_id, remote_jid, message_id,
                           content, timestamp, from_me)
SELECT gen_random_uuid(), i.id, a.remote_jid, a.message_id, a.content, a.timestamp, false
FROM arrivals AS a
JOIN seed.instances AS i ON i.name = a.instance_name""",
            why="""`INSERT … SELECT` inserts as many rows as the query returns, and a join returns
no row where nothing matches. The seed's subquery *inside* `VALUES` returns `NULL` instead, and
the row is stored. A program should look at the row count, and report what was not stored.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""INSERT INTO seed.messages (id, instance_id, remote_jid, message_id,
                           content, timestamp, from_me)
SELECT gen_random_uuid(), (SELECT id FROM seed.instances AS i WHERE i.name = a.instance_name),
       a.remote_jid, a.message_id, a.content, a.timestamp, false
FROM arrivals AS a""",
            says="2 rows too many",
        ),
        Wrong(
            sql="""INSERT INTO seed.messages (id, instance_id, remote_jid, message_id,
                           content, timestamp, from_me)
SELECT gen_random_uuid(), i.id, a.remote_jid, a.message_id, a.content, a.timestamp, false
FROM arrivals AS a
JOIN seed.instances AS i ON i.name = lower(a.instance_name)""",
            says="1 row too many",
        ),
        Wrong(
            sql="""INSERT INTO seed.messages (id, instance_id, remote_jid, message_id,
                           content, timestamp)
SELECT gen_random_uuid(), i.id, a.remote_jid, a.message_id, a.content, a.timestamp
FROM arrivals AS a JOIN seed.instances AS i ON i.name = a.instance_name""",
            says="The number of rows is right (2), and none of them is.",
        ),
        Wrong(
            sql="""INSERT INTO seed.messages (id, instance_id, remote_jid, message_id,
                           content, timestamp, from_me)
SELECT gen_random_uuid(), i.id, a.remote_jid, a.message_id, a.content, a.timestamp, false
FROM arrivals AS a CROSS JOIN seed.instances AS i""",
            says="too many",
        ),
    ),
    hints=(
        "`INSERT INTO … SELECT …` inserts what a query returns. What should it return here?",
        "A `JOIN` on the instance's name drops the rows that find no partner.",
    ),
)

_WAITING_WRONG_FILTER: Final = """
SELECT c.name, latest.sent_at, latest.body
FROM chats AS c
JOIN instances AS i ON i.id = c.instance_id AND i.name = 'sciencebot-posgrado'
CROSS JOIN LATERAL (
    SELECT m.sent_at, m.body FROM messages AS m
    WHERE m.chat_id = c.id AND m.deleted_at IS NULL AND NOT m.from_me
    ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
) AS latest
ORDER BY latest.sent_at DESC LIMIT 10
"""

_WAITING: Final = Problem(
    id="queries.2",
    title="Who waits for an answer?",
    prompt="""In which chats of `sciencebot-posgrado` did the *other* side have the last word?
Those people wait for an answer.

Show `name`, `sent_at` and `body` of that last message, for the ten newest, newest first. A deleted
message (`deleted_at`) is no word.""",
    answer="query",
    checks=(
        Rows(
            order_by=("sent_at",),
            says="In a chat that waits, the newest message of all is not from us.",
        ),
    ),
    solutions=(
        Solution(
            sql="""SELECT c.name, latest.sent_at, latest.body
FROM chats AS c
JOIN instances AS i ON i.id = c.instance_id AND i.name = 'sciencebot-posgrado'
CROSS JOIN LATERAL (
    SELECT m.sent_at, m.from_me, m.body
    FROM messages AS m
    WHERE m.chat_id = c.id AND m.deleted_at IS NULL
    ORDER BY m.sent_at DESC, m.id DESC
    LIMIT 1
) AS latest
WHERE NOT latest.from_me
ORDER BY latest.sent_at DESC
LIMIT 10""",
            why="""First find each chat's newest message, then ask who wrote it: the condition on
`from_me` stands *outside* the `LATERAL`. Inside, it would find each chat's newest message *from
them*, and also list the chats that were answered long ago.""",
        ),
        Solution(
            sql="""SELECT name, sent_at, body
FROM (SELECT DISTINCT ON (m.chat_id) c.name, m.sent_at, m.body, m.from_me
      FROM messages AS m
      JOIN chats AS c ON c.id = m.chat_id
      JOIN instances AS i ON i.id = c.instance_id
      WHERE i.name = 'sciencebot-posgrado' AND m.deleted_at IS NULL
      ORDER BY m.chat_id, m.sent_at DESC, m.id DESC) AS latest
WHERE NOT from_me
ORDER BY sent_at DESC
LIMIT 10""",
            why="""The same with `DISTINCT ON`. Here, too, the condition stands outside. It reads
the tenant's whole history.""",
        ),
    ),
    wrong=(
        Wrong(sql=_WAITING_WRONG_FILTER, says="the newest message of all is not from us"),
        Wrong(
            sql="""SELECT c.name, m.sent_at, m.body
FROM messages AS m JOIN chats AS c ON c.id = m.chat_id
JOIN instances AS i ON i.id = c.instance_id
WHERE i.name = 'sciencebot-posgrado' AND NOT m.from_me AND m.deleted_at IS NULL
ORDER BY m.sent_at DESC LIMIT 10""",
            says="the newest message of all is not from us",
        ),
        Wrong(
            sql=_WAITING_WRONG_FILTER.replace(" AND NOT m.from_me", "")
            .replace("SELECT m.sent_at,", "SELECT m.from_me, m.sent_at,")
            .replace("ORDER BY latest.sent_at DESC", "WHERE NOT latest.from_me"),
            says="9 rows are not",
        ),
        Wrong(
            sql="""SELECT c.name, latest.sent_at, latest.body
FROM chats AS c
CROSS JOIN LATERAL (
    SELECT m.sent_at, m.from_me, m.body FROM messages AS m
    WHERE m.chat_id = c.id AND m.deleted_at IS NULL
    ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
) AS latest
WHERE NOT latest.from_me
ORDER BY latest.sent_at DESC LIMIT 10""",
            says="none of them is",
        ),
    ),
    hints=(
        "Begin with the inbox by `LATERAL`: one newest message for each chat.",
        "Where must `NOT from_me` stand: before the newest message is chosen, or after?",
        "Let the `LATERAL` return `from_me`, too, and filter in the `WHERE` outside it.",
    ),
)

# Messages of one hour share a time, and some old ones came with a synchronisation: large ids.
_PLACE: Final = """
CREATE TABLE last_seen AS
    SELECT chat_id FROM messages GROUP BY chat_id ORDER BY count(*) DESC, chat_id LIMIT 1;
UPDATE messages SET sent_at = date_trunc('hour', sent_at)
    WHERE id IN (SELECT id FROM messages WHERE chat_id = (SELECT chat_id FROM last_seen)
                 ORDER BY sent_at DESC, id DESC LIMIT 40);
INSERT INTO messages (id, instance_id, chat_id, whatsapp_id, from_me, message_type, body, key,
                      message, sent_at)
    -- Ids of our own: a sequence would go on counting from one run to the next.
    SELECT id + 1000000, instance_id, chat_id, whatsapp_id || '-SYNC', from_me, message_type,
           'synchronised late', key, message, sent_at
    FROM messages WHERE chat_id = (SELECT chat_id FROM last_seen)
    ORDER BY sent_at DESC, id DESC OFFSET 12 LIMIT 20;
ALTER TABLE last_seen ADD sent_at timestamptz, ADD id bigint;
UPDATE last_seen SET (sent_at, id) = (
    SELECT m.sent_at, m.id FROM messages AS m
    WHERE m.chat_id = last_seen.chat_id AND m.id < 1000000
      AND EXISTS (SELECT FROM messages AS o WHERE o.chat_id = m.chat_id AND o.sent_at = m.sent_at
                  AND o.id < m.id)
    ORDER BY m.sent_at DESC, m.id DESC OFFSET 9 LIMIT 1);
ANALYZE messages, last_seen;
"""

_KEYSET: Final = Problem(
    id="queries.3",
    title="The next page",
    prompt="""A reader scrolls through a chat, newest message first. The table `last_seen` has one
row: the `chat_id`, and `sent_at` and `id` of the last message that was on the screen.

Show the next 20 messages: `id`, `sent_at`, `body`, newest first. Where times are equal, the
greater `id` comes first. No message may come twice or be left out.""",
    answer="query",
    setup=_MINE + _PLACE,
    checks=(
        Rows(
            order_by=("sent_at", "id"),
            says="Several messages of this chat have the same sent_at, and the page ended among "
            "them; ids do not follow the time.",
        ),
    ),
    solutions=(
        Solution(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l
JOIN messages AS m ON m.chat_id = l.chat_id AND (m.sent_at, m.id) < (l.sent_at, l.id)
ORDER BY m.sent_at DESC, m.id DESC
LIMIT 20""",
            why="""`(a, b) < (x, y)` compares like words in a dictionary: by `a`, and only where
those are equal, by `b`. It is the same order as the `ORDER BY`, and the same as the index on
`(chat_id, sent_at DESC, id DESC)`. So the server can go to that place in the index and read on.""",
        ),
        Solution(
            sql="""SELECT id, sent_at, body
FROM messages
WHERE chat_id = (SELECT chat_id FROM last_seen)
  AND (sent_at, id) < (SELECT sent_at, id FROM last_seen)
ORDER BY sent_at DESC, id DESC
LIMIT 20""",
            why="""The same with subqueries in place of a join. A program sends the three values as
parameters; they came with the page before.""",
        ),
        Solution(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l
JOIN messages AS m ON m.chat_id = l.chat_id
WHERE m.sent_at < l.sent_at OR m.sent_at = l.sent_at AND m.id < l.id
ORDER BY m.sent_at DESC, m.id DESC
LIMIT 20""",
            why="""Spelt out, it is the same condition and gives the same rows. But the server
cannot turn an `OR` into one place in the index. Row comparison says it better, and shorter.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l JOIN messages AS m ON m.chat_id = l.chat_id AND m.sent_at < l.sent_at
ORDER BY m.sent_at DESC, m.id DESC LIMIT 20""",
            says="the page ended among them",
        ),
        Wrong(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l JOIN messages AS m ON m.chat_id = l.chat_id AND m.sent_at <= l.sent_at
ORDER BY m.sent_at DESC, m.id DESC LIMIT 20""",
            says="the page ended among them",
        ),
        Wrong(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l JOIN messages AS m ON m.chat_id = l.chat_id AND m.id < l.id
ORDER BY m.sent_at DESC, m.id DESC LIMIT 20""",
            says="ids do not follow the time",
        ),
        Wrong(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l
JOIN messages AS m ON m.chat_id = l.chat_id AND m.sent_at <= l.sent_at AND m.id < l.id
ORDER BY m.sent_at DESC, m.id DESC LIMIT 20""",
            says="ids do not follow the time",
        ),
        Wrong(
            sql="""SELECT m.id, m.sent_at, m.body
FROM last_seen AS l
JOIN messages AS m ON m.chat_id = l.chat_id
WHERE m.sent_at < l.sent_at OR m.sent_at = l.sent_at AND m.id < l.id
ORDER BY m.id DESC, m.sent_at DESC LIMIT 20""",
            says="8 rows are not",
        ),
        Wrong(
            sql="""SELECT id, sent_at, body FROM messages
WHERE chat_id = (SELECT chat_id FROM last_seen)
ORDER BY sent_at DESC, id DESC LIMIT 20 OFFSET 10""",
            says="the page ended among them",
        ),
    ),
    hints=(
        "`sent_at < …` leaves messages out, `sent_at <= …` repeats some. Two columns are needed.",
        "PostgreSQL compares whole rows: `(sent_at, id) < (…, …)`.",
        (
            "`WHERE chat_id = (SELECT chat_id FROM last_seen) AND (sent_at, id) < (SELECT sent_at, "
            "id FROM last_seen)`, ordered by both, descending."
        ),
    ),
)

_UNREAD: Final = Problem(
    id="queries.4",
    title="The badge of every number",
    prompt="""For every instance: its `name`, and how many messages are `unread`. Unread is what
came in (`from_me` is false), has the status `delivery_ack` and was not deleted. An instance
without unread messages shows 0.""",
    answer="query",
    setup="""UPDATE messages SET status = 'read' WHERE status = 'delivery_ack' AND instance_id =
(SELECT id FROM instances WHERE name = 'sciencebot-internacional')""",
    checks=(Rows(says="Every instance is to be there, also one with 0."),),
    solutions=(
        Solution(
            sql="""SELECT i.name, count(m.id) AS unread
FROM instances AS i
LEFT JOIN messages AS m
       ON m.instance_id = i.id AND m.status = 'delivery_ack'
      AND NOT m.from_me AND m.deleted_at IS NULL
GROUP BY i.id""",
            why="""Two traps. In `WHERE`, the conditions on `m` would throw away the instances
that found no message: the `LEFT JOIN` would have been in vain. And `count(*)` counts rows, so the
empty partner counts as one; `count(m.id)` counts what is not `NULL`.""",
        ),
        Solution(
            sql="""SELECT name, (SELECT count(*) FROM messages AS m
              WHERE m.instance_id = i.id AND m.status = 'delivery_ack'
                AND NOT m.from_me AND m.deleted_at IS NULL) AS unread
FROM instances AS i""",
            why="""A subquery a row: easy to read. The server runs it once for each instance,
which is fine for six and not for six thousand.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT i.name, count(*) AS unread
FROM instances AS i JOIN messages AS m ON m.instance_id = i.id
WHERE m.status = 'delivery_ack' AND NOT m.from_me AND m.deleted_at IS NULL GROUP BY i.id""",
            says="Every instance is to be there",
        ),
        Wrong(
            sql="""SELECT i.name, count(*) AS unread
FROM instances AS i LEFT JOIN messages AS m ON m.instance_id = i.id
 AND m.status = 'delivery_ack' AND NOT m.from_me AND m.deleted_at IS NULL GROUP BY i.id""",
            says="also one with 0",
        ),
        Wrong(
            sql="""SELECT i.name, count(m.id) AS unread
FROM instances AS i LEFT JOIN messages AS m ON m.instance_id = i.id
WHERE m.status = 'delivery_ack' AND NOT m.from_me AND m.deleted_at IS NULL GROUP BY i.id""",
            says="Every instance is to be there",
        ),
        Wrong(
            sql="""SELECT i.name, count(m.id) AS unread
FROM instances AS i LEFT JOIN messages AS m ON m.instance_id = i.id
 AND m.status = 'delivery_ack' AND m.deleted_at IS NULL GROUP BY i.id""",
            says="The number of rows is right (6)",
        ),
    ),
    hints=(
        (
            "A `LEFT JOIN` keeps every instance. What happens to it if a condition on the messages "
            "stands in `WHERE`?"
        ),
        "Put every condition on the messages into the `ON`, and count a column of the messages.",
    ),
)

_INGEST: Final = """
INSERT INTO seed.messages (id, instance_id, message_id, content, timestamp, from_me)
SELECT gen_random_uuid(), id, '3EB0ARBITER', 'Hola', 1772000001, false
FROM seed.instances WHERE name = '{instance}'
ON CONFLICT (instance_id, message_id) DO NOTHING;
"""
_PLAIN: Final = _INGEST.replace("ON CONFLICT (instance_id, message_id) DO NOTHING", "")
_PRODUCTION = "sciencebot-production"

_ARBITER: Final = Problem(
    id="queries.5",
    title="An arbiter for ON CONFLICT",
    prompt="""`INSERT INTO seed.messages … ON CONFLICT (instance_id, message_id) DO NOTHING` fails
with `42P10`. Give the seed's table what it needs, with one statement, so that the same message is
stored once for each instance.""",
    answer="schema",
    checks=(
        Accepts(
            sql=_INGEST.format(instance=_PRODUCTION) * 2,
            says="INSERT … ON CONFLICT (instance_id, message_id) still fails.",
        ),
        Refuses(
            sql=_PLAIN.format(instance=_PRODUCTION) * 2,
            sqlstate="23505",
            says="The same message can still be stored twice.",
        ),
        Accepts(
            sql=_INGEST.format(instance=_PRODUCTION) + _INGEST.format(instance="sciencebot-becas"),
            says="Two instances may have messages with the same message_id; one was refused.",
        ),
    ),
    solutions=(
        Solution(
            sql="CREATE UNIQUE INDEX ON seed.messages (instance_id, message_id)",
            why="""`ON CONFLICT (…)` names the columns of a **unique** index: the arbiter. Its
columns must be exactly these, in any order. Without one PostgreSQL cannot tell what a conflict
is, and says `42P10`.""",
        ),
        Solution(
            sql="ALTER TABLE seed.messages ADD UNIQUE (message_id, instance_id)",
            why="""A unique constraint makes the same index, and is the better style: it says that
this is a rule of the data, not a means of speed.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="CREATE INDEX ON seed.messages (instance_id, message_id)",
            says="ON CONFLICT (instance_id, message_id) still fails.",
        ),
        Wrong(
            sql="CREATE UNIQUE INDEX ON seed.messages (message_id)",
            says="ON CONFLICT (instance_id, message_id) still fails.",
        ),
        Wrong(
            sql="CREATE UNIQUE INDEX ON seed.messages (instance_id, message_id, timestamp)",
            says="ON CONFLICT (instance_id, message_id) still fails.",
        ),
        Wrong(
            sql="""CREATE UNIQUE INDEX ON seed.messages (instance_id, message_id)
WHERE NOT from_me""",
            says="ON CONFLICT (instance_id, message_id) still fails.",
        ),
        Wrong(
            sql="ALTER TABLE seed.messages ADD UNIQUE (instance_id)",
            says="The server refuses your statement.",
        ),
    ),
    hints=(
        "An ordinary index finds rows. What kind of index can *refuse* one?",
        (
            "A unique index, or a unique constraint, on exactly the two columns that `ON CONFLICT` "
            "names."
        ),
    ),
)

_HEARD: Final = """
CREATE TABLE heard (instance_id uuid, jid text, push_name text);
INSERT INTO heard
    SELECT instance_id, jid,
           CASE row_number() OVER (ORDER BY id) % 3
               WHEN 0 THEN push_name WHEN 1 THEN push_name || ' (new)' END
    FROM contacts WHERE push_name IS NOT NULL ORDER BY id LIMIT 30;
INSERT INTO heard
    SELECT id, '51900000009@s.whatsapp.net', 'Nueva' FROM instances
    UNION ALL SELECT id, '51900000010@s.whatsapp.net', NULL FROM instances;
UPDATE contacts SET updated_at = '2026-01-01 00:00+00';
"""
_UPSERT: Final = """INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard
ON CONFLICT (instance_id, jid) DO UPDATE
SET push_name = excluded.push_name, updated_at = now()
WHERE excluded.push_name IS NOT NULL
  AND excluded.push_name IS DISTINCT FROM contacts.push_name"""

_CONTACTS: Final = Problem(
    id="queries.6",
    title="Names as they come",
    prompt="""The table `heard` (`instance_id`, `jid`, `push_name`) holds what today's events say
about people. Bring it into `contacts`, in one `INSERT`:

- who is new is inserted, also without a name
- who is known gets the new `push_name`, and `updated_at` becomes `now()`
- a `NULL` in `heard` must not delete a name
- a contact whose name is the same already must not be touched: `updated_at` stays""",
    answer="write",
    setup=_MINE + _HEARD,
    checks=(
        State(
            probe="SELECT instance_id, jid, push_name FROM contacts",
            about="the names in contacts",
        ),
        State(
            probe="SELECT instance_id, jid, push_name, updated_at = now() AS touched FROM contacts",
            about="which contacts were touched",
            says="Only new contacts and changed names count as touched.",
        ),
    ),
    solutions=(
        Solution(
            sql=_UPSERT,
            why="""`excluded` is the row that could not be inserted. `DO UPDATE … WHERE` decides
whether the old row is written at all: an `UPDATE` that changes nothing still writes a new version
of the row, which somebody must clean up later. `IS DISTINCT FROM` also works where the old name is
`NULL`; with `<>` such a contact would never get a name.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard ON CONFLICT DO NOTHING""",
            says="After your statement, the names in contacts",
        ),
        Wrong(
            sql="""INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard
ON CONFLICT (instance_id, jid) DO UPDATE
SET push_name = excluded.push_name, updated_at = now()""",
            says="After your statement, the names in contacts",
        ),
        Wrong(
            sql="""INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard
ON CONFLICT (instance_id, jid) DO UPDATE
SET push_name = coalesce(excluded.push_name, contacts.push_name), updated_at = now()""",
            says="Only new contacts and changed names count as touched.",
        ),
        Wrong(
            sql="""INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard
ON CONFLICT (jid) DO UPDATE SET push_name = excluded.push_name""",
            says="The server refuses your statement.",
        ),
        Wrong(
            sql="""INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard""",
            says="The server refuses your statement.",
        ),
        Wrong(
            sql="""INSERT INTO contacts (instance_id, jid, push_name)
SELECT instance_id, jid, push_name FROM heard WHERE push_name IS NOT NULL
ON CONFLICT (instance_id, jid) DO UPDATE
SET push_name = excluded.push_name, updated_at = now()
WHERE excluded.push_name <> contacts.push_name""",
            says="missing",
        ),
    ),
    hints=(
        "`ON CONFLICT (…) DO UPDATE SET …`; the arbiter is the unique key of `contacts`.",
        "`DO UPDATE` can have a `WHERE`; there `excluded` is the new row and `contacts` the old.",
        "Two conditions: the new name is not `NULL`, and it `IS DISTINCT FROM` the old one.",
    ),
)

_PAYERS: Final = """
CREATE TABLE payers AS
    SELECT id AS chat_id, row_number() OVER (ORDER BY id) AS place
    FROM chats ORDER BY id LIMIT 6;
UPDATE chats SET labels = CASE place WHEN 1 THEN '[]' WHEN 2 THEN '["vip"]' WHEN 3 THEN '["paid"]'
                                     WHEN 4 THEN '["unpaid"]' WHEN 5 THEN '["vip", "paid"]'
                                     ELSE '["lead", "vip"]' END::jsonb
FROM payers WHERE chat_id = chats.id;
ALTER TABLE payers DROP place;
"""

_LABEL: Final = Problem(
    id="queries.7",
    title="A label, added atomically",
    prompt="""Six people paid; their chats are in the table `payers` (`chat_id`). Add the label
`paid` at the end of the `labels` of each of these chats, with one `UPDATE`: without reading first,
without losing a label that is there, and only where `paid` is not among them yet.""",
    answer="write",
    setup=_MINE + _PAYERS,
    checks=(
        State(
            probe="SELECT id, labels FROM chats",
            about="the labels of the chats",
        ),
    ),
    solutions=(
        Solution(
            sql="""UPDATE chats
SET labels = labels || '["paid"]'
FROM payers
WHERE payers.chat_id = chats.id AND NOT labels ? 'paid'""",
            why="""The new value is computed from the row as it is at this moment, under the row's
lock: two such statements at once are done one after the other, and both labels stay. `||` appends;
`?` asks whether the array holds this text as an element, so that `unpaid` is not taken for
`paid`.""",
        ),
        Solution(
            sql="""UPDATE chats
SET labels = jsonb_insert(labels, '{-1}', '"paid"', true)
WHERE id IN (SELECT chat_id FROM payers) AND NOT labels @> '["paid"]'""",
            why="""`jsonb_insert` puts it after the last element, and `@>` asks whether the array
contains it. Lesson 04 takes these operators apart.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""UPDATE chats SET labels = '["paid"]'
FROM payers WHERE chat_id = chats.id""",
            says="After your statement, the labels of the chats",
        ),
        Wrong(
            sql="""UPDATE chats SET labels = labels || '["paid"]'
FROM payers WHERE chat_id = chats.id""",
            says="After your statement, the labels of the chats",
        ),
        Wrong(
            sql="""UPDATE chats SET labels = labels || '["paid"]'
FROM payers WHERE chat_id = chats.id AND labels::text NOT LIKE '%paid%'""",
            says="After your statement, the labels of the chats",
        ),
        Wrong(
            sql="""UPDATE chats SET labels = labels || '["paid"]' WHERE NOT labels ? 'paid'""",
            says="After your statement, the labels of the chats",
        ),
        Wrong(
            sql="""UPDATE chats SET labels = labels || 'paid'
FROM payers WHERE chat_id = chats.id AND NOT labels ? 'paid'""",
            says="The server refuses your statement.",
        ),
    ),
    hints=(
        """Two JSON arrays are joined by `||`: `labels || '["paid"]'`.""",
        "`labels ? 'paid'` tells whether the array holds that text. `UPDATE … FROM payers` joins.",
    ),
)

PROBLEMS: Final = (_NO_ORPHAN, _WAITING, _KEYSET, _UNREAD, _ARBITER, _CONTACTS, _LABEL)
