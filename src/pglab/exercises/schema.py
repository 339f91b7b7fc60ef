"""The exercises of lesson 02."""

from __future__ import annotations

from pglab.exercises import Accepts, Problem, Refuses, Rows, Solution, State, Wrong

__all__ = ["PROBLEMS"]

# The lesson's schema "mine" as the seed writes it, with some of the seed's rows: 400 messages are
# plenty, and which ones differs from data set to data set.
_MINE = """
CREATE SCHEMA mine;
SET search_path TO mine, public;
CREATE TABLE instances (LIKE seed.instances INCLUDING ALL);
CREATE TABLE sessions (LIKE seed.sessions INCLUDING ALL);
CREATE TABLE messages (LIKE seed.messages INCLUDING ALL,
                       FOREIGN KEY (instance_id) REFERENCES instances (id));
INSERT INTO instances SELECT * FROM seed.instances;
INSERT INTO sessions SELECT * FROM seed.sessions;
INSERT INTO messages SELECT * FROM seed.messages ORDER BY id LIMIT 400;
"""


def _mine(more: str) -> str:
    return _MINE + more


_YOURS = (
    "\n\nThe check has tables of its own: the seed's three, in the schema `mine`, with rows of the "
    "bot's in them. Yours are not touched."
)

_ORPHANS = Problem(
    id="schema.1",
    title="Count the orphans",
    prompt="How many `messages` have no instance? One row with one column, `orphans`." + _YOURS,
    starter="-- your query here",
    answer="query",
    setup=_mine("UPDATE messages SET instance_id = NULL WHERE message_id < '3';"),
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="SELECT count(*) AS orphans FROM messages WHERE instance_id IS NULL",
            why="`instance_id = NULL` is never true, not even when `instance_id` is `NULL`: it "
            'asks "is this unknown thing equal to another unknown thing?", and the answer is '
            '"unknown". So it counts 0.',
        ),
        Solution(
            sql="SELECT count(*) - count(instance_id) AS orphans FROM messages",
            why="`count(*)` counts rows, `count(x)` the rows in which `x` has a value.",
        ),
        Solution(
            sql="""\
SELECT count(*) AS orphans
FROM messages AS m
WHERE NOT EXISTS (SELECT FROM instances AS i WHERE i.id = m.instance_id)""",
            why="No instance at all: this would also find ids that point nowhere, if there were "
            "no foreign key.",
        ),
    ),
    wrong=(
        Wrong(
            sql="SELECT count(*) AS orphans FROM messages WHERE instance_id = NULL",
            says="The number of rows is right (1), and its values are not.",
        ),
        Wrong(
            sql="SELECT count(instance_id) AS orphans FROM messages WHERE instance_id IS NULL",
            says="its values are not",
        ),
        Wrong(
            sql="SELECT count(*) FROM messages WHERE instance_id IS NULL",
            says="A column has another name than asked for: orphans expected, count found.",
        ),
        Wrong(
            sql="SELECT id AS orphans FROM messages WHERE instance_id IS NULL",
            says="The column orphans has the type uuid; bigint is asked for.",
        ),
    ),
    hints=(
        (
            "`NULL` means *unknown*. There is a way of asking whether something is unknown that is "
            "no comparison."
        ),
        "`WHERE instance_id IS NULL`, and `count(*) AS orphans`.",
    ),
)

