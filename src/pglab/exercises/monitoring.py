"""Problems of lesson 09: questions to the catalog and to the statistics, with any names.

Statistics belong to the whole server and never stand still. So the problems about them plant a
view's rows in a schema of the same names, which comes before ``pg_catalog`` on the search path:
the answer is written as for the real view, and is the same every time.
"""

from __future__ import annotations

from typing import Final

from pglab.exercises import Problem, Rows, Solution, Wrong

__all__ = ["PROBLEMS"]

# How many there are depends on the data, so that numbers cannot be copied.
_ACTIVITY: Final = """
CREATE SCHEMA planted;
CREATE TABLE planted.pg_stat_activity AS
SELECT n AS pid, 'evolution'::text AS datname, 'gateway'::text AS usename,
       'gateway ' || n AS application_name, 'client backend'::text AS backend_type,
       CASE WHEN n % 5 = 0 THEN 'active' WHEN n % 7 = 3 THEN 'idle in transaction'
            WHEN n % 11 = 6 THEN 'idle in transaction (aborted)' ELSE 'idle' END AS state,
       CASE WHEN n % 5 = 0 OR n % 7 = 3 OR n % 11 = 6
            THEN timestamptz '2025-06-01 12:00+00' - make_interval(mins => n * 2 + n % 3)
       END AS xact_start,
       timestamptz '2025-06-01 12:00+00' - make_interval(secs => n * 37 % 900) AS state_change,
       'UPDATE chats SET updated_at = now() WHERE id = ' || n AS query
FROM generate_series(1, 20 + (SELECT count(*) FROM messages WHERE from_me)::int % 17) AS n;
INSERT INTO planted.pg_stat_activity (pid, backend_type)
SELECT 900 + n, kind FROM unnest(ARRAY['checkpointer', 'background writer', 'walwriter',
    'autovacuum launcher', 'logical replication launcher']) WITH ORDINALITY AS k(kind, n);
INSERT INTO planted.pg_stat_activity (pid, datname, backend_type, state, xact_start, state_change)
VALUES (990, 'evolution', 'autovacuum worker', 'active', '2025-06-01 09:00+00',
        '2025-06-01 09:00+00'),
       (991, 'evolution', 'parallel worker', 'active', '2025-06-01 11:59+00',
        '2025-06-01 11:59+00');
SET search_path TO planted, pg_catalog, public;
"""

# The course's own tables are emptied, and what is made in one transaction no autovacuum sees: sizes
# are the same whenever they are asked for.
_NAMES: Final = """
CREATE TEMP TABLE many ON COMMIT DROP AS SELECT count(*)::int AS n FROM messages;
TRUNCATE instances CASCADE;
TRUNCATE seed.messages, seed.sessions, seed.instances CASCADE;
CREATE SCHEMA "Evolution API";
CREATE TABLE "Message" (id text PRIMARY KEY, body text);
CREATE TABLE "Evolution API"."Message.Update" (id text PRIMARY KEY, body text);
CREATE TABLE "Evolution API"."Contacto ñ" (id text PRIMARY KEY, body text);
CREATE TABLE "Evolution API"."say ""hi"" twice" (id text PRIMARY KEY, body text);
CREATE TABLE "select" (id text PRIMARY KEY, body text);
CREATE TABLE message (id text);
INSERT INTO "select" SELECT n, repeat('x', 60) FROM generate_series(1, 1500) AS n;
INSERT INTO "Message" SELECT n, repeat('x', 60) FROM generate_series(
    1, 2000 + (SELECT m.n FROM many AS m) / 10) AS n;
INSERT INTO "Evolution API"."Message.Update" SELECT n, repeat('x', 60) FROM generate_series(
    1, 900 + (SELECT m.n FROM many AS m) / 20) AS n;
INSERT INTO "Evolution API"."Contacto ñ" SELECT n, repeat('x', 60)
FROM generate_series(1, 700) AS n;
INSERT INTO "Evolution API"."say ""hi"" twice" SELECT n, repeat('x', 60)
FROM generate_series(1, 300) AS n;
INSERT INTO message SELECT 'one';
DROP TABLE many;
"""

