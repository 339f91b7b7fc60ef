"""The tables: the seed's as the document writes them, and ours with every rule enforced."""

from __future__ import annotations

import hashlib
import re

import psycopg
import pytest
from ingest_support import database_with_tables
from psycopg import errors

from pglab import schema

pytestmark = pytest.mark.server

# Each statement's text in the seed document 2.2, from CREATE TABLE to the semicolon.
SEED_STATEMENTS = {
    "sessions": """CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    instance_name VARCHAR(255) UNIQUE NOT NULL,
    session_data JSONB NOT NULL,  -- Credenciales encriptadas
    qr_code TEXT,                  -- Último QR generado
    status VARCHAR(50),            -- connected | disconnected | qr
    created_at TIMESTAMP,
    updated_at TIMESTAMP
);""",
    "instances": """CREATE TABLE instances (
    id UUID PRIMARY KEY,
    name VARCHAR(255) UNIQUE NOT NULL,  -- ej: "sciencebot-production"
    phone_number VARCHAR(20),
    webhook_url TEXT,                   -- URL para webhooks
    webhook_events JSONB,               -- ["messages.upsert", "connection.update"]
    settings JSONB,                     -- Configuraciones específicas
    created_at TIMESTAMP
);""",
    "messages": """CREATE TABLE messages (
    id UUID PRIMARY KEY,
    instance_id UUID REFERENCES instances(id),
    remote_jid VARCHAR(255),        -- Número de destino
    message_id VARCHAR(255),        -- ID de WhatsApp
    message_type VARCHAR(50),       -- text | image | audio
    content TEXT,
    timestamp BIGINT,
    from_me BOOLEAN,
    status VARCHAR(20)              -- sent | delivered | read
);""",
}
TYPE_NAMES = {
    "UUID": "uuid",
    "TEXT": "text",
    "JSONB": "jsonb",
    "TIMESTAMP": "timestamp without time zone",
    "BIGINT": "bigint",
    "BOOLEAN": "boolean",
}


@pytest.fixture(scope="module")
def tables(server_url):
    with database_with_tables(server_url) as url:
        yield url


@pytest.fixture
def connection(tables):
    with psycopg.connect(tables) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def filled(connection):
    """One good row in each of our tables, so that a bad one is bad for one reason only."""
    connection.execute(
        """
        INSERT INTO instances (id, name) VALUES
            ('00000000-0000-4000-8000-000000000001', 'sciencebot-production'),
            ('00000000-0000-4000-8000-000000000002', 'sciencebot-staging');
        INSERT INTO sessions (instance_id, credentials)
            VALUES ('00000000-0000-4000-8000-000000000001', 'ciphertext');
        INSERT INTO webhooks (instance_id, url)
            VALUES ('00000000-0000-4000-8000-000000000001', 'https://example.org/hook');
        INSERT INTO contacts (instance_id, jid)
            VALUES ('00000000-0000-4000-8000-000000000001', '51900000001@s.whatsapp.net');
        INSERT INTO chats (id, instance_id, jid, kind) VALUES
            (1001, '00000000-0000-4000-8000-000000000001', '51900000001@s.whatsapp.net', 'person'),
            (1002, '00000000-0000-4000-8000-000000000001', '120363000000000001@g.us', 'group');
        INSERT INTO messages
            (instance_id, chat_id, whatsapp_id, from_me, message_type, key, message, sent_at)
            VALUES ('00000000-0000-4000-8000-000000000001', 1001, 'A1', true, 'text', '{}', '{}',
                    '2025-03-01 12:00+00');
        INSERT INTO message_updates (instance_id, whatsapp_id, kind, happened_at)
            VALUES ('00000000-0000-4000-8000-000000000001', 'A1', 'deleted', '2025-03-01 12:01+00');
        """
    )
    return connection


