"""Problems of lesson 04: asking, mending and changing documents, and the index that serves them."""

from __future__ import annotations

from typing import Final

from pglab.exercises import Accepts, IndexOn, Plan, Problem, Refuses, Rows, Solution, State, Wrong

__all__ = ["PROBLEMS"]

# The webhooks of the data set are the same whatever its seed, so some come from the messages.
_MORE_WEBHOOKS: Final = """
INSERT INTO webhooks (instance_id, url, enabled, events)
SELECT instance_id, 'https://' || lower(right(whatsapp_id, 8)) || '.example.edu/hook',
       n % 5 <> 0,
       (ARRAY['["CONNECTION_UPDATE", "MESSAGES_UPSERT"]',
              '["CONTACTS_UPSERT", "CONNECTION_UPDATE"]',
              '["QRCODE_UPDATED", "MESSAGES_UPSERT", "CONNECTION_UPDATE"]',
              '["MESSAGES_UPSERT"]'])[1 + ascii(right(whatsapp_id, 1)) % 4]::jsonb
FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM messages WHERE from_me) AS m
WHERE n <= 24;
"""


def _desk(tables: str) -> str:
    """Put a problem's own tables into a schema of their own."""
    return f"CREATE SCHEMA desk; SET search_path TO desk, public; {tables}"