_COUNT = Problem(
    id="monitoring.1",
    title="Who is connected",
    prompt="""A snapshot of a busy server lies in `pg_stat_activity`. Count the **client
connections** by state, the most frequent state first.

Columns: `state`, `sessions`.""",
    answer="query",
    setup=_ACTIVITY,
    checks=(Rows(order_by=("sessions",)),),
    solutions=(
        Solution(
            sql="""SELECT state, count(*) AS sessions
FROM pg_stat_activity
WHERE backend_type = 'client backend'
GROUP BY state
ORDER BY sessions DESC""",
            why="""The view has a row for every process of the server. `backend_type` says which of
them a client is behind. That `state` or `datname` is NULL is not the same: autovacuum and parallel
workers have both.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT state, count(*) AS sessions FROM pg_stat_activity
GROUP BY state ORDER BY sessions DESC""",
            says="1 row missing and 2 too many",
        ),
        Wrong(
            sql="""SELECT state, count(*) AS sessions FROM pg_stat_activity
WHERE state IS NOT NULL GROUP BY state ORDER BY sessions DESC""",
            says="and 1 row is not",
        ),
        Wrong(
            sql="""SELECT count(*) AS sessions FROM pg_stat_activity
WHERE backend_type = 'client backend'""",
            says="The column state is missing.",
        ),
        Wrong(
            sql="""SELECT state, count(*) AS sessions FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state = 'active' GROUP BY state""",
            says="rows missing",
        ),
    ),
    hints=(
        "Look at all columns of the view: one says what kind of process a row is.",
        "`WHERE backend_type = 'client backend'`, then group by `state`.",
    ),
)

_SIZES = Problem(
    id="monitoring.2",
    title="The largest tables, whatever their names",
    prompt="""The seed's query for the largest tables fails on `"Message"`, or measures another
table. Mend it: **the five largest tables** outside `pg_catalog` and `information_schema`, with
their indexes and TOAST.

Columns: `schemaname`, `tablename`, `bytes` (a number), the largest first.""",
    answer="query",
    setup=_NAMES,
    checks=(Rows(order_by=("bytes",)),),
    solutions=(
        Solution(
            sql="""SELECT schemaname, tablename,
       pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass) AS bytes
FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
ORDER BY bytes DESC
LIMIT 5""",
            why="""`%I` quotes a name if it needs it; `public.Message` becomes
`public."Message"`. Without quotes it is folded to `public.message`, which either does not exist or
is another table.""",
        ),
        Solution(
            sql="""SELECT nspname AS schemaname, relname AS tablename,
       pg_total_relation_size(c.oid) AS bytes
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY bytes DESC
LIMIT 5""",
            why="""Better still: no name at all. `pg_class` has the table's number, and the function
takes numbers. Nothing is quoted, so nothing can be quoted wrongly.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT schemaname, tablename,
       pg_total_relation_size(schemaname||'.'||tablename) AS bytes
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
ORDER BY bytes DESC LIMIT 5""",
            says="The server refuses your statement.",
        ),
        Wrong(
            sql="""SELECT schemaname, tablename,
       pg_total_relation_size(schemaname||'.'||tablename) AS bytes
FROM pg_tables WHERE schemaname = 'public' ORDER BY bytes DESC LIMIT 5""",
            says="rows are not",
        ),
        Wrong(
            sql="""SELECT schemaname, tablename,
       pg_total_relation_size('"'||schemaname||'"."'||tablename||'"') AS bytes
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
ORDER BY bytes DESC LIMIT 5""",
            says="The server refuses your statement.",
        ),
        Wrong(
            sql="""SELECT schemaname, tablename,
       pg_relation_size(format('%I.%I', schemaname, tablename)::regclass) AS bytes
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
ORDER BY bytes DESC LIMIT 5""",
            says="and none of them is",
        ),
    ),
    hints=(
        "The text is read as SQL would read it. What does SQL do with `public.Message`?",
        "`format('%I.%I', …)` quotes what must be quoted. Or go by number: `pg_class.oid`.",
    ),
)