def test_the_seed_is_word_for_word_the_documents():
    text = schema.sql_text("seed.sql")
    blocks = re.findall(r"^CREATE TABLE .*?^\);", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks == list(SEED_STATEMENTS.values())
    # Pinned separately, so that an edit of both texts at once is noticed too.
    assert hashlib.sha256("\n".join(blocks).encode()).hexdigest()[:16] == "82fa82fcf0fc6091"


@pytest.mark.parametrize("table", SEED_STATEMENTS)
def test_the_seeds_tables_have_the_documents_columns(connection, table):
    wanted = []
    for line in SEED_STATEMENTS[table].splitlines()[1:-1]:
        name, kind, *rest = line.split("--")[0].strip().rstrip(",").split()
        length = re.fullmatch(r"VARCHAR\((\d+)\)", kind)
        kind = f"character varying({length[1]})" if length else TYPE_NAMES[kind]
        wanted.append((name, kind, rest[-2:] == ["NOT", "NULL"] or rest == ["PRIMARY", "KEY"]))
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        [f"seed.{table}"],
    ).fetchall()
    assert found == wanted


def test_create_is_all_or_nothing(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE message_updates ()")
        with pytest.raises(errors.DuplicateTable):
            schema.create(connection)
        assert connection.execute("SELECT to_regnamespace('seed')").fetchone() == (None,)
        assert connection.execute("SELECT to_regtype('chat_kind')").fetchone() == (None,)


def test_create_leaves_the_callers_search_path_alone(database):
    with psycopg.connect(database) as connection:
        connection.execute("SET LOCAL search_path TO pg_catalog")
        schema.create(connection)
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)
        connection.rollback()
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_create_works_with_any_row_factory(database):
    with psycopg.connect(database, row_factory=psycopg.rows.dict_row) as connection:
        schema.create(connection)
        assert connection.execute("SELECT count(*) AS n FROM messages").fetchone() == {"n": 0}


def test_tables_are_named_in_the_order_of_their_references(connection):
    found = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ).fetchall()
    assert sorted(schema.TABLES) == sorted(name for (name,) in found)
    references = connection.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
    ).fetchall()
    assert len(references) == 6
    for child, parent in references:
        assert schema.TABLES.index(parent) < schema.TABLES.index(child)


def test_digest_follows_the_sql(monkeypatch):
    before = schema.digest()
    assert re.fullmatch("[0-9a-f]{12}", before)
    assert schema.digest() == before
    original = schema.sql_text
    monkeypatch.setattr(schema, "sql_text", lambda name: original(name) + "\n")
    assert schema.digest() != before


def test_every_foreign_key_of_ours_is_indexed(connection):
    """PostgreSQL indexes no foreign key by itself; without one, a deletion scans the table.

    The index must lead with the key's first column, its most selective: (chat_id, instance_id) is
    not served by an index on the tenant, which would read all its messages to delete one chat.
    """
    bare = connection.execute(
        "SELECT conname FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND NOT EXISTS ("
        "   SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1])"
    ).fetchall()
    assert bare == []


def test_no_time_of_ours_lacks_a_zone(connection):
    zoneless = connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type LIKE '%%without time zone'"
    ).fetchall()
    assert zoneless == []


ONE = "'00000000-0000-4000-8000-000000000001'"
NOBODY = "'00000000-0000-4000-8000-00000000dead'"
CHAT = f"INSERT INTO chats (instance_id, jid, kind) VALUES ({ONE}, "
CONTACT = f"INSERT INTO contacts (instance_id, jid) VALUES ({ONE}, "
WEBHOOK = "INSERT INTO webhooks (instance_id, url, events, headers) VALUES "
UPDATE = (
    "INSERT INTO message_updates (instance_id, whatsapp_id, kind, happened_at, payload) VALUES "
)


def message(**changed):
    """Spell an INSERT of a good message with some values replaced (SQL expressions)."""
    values = {
        "instance_id": ONE,
        "chat_id": "1001",
        "whatsapp_id": "'B2'",
        "from_me": "true",
        "message_type": "'text'",
        "key": "'{}'",
        "message": "'{}'",
        "sent_at": "'2025-03-01 12:00+00'",
    } | changed
    return f"INSERT INTO messages ({', '.join(values)}) VALUES ({', '.join(values.values())})"


