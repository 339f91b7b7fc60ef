"""The load on a real server: what goes in comes out, all or nothing."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
import uuid

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from pglab import schema
from pglab.dataset import TABLES, Dataset
from pglab.errors import DiskFullError, LoadError, PermissionMissingError
from pglab.load import fill_seed, load

pytestmark = pytest.mark.server

KEYS = {"sessions": "instance_id", "instances": "created_at"}
# Everything the catalogue says about the tables, by name: identifiers of objects do change.
CATALOGUE = """
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid),
       convalidated::text, condeferrable::text
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid),
       indisvalid::text, indisprimary::text
FROM pg_index JOIN pg_class AS c ON c.oid = indrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'column', attrelid::regclass::text, attname, format_type(atttypid, atttypmod),
       attnotnull::text, attidentity::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid
LEFT JOIN pg_attrdef AS d ON d.adrelid = attrelid AND d.adnum = attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND attnum > 0
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(scope="module")
def database(server_url):
    """One database for all tests here: making one takes longer than most of them."""
    name = f"pglab_test_load_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield psycopg.conninfo.make_conninfo(server_url, dbname=name)
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def nothing(database):
    """Give the test a database without tables."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS public, seed CASCADE")
        connection.execute("CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
    return database


@pytest.fixture
def connection(nothing):
    with psycopg.connect(nothing, autocommit=True) as connection:
        schema.create(connection)
        yield connection


def catalogue(connection):
    return connection.execute(CATALOGUE).fetchall()


def counts(connection):
    return {
        table: connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
        ).fetchone()[0]
        for table in TABLES
    }


def checksums(connection):
    query = "SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {} AS t"
    return {
        table: connection.execute(sql.SQL(query).format(sql.Identifier(table))).fetchone()[0]
        for table in TABLES
    }


EMPTY = dict.fromkeys(TABLES, 0)


@pytest.mark.parametrize("table", TABLES)
def test_what_the_database_holds_is_what_the_dataset_says(connection, table):
    dataset = Dataset("tiny")
    load(connection, dataset)
    batches = list(dataset.batches(table))
    columns = sql.SQL(", ").join(map(sql.Identifier, batches[0].columns))
    stored = connection.execute(
        sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            columns, sql.Identifier(table), sql.Identifier(KEYS.get(table, "id"))
        )
    ).fetchall()
    made = [row for batch in batches for row in batch.rows()]
    if table == "sessions":
        made.sort(key=lambda row: row[0])
    assert stored == made


# When an event last changed them; no event did, so that the first one always wins.
FROM_EVENTS = {"phone_changed_at", "name_changed_at", "picture_changed_at"}


def test_no_column_is_left_to_its_default(connection):
    dataset = Dataset("tiny")
    for table in TABLES:
        stored = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
            "ORDER BY attnum",
            [table],
        ).fetchall()
        names = [name for (name,) in stored if name not in FROM_EVENTS]
        assert names == list(next(dataset.batches(table)).columns)


def test_empty_text_and_null_stay_apart(connection):
    load(connection, Dataset("tiny"))
    empty, null = connection.execute(
        "SELECT count(*) FILTER (WHERE body = ''), count(*) FILTER (WHERE body IS NULL) "
        "FROM messages"
    ).fetchone()
    bodies = Dataset("tiny").messages().columns["body"].values
    assert (empty, null) == (bodies.count(b""), bodies.count(None))
    assert empty
    assert null


def test_the_schema_is_the_same_afterwards(connection):
    before = catalogue(connection)
    assert len(before) > 80
    load(connection, Dataset("tiny"))
    assert catalogue(connection) == before
    # The keys work, and are not only there: the same message again is refused.
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(
            "INSERT INTO messages SELECT (m).* FROM (SELECT m FROM messages AS m LIMIT 1) AS one"
        )


def test_the_report_counts_rows_and_seconds(connection):
    report = load(connection, Dataset("tiny"))
    assert report.rows == counts(connection) == Dataset("tiny").counts
    assert report.seconds >= report.copy_seconds + report.build_seconds
    assert "2,000 messages" in str(report)


def test_the_next_row_gets_the_next_number(connection):
    load(connection, Dataset("tiny"))
    for table, insert in {
        "chats": "INSERT INTO chats (instance_id, jid, kind) "
        "SELECT id, '1@g.us', 'group' FROM instances LIMIT 1 RETURNING id",
        "contacts": "INSERT INTO contacts (instance_id, jid) "
        "SELECT id, '1@lid' FROM instances LIMIT 1 RETURNING id",
        "webhooks": "INSERT INTO webhooks (instance_id, url) "
        "SELECT id, 'https://example.org' FROM instances LIMIT 1 RETURNING id",
        "messages": "INSERT INTO messages (instance_id, chat_id, whatsapp_id, from_me, "
        "message_type, key, message, sent_at) SELECT instance_id, id, 'X', true, 'text', "
        "'{}', '{}', now() FROM chats LIMIT 1 RETURNING id",
    }.items():
        assert connection.execute(insert).fetchone()[0] == Dataset("tiny").counts[table] + 1


def test_a_load_repeats_itself(connection):
    load(connection, Dataset("tiny"))
    first = checksums(connection)
    connection.execute("TRUNCATE instances CASCADE")
    load(connection, Dataset("tiny"))
    assert checksums(connection) == first
    assert len(set(first.values())) == len(TABLES)


def test_rows_are_visible_to_index_only_scans_and_counted_by_the_planner(connection):
    load(connection, Dataset("tiny"))
    pages, visible, tuples = connection.execute(
        "SELECT relpages, relallvisible, reltuples FROM pg_class WHERE oid = 'messages'::regclass"
    ).fetchone()
    assert pages == visible > 0
    assert tuples == 2_000
    # An index build counts rows too; only ANALYZE looks at the columns.
    analyzed = connection.execute(
        "SELECT count(DISTINCT tablename) FROM pg_stats "
        "WHERE schemaname = 'public' AND tablename = ANY (%s)",
        [list(TABLES)],
    ).fetchone()
    assert analyzed == (len(TABLES),)


def test_a_plain_connection_is_committed(nothing):
    with psycopg.connect(nothing) as connection:
        schema.create(connection)
        load(connection, Dataset(500))
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        fill_seed(connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM seed.messages").fetchone() == (500,)


def test_a_connection_with_other_rows_and_a_transaction_of_its_own(nothing):
    with psycopg.connect(nothing, row_factory=dict_row) as connection:
        schema.create(connection)
        with connection.transaction(force_rollback=True):
            load(connection, Dataset(500))
            assert fill_seed(connection)["messages"] == 500
        left = connection.execute("SELECT count(*) AS n FROM messages").fetchone()
        assert left == {"n": 0}


def test_tables_that_hold_rows_are_named_and_left_alone(connection):
    connection.execute("INSERT INTO instances (name) VALUES ('mine')")
    with pytest.raises(LoadError, match=r"table instances holds rows already.*TRUNCATE instances"):
        load(connection, Dataset("tiny"))
    assert counts(connection) == EMPTY | {"instances": 1}
    connection.execute("TRUNCATE instances CASCADE")
    load(connection, Dataset("tiny"))


def test_without_a_schema_the_missing_table_is_named(nothing):
    with psycopg.connect(nothing) as connection:
        with pytest.raises(LoadError, match=r"no table instances.*create the schema"):
            load(connection, Dataset("tiny"))
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize(
    "break_it",
    [
        "ALTER TABLE messages ADD CONSTRAINT half CHECK (id <= 1500)",
        "CREATE UNIQUE INDEX half ON messages (body)",
    ],
    ids=["while copying", "while building"],
)
def test_a_failure_in_the_middle_keeps_nothing(connection, break_it):
    connection.execute(break_it)
    before = catalogue(connection)
    with pytest.raises(LoadError, match="half"):
        load(connection, Dataset("tiny"))
    assert counts(connection) == EMPTY
    assert catalogue(connection) == before
    connection.execute("ALTER TABLE messages DROP CONSTRAINT IF EXISTS half")
    connection.execute("DROP INDEX IF EXISTS half")
    load(connection, Dataset("tiny"))
    assert counts(connection) == Dataset("tiny").counts


def fail_at_row_1500(connection, what):
    """Let the server itself fail in the middle of a COPY, with the error that is wanted."""
    connection.execute(
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.id = 1500 THEN {what}; END IF; RETURN NEW; END $$"
    )
    connection.execute(
        "CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail()"
    )


def test_a_full_disk_says_how_much_is_needed(connection):
    fail_at_row_1500(
        connection, "RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'"
    )
    with pytest.raises(
        DiskFullError, match=r"loading 2,000 messages needs about 1 MB.*nothing was kept"
    ):
        load(connection, Dataset("tiny"))
    assert counts(connection) == EMPTY
    connection.execute("DROP TRIGGER fail ON messages")
    load(connection, Dataset("tiny"))
    assert counts(connection) == Dataset("tiny").counts


def test_a_lost_connection_says_so(connection, database):
    fail_at_row_1500(connection, "PERFORM pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(LoadError, match="connection was lost"):
        load(connection, Dataset("tiny"))
    with psycopg.connect(database) as again:
        assert counts(again) == EMPTY


def test_a_role_that_does_not_own_the_tables_is_told(connection):
    role = f"pglab_test_reader_{os.getpid()}"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        connection.execute(sql.SQL("GRANT SELECT ON instances TO {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        with pytest.raises(PermissionMissingError, match="owner"):
            load(connection, Dataset("tiny"))
    finally:
        connection.execute("RESET ROLE")
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


INTERRUPTED = """
import os, threading, psycopg
from pglab.dataset import Dataset
from pglab.load import load