_DUPLICATES = Problem(
    id="monitoring.3",
    title="The same index twice",
    prompt="""Find the pairs of indexes that are **on the same table, with the same columns in the
same order and direction, the same operator classes, the same expressions and the same condition**.
One of the two can go: the younger, whose number (`indexrelid`) is larger.

Columns: `keep` and `drop`, the names of the older and the younger index, as `relname` in
`pg_class`.""",
    answer="query",
    setup="""
CREATE INDEX idx_messages_chat ON messages (chat_id, sent_at DESC, id DESC);
CREATE INDEX idx_messages_chat_asc ON messages (chat_id, sent_at, id);
CREATE INDEX "idx Instances" ON instances (name);
CREATE INDEX contacts_jid_1 ON contacts (jid, instance_id);
CREATE INDEX contacts_name_1 ON contacts (lower(push_name));
CREATE INDEX contacts_name_2 ON contacts (upper(push_name));
CREATE INDEX contacts_name_3 ON contacts (push_name text_pattern_ops);
CREATE INDEX contacts_name_4 ON contacts (push_name);
CREATE INDEX contacts_name_5 ON contacts (lower(push_name));
CREATE INDEX chats_kind_1 ON chats (kind) WHERE name IS NULL;
CREATE INDEX chats_kind_2 ON chats (kind);
""",
    hidden=False,  # the catalog is the same whatever the rows
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="""SELECT a.relname AS keep, b.relname AS drop
FROM pg_index AS i
JOIN pg_index AS j ON j.indrelid = i.indrelid AND j.indexrelid > i.indexrelid
JOIN pg_class AS a ON a.oid = i.indexrelid
JOIN pg_class AS b ON b.oid = j.indexrelid
WHERE i.indkey = j.indkey AND i.indoption = j.indoption AND i.indclass = j.indclass
  AND pg_get_expr(i.indexprs, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(j.indexprs, j.indrelid)
  AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(j.indpred, j.indrelid)""",
            why="""An index is its columns (`indkey`; 0 stands for an expression), their direction
(`indoption`), their operators (`indclass`), its expressions and its condition. The last two are
NULL in most indexes, and NULL = NULL is not true: `IS NOT DISTINCT FROM`. Before you drop the
younger, look whether it is the one that refuses duplicates, or belongs to a constraint.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT a.relname AS keep, b.relname AS drop FROM pg_index AS i
JOIN pg_index AS j ON j.indrelid = i.indrelid AND j.indexrelid > i.indexrelid
JOIN pg_class AS a ON a.oid = i.indexrelid JOIN pg_class AS b ON b.oid = j.indexrelid
WHERE i.indkey = j.indkey""",
            says="rows too many",
        ),
        Wrong(
            sql="""SELECT a.relname AS keep, b.relname AS drop FROM pg_index AS i
JOIN pg_index AS j ON j.indrelid = i.indrelid AND j.indexrelid > i.indexrelid
JOIN pg_class AS a ON a.oid = i.indexrelid JOIN pg_class AS b ON b.oid = j.indexrelid
WHERE i.indkey = j.indkey AND i.indoption = j.indoption AND i.indclass = j.indclass
  AND i.indexprs::text = j.indexprs::text AND i.indpred::text = j.indpred::text""",
            says="rows missing",
        ),
        Wrong(
            sql="""SELECT a.relname AS keep, b.relname AS drop FROM pg_index AS i
JOIN pg_index AS j ON j.indrelid = i.indrelid AND j.indexrelid <> i.indexrelid
JOIN pg_class AS a ON a.oid = i.indexrelid JOIN pg_class AS b ON b.oid = j.indexrelid
WHERE i.indkey = j.indkey AND i.indoption = j.indoption AND i.indclass = j.indclass
  AND pg_get_expr(i.indexprs, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(j.indexprs, j.indrelid)
  AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(j.indpred, j.indrelid)
""",
            says="rows too many",
        ),
        Wrong(
            sql="""SELECT i.indexrelid::regclass AS keep, j.indexrelid::regclass AS drop
FROM pg_index AS i
JOIN pg_index AS j ON j.indrelid = i.indrelid AND j.indexrelid > i.indexrelid
WHERE i.indkey = j.indkey AND i.indoption = j.indoption AND i.indclass = j.indclass
  AND pg_get_expr(i.indexprs, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(j.indexprs, j.indrelid)
  AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(j.indpred, j.indrelid)
""",
            says="has the type regclass",
        ),
    ),
    hints=(
        "Join `pg_index` to itself: the same `indrelid`, and one number smaller than the other.",
        (
            "Columns are in `indkey`, directions in `indoption`, operator classes in `indclass`. "
            "Expressions and condition: `pg_get_expr(indexprs, indrelid)`, `pg_get_expr(indpred, "
            "indrelid)`; both may be NULL, and NULLs are compared with `IS NOT DISTINCT FROM`."
        ),
    ),
)