NOT_NULL, FOREIGN, UNIQUE, CHECK, BAD_TEXT = "23502", "23503", "23505", "23514", "22P02"
BAD_ROWS = [
    ("INSERT INTO instances (name) VALUES (NULL)", NOT_NULL, None),
    ("INSERT INTO instances (name) VALUES ('sciencebot-production')", UNIQUE, "instances_name_key"),
    ("INSERT INTO instances (name) VALUES ('')", CHECK, "instances_name_check"),
    ("INSERT INTO instances (name) VALUES (' x')", CHECK, "instances_name_check"),
    ("INSERT INTO instances (name) VALUES (repeat('x', 101))", CHECK, "instances_name_check"),
    (
        "INSERT INTO instances (name, phone_number) VALUES ('x', '+51900000001')",
        CHECK,
        "instances_phone_number_check",
    ),
    (
        "INSERT INTO instances (name, phone_number) VALUES ('x', '1234567890123456')",
        CHECK,
        "instances_phone_number_check",
    ),
    (
        "INSERT INTO instances (name, settings) VALUES ('x', '[]')",
        CHECK,
        "instances_settings_check",
    ),
    ("INSERT INTO instances (name, settings) VALUES ('x', '{')", BAD_TEXT, None),
    ("INSERT INTO instances (name, connection_state) VALUES ('x', 'opened')", BAD_TEXT, None),
    (f"INSERT INTO sessions VALUES ({ONE}, 'again')", UNIQUE, "sessions_pkey"),
    (f"INSERT INTO sessions VALUES ({NOBODY}, 'x')", FOREIGN, "sessions_instance_id_fkey"),
    (
        f"UPDATE sessions SET credentials = '' WHERE instance_id = {ONE}",
        CHECK,
        "sessions_credentials_check",
    ),
    (f"UPDATE sessions SET credentials = NULL WHERE instance_id = {ONE}", NOT_NULL, None),
    (
        f"{WEBHOOK} ({ONE}, 'https://example.org/hook', '[]', '{{}}')",
        UNIQUE,
        "webhooks_instance_id_url_key",
    ),
    (
        f"{WEBHOOK} ({NOBODY}, 'https://example.org', '[]', '{{}}')",
        FOREIGN,
        "webhooks_instance_id_fkey",
    ),
    (f"{WEBHOOK} ({ONE}, 'ftp://example.org', '[]', '{{}}')", CHECK, "webhooks_url_check"),
    (f"{WEBHOOK} ({ONE}, 'https://example.org/a b', '[]', '{{}}')", CHECK, "webhooks_url_check"),
    (f"{WEBHOOK} ({ONE}, 'https://example.org', '{{}}', '{{}}')", CHECK, "webhooks_events_check"),
    (f"{WEBHOOK} ({ONE}, 'https://example.org', '[]', '[]')", CHECK, "webhooks_headers_check"),
    (f"{CONTACT} '51900000001@s.whatsapp.net')", UNIQUE, "contacts_instance_id_jid_key"),
    (f"{CONTACT} '120363000000000001@g.us')", CHECK, "contacts_jid_check"),
    (f"{CONTACT} '51900000001')", CHECK, "contacts_jid_check"),
    (
        f"INSERT INTO contacts (instance_id, jid) VALUES ({NOBODY}, '1@lid')",
        FOREIGN,
        "contacts_instance_id_fkey",
    ),
    (f"{CHAT} '51900000001@s.whatsapp.net', 'person')", UNIQUE, "chats_instance_id_jid_key"),
    (
        f"INSERT INTO chats (id, instance_id, jid, kind) VALUES (1001, {ONE}, '1@lid', 'person')",
        UNIQUE,
        "chats_pkey",
    ),
    (f"{CHAT} '120363000000000009@g.us', 'person')", CHECK, "chats_jid_kind_check"),
    (f"{CHAT} '51900000009@s.whatsapp.net', 'group')", CHECK, "chats_jid_kind_check"),
    (f"{CHAT} 'status@broadcast', 'person')", CHECK, "chats_jid_kind_check"),
    (f"{CHAT} '1@lid', 'channel')", BAD_TEXT, None),
    ("UPDATE chats SET labels = '{}' WHERE id = 1001", CHECK, "chats_labels_check"),
    (
        f"INSERT INTO chats (instance_id, jid, kind) VALUES ({NOBODY}, '1@lid', 'person')",
        FOREIGN,
        "chats_instance_id_fkey",
    ),
    (message(whatsapp_id="'A1'"), UNIQUE, "messages_instance_id_whatsapp_id_key"),
    (message(whatsapp_id="''"), CHECK, "messages_whatsapp_id_check"),
    (message(whatsapp_id="repeat('x', 129)"), CHECK, "messages_whatsapp_id_check"),
    (message(chat_id="9999"), FOREIGN, "messages_chat_id_instance_id_fkey"),
    # Another tenant's chat: this is why the foreign key carries the instance.
    (
        message(instance_id="'00000000-0000-4000-8000-000000000002'"),
        FOREIGN,
        "messages_chat_id_instance_id_fkey",
    ),
    (message(key="'\"text\"'"), CHECK, "messages_key_check"),
    (message(message="'[]'"), CHECK, "messages_message_check"),
    (message(message="NULL"), NOT_NULL, None),
    (message(sent_at="'2008-12-31 23:59:59+00'"), CHECK, "messages_sent_at_check"),
    (message(sent_at="to_timestamp(1740830400000)"), CHECK, "messages_sent_at_check"),
    (message(message_type="'hologram'"), BAD_TEXT, None),
    (message(status="'sent'"), BAD_TEXT, None),
    (message(source="'fridge'"), BAD_TEXT, None),
    (
        f"{UPDATE} ({ONE}, 'A1', 'deleted', '2025-03-01 12:01+00', '{{}}')",
        UNIQUE,
        "message_updates_pkey",
    ),
    (f"{UPDATE} ({ONE}, 'A1', 'eaten', now(), '{{}}')", CHECK, "message_updates_kind_check"),
    (f"{UPDATE} ({ONE}, 'A1', 'deleted', now(), '[]')", CHECK, "message_updates_payload_check"),
    (
        f"{UPDATE} ({NOBODY}, 'A1', 'deleted', now(), '{{}}')",
        FOREIGN,
        "message_updates_instance_id_fkey",
    ),
]


@pytest.mark.parametrize(("statement", "sqlstate", "constraint"), BAD_ROWS)
def test_a_bad_row_is_refused_for_the_right_reason(filled, statement, sqlstate, constraint):
    with pytest.raises(psycopg.Error) as caught:
        filled.execute(statement)
    assert caught.value.sqlstate == sqlstate, caught.value
    assert caught.value.diag.constraint_name == constraint


def test_every_rule_is_broken_by_one_of_the_bad_rows(connection):
    """A constraint that no row above violates is a constraint nobody has seen working."""
    rules = connection.execute(
        "SELECT conname FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'u', 'p')"
    ).fetchall()
    surrogate_keys = {f"{t}_pkey" for t in ("instances", "webhooks", "contacts", "messages")}
    # A second (id, instance_id) would be a second id: the primary key speaks first.
    tried = {name for _, _, name in BAD_ROWS} | surrogate_keys | {"chats_id_instance_id_key"}
    assert {name for (name,) in rules} <= tried


def test_deleting_an_instance_leaves_nothing_of_it(filled):
    filled.execute(f"DELETE FROM instances WHERE id = {ONE}")
    for table in set(schema.TABLES) - {"instances"}:
        assert filled.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