_LOOK_ALIKES = Problem(
    id="schema.2",
    title="Look-alikes",
    prompt="""\
Which names of `instances` are the same if you ignore capitals, and spaces at the ends? Show the
name without them as `cleaned`, and how many instances share it as `shared`; only names that are
shared."""
    + _YOURS,
    starter="-- your query here",
    answer="query",
    # Which names have twins depends on the data.
    setup=_mine("""
INSERT INTO instances (id, name)
SELECT gen_random_uuid(), changed
FROM seed.instances AS i,
     LATERAL (VALUES (initcap(name), 2), (name || ' ', 3), ('  ' || upper(name), 5))
         AS v(changed, n)
WHERE (SELECT count(*) FROM seed.messages AS m WHERE m.instance_id = i.id) % n = 0;
INSERT INTO instances (id, name) VALUES (gen_random_uuid(), 'lima-bot'),
                                        (gen_random_uuid(), ' Lima-Bot');
"""),
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="""\
SELECT lower(btrim(name)) AS cleaned, count(*) AS shared
FROM instances
GROUP BY lower(btrim(name))
HAVING count(*) > 1""",
            why="`UNIQUE` compares letter by letter, so for it these are different names. "
            "`HAVING` chooses among groups, as `WHERE` does among rows.",
        ),
        Solution(
            sql="""\
SELECT cleaned, shared
FROM (SELECT lower(btrim(name)) AS cleaned, count(*) AS shared FROM instances GROUP BY 1) AS c
WHERE shared >= 2""",
            why="The same without `HAVING`: count first, choose afterwards.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
SELECT lower(btrim(name)) AS cleaned, count(*) AS shared FROM instances GROUP BY 1""",
            says="too many",
        ),
        Wrong(
            sql="""
SELECT lower(name) AS cleaned, count(*) AS shared FROM instances GROUP BY 1 HAVING count(*) > 1""",
            says="missing",
        ),
        Wrong(
            sql="""
SELECT name AS cleaned, count(*) AS shared FROM instances GROUP BY 1 HAVING count(*) > 1""",
            says="missing",
        ),
        Wrong(
            sql="""
SELECT lower(btrim(name)) AS cleaned FROM instances GROUP BY 1 HAVING count(*) > 1""",
            says="The column shared is missing.",
        ),
        Wrong(
            sql="""
SELECT lower(btrim(name)) AS cleaned, count(*) OVER (PARTITION BY lower(btrim(name))) AS shared
FROM instances WHERE lower(btrim(name)) IN
    (SELECT lower(btrim(name)) FROM instances GROUP BY 1 HAVING count(*) > 1)""",
            says="some come more often than they should",
        ),
    ),
    hints=(
        "`lower(…)` and `btrim(…)` make the cleaned name. You can group by such an expression.",
        "`GROUP BY lower(btrim(name))`, and `HAVING count(*) > 1` keeps the groups of several.",
    ),
)

_NAME_RULE = Problem(
    id="schema.3",
    title="A rule for names",
    prompt="""\
Let `instances.name` have 1 to 100 characters and no spaces at its ends. Some rows break that: give
them names that obey and keep every row; names that are decent already stay as they are. Then add
the rule as the constraint `instances_name_check`. Several statements."""
    + _YOURS,
    starter="-- your statements here",
    answer="statements",
    setup=_mine("""
INSERT INTO instances (id, name)
SELECT gen_random_uuid(), name || ' ' FROM seed.instances ORDER BY name LIMIT 2;
INSERT INTO instances (id, name) VALUES (gen_random_uuid(), ''),
                                        (gen_random_uuid(), repeat('x', 120));
"""),
    checks=(
        State(
            probe="""
SELECT conname AS "constraint", convalidated AS holds_for_every_row
FROM pg_constraint WHERE conrelid = 'mine.instances'::regclass AND contype = 'c'""",
            about="the CHECK constraints of instances",
        ),
        Refuses(
            sql="INSERT INTO mine.instances (id, name) VALUES (gen_random_uuid(), '')",
            sqlstate="23514",
            says="An empty name is not refused by a CHECK.",
        ),
        Refuses(
            sql="INSERT INTO mine.instances (id, name) VALUES (gen_random_uuid(), 'lima-bot ')",
            sqlstate="23514",
            says="A name that ends with a space is not refused by a CHECK.",
        ),
        Refuses(
            sql="INSERT INTO mine.instances (id, name) VALUES (gen_random_uuid(), ' lima-bot')",
            sqlstate="23514",
            says="A name that begins with a space is not refused by a CHECK.",
        ),
        Refuses(
            sql="INSERT INTO mine.instances (id, name) "
            "VALUES (gen_random_uuid(), repeat('y', 101))",
            sqlstate="23514",
            says="A name of 101 characters is not refused by a CHECK.",
        ),
        Accepts(
            sql="INSERT INTO mine.instances (id, name) VALUES (gen_random_uuid(), 'y'), "
            "(gen_random_uuid(), repeat('z', 100)), (gen_random_uuid(), 'two words')",
            says="A decent name (one letter, 100 letters, or a space in the middle) is refused.",
        ),
        State(
            probe="SELECT count(*) AS instances FROM mine.instances",
            about="the number of instances",
            says="Rows were lost, or came in.",
        ),
        State(
            probe="""
SELECT i.id, i.name FROM mine.instances AS i JOIN seed.instances AS s USING (id)""",
            about="the names that were decent already",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
SELECT name FROM instances WHERE name <> btrim(name) OR length(name) NOT BETWEEN 1 AND 100;
UPDATE instances SET name = 'unnamed' WHERE name = '';
UPDATE instances SET name = btrim(name) || '-2' WHERE name <> btrim(name);
UPDATE instances SET name = left(name, 100) WHERE length(name) > 100;
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100)""",
            why="Why the `-2`? Without the space the name is the one that another instance has, "
            "and the unique key would refuse it. And it must not take over a name that other "
            "programs still use for somebody else.",
        ),
        Solution(
            sql="""\
BEGIN;
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND char_length(name) >= 1 AND char_length(name) <= 100) NOT VALID;
UPDATE instances SET name = 'instance ' || id
WHERE name <> btrim(name) OR name = '' OR char_length(name) > 100;
ALTER TABLE instances VALIDATE CONSTRAINT instances_name_check;
COMMIT""",
            why="`NOT VALID` first: no new bad name can come in while the old ones are mended.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100)""",
            says="23514",
        ),
        Wrong(
            sql="""
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100) NOT VALID""",
            says="the CHECK constraints of instances",
        ),
        Wrong(
            sql="""
DELETE FROM instances
WHERE name <> btrim(name) OR length(name) NOT BETWEEN 1 AND 100;
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100)""",
            says="Rows were lost",
        ),
        Wrong(
            sql="""
UPDATE instances SET name = btrim(name);
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100)""",
            says="23505",
        ),
        Wrong(
            sql="""
UPDATE instances SET name = 'bot ' || id;
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100)""",
            says="the names that were decent already",
        ),
        Wrong(
            sql="""
UPDATE instances SET name = 'bot ' || id
WHERE name <> btrim(name) OR length(name) NOT BETWEEN 1 AND 100;
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = rtrim(name) AND length(name) BETWEEN 1 AND 100)""",
            says="A name that begins with a space",
        ),
        Wrong(
            sql="""
BEGIN;
UPDATE instances SET name = 'bot ' || id
WHERE name <> btrim(name) OR length(name) NOT BETWEEN 1 AND 100;
ALTER TABLE instances ADD CONSTRAINT instances_name_check
    CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 100)""",
            says="Your transaction is still open",
        ),
    ),
    hints=(
        (
            "First clean, then constrain. Look for the bad rows with the opposite of the rule: "
            "`name <> btrim(name) OR length(name) NOT BETWEEN 1 AND 100`."
        ),
        (
            "A trimmed name may be taken (`23505`): put something behind it. The empty name "
            "and the one that is too long need an `UPDATE` as well."
        ),
        (
            "`ALTER TABLE instances ADD CONSTRAINT instances_name_check CHECK (name = btrim(name) "
            "AND length(name) BETWEEN 1 AND 100)`"
        ),
    ),
)

