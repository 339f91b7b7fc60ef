"""The exercises of lesson 01."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pglab.exercises import (
    Accepts,
    Answer,
    Behaves,
    Problem,
    Refuses,
    Solution,
    State,
    World,
    Wrong,
    error_of,
    expect,
)

__all__ = ["PROBLEMS"]

# A

_INCIDENTS = """
CREATE TABLE incidents (
    instance_id uuid NOT NULL REFERENCES instances (id),
    what text NOT NULL,
    closed_at timestamptz
);
"""

_BOTH = Problem(
    id="why.1",
    title="Two writes, one statement",
    prompt="""\
The number of `sciencebot-becas` was logged out. In **one statement**: set the `connection_state` of
that instance to `'close'`, and store one row into `incidents (instance_id, what)` with its id and
the words `logged out`.

A statement is all or nothing, even without `BEGIN`. `UPDATE … RETURNING` can stand in a `WITH`.""",
    answer="write",
    setup=_INCIDENTS,
    checks=(
        State(probe="SELECT name, connection_state FROM instances", about="the instances' states"),
        State(
            probe="SELECT name, what FROM incidents JOIN instances ON instances.id = instance_id",
            about="the table incidents",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
WITH closed AS (
    UPDATE instances SET connection_state = 'close'
    WHERE name = 'sciencebot-becas'
    RETURNING id
)
INSERT INTO incidents (instance_id, what)
SELECT id, 'logged out' FROM closed""",
            why="`RETURNING` hands the changed row on. If the `INSERT` fails, the `UPDATE` is "
            "undone with it: they are one statement.",
        ),
        Solution(
            sql="""\
WITH noted AS (
    INSERT INTO incidents (instance_id, what)
    SELECT id, 'logged out' FROM instances WHERE name = 'sciencebot-becas'
    RETURNING instance_id
)
UPDATE instances SET connection_state = 'close'
FROM noted WHERE instances.id = noted.instance_id""",
            why="The other way round works as well.",
        ),
    ),
    wrong=(
        Wrong(
            sql="UPDATE instances SET connection_state = 'close' WHERE name = 'sciencebot-becas'",
            says="After your statement, the table incidents",
        ),
        Wrong(
            sql="""
INSERT INTO incidents (instance_id, what)
SELECT id, 'logged out' FROM instances WHERE name = 'sciencebot-becas'""",
            says="After your statement, the instances' states",
        ),
        Wrong(
            sql="""
WITH closed AS (UPDATE instances SET connection_state = 'close' RETURNING id)
INSERT INTO incidents (instance_id, what) SELECT id, 'logged out' FROM closed""",
            says="After your statement, the instances' states",
        ),
        Wrong(
            sql="""
WITH closed AS (
    UPDATE instances SET connection_state = 'close' WHERE name = 'sciencebot-becas' RETURNING id)
INSERT INTO incidents (instance_id, what)
SELECT instances.id, 'logged out' FROM instances, closed""",
            says="After your statement, the table incidents",
        ),
    ),
    hints=(
        "Begin with `WITH closed AS (UPDATE … RETURNING id)`.",
        "Behind it comes `INSERT INTO incidents (instance_id, what) SELECT … FROM closed`.",
    ),
)

# C

_OPEN = "INSERT INTO incidents (instance_id, what) SELECT id, 'first' FROM instances;"
_CLOSE = "UPDATE incidents SET closed_at = '2026-03-01 12:00+00';"

