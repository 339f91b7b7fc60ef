"""Reading events, without a server."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from ingest_support import APIKEY, LUCIA, NOON, acknowledged, event, said

from pglab.errors import IngestError
from pglab.ingestion import MAX_DEPTH, IngestReport
from pglab.ingestion._content import CONTENTS
from pglab.ingestion._envelope import decode
from pglab.ingestion._fields import Node, plain, shorten
from pglab.ingestion._jids import read_jid
from pglab.ingestion._parse import IGNORED, STORED, parse

EPOCH = int(NOON.timestamp())


def read(*events, zone=UTC):
    return parse(decode(list(events)), zone)


def node(value):
    return Node(value, "it")


def refusal(call, *args, **kwargs):
    with pytest.raises(IngestError) as caught:
        call(*args, **kwargs)
    return str(caught.value).removesuffix("; nothing of the batch was stored")


@pytest.mark.parametrize(
    "count",
    [
        EPOCH,
        str(EPOCH),
        {"low": EPOCH, "high": 0, "unsigned": True},
    ],
    ids=["number", "text", "Long"],
)
def test_seconds_come_in_three_forms(count):
    assert node(count).epoch() == NOON


def test_a_long_is_put_together_from_its_signed_halves():
    milliseconds = EPOCH * 1000 + 2**31
    low = milliseconds & 0xFFFF_FFFF
    signed = low - 2**32 if low >= 2**31 else low
    split = {"low": signed, "high": milliseconds >> 32, "unsigned": False}
    assert signed < 0
    assert node(split).epoch(unit_ms=1) == NOON + timedelta(milliseconds=2**31)


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (1230767999, "is 1230767999 seconds after 1970, which is not between 2009 and 2100"),
        (4102444800, "is 4102444800 seconds after 1970, which is not between 2009 and 2100"),
        (EPOCH * 1000, "(messageTimestamp counts seconds, timestampMs milliseconds)"),
        (10**400, "is a number of 1329 bits seconds after 1970"),
        (True, "is true, not a whole number"),
        (1.5, "is 1.5, not a whole number"),
        ("1e9", "is '1e9', not a whole number"),
        ("١٧", "is '١٧', not a whole number"),
        ([], "is an array of 0, not a whole number"),
        ({"low": 1}, "it.high is missing"),
        ({"low": "1", "high": 0}, "it.low is '1', not a whole number"),
    ],
)
def test_a_count_that_is_no_time_is_refused(count, says):
    assert says in refusal(node(count).epoch)


@pytest.mark.parametrize("count", [1230768000, 4102444799])
def test_the_ends_of_the_century_are_times(count):
    assert node(count).epoch().timestamp() == count


@pytest.mark.parametrize(
    ("written", "zone", "meant"),
    [
        ("2025-03-01T12:00:00.000Z", UTC, NOON),
        # The gateway's Z is false: what it means is the clock on its wall.
        ("2025-03-01T07:00:00.000Z", ZoneInfo("America/Lima"), NOON),
        ("2025-03-01T07:00:00", ZoneInfo("America/Lima"), NOON),
        # An offset in digits is meant.
        ("2025-03-01T13:00:00+01:00", ZoneInfo("America/Lima"), NOON),
        ("2025-03-01 12:00", UTC, NOON),
    ],
)
def test_date_time_is_a_clock_in_a_zone(written, zone, meant):
    found = node(written).clock(zone)
    assert found == meant
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (EPOCH, f"is {EPOCH}, not a text"),
        ("2025-03-01", "is '2025-03-01', not a time such as"),
        ("20250301T120000Z", "not a time such as"),
        ("2025-02-30T12:00:00Z", "not a time such as"),
        ("2025-03-01T12:00:00+25:00", "not a time such as"),
        ("٢٠٢٥-03-01T12:00:00Z", "not a time such as"),
        ("1970-01-01T00:00:00Z", "which is not between 2009 and 2100"),
        ("0001-01-01T00:00:00Z", "which is not between 2009 and 2100"),
        ("9999-12-31T23:59:59Z", "which is not between 2009 and 2100"),
        ("2008-12-31T23:00:00Z", "which is not between 2009 and 2100"),
    ],
)
def test_a_clock_that_shows_no_time_is_refused(written, says):
    assert says in refusal(node(written).clock, timezone(timedelta(hours=-5)))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("a\0", "it holds a NUL at character 1"),
        ({"a": ["", "\0"]}, "it.a[1] holds a NUL at character 0"),
        ({"\0": 1}, r"it.'\x00' holds a NUL at character 0"),
        ("ab\ud800", r"it holds half a character (the lone surrogate '\ud800') at character 2"),
        ({"a b": "\udfff"}, "it.'a b' holds half a character"),
        ([float("nan")], "it[0] is nan, which is not a JSON number"),
        (float("-inf"), "it is -inf, which is not a JSON number"),
        (2**1024, "it is a number of 1025 bits"),
        ({1: 2}, "it has the key 1, which is not a text"),
        (datetime(2025, 3, 1, tzinfo=UTC), "it is a Python datetime, not JSON"),
        ({"a": {1, 2}}, "it.a is a Python set, not JSON"),
    ],
)
def test_what_postgresql_cannot_hold_is_refused_where_it_stands(value, says):
    assert refusal(plain, node(value)).startswith(says)


def test_plain_copies_json_and_nothing_else():
    value = {"a": [1, 2.5, None, True, "ñ🙏", {"b": ()}], "": {}}
    copied = plain(node(value))
    assert copied == {"a": [1, 2.5, None, True, "ñ🙏", {"b": []}], "": {}}
    copied["a"].append("more")
    assert len(value["a"]) == 6


def test_nesting_is_bounded():
    value = "deep"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert plain(node(value)) == value
    message = refusal(plain, node([value]))
    assert message.endswith(f"is nested more than {MAX_DEPTH} deep")
    assert len(message) < 300
    ring = []
    ring.append(ring)
    assert "is nested more than" in refusal(plain, node(ring))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (False, "false"),
        ("x" * 41, f"'{'x' * 40}…'"),
        ({"apikey": APIKEY}, "an object with 1 keys"),
        ([APIKEY], "an array of 1"),
        (2**20_000, "a number of 20001 bits"),
    ],
    ids=["null", "boolean", "text", "object", "array", "huge"],  # Python cannot print the last
)
def test_a_value_is_shown_short_and_containers_not_at_all(value, words):
    assert shorten(value) == words


@pytest.mark.parametrize(
    ("written", "text", "kind"),
    [
        ("12025550101@s.whatsapp.net", "12025550101@s.whatsapp.net", "person"),
        ("12025550101:12@s.whatsapp.net", "12025550101@s.whatsapp.net", "person"),
        ("90000000000105:1@lid", "90000000000105@lid", "person"),
        ("12025550101-1409238@g.us", "12025550101-1409238@g.us", "group"),
        ("status@broadcast", "status@broadcast", "broadcast"),
        ("120363000000000099@newsletter", "120363000000000099@newsletter", "newsletter"),
    ],
)
def test_an_address_loses_its_device(written, text, kind):
    assert read_jid(node(written)) == (text, kind)


@pytest.mark.parametrize(
    "written",
    [
        "12025550101",
        "@g.us",
        "a b@g.us",
        "1@g.us\n",
        "1@example.org",
        "1:x@lid",
        "ñ@lid",
        "1@lid@lid",
    ],
)
def test_what_is_no_address_is_refused(written):
    assert "not an address such as" in refusal(read_jid, node(written))


CONTENT_EXAMPLES = {
    "conversation": ({"conversation": "hola"}, "text", "hola"),
    "extendedTextMessage": ({"extendedTextMessage": {"text": "hola"}}, "text", "hola"),
    "imageMessage": ({"imageMessage": {"caption": "mira"}}, "image", "mira"),
    "audioMessage": ({"audioMessage": {"seconds": 3}}, "audio", None),
    "videoMessage": ({"videoMessage": {"caption": ""}}, "video", None),
    "ptvMessage": ({"ptvMessage": {}}, "video", None),
    "documentMessage": ({"documentMessage": {"caption": "temario"}}, "document", "temario"),
    "documentWithCaptionMessage": (
        {"documentWithCaptionMessage": {"message": {"documentMessage": {"caption": "acta"}}}},
        "document",
        "acta",
    ),
    "stickerMessage": ({"stickerMessage": {}}, "sticker", None),
    "locationMessage": ({"locationMessage": {"name": "Campus"}}, "location", "Campus"),
    "liveLocationMessage": ({"liveLocationMessage": {"caption": "voy"}}, "location", "voy"),
    "contactMessage": ({"contactMessage": {"displayName": "Rosa"}}, "contact", "Rosa"),
    "contactsArrayMessage": ({"contactsArrayMessage": {"displayName": "2"}}, "contact", "2"),
    "reactionMessage": ({"reactionMessage": {"text": "👍"}}, "reaction", "👍"),
    "pollCreationMessage": ({"pollCreationMessage": {"name": "¿Qué día?"}}, "poll", "¿Qué día?"),
    "pollCreationMessageV2": ({"pollCreationMessageV2": {"name": "¿?"}}, "poll", "¿?"),
    "pollCreationMessageV3": ({"pollCreationMessageV3": {"name": "¿?"}}, "poll", "¿?"),
}


def test_every_content_has_an_example():
    assert CONTENT_EXAMPLES.keys() == CONTENTS.keys()


@pytest.mark.parametrize("name", CONTENT_EXAMPLES)
def test_a_message_has_a_type_and_what_a_person_would_read(name):
    message, message_type, body = CONTENT_EXAMPLES[name]
    [found] = read(said("A", messageType=name, message=message)).messages
    assert (found.message_type, found.body) == (message_type, body)
    assert json.loads(found.message) == message
    [found] = read(said("A", messageType=name, message={})).messages
    assert found.body is None


@pytest.mark.parametrize("name", [name for name, content in CONTENTS.items() if content.path])
def test_a_known_content_of_a_wrong_type_is_refused(name):
    message = refusal(read, said("A", messageType=name, message={name: 7}))
    assert message.startswith(f"events[0].data.message.{name} is 7, not a")


def test_a_text_that_the_gateway_flattened_is_found():
    flat = said("A", messageType="extendedTextMessage", message={"conversation": "hola"})
    assert read(flat).messages[0].body == "hola"


def test_the_events_are_those_of_the_gateway():
    names = """application.startup instance.create instance.delete qrcode.updated connection.update
    status.instance messages.set messages.upsert messages.edited messages.update messages.delete
    send.message send.message.update contacts.set contacts.upsert contacts.update presence.update
    chats.set chats.update chats.upsert chats.delete groups.upsert groups.update
    group-participants.update call typebot.start typebot.change-status labels.edit
    labels.association creds.update messaging-history.set remove.instance logout.instance"""
    assert STORED.keys() | IGNORED == set(names.split())
    assert not STORED.keys() & IGNORED


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_an_ignored_event_is_counted_and_not_looked_into(name):
    for spelling in (name, name.replace(".", "_").replace("-", "_").upper()):
        batch = read({"event": spelling, "data": object()})
        assert batch.ignored == {name: 1}
        assert not batch.instances


def test_what_is_stored_creates_the_instance_and_what_is_not_does_not():
    assert read(said("A")).instances == {"one"}
    assert read(said("A", jid="status@broadcast")).instances == set()


@pytest.mark.parametrize("status", ["EATEN", "sent", ""])
def test_a_status_is_one_of_whatsapps(status):
    assert "no status of a message" in refusal(read, acknowledged("A", status))
    assert refusal(read, acknowledged("A", 3)).endswith("is 3, not a text")


@pytest.mark.parametrize(
    ("protocol", "kinds", "ignored"),
    [
        ("MESSAGE_EDIT", ["edited"], {}),
        (14, ["edited"], {}),
        (None, ["edited"], {}),
        ("REVOKE", ["deleted"], {}),
        (0, ["deleted"], {}),
        ("EPHEMERAL_SETTING", [], {"messages.edited (EPHEMERAL_SETTING)": 1}),
        (3, [], {"messages.edited (3)": 1}),
    ],
)
def test_messages_edited_is_every_protocol_message(protocol, kinds, ignored):
    data = {
        "key": {"id": "A", "remoteJid": LUCIA, "fromMe": False},
        "type": protocol,
        "editedMessage": {"imageMessage": {"caption": "mejor así"}},
    }
    batch = read(event("messages.edited", data, at=5))
    assert [update.kind for update in batch.updates] == kinds
    assert batch.ignored == ignored
    if kinds == ["edited"]:
        assert json.loads(batch.updates[0].payload)["body"] == "mejor así"
        assert batch.updates[0].happened_at == NOON + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "events is not JSON: Expecting value at line 1 column 1"),
        ("null", "events is null, not an event or an array of events"),
        ('"messages.upsert"', "events is 'messages.upsert', not an event"),
        ("[1]", "events[0] is 1, not an object"),
        ("[[]]", "events[0] is an array of 0, not an object"),
        ("[" * 100_000, "events is not JSON: it is nested too deeply"),
        ("[" + "9" * 5000 + "]", "events is not JSON: a number in it has thousands of digits"),
        (b"\xff{}", "events is not JSON: byte 0 is not utf-8"),
        ("{}", "events[0].event is missing"),
        (7, "events is 7, not an event or an array of events"),
        (f'{{"apikey": "{APIKEY}"', "events is not JSON: Expecting ',' delimiter"),
    ],
)
def test_what_is_no_batch_is_refused(text, says):
    def call():
        parse(decode(text), UTC)

    message = refusal(call)
    assert message.startswith(says)
    assert APIKEY not in message


@pytest.mark.parametrize("name", ["", "x" * 101, " one", "one ", "a\0"])
def test_an_instances_name_obeys_the_table(name):
    message = refusal(read, said("A", instance=name))
    assert message.startswith("events[0].instance ")
    assert len(message) < 120


def test_the_input_is_left_as_it_was():
    given = [said("A", name="Lucía"), acknowledged("A", "READ")]
    before = copy.deepcopy(given)
    read(*given)
    assert given == before


def test_a_report_can_be_compared_and_shown():
    report = IngestReport(events=2, messages=1, ignored={"call": 1})
    assert report == IngestReport(events=2, messages=1, ignored={"call": 1})
    assert repr(report) == "IngestReport(events=2, messages=1, ignored={'call': 1})"
    with pytest.raises(AttributeError):
        report.messages = 2  # type: ignore[misc]


def test_importing_ingestion_needs_no_sqlalchemy():
    import subprocess
    import sys

    code = (
        "import sys, pglab.ingestion;"
        "print(sorted({'sqlalchemy', 'pandas', 'redis', 'numpy'} & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
