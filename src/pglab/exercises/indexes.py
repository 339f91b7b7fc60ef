"""Problems of lesson 05: the right index, judged by the plan it makes possible; never by a time."""

from __future__ import annotations

from typing import Final

from pglab.exercises import IndexOn, Plan, Problem, Refuses, Rows, Solution, State, Wrong

__all__ = ["PROBLEMS"]

# The four of the seed document, word for word.
_SEED_FOUR: Final = """
CREATE INDEX idx_sessions_instance_name ON seed.sessions(instance_name);
CREATE INDEX idx_sessions_status ON seed.sessions(status);
CREATE INDEX idx_messages_instance_id ON seed.messages(instance_id);
CREATE INDEX idx_messages_timestamp ON seed.messages(timestamp DESC);
"""

_CHAT_PAGE: Final = """
SELECT content, timestamp FROM seed.messages
WHERE instance_id = 'bee6c106-8028-43b9-a46e-4b61db40443a'
  AND remote_jid = '51930005917@s.whatsapp.net'
ORDER BY timestamp DESC LIMIT 20
"""
_UNREAD: Final = """
SELECT chat_id, count(*) FROM messages
WHERE status = 'delivery_ack' AND NOT from_me GROUP BY chat_id
"""
_WHO_WROTE: Final = """
SELECT sent_at, from_me FROM messages WHERE chat_id = 213 ORDER BY sent_at DESC LIMIT 50
"""
_BY_NAME: Final = "SELECT jid FROM contacts WHERE lower(push_name) = 'luis mamani'"
_ONE_DAY: Final = """
SELECT count(*) FROM event_log
WHERE sent_at >= '2025-07-01 00:00+00' AND sent_at < '2025-07-02 00:00+00'
"""
_TRIGGER: Final = "DELETE FROM reactions WHERE message_id = 1234"


def _at_most(pages: int, table: str) -> State:
    return State(
        probe=f"""
            SELECT relname AS index_name, pg_relation_size(oid) / 8192 AS pages
            FROM pg_class
            WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass)
              AND relname NOT IN ('messages_pkey', 'messages_instance_id_whatsapp_id_key',
                                  'messages_chat_id_sent_at_idx')
              AND pg_relation_size(oid) > {pages} * 8192
        """,  # noqa: S608 (words of ours)
        about="indexes that are too large",
        says=f"The new index may have {pages} pages at most.",
        visible_only=True,
    )


_CHAT = Problem(
    id="indexes.1",
    title="A page of a chat",
    prompt="""Make **one index** on `seed.messages` that serves a page of a chat:

```sql
SELECT content, timestamp FROM seed.messages
WHERE instance_id = … AND remote_jid = … ORDER BY timestamp DESC LIMIT 20;
```

No sort, and at most 30 pages touched. The seed's four indexes are there, too.""",
    answer="schema",
    setup=_SEED_FOUR,
    hidden=False,
    checks=(Plan(query=_CHAT_PAGE, no_seq_scan=("messages",), no_nodes=("Sort",), max_buffers=30),),
    solutions=(
        Solution(
            sql="CREATE INDEX ON seed.messages (instance_id, remote_jid, timestamp)",
            why="""Two columns are compared with `=`, and one gives the order. With the first two
in front, all messages of the chat stand side by side in the index; with the time behind them, in
the order that is asked for. The server goes to the newest and reads twenty entries backwards. No
`DESC` is needed for that.""",
        ),
        Solution(
            sql="CREATE INDEX ON seed.messages (remote_jid, instance_id, timestamp DESC)",
            why="""Between columns that are both compared with `=` the order does not matter for
this query. Choose it for the other queries: which column do they have alone?""",
        ),
    ),
    wrong=(
        Wrong(
            sql="CREATE INDEX ON seed.messages (timestamp DESC, content)",
            says="30 are enough",
        ),
        Wrong(sql="CREATE INDEX ON seed.messages (instance_id, remote_jid)", says="Sort"),
        Wrong(
            sql="CREATE INDEX ON seed.messages (instance_id, timestamp DESC)",
            says="30 are enough",
        ),
        Wrong(
            sql="CREATE INDEX ON seed.messages (timestamp DESC, instance_id, remote_jid)",
            says="30 are enough",
        ),
    ),
    hints=(
        "Which columns does the query compare with `=`, and which one gives the order?",
        "An index on the columns with `=` finds the chat, and the server still has to sort.",
        "First the columns with `=`, then `timestamp`: three columns in one index.",
    ),
)

