"""Properties of ingest that hold for any history, found out by trying many."""

from __future__ import annotations

import copy
import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_support import (
    APIKEY,
    WEBHOOKS,
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

from pglab.errors import IngestError
from pglab.ingestion import ingest

pytestmark = pytest.mark.server

# One connection serves all examples: each is rolled back.
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Few names, few instants: what makes rules collide is meeting again.
instances = st.sampled_from(["one", "one", "one", "two"])
ids = st.sampled_from(["A", "A", "B"])
times = st.integers(0, 2)
names = st.sampled_from([None, "", "Ana", "ana", "Ñandú", "Zoë", "𝒜", "￿"])
people = st.sampled_from(["12025550101@s.whatsapp.net", "90000000000105@lid"])
groups = st.sampled_from(["120363000000000001@g.us", "120363000000000002@g.us"])
statuses = st.sampled_from(
    ["ERROR", "PENDING", "SERVER_ACK", "DELIVERY_ACK", "READ", "PLAYED", "DELETED", "EDITED"]
)
texts = st.sampled_from(["hola", "Hola", "¿qué?", "🙏", ""])

messages = st.builds(
    said,
    ids,
    texts,
    at=times,
    instance=instances,
    jid=people | groups,
    name=names,
    status=statuses,
    source=st.sampled_from(["android", "ios", "unknown", "fridge"]),
    key=st.fixed_dictionaries({"fromMe": st.booleans()}, optional={"participant": people}),
)
contacts = st.fixed_dictionaries({"remoteJid": people, "pushName": names, "profilePicUrl": names})
chats = st.fixed_dictionaries({"id": people | groups}, optional={"name": names, "subject": names})
connections = st.fixed_dictionaries(
    {"state": st.sampled_from(["close", "connecting", "open", "refused"])},
    optional={
        "wuid": st.sampled_from(["12025550100@s.whatsapp.net", "12025550199:3@s.whatsapp.net"])
    },
)
events = st.one_of(
    messages,
    messages,
    messages,
    st.builds(acknowledged, ids, statuses, at=times, instance=instances),
    st.builds(edited, ids, texts, at=times, instance=instances),
    st.builds(deleted, ids, at=times, instance=instances),
    *(
        st.builds(event, st.just(name), data, at=times, instance=instances)
        for name, data in [
            ("contacts.upsert", contacts | st.lists(contacts, max_size=3)),
            ("chats.upsert", chats | st.lists(chats, max_size=3)),
            ("groups.update", st.lists(chats, max_size=2)),
            ("connection.update", connections),
        ]
    ),
)


@pytest.fixture(scope="module")
def connection(server_url):
    with database_with_tables(server_url) as url, empty_tables(url) as connection:
        yield connection


@st.composite
def retellings(draw):
    """Draw a history, and the same events in another order, some repeated, in batches."""
    history = draw(st.lists(events, min_size=6, max_size=16))
    repeated = draw(st.lists(st.sampled_from(history), max_size=4))
    told = draw(st.permutations(history + repeated))
    cuts = sorted(draw(st.sets(st.integers(0, len(told)), max_size=5)))
    batches = [told[a:b] for a, b in zip([0, *cuts], [*cuts, len(told)], strict=True)]
    return history, batches


@quick
@given(retellings())
def test_the_order_the_number_and_the_batches_do_not_matter(connection, retelling):
    history, batches = retelling
    with connection.transaction(force_rollback=True):
        ingest(connection, history)
        wanted = facts(connection)
    with connection.transaction(force_rollback=True):
        for batch in batches:
            ingest(connection, batch)
        assert facts(connection) == wanted


@quick
@given(st.lists(events, min_size=6, max_size=16), st.randoms(use_true_random=False))
def test_a_replay_writes_nothing(connection, history, random):
    with connection.transaction(force_rollback=True):
        ingest(connection, history)
        before = versions(connection)
        random.shuffle(history)
        for batch in (history[:3], history[3:4], history[4:]):
            report = ingest(connection, batch)
            assert report.messages == report.updates == report.changed == 0
        assert versions(connection) == before


def refusal(connection, given):
    """Return the IngestError that ingesting this raises, None if it is stored."""
    try:
        ingest(connection, given)
    except IngestError as error:
        return error
    return None


def nested(depth):
    value = "deep"
    for _ in range(depth):
        value = [value]
    return value


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**63, 2**2000, 1740837600, 1740837600000]),
    st.floats(),
    st.text(string.printable + "ñ🙏\0\ud800\udfff\u2028\u0085", max_size=12),
    st.sampled_from(
        ["", " ", "x" * 129, "@s.whatsapp.net", "0@s.whatsapp.net", "9999-12-31T23:59Z"]
    ),
    st.recursive(
        st.none() | st.integers(0, 9) | st.sampled_from(["a", "\0", "\ud800"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["id", "text", "low", "high", "\0", ""]), inner, max_size=2
            )
        ),
        max_leaves=6,
    ),
    st.integers(95, 3000).map(nested),
    st.sampled_from(["a\0b", "\ud83d", {"\0": 1}, {"conversation": "\0"}, {"caption": "\udfff"}]),
    st.sampled_from([object(), b"bytes", {1: 2}, {"low": 1}, {"low": -1, "high": 405}]),
)
SAMPLES = sorted(path.stem for path in WEBHOOKS.glob("*.json"))


def places(value, path=()):
    """Yield the path of everything in an event."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))


@st.composite
def malformed(draw):
    """Draw a good event with one thing in it replaced or taken away."""
    changed = copy.deepcopy(sample(draw(st.sampled_from(SAMPLES))))
    *way, last = draw(st.sampled_from(list(places(changed))))
    inside = changed
    for step in way:
        inside = inside[step]
    if draw(st.integers(0, 4)) == 0:
        del inside[last]
    else:
        inside[last] = draw(JUNK)
    return changed


@settings(quick, max_examples=200)
@given(malformed())
def test_a_malformed_event_is_stored_or_refused_but_never_half(connection, changed):
    with connection.transaction(force_rollback=True):
        ingest(connection, [sample("messages.upsert"), sample("contacts.upsert")])
        before = versions(connection)
        batch = [sample("send.message"), changed, sample("messages.update")]
        refused = refusal(connection, batch)
        if refused is None:
            assert versions(connection) != before
        else:
            assert versions(connection) == before
            assert refused.field.startswith("events[1]")
            assert str(refused).startswith(refused.field)
            assert len(str(refused)) < 400
            assert str(refused).encode()
            assert APIKEY not in repr(refused)


@quick
@given(st.data())
def test_a_damaged_text_is_stored_or_refused(connection, data):
    text = bytearray(json.dumps(sample(data.draw(st.sampled_from(SAMPLES)))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    with connection.transaction(force_rollback=True):
        refused = refusal(connection, bytes(text))
        if refused is not None:
            assert refused.field.startswith("events")
            assert not any(versions(connection).values())