_FOREIGN_KEYS = Problem(
    id="monitoring.4",
    title="Foreign keys without an index",
    prompt="""Find the foreign keys **of one column** for which no index helps: none on the table
begins with that column, or only one with a condition does.

Columns: `table_name` (`conrelid::regclass`, not cast to text) and `constraint_name`.""",
    answer="query",
    setup="""
CREATE TABLE "IntegrationSession" (id text PRIMARY KEY);
CREATE TABLE "Message" (
    id text PRIMARY KEY,
    "sessionId" text CONSTRAINT "Message_sessionId_fkey" REFERENCES "IntegrationSession" (id),
    "openSession" text CONSTRAINT "Message_openSession_fkey" REFERENCES "IntegrationSession" (id),
    "lastSession" text CONSTRAINT "Message_lastSession_fkey" REFERENCES "IntegrationSession" (id),
    "goodSession" text CONSTRAINT "Message_goodSession_fkey" REFERENCES "IntegrationSession" (id)
);
CREATE INDEX ON "Message" ("openSession") WHERE id IS NULL;
CREATE INDEX ON "Message" (id, "lastSession");
CREATE INDEX ON "Message" ("goodSession", id);
""",
    hidden=False,  # the catalog is the same whatever the rows
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="""SELECT conrelid::regclass AS table_name, conname AS constraint_name
FROM pg_constraint AS k
WHERE contype = 'f' AND cardinality(conkey) = 1
  AND NOT EXISTS (
      SELECT FROM pg_index AS i
      WHERE i.indrelid = k.conrelid AND i.indkey[0] = k.conkey[1] AND i.indpred IS NULL)""",
            why="""`conkey` has the key's columns by number, counted from 1; `indkey` the index's,
counted from 0. Only the first column of an index leads anywhere on its own. An index with a
condition lacks rows, and the check of a foreign key needs all that refer to something (of
conditions, hardly any but `IS NOT NULL` would do). The seed's `messages` is in the list, too.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT conrelid::regclass AS table_name, conname AS constraint_name
FROM pg_constraint AS k
WHERE contype = 'f' AND cardinality(conkey) = 1
  AND NOT EXISTS (SELECT FROM pg_index AS i
                  WHERE i.indrelid = k.conrelid AND i.indkey[0] = k.conkey[1])""",
            says="1 row missing",
        ),
        Wrong(
            sql="""SELECT conrelid::regclass AS table_name, conname AS constraint_name
FROM pg_constraint AS k
WHERE contype = 'f' AND cardinality(conkey) = 1
  AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = k.conrelid
                  AND k.conkey[1] = ANY (i.indkey) AND i.indpred IS NULL)""",
            says="1 row missing",
        ),
        Wrong(
            sql="""SELECT conrelid::regclass AS table_name, conname AS constraint_name
FROM pg_constraint WHERE contype = 'f' AND cardinality(conkey) = 1""",
            says="rows too many",
        ),
        Wrong(
            sql="""SELECT conrelid::regclass AS table_name, conname AS constraint_name
FROM pg_constraint AS k
WHERE contype = 'f' AND cardinality(conkey) = 1
  AND NOT EXISTS (
      SELECT FROM pg_index AS i
      WHERE i.indrelid = k.conrelid AND i.indkey[1] = k.conkey[1] AND i.indpred IS NULL)""",
            says="too many",
        ),
    ),
    hints=(
        "`pg_constraint` with `contype = 'f'`, and `NOT EXISTS` an index on the same table …",
        (
            "`conkey` is an array that counts from 1, `indkey` one that counts from 0: "
            "`i.indkey[0] = k.conkey[1]`. And which indexes do not hold all rows?"
        ),
    ),
)