with psycopg.connect(os.environ["LOAD_URL"], autocommit=True) as connection:
    try:
        load(connection, Dataset(400_000), progress=False)
    except KeyboardInterrupt:
        left = [t.name for t in threading.enumerate() if t.name.startswith("pglab")]
        rows = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        print("interrupted", left, rows, flush=True)
        print(load(connection, Dataset("tiny"), progress=False).rows["messages"], flush=True)
"""
WATCHED = {
    "copying": "SELECT 1 FROM pg_stat_progress_copy "
    "WHERE tuples_processed > 20000 AND datname = current_database()",
    "building": "SELECT 1 FROM pg_stat_activity WHERE state = 'active' "
    "AND query LIKE 'ALTER TABLE%ADD CONSTRAINT%' AND datname = current_database()",
}


@pytest.mark.parametrize("moment", WATCHED)
def test_ctrl_c_keeps_nothing_and_leaves_nobody(connection, database, moment):
    before = catalogue(connection)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        env=os.environ | {"LOAD_URL": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not connection.execute(WATCHED[moment]).fetchone():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["interrupted [] 0", "2000"], err
    assert err == ""
    assert catalogue(connection) == before
    assert counts(connection) == Dataset("tiny").counts


def test_no_thread_is_left_after_a_load(connection):
    before = threading.active_count()
    load(connection, Dataset("tiny"))
    assert threading.active_count() == before


def test_a_file_sees_no_bar(connection, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    load(connection, Dataset("tiny"), progress=True)
    assert log.getvalue() == ""


@pytest.mark.parametrize("progress", [True, False])
def test_a_terminal_sees_a_bar_unless_unwanted(connection, monkeypatch, progress):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        load(connection, Dataset("tiny"), progress=progress)
        monkeypatch.undo()
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 65536).decode()
        except BlockingIOError:
            shown = ""
    os.close(ours)
    assert ("copying messages" in shown) == progress
    assert ("building" in shown) == progress


def test_the_seeds_tables_hold_the_same_conversations(connection):
    load(connection, Dataset("tiny"))
    assert fill_seed(connection) == {"instances": 6, "sessions": 6, "messages": 2_000}
    differing = connection.execute(
        "SELECT count(*) FROM messages AS m JOIN chats AS c ON c.id = m.chat_id "
        "LEFT JOIN seed.messages AS s ON s.instance_id = m.instance_id "
        "AND s.message_id = m.whatsapp_id "
        "WHERE (s.remote_jid, s.message_type, s.from_me, to_timestamp(s.timestamp)) "
        "IS DISTINCT FROM (c.jid, m.message_type::text, m.from_me, m.sent_at) "
        "OR s.content IS DISTINCT FROM m.body"
    ).fetchone()[0]
    assert differing == 0
    statuses = connection.execute("SELECT DISTINCT status FROM seed.messages ORDER BY 1").fetchall()
    assert statuses == [("delivered",), ("read",), ("sent",)]
    # Lesson 03's first query finds its session; lesson 04 reads what is inside.
    assert connection.execute(
        "SELECT session_data->'me'->>'id' FROM seed.sessions "
        "WHERE instance_name = 'sciencebot-production' AND status = 'connected'"
    ).fetchone() == ("51987650001:1@s.whatsapp.net",)
    states = connection.execute("SELECT DISTINCT status FROM seed.sessions ORDER BY 1").fetchall()
    assert states == [("connected",), ("disconnected",), ("qr",)]
    secrets = connection.execute(
        "SELECT count(*) FROM seed.sessions WHERE session_data->>'advSecretKey' NOT LIKE 'FAKE-%'"
    ).fetchone()
    assert secrets == (0,)


def test_the_seeds_four_indexes_are_left_to_the_lesson(connection):
    query = "SELECT indexname FROM pg_indexes WHERE schemaname = 'seed' ORDER BY 1"
    before = connection.execute(query).fetchall()
    load(connection, Dataset("tiny"))
    fill_seed(connection)
    assert connection.execute(query).fetchall() == before
    assert not any(name.startswith("idx_") for (name,) in before)


def test_the_seeds_identifiers_repeat_and_are_in_no_order(connection):
    load(connection, Dataset("tiny"))
    fill_seed(connection)
    query = "SELECT id, message_id FROM seed.messages ORDER BY timestamp, id"
    first = connection.execute(query).fetchall()
    connection.execute("TRUNCATE seed.instances, seed.sessions, seed.messages")
    fill_seed(connection)
    assert connection.execute(query).fetchall() == first
    identifiers = [row[0] for row in first]
    assert identifiers != sorted(identifiers)


def test_a_filled_seed_is_refused(connection):
    load(connection, Dataset("tiny"))
    fill_seed(connection)
    with pytest.raises(LoadError, match=r"seed\.instances holds rows already"):
        fill_seed(connection)


def test_a_missing_seed_is_named(connection):
    connection.execute("DROP SCHEMA seed CASCADE")
    with pytest.raises(LoadError, match=r"no table seed\.instances"):
        fill_seed(connection)