_FOURTH_STATE = Problem(
    id="schema.4",
    title="A fourth state",
    prompt="""\
Sessions may now be `expired`, too. Change the rule `sessions_status_check` on `sessions` in **one
statement**, so that there is never a moment without a rule. (`ALTER TABLE` can do several things
at once, with commas between.)"""
    + _YOURS,
    answer="schema",
    setup=_mine("""
ALTER TABLE sessions ADD CONSTRAINT sessions_status_check
    CHECK (status IN ('connected', 'disconnected', 'qr'));
"""),
    checks=(
        Accepts(
            sql="UPDATE mine.sessions SET status = 'expired'",
            says="A session may still not be expired.",
        ),
        Accepts(
            sql="UPDATE mine.sessions SET status = 'connected';"
            "UPDATE mine.sessions SET status = 'disconnected';"
            "UPDATE mine.sessions SET status = 'qr'",
            says="One of the states from before is not allowed any more.",
        ),
        Refuses(
            sql="UPDATE mine.sessions SET status = 'conectado'",
            sqlstate="23514",
            says="Any word is allowed now: the rule is gone.",
        ),
        State(
            probe="""
SELECT conname AS "constraint", convalidated AS holds_for_every_row
FROM pg_constraint WHERE conrelid = 'mine.sessions'::regclass AND contype = 'c'""",
            about="the CHECK constraints of sessions",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
ALTER TABLE sessions
    DROP CONSTRAINT sessions_status_check,
    ADD CONSTRAINT sessions_status_check
        CHECK (status IN ('connected', 'disconnected', 'qr', 'expired'))""",
            why="One statement is one transaction, and nobody sees the moment in between. "
            "`BEGIN; ALTER …; ALTER …; COMMIT;` would be as good.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
ALTER TABLE sessions ADD CONSTRAINT sessions_status_check
    CHECK (status IN ('connected', 'disconnected', 'qr', 'expired'))""",
            says="42710",
        ),
        Wrong(
            sql="""
ALTER TABLE sessions ADD CONSTRAINT sessions_status_check_2
    CHECK (status IN ('connected', 'disconnected', 'qr', 'expired'))""",
            says="A session may still not be expired.",
        ),
        Wrong(
            sql="ALTER TABLE sessions DROP CONSTRAINT sessions_status_check",
            says="Any word is allowed now",
        ),
        Wrong(
            sql="""
ALTER TABLE sessions
    DROP CONSTRAINT sessions_status_check,
    ADD CONSTRAINT sessions_status_check CHECK (status = 'expired') NOT VALID""",
            says="One of the states from before",
        ),
        Wrong(
            sql="""
ALTER TABLE sessions
    DROP CONSTRAINT sessions_status_check,
    ADD CHECK (status IN ('connected', 'disconnected', 'qr', 'expired')) NOT VALID""",
            says="the CHECK constraints of sessions",
        ),
        Wrong(
            sql="""
ALTER TABLE sessions DROP CONSTRAINT sessions_status_check;
ALTER TABLE sessions ADD CONSTRAINT sessions_status_check
    CHECK (status IN ('connected', 'disconnected', 'qr', 'expired'))""",
            says="One statement is asked for; there are 2 here.",
        ),
    ),
    hints=(
        "A CHECK cannot be changed: the old one goes, a wider one comes.",
        "`ALTER TABLE sessions DROP CONSTRAINT …, ADD CONSTRAINT … CHECK (…)`: one statement.",
    ),
)