_PARTIAL = Problem(
    id="indexes.2",
    title="The unread",
    prompt="""Make an index on `messages` for the unread messages:

```sql
SELECT chat_id, count(*) FROM messages
WHERE status = 'delivery_ack' AND NOT from_me GROUP BY chat_id;
```

The query is to touch at most 10 pages, and the index itself may have at most 4.""",
    answer="schema",
    hidden=False,
    checks=(
        Plan(query=_UNREAD, no_seq_scan=("messages",), max_buffers=10),
        _at_most(4, "messages"),
    ),
    solutions=(
        Solution(
            sql="""CREATE INDEX ON messages (chat_id)
WHERE status = 'delivery_ack' AND NOT from_me""",
            why="""The condition is the same every time, so it goes into the index's `WHERE`. What
remains to be known is the chat: the only column. The index holds 281 entries instead of 50,000,
and a message that is read leaves it at the next `VACUUM`.""",
        ),
    ),
    wrong=(
        Wrong(sql="CREATE INDEX ON messages (status, from_me)", says="touches"),
        Wrong(
            sql="CREATE INDEX ON messages (status, from_me, chat_id)",
            says="The new index may have 4 pages at most.",
        ),
        Wrong(
            sql="CREATE INDEX ON messages (chat_id) WHERE status = 'read' AND NOT from_me",
            says="reads the whole table",
        ),
        Wrong(
            sql="CREATE INDEX ON messages (status) WHERE status = 'delivery_ack'",
            says="touches",
        ),
    ),
    hints=(
        "The two conditions never change. Where can an index have conditions?",
        "`CREATE INDEX ON messages (…) WHERE …`: which column is left for the brackets?",
    ),
)

_COVERING = Problem(
    id="indexes.3",
    title="A list without the table",
    prompt="""Make an index on `messages`, so that this query is an **index-only scan** without a
sort, and touches at most 10 pages:

```sql
SELECT sent_at, from_me FROM messages WHERE chat_id = 213 ORDER BY sent_at DESC LIMIT 50;
```""",
    answer="schema",
    hidden=False,
    checks=(
        Plan(query=_WHO_WROTE, nodes=("Index Only Scan",), no_nodes=("Sort",), max_buffers=10),
    ),
    solutions=(
        Solution(
            sql="CREATE INDEX ON messages (chat_id, sent_at) INCLUDE (from_me)",
            why="""`chat_id` finds the place, `sent_at` gives the order, and `from_me` is only
carried along, so that the row need not be fetched. `INCLUDE` says just that.""",
        ),
        Solution(
            sql="CREATE INDEX ON messages (chat_id, sent_at DESC, from_me)",
            why="""It works with the column behind the others, too. `INCLUDE` also works for types
that have no order, and in a unique index, where a further key would change the rule.""",
        ),
    ),
    wrong=(
        Wrong(sql="CREATE INDEX ON messages (chat_id, sent_at)", says="Index Only Scan"),
        Wrong(sql="CREATE INDEX ON messages (chat_id) INCLUDE (from_me)", says="Index Only Scan"),
        Wrong(sql="CREATE INDEX ON messages (sent_at, from_me)", says="Index Only Scan"),
    ),
    hints=(
        "Which columns does the query touch? All of them must be in the index.",
        "The index that is there has `chat_id` and `sent_at`. What does it lack?",
        "`CREATE INDEX ON messages (chat_id, sent_at) INCLUDE (…)`",
    ),
)

_EXPRESSION = Problem(
    id="indexes.4",
    title="Names in any capitals",
    prompt="""Make the index that this query can use:

```sql
SELECT jid FROM contacts WHERE lower(push_name) = 'luis mamani';
```""",
    answer="schema",
    hidden=False,
    checks=(
        Plan(
            query=_BY_NAME,
            no_seq_scan=("contacts",),
            index=IndexOn("contacts", "lower(push_name)"),
            max_buffers=10,
        ),
    ),
    solutions=(
        Solution(
            sql="CREATE INDEX ON contacts (lower(push_name))",
            why="""The query compares `lower(push_name)`, so that is what the index must hold. An
index on `push_name` holds *Luis Mamani*, and knows nothing of *luis mamani*.""",
        ),
    ),
    wrong=(
        Wrong(sql="CREATE INDEX ON contacts (push_name)", says="reads the whole table"),
        Wrong(sql="CREATE INDEX ON contacts (upper(push_name))", says="reads the whole table"),
        Wrong(
            sql="CREATE INDEX ON contacts (push_name) WHERE push_name = lower(push_name)",
            says="reads the whole table",
        ),
    ),
    hints=(
        "What stands to the left of the `=`? It is not a column.",
        "An index can hold the result of a function: `(f(column))`.",
    ),
)