_BLOCKING = Problem(
    id="monitoring.6",
    title="Who is at the root",
    prompt="""Sessions wait for each other. `pg_blocking_pids(pid)` returns for a session the array
of those that it waits for, empty if it waits for nobody.

For each session that **waits for nobody and that others wait for, directly or through others**:
how many are held up? Each of them counts once.

Columns: `pid`, `holds_up`; the largest number first.""",
    answer="query",
    setup="""
CREATE SCHEMA planted;
CREATE TABLE planted.pg_stat_activity AS
SELECT 100 + n AS pid, 'client backend'::text AS backend_type, 'session ' || n AS application_name,
       CASE WHEN n % 5 = 1 THEN '{}'::int[]
            WHEN n % 7 = 0 THEN ARRAY[100 + (n + 2) / 3, 101] ELSE ARRAY[100 + (n + 2) / 3]
       END AS waits_for
FROM generate_series(1, 31 + (SELECT count(*) FROM messages WHERE from_me)::int % 23) AS n;
CREATE FUNCTION planted.pg_blocking_pids(int) RETURNS int[] STABLE LANGUAGE sql AS
    'SELECT waits_for FROM planted.pg_stat_activity WHERE pid = $1';
SET search_path TO planted, pg_catalog, public;
""",
    checks=(Rows(order_by=("holds_up",)),),
    solutions=(
        Solution(
            sql="""WITH RECURSIVE behind AS (
    SELECT a.pid AS root, a.pid
    FROM pg_stat_activity AS a
    WHERE cardinality(pg_blocking_pids(a.pid)) = 0
  UNION
    SELECT b.root, a.pid
    FROM behind AS b
    JOIN pg_stat_activity AS a ON b.pid = ANY (pg_blocking_pids(a.pid))
)
SELECT root AS pid, count(*) - 1 AS holds_up
FROM behind
GROUP BY root
HAVING count(*) > 1
ORDER BY holds_up DESC""",
            why="""Begin with those that wait for nobody, and go from each to those that wait for
it, and on to those that wait for them. `UNION` (not `UNION ALL`) keeps a session once a root even
if two ways lead to it, and ends should they ever wait in a ring.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT b.pid, count(*) AS holds_up
FROM pg_stat_activity AS a, unnest(pg_blocking_pids(a.pid)) AS b (pid)
GROUP BY b.pid ORDER BY holds_up DESC""",
            says="12 too many",
        ),
        Wrong(
            sql="""SELECT b.pid, count(*) AS holds_up
FROM pg_stat_activity AS a, unnest(pg_blocking_pids(a.pid)) AS b (pid)
WHERE cardinality(pg_blocking_pids(b.pid)) = 0
GROUP BY b.pid ORDER BY holds_up DESC""",
            says="not",
        ),
        Wrong(
            sql="""WITH RECURSIVE behind AS (
    SELECT a.pid AS root, a.pid FROM pg_stat_activity AS a
    WHERE cardinality(pg_blocking_pids(a.pid)) = 0
  UNION ALL
    SELECT b.root, a.pid FROM behind AS b
    JOIN pg_stat_activity AS a ON b.pid = ANY (pg_blocking_pids(a.pid)))
SELECT root AS pid, count(*) - 1 AS holds_up FROM behind
GROUP BY root HAVING count(*) > 1 ORDER BY holds_up DESC""",
            says="not",
        ),
        Wrong(
            sql="""WITH RECURSIVE behind AS (
    SELECT a.pid AS root, a.pid FROM pg_stat_activity AS a
    WHERE cardinality(pg_blocking_pids(a.pid)) = 0
  UNION
    SELECT b.root, a.pid FROM behind AS b
    JOIN pg_stat_activity AS a ON b.pid = ANY (pg_blocking_pids(a.pid)))
SELECT root AS pid, count(*) AS holds_up FROM behind
GROUP BY root ORDER BY holds_up DESC""",
            says="too many",
        ),
    ),
    hints=(
        "A recursive query: begin with the sessions for which the array is empty.",
        (
            "The step joins `pg_stat_activity AS a ON b.pid = ANY (pg_blocking_pids(a.pid))` and "
            "keeps the root. Which of `UNION` and `UNION ALL` counts everybody once?"
        ),
    ),
)