_CONTAINS = Problem(
    id="jsonb.1",
    title="Who hears of it",
    prompt="""\
Which **enabled** `webhooks` listen to both `MESSAGES_UPSERT` and `CONNECTION_UPDATE`, and not to
`QRCODE_UPDATED`? Show one column, `url`.

The check has more webhooks than you see.""",
    starter="-- your query here",
    answer="query",
    setup=_MORE_WEBHOOKS,
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="""\
SELECT url FROM webhooks
WHERE enabled
  AND events @> '["MESSAGES_UPSERT", "CONNECTION_UPDATE"]'
  AND NOT events @> '["QRCODE_UPDATED"]'""",
            why="""\
To contain a list is to contain each of its elements, in any order. So the two that are wanted fit
into one `@>`, and the one that is not wanted needs its own.""",
        ),
        Solution(
            sql="""\
SELECT url FROM webhooks
WHERE enabled
  AND events ?& ARRAY['MESSAGES_UPSERT', 'CONNECTION_UPDATE'] AND NOT events ? 'QRCODE_UPDATED'""",
            why="`?&` asks for all of these words, `?` for one. Both look into a list as well.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
SELECT url FROM webhooks WHERE enabled
  AND events @> '["messages.upsert", "connection.update"]' AND NOT events @> '["qrcode.updated"]'
""",
            says="missing",
        ),
        Wrong(
            sql="""
SELECT url FROM webhooks WHERE enabled AND events @> '["MESSAGES_UPSERT", "CONNECTION_UPDATE"]'
""",
            says="too many",
        ),
        Wrong(
            sql="""
SELECT url FROM webhooks WHERE enabled AND events @> '["MESSAGES_UPSERT", "CONNECTION_UPDATE"]'
  AND NOT events @> '["MESSAGES_UPSERT", "CONNECTION_UPDATE", "QRCODE_UPDATES"]'
""",
            says="too many",
        ),
        Wrong(
            sql="""
SELECT url FROM webhooks
WHERE enabled AND events = '["MESSAGES_UPSERT", "CONNECTION_UPDATE"]'
""",
            says="missing",
        ),
        Wrong(
            sql="""
SELECT url FROM webhooks WHERE enabled AND events::text LIKE '%UPSERT%'
  AND events::text LIKE '%CONNECTION_UPDATE%' AND events::text NOT LIKE '%QRCODE%'
""",
            says="too many",
        ),
        Wrong(
            sql="""
SELECT url FROM webhooks WHERE events @> '["MESSAGES_UPSERT", "CONNECTION_UPDATE"]'
  AND NOT events @> '["QRCODE_UPDATED"]'
""",
            says="too many",
        ),
    ),
    hints=(
        "Two things are wanted and one is not. How many `@>` is that?",
        "`events @> '[…, …]' AND NOT events @> '[…]'`, and do not forget `enabled`.",
    ),
)

_TWICE = Problem(
    id="jsonb.2",
    title="Unwrap what was wrapped twice",
    prompt="""\
The table `disconnections (id, reason jsonb)` holds why instances were disconnected. Some rows hold
an object. Some hold **a string that contains an object**: JSON in JSON. Some hold a plain string,
such as `"stream errored out"`, or JSON `null`.

With one `UPDATE`, turn the strings that contain an object (they begin with `{`) into that object,
and leave every other row as it is.""",
    answer="write",
    setup=_desk("""
CREATE TABLE disconnections (id bigint PRIMARY KEY, reason jsonb NOT NULL);
INSERT INTO disconnections
SELECT id, CASE id % 4
           WHEN 0 THEN jsonb_build_object('statusCode', 401, 'error', right(whatsapp_id, 6))
           WHEN 1 THEN to_jsonb(jsonb_build_object('statusCode', 515, 'error',
                                                   right(whatsapp_id, 6))::text)
           WHEN 2 THEN to_jsonb('stream errored out, ' || right(whatsapp_id, 4))
           ELSE 'null' END
FROM messages WHERE id <= 40;
"""),
    checks=(
        State(
            probe="""
SELECT id, jsonb_typeof(reason) AS kind, reason FROM disconnections""",
            about="the table disconnections",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
UPDATE disconnections SET reason = (reason #>> '{}')::jsonb
WHERE jsonb_typeof(reason) = 'string' AND starts_with(reason #>> '{}', '{')""",
            why="""\
`#>> '{}'` takes the whole document as text, and a string without its quotes. `::jsonb` then reads
what was inside. Without the condition on the type, JSON `null` would become SQL `NULL`; without the
one on `{`, the server would refuse the first plain string. From PostgreSQL 16 on,
`reason #>> '{}' IS JSON OBJECT` says it exactly.""",
        ),
        Solution(
            sql="""\
UPDATE disconnections SET reason = (reason ->> 0)::jsonb
WHERE jsonb_typeof(reason) = 'string' AND (reason ->> 0) LIKE '{%'""",
            why="""\
It works, by an oddity: where an array is asked for, a single value counts as an array of one.
`#>> '{}'` says more clearly what is meant.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="UPDATE disconnections SET reason = (reason #>> '{}')::jsonb",
            says="The server refuses your statement.",
        ),
        Wrong(
            sql="""
UPDATE disconnections SET reason = (reason #>> '{}')::jsonb WHERE jsonb_typeof(reason) = 'string'
""",
            says="invalid input syntax for type json",
        ),
        Wrong(
            sql="""
UPDATE disconnections SET reason = reason::text::jsonb WHERE jsonb_typeof(reason) = 'string'""",
            says="After your statement, the table disconnections",
        ),
        Wrong(
            sql="UPDATE disconnections SET reason = reason -> 'error' WHERE reason ? 'error'",
            says="After your statement, the table disconnections",
        ),
        Wrong(
            sql="DELETE FROM disconnections WHERE jsonb_typeof(reason) = 'string'",
            says="missing",
        ),
    ),
    hints=(
        "Which function tells a string from an object? Which operator unwraps it?",
        "`jsonb_typeof(reason)`; and `(reason #>> '{}')` is the inner text. What makes it jsonb?",
        "Two conditions: it is a string, and `starts_with(reason #>> '{}', '{')`.",
    ),
)

_UNNEST = Problem(
    id="jsonb.3",
    title="Count the labels",
    prompt="""\
`chats.labels` is a list of words, often an empty one. How many chats have each label? Show `label`
(text) and `chats`; chats without any label count as the label `none`.""",
    starter="-- your query here",
    answer="query",
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="""\
SELECT coalesce(label, 'none') AS label, count(*) AS chats
FROM chats LEFT JOIN LATERAL jsonb_array_elements_text(labels) AS label ON true
GROUP BY 1""",
            why="""\
The function makes a row of each element. An empty list makes none, and with the comma, or `CROSS
JOIN`, its chat would vanish. `LEFT JOIN … ON true` keeps it, with `NULL` as the label.""",
        ),
        Solution(
            sql="""\
SELECT label, count(*) AS chats
FROM chats, jsonb_array_elements_text(
    CASE labels WHEN '[]' THEN '["none"]' ELSE labels END) AS label
GROUP BY label""",
            why="Or give the empty list an element before it is unnested.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
SELECT label, count(*) AS chats FROM chats, jsonb_array_elements_text(labels) AS label
GROUP BY label""",
            says="1 row missing",
        ),
        Wrong(
            sql="""
SELECT coalesce(label, '"none"') AS label, count(*) AS chats
FROM chats LEFT JOIN LATERAL jsonb_array_elements(labels) AS label ON true GROUP BY 1""",
            says="The column label has the type jsonb; text is asked for.",
        ),
        Wrong(
            sql="""
SELECT coalesce(label::text, 'none') AS label, count(*) AS chats
FROM chats LEFT JOIN LATERAL jsonb_array_elements(labels) AS label ON true GROUP BY 1""",
            says="The number of rows is right (6), and 5 rows are not.",
        ),
        Wrong(
            sql="""
SELECT coalesce(labels ->> 0, 'none') AS label, count(*) AS chats FROM chats GROUP BY 1""",
            says="The number of rows is right (6), and 2 rows are not.",
        ),
        Wrong(
            sql="SELECT labels::text AS label, count(*) AS chats FROM chats GROUP BY 1",
            says="missing",
        ),
    ),
    hints=(
        "You need one row for each element. `jsonb_array_elements_text` makes them.",
        "An empty list gives no row at all. Which join keeps a chat that has no partner?",
        "`FROM chats LEFT JOIN LATERAL jsonb_array_elements_text(labels) AS label ON true`",
    ),
)

