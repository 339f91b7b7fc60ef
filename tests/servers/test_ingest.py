"""What ingest makes of events: each rule by an example, on a real server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from zoneinfo import ZoneInfo

import psycopg
import pytest
from ingest_support import (
    LUCIA,
    NOON,
    acknowledged,
    database_with_tables,
    deleted,
    edited,
    empty_tables,
    event,
    facts,
    said,
    sample,
    versions,
)
from psycopg.rows import dict_row

from pglab.errors import IngestError
from pglab.ingestion import MAX_TEXT_BYTES, IngestReport, ingest

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def tables(server_url):
    with database_with_tables(server_url) as url:
        yield url


@pytest.fixture
def connection(tables):
    with empty_tables(tables) as connection:
        yield connection


def in_every_order(connection, events, query):
    """Ingest the events one by one in every order; return the one answer that all give."""
    answers = set()
    for order in permutations(events):
        with connection.transaction(force_rollback=True):
            for each in order:
                ingest(connection, each)
            answers.add(connection.execute(query).fetchone())
    assert len(answers) == 1, answers
    return answers.pop()


def test_an_empty_batch_is_no_work(connection):
    assert ingest(connection, []) == ingest(connection, "[]") == IngestReport()
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize(
    "events",
    [
        said("A"),
        [said("A")],
        (said("A"),),
        iter([said("A")]),
        json.dumps(said("A")),
        json.dumps([said("A")]).encode("utf-16"),
        said("A") | {"event": "MESSAGES_UPSERT"},
        said("A") | {"data": [said("A")["data"]]},
    ],
    ids=["object", "list", "tuple", "iterator", "text", "bytes", "upper case", "array in data"],
)
def test_an_event_may_come_in_many_wrappings(connection, events):
    report = ingest(connection, events)
    assert (report.events, report.instances, report.chats, report.messages) == (1, 1, 1, 1)
    assert connection.execute("SELECT body FROM messages").fetchall() == [("hola",)]


def test_a_batch_on_an_autocommit_connection_is_all_or_nothing(tables, connection):
    with psycopg.connect(tables, autocommit=True) as writer:
        ingest(writer, said("A"))
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        connection.rollback()
        writer.execute("ALTER TABLE message_updates ADD CONSTRAINT stop CHECK (kind <> 'deleted')")
        with pytest.raises(psycopg.errors.CheckViolation):
            ingest(writer, [said("B"), deleted("B")])
        writer.execute("ALTER TABLE message_updates DROP CONSTRAINT stop")
    assert connection.execute("SELECT whatsapp_id FROM messages").fetchall() == [("A",)]


def test_a_batch_in_an_open_transaction_is_the_callers_to_commit(tables, connection):
    connection.execute("BEGIN")
    ingest(connection, said("A"))
    with pytest.raises(IngestError):
        ingest(connection, [said("B"), said("")])
    ingest(connection, said("C"))
    with psycopg.connect(tables) as other:
        assert other.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    connection.commit()
    found = connection.execute("SELECT whatsapp_id FROM messages ORDER BY 1").fetchall()
    assert found == [("A",), ("C",)]


def test_any_row_factory_will_do(tables, connection):
    with psycopg.connect(tables, row_factory=dict_row) as rows_as_dictionaries:
        assert ingest(rows_as_dictionaries, said("A")).messages == 1


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        (["PENDING", "READ", "SERVER_ACK"], "read"),
        (["DELIVERY_ACK", "DELIVERY_ACK"], "delivery_ack"),
        (["PENDING", "ERROR"], "error"),
        (["ERROR", "SERVER_ACK", "PENDING"], "server_ack"),
        (["PLAYED", "READ", "ERROR"], "played"),
    ],
)
def test_a_status_only_moves_forward(connection, statuses, result):
    events = [acknowledged("A", status, at=i) for i, status in enumerate(statuses)]
    query = "SELECT status::text FROM messages"
    assert in_every_order(connection, [said("A"), *events], query) == (result,)


@pytest.mark.parametrize("first", ["PENDING", "ERROR", "READ"])
def test_the_versions_of_one_message_share_the_furthest_status(connection, first):
    versions = [said("A", status=first), said("A", status="DELIVERY_ACK")]
    wanted = "read" if first == "READ" else "delivery_ack"
    query = "SELECT status::text FROM messages"
    assert in_every_order(connection, versions, query) == (wanted,)
    ingest(connection, versions)
    assert connection.execute(query).fetchone() == (wanted,)


def test_the_latest_edit_wins_wherever_it_comes(connection):
    events = [said("A", "one"), edited("A", "two", at=1), edited("A", "three", at=2)]
    query = "SELECT body, message, edited_at FROM messages"
    body, message, edited_at = in_every_order_json(connection, events, query)
    assert (body, message) == ("three", {"conversation": "one"})
    assert edited_at == NOON + timedelta(seconds=2)


def in_every_order_json(connection, events, query):
    text = f"SELECT to_jsonb(t)::text FROM ({query}) AS t"
    answer = json.loads(in_every_order(connection, events, text)[0])
    answer["edited_at"] = datetime.fromisoformat(answer["edited_at"]).astimezone(UTC)
    return answer.values()


def test_two_edits_of_one_instant_have_one_winner(connection):
    events = [said("A", "one"), edited("A", "two", at=1), edited("A", "three", at=1)]
    assert in_every_order(connection, events, "SELECT body FROM messages") == ("two",)


def test_the_first_deletion_counts_and_the_text_stays(connection):
    events = [said("A"), deleted("A", at=5), deleted("A", at=3)]
    answer = in_every_order(connection, events, "SELECT deleted_at, body FROM messages")
    assert answer == (NOON + timedelta(seconds=3), "hola")


def test_of_two_versions_of_a_message_the_earlier_stays(connection):
    events = [said("A", "later", at=9), said("A", "earlier"), edited("A", "edited", at=20)]
    answer = in_every_order(connection, events, "SELECT body, message::text, sent_at FROM messages")
    assert answer == ("edited", '{"conversation": "earlier"}', NOON)


def test_an_update_waits_for_its_message(connection):
    ingest(connection, [acknowledged("A", "READ"), edited("A", "two"), deleted("A")])
    assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM message_updates").fetchone() == (3,)
    report = ingest(connection, said("A"))
    assert (report.messages, report.changed) == (1, 0)
    found = connection.execute(
        "SELECT status::text, body, deleted_at IS NOT NULL FROM messages"
    ).fetchall()
    assert found == [("read", "two", True)]


def test_the_last_state_and_number_win_each_by_its_own_time(connection):
    def stands(state, at, number=None):
        wuid = number and f"{number}:4@s.whatsapp.net"
        return event("connection.update", {"state": state, "wuid": wuid}, at=at)

    events = [
        stands("open", 1, "12025550100"),
        stands("open", 2, "12025550199"),
        stands("close", 3),
        stands("connecting", 3),
    ]
    query = "SELECT connection_state::text, state_changed_at, phone_number FROM instances"
    answer = in_every_order(connection, events, query)
    assert answer == ("connecting", NOON + timedelta(seconds=3), "12025550199")


def test_names_and_pictures_belong_to_the_last_who_wrote_each(connection):
    def known(at, name, picture):
        data = {"remoteJid": LUCIA, "pushName": name, "profilePicUrl": picture}
        return event("contacts.upsert", data, at=at)

    events = [
        known(1, "Lucía", "https://example.org/1"),
        known(2, None, "https://example.org/2"),
        said("A", name="Lucía R.", at=3),
        known(4, "", None),
    ]
    query = "SELECT push_name, profile_picture_url FROM contacts"
    answer = in_every_order(connection, events, query)
    assert answer == ("Lucía R.", "https://example.org/2")


def test_what_we_send_does_not_rename_the_contact(connection):
    ingest(connection, said("A", name="Sciencebot", key={"fromMe": True}))
    assert connection.execute("SELECT count(*) FROM contacts").fetchone() == (0,)


def test_a_group_is_named_and_its_message_has_a_sender(connection):
    group = "120363000000000001@g.us"
    events = [
        said("A", jid=group, name="Rosa", key={"participant": "90000000000105:2@lid"}),
        event("groups.upsert", [{"id": group, "subject": "Ciencias"}], at=1),
        event("chats.update", {"remoteJid": group, "name": "Física"}, at=2),
    ]
    query = (
        "SELECT chats.kind::text, chats.name, sender_jid, push_name FROM chats"
        " JOIN messages ON chat_id = chats.id JOIN contacts ON contacts.jid = sender_jid"
    )
    answer = in_every_order(connection, events, query)
    assert answer == ("group", "Física", "90000000000105@lid", "Rosa")


def test_the_same_id_in_two_instances_is_two_messages(connection):
    ingest(connection, [said("A"), said("A", instance="two"), acknowledged("A", "READ")])
    found = connection.execute(
        "SELECT name, status::text FROM messages JOIN instances ON instances.id = instance_id"
        " ORDER BY name"
    ).fetchall()
    assert found == [("one", "read"), ("two", "pending")]


def test_the_gateways_clock_can_be_told(connection):
    ingest(connection, [said("A"), deleted("A")], zone=ZoneInfo("America/Lima"))
    found = connection.execute("SELECT sent_at, deleted_at FROM messages").fetchone()
    # WhatsApp's own timestamp is UTC whatever the gateway's clock says.
    assert found == (NOON, NOON + timedelta(hours=5))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"jid": "status@broadcast"}, "broadcast"),
        ({"jid": "120363000000000099@newsletter"}, "newsletter"),
        ({"messageType": "albumMessage"}, "albumMessage"),
    ],
)
def test_what_is_not_stored_is_counted(connection, changed, reason):
    report = ingest(connection, [said("A", **changed), sample("call"), sample("call")])
    assert dict(report.ignored) == {f"messages.upsert ({reason})": 1, "call": 2}
    assert repr(report) == f"IngestReport(events=3, ignored={dict(report.ignored)})"
    assert connection.execute("SELECT count(*) FROM instances").fetchone() == (0,)


def test_a_report_counts_rows(connection):
    report = ingest(connection, [said("A", name="Lucía"), said("A"), acknowledged("A", "READ")])
    assert repr(report) == (
        "IngestReport(events=3, instances=1, contacts=1, chats=1, messages=1, updates=1,"
        " duplicates=1)"
    )
    report = ingest(connection, [deleted("A"), said("B"), acknowledged("A", "READ")])
    assert repr(report) == (
        "IngestReport(events=3, messages=1, updates=1, changed=1, duplicates=1)"
    )


@pytest.mark.parametrize("character", ["a", "ñ", "🙏"])
def test_a_long_text_is_kept_up_to_its_limit(connection, character):
    size = len(character.encode())
    longest = character * (MAX_TEXT_BYTES // size)
    ingest(connection, said("A", longest))
    found = connection.execute("SELECT octet_length(body) FROM messages").fetchone()
    assert found == (MAX_TEXT_BYTES,)
    with pytest.raises(IngestError, match=f"has {MAX_TEXT_BYTES + size} bytes") as caught:
        ingest(connection, said("B", longest + character))
    assert caught.value.field == "events[0].data.message.conversation"
    assert len(str(caught.value)) < 200


def test_thousands_of_events_are_one_batch(connection):
    batch = []
    for i in range(1500):
        batch += [said(f"M{i}", at=i, jid=f"120255501{i % 100:02}@s.whatsapp.net", name=f"N{i}")]
        batch += [acknowledged(f"M{i}", "READ", at=i)]
    report = ingest(connection, batch)
    assert (report.messages, report.updates, report.chats, report.contacts) == (
        1500,
        1500,
        100,
        100,
    )
    before = versions(connection)
    assert ingest(connection, batch[::-1]).duplicates == 3000
    assert versions(connection) == before
    assert len(facts(connection)["messages"]) == 1500