_ONE_OPEN = Problem(
    id="why.2",
    title="One open incident",
    prompt="""\
An incident is open while its `closed_at` is `NULL`. Write **one statement** after which an instance
can have **at most one open** incident, and as many closed ones as it likes, also several that were
closed at the same moment.""",
    answer="schema",
    setup=_INCIDENTS,
    checks=(
        Accepts(sql=_OPEN, says="Not even one open incident for each instance is allowed."),
        Refuses(
            sql=_OPEN + _OPEN,
            sqlstate="23505",
            says="A second open incident of the same instance is still let in.",
        ),
        Accepts(
            sql=_OPEN + _CLOSE + _OPEN,
            says="After an incident is closed, no new one can be opened.",
        ),
        Accepts(
            sql=_OPEN + _CLOSE + _OPEN + _CLOSE,
            says="Two incidents that were closed at the same moment are refused.",
        ),
    ),
    solutions=(
        Solution(
            sql="CREATE UNIQUE INDEX ON incidents (instance_id) WHERE closed_at IS NULL",
            why="A partial unique index: the rule is about the rows that the `WHERE` selects, and "
            "about no others.",
        ),
    ),
    wrong=(
        Wrong(
            sql="CREATE UNIQUE INDEX ON incidents (instance_id)",
            says="After an incident is closed, no new one can be opened.",
        ),
        Wrong(
            sql="CREATE UNIQUE INDEX ON incidents (instance_id, closed_at)",
            says="A second open incident of the same instance is still let in.",
        ),
        Wrong(
            sql="ALTER TABLE incidents ADD UNIQUE NULLS NOT DISTINCT (instance_id, closed_at)",
            says="Two incidents that were closed at the same moment are refused.",
        ),
        Wrong(
            sql="CREATE INDEX ON incidents (instance_id) WHERE closed_at IS NULL",
            says="A second open incident of the same instance is still let in.",
        ),
    ),
    hints=(
        "A unique index can have a `WHERE`.",
        "`CREATE UNIQUE INDEX ON incidents (instance_id) WHERE …`: the rows that are open.",
    ),
)

# I


def _nothing_is_lost(answer: Answer, world: World) -> None:
    with world.connect() as other, world.connect() as mine:
        answer.count_up(mine, "messages")
        mine.rollback()  # what was not committed is gone
        expect(_counter(world) == 1, "One call, and the counter is not 1.", f"{_counter(world)}")
        other.execute("UPDATE counters SET n = n + 1 WHERE name = 'messages'")

        def go_on() -> None:
            _wait_for_a_waiter(world)
            other.commit()

        world.together(lambda: answer.count_up(mine, "messages"), go_on)
        mine.rollback()
    found = _counter(world)
    expect(
        found == 3,
        "An update is lost: somebody else counted up between your reading and your writing.",
        f"three times counted up, and the counter says {found}",
    )


def _only_this_one(answer: Answer, world: World) -> None:
    with world.connect(autocommit=False) as mine:
        answer.count_up(mine, "calls")
        mine.rollback()
    with world.connect() as connection:
        rows = connection.execute("SELECT name, n FROM counters ORDER BY name").fetchall()
    expect(
        [tuple(row) for row in rows] == [("calls", 1), ("messages", 0)],
        "It is to count up the counter of that name, and no other.",
        f"{rows}",
    )