_NEWS = Problem(
    id="schema.5",
    title="News about a known message",
    prompt="""\
`incoming` holds one event for each of several messages, with the columns `instance_id`,
`message_id`, `sent_at`, `from_me` and `status`. Store them in `messages` with **one** `INSERT`.
Messages that are new come in; of those that are there already, only the status may move forward
(`sent`, `delivered`, `read`), and never back.

The check has tables of its own in the schema `mine`, as the lesson has made them by now: the enum
`delivery`, `sent_at`, and the unique key `(instance_id, message_id)`. Every message needs an `id`:
`gen_random_uuid()`.""",
    answer="write",
    setup=_mine("""
CREATE TYPE delivery AS ENUM ('sent', 'delivered', 'read');
ALTER TABLE messages ALTER COLUMN status TYPE delivery USING status::delivery;
ALTER TABLE messages ALTER COLUMN timestamp TYPE timestamptz USING to_timestamp(timestamp);
ALTER TABLE messages RENAME COLUMN timestamp TO sent_at;
ALTER TABLE messages ALTER COLUMN instance_id SET NOT NULL, ADD UNIQUE (instance_id, message_id);
UPDATE messages SET status = NULL WHERE message_id < '1';
CREATE TABLE incoming AS
SELECT instance_id, message_id, sent_at, from_me,
       (ARRAY['sent', 'delivered', 'read'])[row_number() OVER (ORDER BY id) % 3 + 1]::delivery
           AS status
FROM messages ORDER BY id LIMIT 150;
INSERT INTO incoming
SELECT instance_id, message_id, to_timestamp(timestamp), from_me, 'sent'
FROM seed.messages ORDER BY id DESC LIMIT 20;
"""),
    checks=(
        State(
            probe="""
SELECT instance_id, message_id, status, sent_at, from_me, remote_jid FROM mine.messages""",
            about="the table messages",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status
FROM incoming
ON CONFLICT (instance_id, message_id)
DO UPDATE SET status = GREATEST(messages.status, EXCLUDED.status)""",
            why="`GREATEST` passes over `NULL`, and compares an enum in its declared order. If "
            "`read` was there already, `read` stays.",
        ),
        Solution(
            sql="""\
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status
FROM incoming
ON CONFLICT (instance_id, message_id) DO UPDATE SET status = EXCLUDED.status
WHERE messages.status IS NULL OR messages.status < EXCLUDED.status""",
            why="The `WHERE` skips rows that would not change, so that they are not written anew. "
            "It must think of `NULL` by itself.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status FROM incoming""",
            says="23505",
        ),
        Wrong(
            sql="""
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status FROM incoming
ON CONFLICT (instance_id, message_id) DO NOTHING""",
            says="After your statement, the table messages: The number of rows is right",
        ),
        Wrong(
            sql="""
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status FROM incoming
ON CONFLICT (instance_id, message_id) DO UPDATE SET status = EXCLUDED.status""",
            says="After your statement, the table messages: The number of rows is right",
        ),
        Wrong(
            sql="""
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status FROM incoming
ON CONFLICT (instance_id, message_id) DO UPDATE SET status = EXCLUDED.status
WHERE messages.status < EXCLUDED.status""",
            says="The number of rows is right",
        ),
        Wrong(
            sql="""
INSERT INTO messages (id, instance_id, message_id, sent_at, from_me, status)
SELECT gen_random_uuid(), instance_id, message_id, sent_at, from_me, status FROM incoming
ON CONFLICT (message_id)
DO UPDATE SET status = GREATEST(messages.status, EXCLUDED.status)""",
            says="42P10",
        ),
        Wrong(
            sql="""
UPDATE messages AS m SET status = GREATEST(m.status, i.status)
FROM incoming AS i WHERE (i.instance_id, i.message_id) = (m.instance_id, m.message_id)""",
            says="20 rows missing",
        ),
    ),
    hints=(
        (
            "`INSERT … SELECT … FROM incoming ON CONFLICT (…) DO UPDATE SET status = …`. Columns "
            "in the parentheses: those of the unique key."
        ),
        (
            "`EXCLUDED.status` is what you tried to insert, `messages.status` what is there. Which "
            "function takes the greater of the two?"
        ),
    ),
)