_BRIN = Problem(
    id="indexes.5",
    title="A day, for three pages",
    prompt="""A table `event_log (id, sent_at, body)` holds the bodies of all messages, in the order
of `sent_at`. Make an index on it, **at most 5 pages** large, with which counting one day touches at
most 300 of its 631 pages:

```sql
SELECT count(*) FROM event_log
WHERE sent_at >= '2025-07-01 00:00+00' AND sent_at < '2025-07-02 00:00+00';
```""",
    answer="schema",
    hidden=False,
    setup="""
CREATE TABLE event_log AS SELECT id, chat_id, sent_at, body FROM messages ORDER BY id;
ALTER TABLE event_log DROP COLUMN chat_id;
ANALYZE event_log;
""",
    checks=(
        Plan(query=_ONE_DAY, no_seq_scan=("event_log",), max_buffers=300),
        _at_most(5, "event_log"),
    ),
    solutions=(
        Solution(
            sql="CREATE INDEX ON event_log USING brin (sent_at)",
            why="""BRIN notes the earliest and the latest `sent_at` of each 128 pages. The rows lie
in that order, so one day is in one or two such stretches.""",
        ),
        Solution(
            sql="CREATE INDEX ON event_log USING brin (sent_at) WITH (pages_per_range = 16)",
            why="Shorter stretches spare more of the table, and the index has more entries.",
        ),
        Solution(
            sql="""
CREATE INDEX ON event_log (sent_at)
WHERE sent_at >= '2025-07-01 00:00+00' AND sent_at < '2025-07-02 00:00+00'""",
            why="""A partial B-tree passes as well, for this one day. Tomorrow it is useless: BRIN
serves every day.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="CREATE INDEX ON event_log (sent_at)",
            says="The new index may have 5 pages at most.",
        ),
        Wrong(sql="CREATE INDEX ON event_log USING brin (id)", says="reads the whole table"),
        Wrong(sql="CREATE INDEX ON event_log USING hash (sent_at)", says="reads the whole table"),
    ),
    hints=(
        "A list of 50,000 times does not fit on 5 pages. A summary does.",
        "`CREATE INDEX ON event_log USING … (sent_at)`",
    ),
)

_FOREIGN_KEY = Problem(
    id="indexes.6",
    title="The foreign key's other side",
    prompt="""A table `reactions (id, message_id, emoji, reacted_at)` refers to `messages` with
`ON DELETE CASCADE`. It has its primary key, and an index on `(emoji, message_id)`. Deleting one
message takes long. Make **one index** that helps.""",
    answer="schema",
    hidden=False,
    setup="""
CREATE TABLE reactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id bigint NOT NULL REFERENCES messages ON DELETE CASCADE,
    emoji text NOT NULL,
    reacted_at timestamptz NOT NULL
);
INSERT INTO reactions (message_id, emoji, reacted_at)
SELECT id, (ARRAY['👍', '❤️', '😂', '🙏'])[1 + id % 4], sent_at FROM messages
WHERE id % 3 = 1 ORDER BY md5(id::text);
CREATE INDEX reactions_emoji_message_id_idx ON reactions (emoji, message_id);
ANALYZE reactions;
""",
    checks=(
        Refuses(
            sql="INSERT INTO reactions (message_id, emoji, reacted_at) VALUES (-1, '👍', now())",
            sqlstate="23503",
            says="The foreign key must stay.",
        ),
        Plan(
            query=_TRIGGER,
            index=IndexOn("reactions", "message_id"),
            max_buffers=10,
            says="This is what the foreign key's trigger runs for each message that goes.",
        ),
    ),
    solutions=(
        Solution(
            sql="CREATE INDEX ON reactions (message_id)",
            why="""For each deleted message the trigger runs `DELETE FROM reactions WHERE
message_id = …`. The index that is there has `message_id` second: a telephone book cannot be
searched by first name. PostgreSQL makes no index for the referring side by itself.""",
        ),
        Solution(
            sql="CREATE INDEX ON reactions (message_id, emoji)",
            why="Further columns behind it do no harm, and may serve another query.",
        ),
    ),
    wrong=(
        Wrong(sql="CREATE INDEX ON messages (id)", says="an index on reactions (message_id)"),
        Wrong(
            sql="CREATE INDEX ON reactions (reacted_at, message_id)",
            says="an index on reactions (message_id)",
        ),
        Wrong(
            sql="CREATE INDEX ON reactions (message_id) WHERE emoji = '👍'",
            says="an index on reactions (message_id)",
        ),
        Wrong(
            sql="ALTER TABLE reactions DROP CONSTRAINT reactions_message_id_fkey",
            says="The foreign key must stay",
        ),
    ),
    hints=(
        "What must the server find in `reactions` when message 1234 goes?",
        "The index on `(emoji, message_id)` has the column, and in the wrong place.",
    ),
)

# Two more copies, whose names depend on the data, so that no constant passes; and decoys: another
# order, a condition, an expression, another kind of index, another table.
_COPIES: Final = """
DO $$
DECLARE word text := substr(md5((SELECT max(message_id) FROM seed.messages)), 1, 6);
BEGIN
    EXECUTE format('CREATE INDEX %I ON seed.messages (remote_jid, timestamp)', 'a_' || word);
    EXECUTE format('CREATE INDEX %I ON seed.messages (remote_jid, timestamp)', 'b_' || word);
END $$;
CREATE INDEX decoy_order ON seed.messages (timestamp, remote_jid);
CREATE INDEX decoy_condition ON seed.sessions (instance_name) WHERE status = 'connected';
CREATE INDEX decoy_expression ON seed.sessions (lower(instance_name));
CREATE INDEX decoy_hash ON seed.messages USING hash (instance_id);
"""
_FIND_COPIES: Final = """
SELECT copy_class.relname AS index_name
FROM pg_index AS copy
JOIN pg_class AS copy_class ON copy_class.oid = copy.indexrelid
WHERE copy_class.relnamespace = 'seed'::regnamespace
  AND copy.indexprs IS NULL AND copy.indpred IS NULL
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = copy.indexrelid)
  AND EXISTS (
      SELECT FROM pg_index AS kept
      JOIN pg_class AS kept_class ON kept_class.oid = kept.indexrelid
      WHERE kept.indrelid = copy.indrelid AND kept.indexrelid <> copy.indexrelid
        AND kept.indkey::text = copy.indkey::text AND kept_class.relam = copy_class.relam
        AND kept.indexprs IS NULL AND kept.indpred IS NULL
        AND (EXISTS (SELECT FROM pg_constraint WHERE conindid = kept.indexrelid)
             OR kept_class.relname < copy_class.relname))
"""
_FIND = Problem(
    id="indexes.7",
    title="Find the copies",
    prompt="""Write a query that returns one column, `index_name`: the names (`relname`) of the
indexes in the schema `seed` that could go, because another index on the same table has the same
columns in the same order and is of the same kind (B-tree, hash, …), and neither of the two has
expressions or a condition. Of such a pair, list the one that belongs to no constraint; of two that
belong to none, the one whose name sorts last.

What you need stands in `pg_index` (`indexrelid`, `indrelid`, `indkey`, `indexprs`, `indpred`), in
`pg_class` (`relname`, `relnamespace`, `relam`) and in `pg_constraint` (`conindid`).""",
    answer="query",
    starter="-- your query here",
    setup=_SEED_FOUR + _COPIES,
    checks=(Rows(),),
    solutions=(
        Solution(
            sql=_FIND_COPIES,
            why="""Each index is held against the others of its table. `indkey` lists the columns
by number, in order; as text, two lists compare with `=`. An expression has number 0 and a
condition does not show in `indkey`, so both are left out by `IS NULL`. `relam` is the kind. Before
you drop something in earnest, compare `indclass`, `indcollation` and `indoption`, too.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="SELECT 'idx_sessions_instance_name'::name AS index_name",
            says="row",
        ),
        Wrong(
            sql=_FIND_COPIES.replace("\n  AND copy.indexprs IS NULL AND copy.indpred IS NULL", ""),
            says="row",
        ),
        Wrong(
            sql=_FIND_COPIES.replace(
                "\n  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = copy.indexrelid)",
                "",
            ).replace(
                """
        AND (EXISTS (SELECT FROM pg_constraint WHERE conindid = kept.indexrelid)
             OR kept_class.relname < copy_class.relname)""",
                "",
            ),
            says="row",
        ),
        Wrong(sql=_FIND_COPIES.replace(" AND kept_class.relam = copy_class.relam", ""), says="row"),
    ),
    hints=(
        "Join `pg_index` with itself: the same `indrelid`, another `indexrelid`.",
        "`indkey::text` is the list of columns. No expression, no condition: `indexprs IS NULL`.",
        "An index belongs to a constraint if `pg_constraint.conindid` is its `indexrelid`.",
    ),
)

PROBLEMS = (_CHAT, _PARTIAL, _COVERING, _EXPRESSION, _BRIN, _FOREIGN_KEY, _FIND)