def _counter(world: World) -> int:
    with world.connect() as connection:
        row = connection.execute("SELECT n FROM counters WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else -1


def _wait_for_a_waiter(world: World, seconds: float = 1.0) -> None:
    # Until the learner's statement waits for the other's row; who never waits has read already.
    deadline = time.monotonic() + seconds
    with world.connect(autocommit=True) as watcher:
        while time.monotonic() < deadline:
            row = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            if row and row[0]:
                return
            time.sleep(0.01)


_COUNT_UP_STARTER = """\
import psycopg


def count_up(connection, name):
    ...
"""

_COUNT_UP = Problem(
    id="why.3",
    title="Count without losing",
    prompt="""\
Write `count_up(connection, name)`: it adds 1 to `n` in the row of the table `counters (name, n)`
that has this name, and commits. `connection` is an ordinary psycopg connection (not autocommit) at
PostgreSQL's default level, `READ COMMITTED`. Others count up at the same time: **no update may be
lost**.""",
    answer="python",
    starter=_COUNT_UP_STARTER,
    setup="""
CREATE TABLE counters (name text PRIMARY KEY, n bigint NOT NULL);
INSERT INTO counters VALUES ('messages', 0), ('calls', 0);
""",
    hidden=False,  # the counters are the same on any data
    checks=(
        Behaves(scenario=_only_this_one, database=True),
        Behaves(scenario=_nothing_is_lost, database=True),
    ),
    solutions=(
        Solution(
            python="""\
def count_up(connection, name):
    connection.execute("UPDATE counters SET n = n + 1 WHERE name = %s", [name])
    connection.commit()
""",
            why="The reading is part of the writing. An `UPDATE` that had to wait looks at the row "
            "again, as it is now, before it counts.",
        ),
        Solution(
            python="""\
def count_up(connection, name):
    row = connection.execute(
        "SELECT n FROM counters WHERE name = %s FOR UPDATE", [name]
    ).fetchone()
    connection.execute("UPDATE counters SET n = %s WHERE name = %s", [row[0] + 1, name])
    connection.commit()
""",
            why="`FOR UPDATE` takes the row's lock while reading: between reading and writing "
            "nobody else can come. For sums that only the program can do.",
        ),
        Solution(
            python="""\
import psycopg


def count_up(connection, name):
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    while True:
        try:
            row = connection.execute("SELECT n FROM counters WHERE name = %s", [name]).fetchone()
            connection.execute("UPDATE counters SET n = %s WHERE name = %s", [row[0] + 1, name])
            connection.commit()
            return
        except psycopg.errors.SerializationFailure:
            connection.rollback()
""",
            why="At `REPEATABLE READ` the server refuses the second writer with 40001, and the "
            "program begins again.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
def count_up(connection, name):
    row = connection.execute("SELECT n FROM counters WHERE name = %s", [name]).fetchone()
    connection.execute("UPDATE counters SET n = %s WHERE name = %s", [row[0] + 1, name])
    connection.commit()
""",
            says="An update is lost",
        ),
        Wrong(
            python="""\
def count_up(connection, name):
    connection.execute("UPDATE counters SET n = n + 1 WHERE name = %s", [name])
""",
            says="It is to count up the counter of that name",
        ),
        Wrong(
            python="""\
def count_up(connection, name):
    connection.execute("UPDATE counters SET n = n + 1")
    connection.commit()
""",
            says="It is to count up the counter of that name, and no other.",
        ),
    ),
    hints=(
        "Where is the gap in *read, add, write*? Can one statement do all three?",
        "`UPDATE counters SET n = n + 1 WHERE …`, and do not forget the commit.",
    ),
)

# D

_TYPING = Problem(
    id="why.4",
    title="Wait for this one only",
    prompt="""\
That somebody is typing may be lost; a message may not. Store, in this order,

1. a row into `presence (jid, state)`: `'51987650001@s.whatsapp.net'`, `'composing'`, in a
   transaction that does **not** wait for the disk (`synchronous_commit` is `off` in it)
2. a row into `notes (body)`: `'¿Cuánto cuesta la matrícula?'`, in a transaction that **does** wait
   (`on`)

Write all statements that this takes, `BEGIN` and `COMMIT` included.""",
    answer="statements",
    starter="-- your statements here",
    setup="""
CREATE TABLE presence (jid text, state text);
CREATE TABLE notes (body text);
CREATE TABLE stored (n integer GENERATED ALWAYS AS IDENTITY, kind text, what text, waited text);
CREATE FUNCTION note_stored() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stored (kind, what, waited)
    VALUES (TG_TABLE_NAME, to_jsonb(NEW)::text, current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER note_stored AFTER INSERT ON presence FOR EACH ROW EXECUTE FUNCTION note_stored();
CREATE TRIGGER note_stored AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note_stored();
""",
    hidden=False,  # no stored row matters
    checks=(
        State(probe="SELECT jid, state FROM presence", about="the table presence"),
        State(probe="SELECT body FROM notes", about="the table notes"),
        State(
            probe="SELECT kind, waited AS synchronous_commit FROM stored ORDER BY n",
            about="what each row was stored with",
            order_by=(),
        ),
    ),
    solutions=(
        Solution(
            sql="""\
BEGIN;
SET LOCAL synchronous_commit = off;
INSERT INTO presence VALUES ('51987650001@s.whatsapp.net', 'composing');
COMMIT;
INSERT INTO notes VALUES ('¿Cuánto cuesta la matrícula?');""",
            why="`SET LOCAL` ends with its transaction: nobody can forget to switch it back.",
        ),
        Solution(
            sql="""\
SET synchronous_commit = off;
INSERT INTO presence VALUES ('51987650001@s.whatsapp.net', 'composing');
SET synchronous_commit = on;
INSERT INTO notes VALUES ('¿Cuánto cuesta la matrícula?');""",
            why="Right as well, as long as nothing fails in between.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""\
SET synchronous_commit = off;
INSERT INTO presence VALUES ('51987650001@s.whatsapp.net', 'composing');
INSERT INTO notes VALUES ('¿Cuánto cuesta la matrícula?');""",
            says="what each row was stored with",
        ),
        Wrong(
            sql="""\
SET LOCAL synchronous_commit = off;
INSERT INTO presence VALUES ('51987650001@s.whatsapp.net', 'composing');
INSERT INTO notes VALUES ('¿Cuánto cuesta la matrícula?');""",
            says="what each row was stored with",
        ),
        Wrong(
            sql="""\
BEGIN;
SET LOCAL synchronous_commit = off;
INSERT INTO presence VALUES ('51987650001@s.whatsapp.net', 'composing');
COMMIT;""",
            says="the table notes",
        ),
    ),
    hints=(
        "`SET` lasts until the session ends, `SET LOCAL` until the transaction does.",
        "`BEGIN; SET LOCAL synchronous_commit = off; INSERT …; COMMIT;`, then the other `INSERT`.",
    ),
)

# Extensible

_PHONE = Problem(
    id="why.5",
    title="A type of your own",
    prompt="""\
Make a domain `phone` over `text` for telephone numbers as WhatsApp has them: **7 to 15 digits, the
first one not 0**, and nothing else. `NULL` is allowed: not every instance has a number yet.""",
    answer="schema",
    hidden=False,  # a type has no rows
    checks=(
        Accepts(
            sql="SELECT '51987650001'::phone, '1234567'::phone, '123456789012345'::phone",
            says="A number of 7, 11 or 15 digits is refused.",
        ),
        Accepts(
            sql="CREATE TABLE t (p phone); INSERT INTO t VALUES (NULL)", says="NULL is refused."
        ),
        Refuses(sql="SELECT '+51987650001'::phone", sqlstate="23514", says="A plus is let in."),
        Refuses(sql="SELECT '051987650'::phone", sqlstate="23514", says="A first 0 is let in."),
        Refuses(
            sql="SELECT '5198765000x'::phone",
            sqlstate="23514",
            says="A letter at the end is let in.",
        ),
        Refuses(sql="SELECT '123456'::phone", sqlstate="23514", says="Six digits are let in."),
        Refuses(
            sql="SELECT '1234567890123456'::phone",
            sqlstate="23514",
            says="Sixteen digits are let in.",
        ),
    ),
    solutions=(
        Solution(
            sql="CREATE DOMAIN phone AS text CHECK (VALUE ~ '^[1-9][0-9]{6,14}$')",
            why="`^` and `$` tie the pattern to both ends. A `CHECK` that becomes `NULL` lets the "
            "value pass, so that `NULL` needs no word.",
        ),
    ),
    wrong=(
        Wrong(
            sql="CREATE DOMAIN phone AS text CHECK (VALUE ~ '[1-9][0-9]{6,14}')",
            says="A plus is let in.",
        ),
        Wrong(
            sql="CREATE DOMAIN phone AS text CHECK (VALUE ~ '^[0-9]{7,15}$')",
            says="A first 0 is let in.",
        ),
        Wrong(
            sql="CREATE DOMAIN phone AS text CHECK (VALUE ~ '^[1-9][0-9]{7,15}$')",
            says="A number of 7, 11 or 15 digits is refused.",
        ),
        Wrong(
            sql="CREATE DOMAIN phone AS text NOT NULL CHECK (VALUE ~ '^[1-9][0-9]{6,14}$')",
            says="NULL is refused.",
        ),
        Wrong(sql="CREATE DOMAIN phone AS varchar(15)", says="A plus is let in."),
    ),
    hints=(
        "`CREATE DOMAIN phone AS text CHECK (VALUE ~ '…')`: `VALUE` stands for what is stored.",
        "The pattern: `^`, one of `[1-9]`, then `[0-9]` six to fourteen times (`{6,14}`), `$`.",
    ),
)

_GROUP = Problem(
    id="why.6",
    title="A function that an index can use",
    prompt="""\
Make a function `phone_of(jid text)` that returns the digits before `@s.whatsapp.net`, and `NULL`
for every other address (a group's, for example). Promise PostgreSQL that the same `jid` always
gives the same result: an index on `phone_of(jid)` needs that.""",
    answer="schema",
    hidden=False,  # a function has no rows
    checks=(
        State(
            probe="""
SELECT jid, phone_of(jid)::text AS phone
FROM (VALUES ('51987650001@s.whatsapp.net'), ('120363400000000000@g.us'), ('100000088986217@lid'),
             ('51987650001@s.whatsapp.net.example.org'), (NULL)) AS given(jid)""",
            about="what phone_of returns",
        ),
        State(
            probe="""
SELECT provolatile = 'i' AS immutable FROM pg_proc WHERE oid = 'phone_of(text)'::regprocedure""",
            about="the promise of phone_of",
        ),
        Accepts(
            sql="CREATE INDEX ON contacts (phone_of(jid))",
            says="PostgreSQL refuses an index on it.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
CREATE FUNCTION phone_of(jid text) RETURNS text
IMMUTABLE LANGUAGE sql
RETURN substring(jid FROM '^([0-9]+)@s[.]whatsapp[.]net$')""",
            why="`IMMUTABLE` is the promise: same argument, same result, for ever. Without it an "
            "index could become wrong. `substring … FROM` gives `NULL` where nothing matches.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""\
CREATE FUNCTION phone_of(jid text) RETURNS text
LANGUAGE sql RETURN substring(jid FROM '^([0-9]+)@s[.]whatsapp[.]net$')""",
            says="After your statement, the promise of phone_of",
        ),
        Wrong(
            sql="""\
CREATE FUNCTION phone_of(jid text) RETURNS text
IMMUTABLE LANGUAGE sql RETURN split_part(jid, '@', 1)""",
            says="After your statement, what phone_of returns",
        ),
        Wrong(
            sql="""\
CREATE FUNCTION phone_of(jid text) RETURNS text
IMMUTABLE LANGUAGE sql RETURN substring(jid FROM '^([0-9]+)@s[.]whatsapp[.]net')""",
            says="After your statement, what phone_of returns",
        ),
    ),
    hints=(
        "`substring(jid FROM '^([0-9]+)@…$')` gives what the brackets match, or `NULL`.",
        "The promise is the word `IMMUTABLE`, between `RETURNS text` and `LANGUAGE sql`.",
    ),
)

# The comparison

_SQLITE_TABLES: Final = """
CREATE TABLE instances (name TEXT PRIMARY KEY);
CREATE TABLE messages (id INTEGER PRIMARY KEY, instance TEXT NOT NULL REFERENCES instances);
INSERT INTO instances VALUES ('sciencebot-becas');
"""


def _refuses_orphans(answer: Answer, world: World) -> None:
    del world
    with _file() as path:
        with contextlib.closing(sqlite3.connect(path)) as first:
            first.executescript(_SQLITE_TABLES)
        connection = answer.open_careful(path)
        expect(
            isinstance(connection, sqlite3.Connection),
            "open_careful is to return a sqlite3 connection.",
            repr(connection),
        )
        with contextlib.closing(connection):
            good = error_of(_insert(connection, "sciencebot-becas"))
            expect(good is None, "A message of an instance that exists is refused.", repr(good))
            connection.commit()
            bad = error_of(_insert(connection, "nobody"))
            expect(
                isinstance(bad, sqlite3.IntegrityError),
                "A message of an instance that does not exist is still let in.",
            )


def _insert(connection: sqlite3.Connection, instance: str) -> Callable[[], Any]:
    return lambda: connection.execute("INSERT INTO messages (instance) VALUES (?)", [instance])


@contextlib.contextmanager
def _file() -> Any:
    with tempfile.TemporaryDirectory(prefix="pglab-") as folder:
        yield str(Path(folder) / "lesson.db")


_SQLITE = Problem(
    id="why.7",
    title="SQLite, with care",
    prompt="""\
SQLite reads `REFERENCES` and, as installed, ignores it. Write `open_careful(path)`: it opens the
SQLite file and returns a connection on which **a message of an instance that does not exist is
refused**. Only the connection is yours; the tables are there already.""",
    answer="python",
    starter="""\
import sqlite3


def open_careful(path):
    ...
""",
    hidden=False,  # no data of ours is in it
    checks=(Behaves(scenario=_refuses_orphans),),
    solutions=(
        Solution(
            python="""\
import sqlite3


def open_careful(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
""",
            why="The switch belongs to the connection, not to the file: every program that opens "
            "it must say so again. In PostgreSQL the rule belongs to the table.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
import sqlite3


def open_careful(path):
    return sqlite3.connect(path)
""",
            says="is still let in",
        ),
        Wrong(
            python="""\
import sqlite3


def open_careful(path):
    connection = sqlite3.connect(path)
    connection.execute("BEGIN")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.commit()
    return connection
""",
            says="is still let in",
        ),
        Wrong(
            python="""\
import sqlite3


def open_careful(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
    return sqlite3.connect(path)
""",
            says="is still let in",
        ),
    ),
    hints=(
        "SQLite's switches are called *pragmas*, and this one is off as installed.",
        'After `sqlite3.connect(path)`: `connection.execute("PRAGMA foreign_keys = …")`.',
    ),
)

PROBLEMS = (_BOTH, _ONE_OPEN, _COUNT_UP, _TYPING, _PHONE, _GROUP, _SQLITE)