_CHANGE = Problem(
    id="jsonb.4",
    title="Five minutes more",
    prompt="""\
The bot hands a conversation over to a person after `settings` → `bot` → `handoff` → `minutes`.
Raise that **by 5** for the `instances` whose settings have `rejectCall` true. Nothing else in
`settings` may change, and `minutes` stays a number.""",
    answer="write",
    setup="""
UPDATE instances AS i SET settings = jsonb_set(settings, '{bot,handoff,minutes}', to_jsonb(
    10 + (SELECT count(*) FROM chats AS c WHERE c.instance_id = i.id)));
""",
    checks=(
        State(
            probe="SELECT name, settings FROM instances",
            about="the table instances",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
UPDATE instances
SET settings = jsonb_set(settings, '{bot,handoff,minutes}',
                         to_jsonb((settings #>> '{bot,handoff,minutes}')::integer + 5))
WHERE settings @> '{"rejectCall": true}'""",
            why="""\
Read the old value as text, make it a number, add, and turn it into jsonb again. `jsonb_set`
replaces what is at the path and keeps everything beside it.""",
        ),
        Solution(
            sql="""\
UPDATE instances
SET settings['bot']['handoff']['minutes'] =
    to_jsonb((settings['bot']['handoff']['minutes'])::integer + 5)
WHERE (settings ->> 'rejectCall')::boolean""",
            why="Brackets read and write the same places. A jsonb number can be cast directly.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
UPDATE instances SET settings = settings || jsonb_build_object('bot', jsonb_build_object(
    'handoff', jsonb_build_object(
        'minutes', (settings #>> '{bot,handoff,minutes}')::integer + 5)))
WHERE settings @> '{"rejectCall": true}'""",
            says="After your statement, the table instances",
        ),
        Wrong(
            sql="""
UPDATE instances SET settings = jsonb_set(settings, '{bot,handoff,minutes}', to_jsonb(
    ((settings #>> '{bot,handoff,minutes}')::integer + 5)::text))
WHERE settings @> '{"rejectCall": true}'""",
            says="After your statement, the table instances",
        ),
        Wrong(
            sql="""
UPDATE instances SET settings = jsonb_set(settings, '{bot,handoff,minutes}',
    to_jsonb((settings #>> '{bot,handoff,minutes}')::integer + 5))""",
            says="After your statement, the table instances",
        ),
        Wrong(
            sql="""
UPDATE instances SET settings = jsonb_set(settings, '{minutes}', '15')
WHERE settings @> '{"rejectCall": true}'""",
            says="After your statement, the table instances",
        ),
        Wrong(
            sql="""
UPDATE instances SET settings = jsonb_set(settings, '{bot,handoff,minutes}',
    to_jsonb((settings ->> 'minutes')::integer + 5)) WHERE settings @> '{"rejectCall": true}'""",
            says="The server refuses your statement.",
        ),
    ),
    hints=(
        "`||` replaces everything below `bot`. Which function replaces at a path?",
        "The new value: the old one as an integer, plus 5, and `to_jsonb(…)` around it.",
        "`jsonb_set(settings, '{bot,handoff,minutes}', to_jsonb(… + 5))`",
    ),
)

_CAPTION: Final = """
SELECT id FROM messages
WHERE message @> '{"documentMessage": {"caption": "Malla curricular de Derecho"}}'
"""
_OPTION: Final = """
SELECT id FROM messages
WHERE message @> '{"pollCreationMessageV3": {"options": [{"optionName": "Lunes"}]}}'
"""

_INDEX = Problem(
    id="jsonb.5",
    title="One index for every containment",
    prompt="""\
Support searches inside `message`, by whatever was sent:

```sql
SELECT id FROM messages
WHERE message @> '{"documentMessage": {"caption": "Malla curricular de Derecho"}}';

SELECT id FROM messages
WHERE message @> '{"pollCreationMessageV3": {"options": [{"optionName": "Lunes"}]}}';
```

Make **one index** that serves both, and any other `@>`. Each may touch at most 60 pages, and the
index may have at most 400.""",
    answer="schema",
    # Sizes and plans depend on the data; constants cannot be copied into an index.
    hidden=False,
    checks=(
        Plan(query=_CAPTION, no_seq_scan=("messages",), max_buffers=60),
        Plan(query=_OPTION, no_seq_scan=("messages",), max_buffers=60),
        State(
            probe="""
SELECT relname AS index_name, pg_relation_size(oid) / 8192 AS pages FROM pg_class
WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'messages'::regclass)
  AND relname NOT IN ('messages_pkey', 'messages_instance_id_whatsapp_id_key',
                      'messages_chat_id_sent_at_idx')
  AND pg_relation_size(oid) > 400 * 8192""",
            about="indexes that are too large",
            says="The new index may have 400 pages at most.",
        ),
    ),
    solutions=(
        Solution(
            sql="CREATE INDEX ON messages USING gin (message jsonb_path_ops)",
            why="""\
Only `@>` is asked for. `jsonb_path_ops` keeps one hash for each value *with its whole path*, where
`jsonb_ops` keeps every key and every value. So it is smaller, and finds what was asked more
directly.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="CREATE INDEX ON messages USING gin (message)",
            says="The new index may have 400 pages at most.",
        ),
        Wrong(
            sql="CREATE INDEX ON messages (message)",
            says="reads the whole table messages",
        ),
        Wrong(
            sql="CREATE INDEX ON messages ((message #>> '{documentMessage,caption}'))",
            says="reads the whole table messages",
        ),
        Wrong(
            sql="CREATE INDEX ON messages USING gin ((message -> 'documentMessage'))",
            says="reads the whole table messages",
        ),
        Wrong(
            sql="CREATE INDEX ON messages USING gin (key jsonb_path_ops)",
            says="reads the whole table messages",
        ),
    ),
    hints=(
        "Many paths, one index: it must be a GIN index on `message`.",
        "The usual kind of GIN index is too large. Which other kind serves `@>`, and little else?",
        "`CREATE INDEX ON messages USING gin (message …)`: name the other kind after the column.",
    ),
)

_OPERATOR = Problem(
    id="jsonb.6",
    title="Say what the index says",
    prompt="""\
Three receipts came in: `receipts (whatsapp_id)` has their ids. The query below finds their
messages through `key`, and reads the whole table. The check's copy **has** an index on
`((key ->> 'id'))`. Rewrite the query so that it is used: the same rows, at most 30 pages.""",
    starter="""\
SELECT m.id, m.sent_at
FROM receipts AS r
JOIN messages AS m ON m.key #> '{id}' = to_jsonb(r.whatsapp_id);""",
    answer="query",
    setup=_desk("""
CREATE INDEX messages_key_id ON messages ((key ->> 'id'));
ANALYZE messages;
CREATE TABLE receipts AS SELECT whatsapp_id FROM messages WHERE id IN (77, 1234, 2718);
ANALYZE receipts;
"""),
    checks=(
        Rows(),
        Plan(
            index=IndexOn("messages", "(key ->> 'id'::text)"),
            no_seq_scan=("messages",),
            max_buffers=30,
        ),
    ),
    solutions=(
        Solution(
            sql="""\
SELECT m.id, m.sent_at
FROM receipts AS r
JOIN messages AS m ON m.key ->> 'id' = r.whatsapp_id""",
            why="""\
The planner compares expressions as they are written. The index holds `key ->> 'id'`, so that is
what must stand in the query. It is also the simplest spelling: both sides are text.""",
        ),
        Solution(
            sql="""\
SELECT id, sent_at FROM messages
WHERE key ->> 'id' IN (SELECT whatsapp_id FROM receipts)""",
            why="The same with `IN`; the planner makes the same join of it.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
SELECT m.id, m.sent_at FROM receipts AS r
JOIN messages AS m ON m.key #>> '{id}' = r.whatsapp_id""",
            says="reads the whole table messages",
        ),
        Wrong(
            sql="""
SELECT m.id, m.sent_at FROM receipts AS r
JOIN messages AS m ON m.key -> 'id' = to_jsonb(r.whatsapp_id)""",
            says="reads the whole table messages",
        ),
        Wrong(
            sql="""
SELECT m.id, m.sent_at FROM receipts AS r
JOIN messages AS m ON m.key @> jsonb_build_object('id', r.whatsapp_id)""",
            says="reads the whole table messages",
        ),
        Wrong(
            sql="""
SELECT m.id, m.sent_at FROM receipts AS r JOIN messages AS m ON m.whatsapp_id = r.whatsapp_id""",
            says="is to use an index on",
        ),
        Wrong(
            sql="""
SELECT m.id, m.sent_at FROM receipts AS r
JOIN messages AS m ON (m.key -> 'id')::text = r.whatsapp_id""",
            says="3 rows missing",
        ),
    ),
    hints=(
        "Look at the expression in the index, letter by letter.",
        "`->` and `#>` give jsonb, `->>` and `#>>` give text. The index has one of these four.",
    ),
)

_CHECK = Problem(
    id="jsonb.7",
    title="Capitals only",
    prompt="""\
End the seed's trap: let `webhooks` refuse a subscription such as `"messages.upsert"`. Add a
`CHECK` constraint to `webhooks`, so that every element of `events` is a string of capitals and
underscores that begins with a capital. The empty list stays allowed.""",
    answer="schema",
    checks=(
        Accepts(
            sql="""UPDATE webhooks SET events = '["MESSAGES_UPSERT", "QRCODE_UPDATED"]'""",
            says="Names in capitals are refused.",
        ),
        Accepts(sql="UPDATE webhooks SET events = '[]'", says="The empty list is refused."),
        Refuses(
            sql="""UPDATE webhooks SET events = '["messages.upsert"]'""",
            sqlstate="23514",
            says="Small letters are still accepted.",
        ),
        Refuses(
            sql="""UPDATE webhooks SET events = '["MESSAGES_UPSERT", "Connection_Update"]'""",
            sqlstate="23514",
            says="A small letter in the second element is still accepted.",
        ),
        Refuses(
            sql="""UPDATE webhooks SET events = '["MESSAGES_UPSERT", 7]'""",
            sqlstate="23514",
            says="A number among the events is still accepted.",
        ),
        Refuses(
            sql="UPDATE webhooks SET events = '[null]'",
            sqlstate="23514",
            says="JSON null among the events is still accepted.",
        ),
        Refuses(
            sql="""UPDATE webhooks SET events = '[["MESSAGES_UPSERT"]]'""",
            sqlstate="23514",
            says="A list inside the list is still accepted.",
        ),
        Refuses(
            sql="""UPDATE webhooks SET events = '{"MESSAGES_UPSERT": true}'""",
            sqlstate="23514",
            says="An object is accepted: the check of the type that was there must stay.",
        ),
    ),
    solutions=(
        Solution(
            sql=r"""ALTER TABLE webhooks ADD CONSTRAINT webhooks_events_names CHECK (
    NOT events @? 'strict $[*] ? (!(@.type() == "string" && @ like_regex "^[A-Z][A-Z_]*$"))')""",
            why="""\
A `CHECK` may not have a subquery, so nothing can be unnested; a jsonpath can look at each element.
Turn the rule round: *no element exists that is not right*. `like_regex` on a number is neither true
nor false, so the type is asked first. And `strict`: in `lax` mode the filter unwraps a list inside
the list, and lets it through.""",
        ),
        Solution(
            sql="""\
ALTER TABLE webhooks ADD CONSTRAINT webhooks_events_names
CHECK (events::text ~ '^\\[("[A-Z][A-Z_]*"(, )?)*\\]$')""",
            why="""\
A regular expression over the whole text. It works because jsonb always prints the same way (one
blank after a comma, no line breaks); with `json` it would not.""",
        ),
    ),
    wrong=(
        Wrong(
            sql="""ALTER TABLE webhooks ADD CHECK (NOT events @> '["messages.upsert"]')""",
            says="A small letter in the second element is still accepted.",
        ),
        Wrong(
            sql=r"""ALTER TABLE webhooks ADD CHECK (
    events @? '$[*] ? (@ like_regex "^[A-Z][A-Z_]*$")')""",
            says="The empty list is refused.",
        ),
        Wrong(
            sql=r"""ALTER TABLE webhooks ADD CHECK (
    NOT events @? '$[*] ? (@ like_regex "[a-z]")')""",
            says="A number among the events is still accepted.",
        ),
        Wrong(
            sql=r"""ALTER TABLE webhooks ADD CHECK (
    NOT events @? '$[*] ? (!(@.type() == "string" && @ like_regex "^[A-Z][A-Z_]*$"))')""",
            says="A list inside the list is still accepted.",
        ),
        Wrong(
            sql="""
ALTER TABLE webhooks ADD CHECK (events::text = upper(events::text))""",
            says="A number among the events is still accepted.",
        ),
        Wrong(
            sql="""
ALTER TABLE webhooks ADD CHECK (
    NOT EXISTS (SELECT FROM jsonb_array_elements_text(events) AS e WHERE e ~ '[a-z]'))""",
            says="The server refuses your statement.",
        ),
    ),
    hints=(
        (
            "A `CHECK` cannot have a subquery. But a jsonpath can look at each element of a list: "
            "`'$[*] ? (…)'`."
        ),
        "Say it the other way round: `CHECK (NOT events @? '$[*] ? (!(…))')`: no bad one exists.",
        (
            '`@ like_regex "^[A-Z][A-Z_]*$"` is for strings: ask `@.type() == "string"` first. And '
            "try `strict` against a list inside the list."
        ),
    ),
)

PROBLEMS = (_CONTAINS, _TWICE, _UNNEST, _CHANGE, _INDEX, _OPERATOR, _CHECK)