_WEBHOOKS = Problem(
    id="schema.6",
    title="Webhooks get their own table",
    prompt="""\
Make a table `webhooks`: `id`, a number that the database gives, as its key; `instance_id`, its
instance, with which it goes; `url`; `events`, a JSON list (nothing but a list), empty unless
given. No instance may have the same URL twice. Nothing may be `NULL`. One statement.

The check has a table `instances` of its own in the schema `mine`, with the uuid `id` as its
key.""",
    answer="schema",
    setup=_MINE,
    checks=(
        State(
            probe="""
SELECT column_name, is_nullable FROM information_schema.columns
WHERE (table_schema, table_name) = ('mine', 'webhooks')""",
            about="the columns of webhooks",
        ),
        Accepts(
            sql="""
INSERT INTO mine.webhooks (instance_id, url)
SELECT id, url FROM mine.instances,
               (VALUES ('https://example.org/a'), ('https://example.org/b')) AS v(url)""",
            says="Two URLs for each of several instances are refused, or id gets no number.",
        ),
        Accepts(
            sql="""
INSERT INTO mine.webhooks (instance_id, url, events)
SELECT id, 'https://example.org/' || repeat('a', 500), '["MESSAGES_UPSERT"]'
FROM mine.instances""",
            says="A long URL, or a list of events, is refused.",
        ),
        Accepts(
            sql="""
INSERT INTO mine.webhooks (instance_id, url)
SELECT id, 'https://example.org' FROM mine.instances;
DO $$ BEGIN
    IF EXISTS (SELECT FROM mine.webhooks WHERE events::jsonb IS DISTINCT FROM '[]') THEN
        RAISE 'events is not an empty list';
    END IF;
END $$""",
            says="Without events given, the list is to be empty.",
        ),
        Refuses(
            sql="""
INSERT INTO mine.webhooks (instance_id, url)
SELECT id, 'https://example.org' FROM mine.instances, generate_series(1, 2)""",
            sqlstate="23505",
            says="An instance may have the same URL twice.",
        ),
        Refuses(
            sql="""
INSERT INTO mine.webhooks (instance_id, url) VALUES (gen_random_uuid(), 'https://example.org')""",
            sqlstate="23503",
            says="A webhook of no instance is accepted.",
        ),
        Refuses(
            sql="""
INSERT INTO mine.webhooks (instance_id, url, events)
SELECT id, 'https://example.org', '{"MESSAGES_UPSERT": true}' FROM mine.instances""",
            sqlstate=("23514", "22P02", "42804"),
            says="events may be something other than a list.",
        ),
        Accepts(
            sql="""
DELETE FROM mine.messages;
INSERT INTO mine.webhooks (instance_id, url)
SELECT id, 'https://example.org' FROM mine.instances;
DELETE FROM mine.instances;
DO $$ BEGIN
    IF EXISTS (SELECT FROM mine.webhooks) THEN RAISE 'a webhook outlived its instance'; END IF;
END $$""",
            says="When an instance is deleted, its webhooks are to go with it.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
CREATE TABLE webhooks (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    url         text NOT NULL,
    events      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(events) = 'array'),
    UNIQUE (instance_id, url)
)""",
            why="The unique key begins with `instance_id`, so the foreign key has its index as "
            "well.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
CREATE TABLE webhooks (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    instance_id uuid REFERENCES instances (id) ON DELETE CASCADE,
    url         text NOT NULL,
    events      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(events) = 'array'),
    UNIQUE (instance_id, url)
)""",
            says="After your statement, the columns of webhooks",
        ),
        Wrong(
            sql="""
CREATE TABLE webhooks (
    id          bigint PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    url         text NOT NULL,
    events      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(events) = 'array'),
    UNIQUE (instance_id, url)
)""",
            says="id gets no number",
        ),
        Wrong(
            sql="""
CREATE TABLE webhooks (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    url         text NOT NULL UNIQUE,
    events      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(events) = 'array')
)""",
            says="Two URLs for each of several instances are refused",
        ),
        Wrong(
            sql="""
CREATE TABLE webhooks (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    url         text NOT NULL,
    events      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(events) = 'array')
)""",
            says="An instance may have the same URL twice.",
        ),
        Wrong(
            sql="""
CREATE TABLE webhooks (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instances (id),
    url         text NOT NULL,
    events      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(events) = 'array'),
    UNIQUE (instance_id, url)
)""",
            says="its webhooks are to go with it",
        ),
        Wrong(
            sql="""
CREATE TABLE webhooks (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    url         text NOT NULL,
    events      jsonb NOT NULL DEFAULT '{}',
    UNIQUE (instance_id, url)
)""",
            says="the list is to be empty",
        ),
    ),
    hints=(
        (
            "A number from the database: `bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY`. "
            "And `events` is `jsonb` with a `DEFAULT`."
        ),
        "`REFERENCES instances (id) ON DELETE CASCADE`, and a unique key of *two* columns.",
        "`jsonb` alone takes any JSON: `CHECK (jsonb_typeof(events) = 'array')`.",
    ),
)

