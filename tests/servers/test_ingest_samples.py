"""Every event in data/webhooks, good ones twice and bad ones once, on a real server."""

from __future__ import annotations

import json

import pytest
from ingest_support import APIKEY, WEBHOOKS, database_with_tables, empty_tables, versions
from psycopg.rows import dict_row

from pglab.errors import IngestError
from pglab.ingestion import ingest
from pglab.ingestion._parse import IGNORED, STORED

pytestmark = pytest.mark.server

GOOD = sorted(path.name for path in WEBHOOKS.glob("*.json"))
EXPECTED = json.loads((WEBHOOKS / "bad" / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tables(server_url):
    with database_with_tables(server_url) as url:
        yield url


@pytest.fixture
def connection(tables):
    with empty_tables(tables) as connection:
        yield connection


def conversation():
    lines = (WEBHOOKS / "conversation.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_event_is_stored_once(connection, name):
    text = (WEBHOOKS / name).read_bytes()
    first = ingest(connection, text)
    connection.commit()
    before = versions(connection)
    second = ingest(connection, text)
    connection.commit()
    assert versions(connection) == before
    assert first.events == second.events == 1
    assert first.ignored == second.ignored
    assert second.duplicates == first.messages + first.updates
    assert not any((second.instances, second.connections, second.contacts, second.chats))
    assert not any((second.messages, second.updates, second.changed))
    stored = any(rows for rows in before.values())
    assert stored != bool(first.ignored)


def test_the_samples_show_every_kind_that_is_stored():
    shown = {json.loads((WEBHOOKS / name).read_bytes())["event"] for name in GOOD}
    assert shown - {"MESSAGES_UPSERT"} <= STORED.keys() | IGNORED
    # The initial synchronisation's other two have the shape of their upserts.
    assert STORED.keys() - shown == {"contacts.set", "chats.set"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_event_is_refused_by_its_field(connection, name):
    ingest(connection, conversation()[:10])
    connection.commit()
    before = versions(connection)
    with pytest.raises(IngestError) as caught:
        ingest(connection, (WEBHOOKS / "bad" / name).read_bytes())
    assert caught.value.field == EXPECTED[name]["field"]
    assert EXPECTED[name]["says"] in str(caught.value)
    assert str(caught.value).startswith(caught.value.field)
    assert APIKEY not in repr(caught.value)
    # The transaction that the caller has open is still good, and nothing in it changed.
    assert versions(connection) == before


def test_every_bad_file_is_explained():
    files = {path.name for path in (WEBHOOKS / "bad").iterdir()} - {"expected.json"}
    assert files == EXPECTED.keys()


def test_the_conversation_reads_as_it_should(connection):
    report = ingest(connection, conversation())
    assert report.events == len(conversation()) == 42
    assert (report.instances, report.messages, report.duplicates) == (1, 19, 1)
    assert dict(report.ignored) == {"presence.update": 1, "messages.update (no status)": 1}
    cursor = connection.cursor(row_factory=dict_row)

    instance = cursor.execute("SELECT * FROM instances").fetchone()
    assert instance["phone_number"] == "12025550100"
    assert instance["connection_state"] == "open"  # "connecting" came last, and is older

    messages = {row["whatsapp_id"]: row for row in cursor.execute("SELECT * FROM messages")}
    assert messages["BAE5A1000001"]["status"] == "read"  # delivery_ack came after it
    assert messages["BAE5A1000005"]["status"] == "error"
    assert messages["BAE5A1000006"]["status"] == "played"
    edited = messages["3EB0A1000002"]
    assert edited["body"] == "¡Gracias! ¿Y qué papeles piden?"
    assert edited["message"] == {"conversation": "Gracias!! y que papeles piden?"}
    assert edited["edited_at"].isoformat() == "2025-03-01T14:00:42.250000+00:00"
    deleted = messages["3EB0A1000010"]
    assert deleted["deleted_at"] is not None
    assert (deleted["message_type"], deleted["body"]) == ("image", "Mi DNI, por los dos lados")
    assert messages["3EB0A1000012"]["body"] == "👍"
    assert messages["3EB0A1000014"]["sent_at"].isoformat() == "2025-03-01T14:01:40+00:00"
    assert messages["3EB0A1000030"]["sender_jid"] == "90000000000105@lid"
    assert messages["3EB0A1000031"]["body"] == "Aquí está el de 2024"

    chats = {row["jid"]: row for row in cursor.execute("SELECT * FROM chats")}
    assert len(chats) == 5
    assert chats["120363000000000001@g.us"]["name"] == "Admisión 2025 – Ciencias (II)"
    contacts = {row["jid"]: row for row in cursor.execute("SELECT * FROM contacts")}
    assert contacts["12025550101@s.whatsapp.net"]["push_name"] == "Lucía R. 🌱"
    assert contacts["12025550104@s.whatsapp.net"]["push_name"] == "Diego"  # device 3 stripped


def test_the_apikey_is_stored_nowhere(connection):
    for name in GOOD:
        ingest(connection, (WEBHOOKS / name).read_bytes())
    everything = repr(versions(connection))
    assert "Lucía" in everything
    for secret in (APIKEY, "FAKE-TOKEN", "2@FAKE", "noiseKey"):
        assert secret not in everything