_IDLE = Problem(
    id="monitoring.7",
    title="Open, and doing nothing",
    prompt="""The snapshot in `pg_stat_activity` was taken on 2025-06-01 at 12:00 UTC. Which client
sessions were **idle in a transaction** (also in one that had failed) that **began more than 20
minutes before**?

Columns: `pid`, `application_name`, `xact_start`; the oldest transaction first.""",
    answer="query",
    setup=_ACTIVITY,
    checks=(Rows(order_by=("xact_start",)),),
    solutions=(
        Solution(
            sql="""SELECT pid, application_name, xact_start
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state LIKE 'idle in transaction%'
  AND xact_start < timestamptz '2025-06-01 12:00+00' - interval '20 min'
ORDER BY xact_start""",
            why="""Two states have an open transaction and do nothing: the second one says that it
has failed already and only waits for its ROLLBACK. How long it has been *open* is `xact_start`;
`state_change` is the last statement's end, which may have been a second ago.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT pid, application_name, xact_start FROM pg_stat_activity
WHERE state = 'idle in transaction'
  AND xact_start < timestamptz '2025-06-01 12:00+00' - interval '20 min' ORDER BY xact_start""",
            says="missing",
        ),
        Wrong(
            sql="""SELECT pid, application_name, xact_start FROM pg_stat_activity
WHERE state LIKE 'idle in transaction%' ORDER BY xact_start""",
            says="too many",
        ),
        Wrong(
            sql="""SELECT pid, application_name, xact_start FROM pg_stat_activity
WHERE xact_start < timestamptz '2025-06-01 12:00+00' - interval '20 min' ORDER BY xact_start""",
            says="too many",
        ),
        Wrong(
            sql="""SELECT pid, application_name, xact_start FROM pg_stat_activity
WHERE state LIKE 'idle%'
  AND state_change < timestamptz '2025-06-01 12:00+00' - interval '20 min' ORDER BY xact_start""",
            says="missing",
        ),
    ),
    hints=(
        "Look at the states that there are: `SELECT DISTINCT state FROM pg_stat_activity`.",
        "Two states begin with `idle in transaction`. The transaction's age is in `xact_start`.",
    ),
)

_DEAD = Problem(
    id="monitoring.5",
    title="Where autovacuum will come",
    prompt="""A snapshot lies in `pg_stat_user_tables`. Autovacuum visits a table when its dead rows
are **more than 50 plus 20 % of its live rows**. Which tables are due?

Columns: `relname`, `n_dead_tup` and `due_at` (the limit, rounded down to a whole number); most dead
rows first.""",
    answer="query",
    setup="""
CREATE SCHEMA planted;
CREATE TABLE planted.pg_stat_user_tables AS
SELECT 'public'::name AS schemaname, ('table ' || n)::name AS relname,
       (n * n * 37 % 5000)::bigint AS n_live_tup,
       (n * (311 + (SELECT count(*) FROM messages WHERE from_me)::int % 13) % 1200)::bigint
           AS n_dead_tup
FROM generate_series(1, 40) AS n;
INSERT INTO planted.pg_stat_user_tables VALUES
    ('public', 'empty', 0, 50), ('public', 'emptied', 0, 51), ('public', 'at its limit', 1000, 250);
SET search_path TO planted, pg_catalog, public;
""",
    checks=(Rows(order_by=("n_dead_tup",)),),
    solutions=(
        Solution(
            sql="""SELECT relname, n_dead_tup, floor(50 + 0.2 * n_live_tup) AS due_at
FROM pg_stat_user_tables
WHERE n_dead_tup > 50 + 0.2 * n_live_tup
ORDER BY n_dead_tup DESC""",
            why="""50 and 0.2 are the defaults of `autovacuum_vacuum_threshold` and
`autovacuum_vacuum_scale_factor`; a table may have its own. A fifth of a billion rows is two
hundred million: for large tables set the factor lower.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""SELECT relname, n_dead_tup, floor(50 + 0.2 * n_live_tup) AS due_at
FROM pg_stat_user_tables WHERE n_dead_tup > 0.2 * n_live_tup ORDER BY n_dead_tup DESC""",
            says="too many",
        ),
        Wrong(
            sql="""SELECT relname, n_dead_tup, floor(50 + 0.2 * n_live_tup) AS due_at
FROM pg_stat_user_tables WHERE n_dead_tup >= 50 + 0.2 * n_live_tup ORDER BY n_dead_tup DESC""",
            says="2 rows too many",
        ),
        Wrong(
            sql="""SELECT relname, n_dead_tup, floor(50 + 0.2 * n_live_tup) AS due_at
FROM pg_stat_user_tables WHERE n_dead_tup / n_live_tup > 0.2 AND n_dead_tup > 50
ORDER BY n_dead_tup DESC""",
            says="The server refuses your statement.",
        ),
    ),
    hints=(
        "Write the limit as an expression of `n_live_tup`, once to compare and once to show.",
        "`n_dead_tup > 50 + 0.2 * n_live_tup`, and `floor(…)` of the same for `due_at`.",
    ),
)

PROBLEMS: Final = (_COUNT, _SIZES, _DUPLICATES, _FOREIGN_KEYS, _DEAD, _BLOCKING, _IDLE)