_TEXT_WITHOUT_TEXT = Problem(
    id="schema.7",
    title="Break ours",
    prompt="""\
No schema refuses everything. In our own tables (the schema `public`), let the message that was sent
first of all become one of type `text` without a text: its `body` is `NULL`. Nothing else changes.
One `UPDATE`; if several were sent at that moment, take the one with the smallest `id`.""",
    answer="write",
    checks=(
        State(
            probe="""
SELECT id, message_type, body, status FROM messages ORDER BY sent_at, id LIMIT 3""",
            about="the three oldest messages",
        ),
        State(
            probe="""
SELECT count(*) AS messages, count(body) AS with_a_body,
       count(*) FILTER (WHERE message_type = 'text') AS texts,
       md5(string_agg(whatsapp_id, '' ORDER BY id)) AS checksum
FROM messages""",
            about="all messages together",
            says="More was changed than asked for.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
UPDATE messages SET message_type = 'text', body = NULL
WHERE id = (SELECT id FROM messages ORDER BY sent_at, id LIMIT 1)""",
            why="It is accepted: no rule ties `body` to `message_type`. One could write "
            "`CHECK (message_type <> 'text' OR body IS NOT NULL)`. But each rule is checked at "
            "every write, and one day it is wrong. A schema should refuse what can *never* be "
            "right.",
        ),
    ),
    wrong=(
        Wrong(
            sql="UPDATE messages SET message_type = 'text', body = NULL",
            says="After your statement, the three oldest messages",
        ),
        Wrong(
            sql="""
UPDATE messages SET message_type = 'text', body = ''
WHERE id = (SELECT id FROM messages ORDER BY sent_at, id LIMIT 1)""",
            says="After your statement, the three oldest messages",
        ),
        Wrong(
            sql="""
UPDATE messages SET message_type = 'text', body = NULL
WHERE id = (SELECT id FROM messages ORDER BY sent_at, id LIMIT 1)
   OR id = (SELECT max(id) FROM messages)""",
            says="More was changed than asked for.",
        ),
        Wrong(
            sql="DELETE FROM messages",
            says="3 rows missing",
        ),
    ),
    hints=(
        "Which message was first? `ORDER BY sent_at, id LIMIT 1` in a subquery gives its `id`.",
        "`UPDATE messages SET message_type = 'text', body = NULL WHERE id = (SELECT …)`",
    ),
)

PROBLEMS = (
    _ORPHANS,
    _LOOK_ALIKES,
    _NAME_RULE,
    _FOURTH_STATE,
    _NEWS,
    _WEBHOOKS,
    _TEXT_WITHOUT_TEXT,
)
