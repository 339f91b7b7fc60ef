"""The generator: the same rows everywhere, and rows that look like a gateway's."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import timedelta
from statistics import median

import numpy as np
import pytest

from pglab.dataset import END, SIZES, START, TABLES, Dataset
from pglab.dataset.streams import Stream, hexadecimal, mix
from pglab.errors import ConfigError
from pglab.load.binary import encode

# SHA-256 of the rows as COPY sends them. A change here is a change of everybody's data: results
# that were kept no longer compare. Change them on purpose only, and say so in CHANGELOG.md.
GOLDEN_TINY = {
    "instances": "6c65362f6295192138e8bd92f93fbc968b35fc677dc4c501940be5884527775c",
    "sessions": "755e2006b5d4d37f27e03dc88e78a2c3c17bce73ca94f5ed8c0d996b04966795",
    "webhooks": "2f6baffa3432a4afe45ade94e591362e6cddafb4e9365fac5ef52b108bf25df1",
    "contacts": "42335e3ce0711bc7e1e2193e3ed3103b5578295729481cecd60e03c7abc11dfb",
    "chats": "44ebf3a7f919254b2fcc911a6f85fcd7eddbf0fb683759cb42c7e8d3f15bd290",
    "messages": "a90a4f67020bb0d5d58b24f1ca48c2f782e84124cb0efc0faa21727e833dad18",
}
GOLDEN_LARGE_MIDDLE = "b1e629e05101f31fe485abff9190ecdb4465c7b526cc570a0612c41eb8784cd8"


@pytest.fixture(scope="module")
def tiny():
    return Dataset("tiny")


@pytest.fixture(scope="module")
def rows(tiny):
    """Messages of tiny, as dictionaries."""
    batch = tiny.messages()
    return [dict(zip(batch.columns, row, strict=True)) for row in batch.rows()]


@pytest.fixture(scope="module")
def small():
    """Messages of small, as columns of Python values."""
    batch = Dataset("small").messages()
    return {name: column.python() for name, column in batch.columns.items()}


@pytest.mark.parametrize("table", TABLES)
def test_tiny_is_the_same_everywhere(tiny, table):
    rows = hashlib.sha256(b"".join(map(encode, tiny.batches(table))))
    assert rows.hexdigest() == GOLDEN_TINY[table]


def test_the_middle_of_large_is_the_same_everywhere():
    rows = encode(Dataset("large").messages(5_000_000, 5_002_000))
    assert hashlib.sha256(rows).hexdigest() == GOLDEN_LARGE_MIDDLE


def test_splitmix64_gives_the_published_sequence():
    # The first outputs for state 1234567, as other implementations print them.
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + step * golden) % 2**64 for step in range(1, 6)]
    assert mix(np.array(states, dtype=np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_stream_draws_what_its_weights_say():
    index = np.arange(100_000)
    stream = Stream(1, "test")
    drawn = Counter(stream.choose(index, (1, 0, 3)).tolist())
    assert drawn[1] == 0
    assert drawn[2] / drawn[0] == pytest.approx(3, rel=0.05)
    assert stream.below(index, 7).min() == 0
    assert stream.below(index, 7).max() == 6
    assert not np.array_equal(stream.bits(index), Stream(1, "other").bits(index))


def test_hexadecimal_pads_to_sixteen_digits():
    numbers = np.array([0, 255, 2**64 - 1], dtype=np.uint64)
    assert hexadecimal(numbers).tolist() == [b"0" * 16, b"00000000000000FF", b"F" * 16]


def test_any_stretch_is_what_the_whole_holds_there(tiny):
    whole = list(tiny.messages().rows())
    assert list(tiny.messages(777, 1234).rows()) == whole[777:1234]
    assert [row for batch in tiny.batches("messages", 97) for row in batch.rows()] == whole
    assert len(tiny.messages(5, 5)) == 0


def test_a_stretch_of_chats_and_contacts_too(tiny):
    assert list(tiny.chats(7, 30).rows()) == list(tiny.chats().rows())[7:30]
    assert list(tiny.contacts(7, 30).rows()) == list(tiny.contacts().rows())[7:30]


def test_another_seed_gives_other_rows(tiny):
    other = Dataset("tiny", seed=23)
    assert list(other.messages(0, 50).rows()) != list(tiny.messages(0, 50).rows())
    assert list(Dataset("tiny").messages(0, 50).rows()) == list(tiny.messages(0, 50).rows())


def test_counts_are_those_of_the_rows(tiny):
    for table in TABLES:
        assert sum(map(len, tiny.batches(table))) == tiny.counts[table]
    assert tiny.counts["messages"] == SIZES["tiny"] == 2_000


def test_a_number_is_a_size_too():
    assert Dataset(1_234).counts["messages"] == 1_234
    assert len(Dataset(1_234).messages(1_200)) == 34


@pytest.mark.parametrize(
    ("size", "says"),
    [("huge", "tiny (2,000), small (50,000)"), ("", "use one of"), (12, "ask for 500 or more")],
)
def test_a_wrong_size_is_refused_with_the_right_ones(size, says):
    with pytest.raises(ConfigError) as refused:
        Dataset(size)
    assert says in str(refused.value)


def test_rows_beyond_the_end_are_refused(tiny):
    with pytest.raises(IndexError, match="messages has rows 0 to 2,000"):
        tiny.messages(1_999, 2_001)


def test_identifiers_never_repeat_within_an_instance(small):
    keys = list(zip(small["instance_id"], small["whatsapp_id"], strict=True))
    assert len(set(keys)) == len(keys)


def test_addresses_never_repeat_within_an_instance():
    dataset = Dataset("small")
    for batch in (dataset.contacts(), dataset.chats()):
        seen = list(
            zip(batch.columns["instance_id"].python(), batch.columns["jid"].python(), strict=True)
        )
        assert len(set(seen)) == len(seen)


def test_columns_agree_with_the_objects_they_are_read_from(rows, tiny):
    jids = dict(enumerate(tiny.chats().columns["jid"].python(), start=1))
    for row in rows:
        key = {"id": row["whatsapp_id"], "remoteJid": jids[row["chat_id"]]}
        key["fromMe"] = row["from_me"]
        if row["sender_jid"] is not None:
            key["participant"] = row["sender_jid"]
        assert row["key"] == key
        assert row["body"] == _text(row["message"]), row["message"]


def _text(message):
    if "conversation" in message:
        return message["conversation"]
    [(kind, inner)] = message.items()
    name = {"extendedTextMessage": "text", "reactionMessage": "text",
            "pollCreationMessageV3": "name"}.get(kind, "caption")  # fmt: skip
    return inner.get(name)


def test_whoever_writes_in_a_group_is_named_and_nobody_else(rows, tiny):
    kinds = dict(enumerate(tiny.chats().columns["kind"].python(), start=1))
    for row in rows:
        named = kinds[row["chat_id"]] == "group" and not row["from_me"]
        assert (row["sender_jid"] is not None) == named


def test_a_reaction_points_at_an_earlier_message_of_its_chat(small):
    chat_of = dict(zip(small["whatsapp_id"], small["chat_id"], strict=True))
    place = {identifier: number for number, identifier in enumerate(small["whatsapp_id"])}
    seen = 0
    for number, message in enumerate(small["message"]):
        if "reactionMessage" in message:
            target = message["reactionMessage"]["key"]["id"]
            assert chat_of[target] == small["chat_id"][number]
            assert place[target] < number
            seen += 1
    assert seen > 100


def test_an_empty_text_and_no_text_both_occur(small):
    images = [b for b, t in zip(small["body"], small["message_type"], strict=True) if t == "image"]
    assert None in images
    assert "" in images
    assert all(b is None for b, t in zip(small["body"], small["message_type"], strict=True)
               if t in {"audio", "sticker"})  # fmt: skip


def test_every_type_occurs_and_words_dominate(small):
    types = Counter(small["message_type"])
    assert set(types) == {"text", "image", "audio", "video", "document", "sticker", "location",
                          "contact", "reaction", "poll"}  # fmt: skip
    assert 0.78 < types["text"] / len(small["id"]) < 0.90


def test_time_runs_with_the_identifiers(small):
    assert small["created_at"] == sorted(small["created_at"])
    assert all(START <= moment < END for moment in small["created_at"])
    # Sent before it arrived, and nearly always at once.
    gaps = [a - s for a, s in zip(small["created_at"], small["sent_at"], strict=True)]
    assert min(gaps) > timedelta(0)
    assert median(gaps) < timedelta(seconds=5)
    assert max(gaps) > timedelta(minutes=30)


def test_a_chat_is_in_order(small):
    latest = {}
    for chat, sent in zip(small["chat_id"], small["sent_at"], strict=True):
        assert sent >= latest.get(chat, sent)
        latest[chat] = sent


def test_a_chat_spans_its_messages():
    dataset = Dataset("tiny")
    chats = {row[0]: row for row in dataset.chats().rows()}
    created, updated = (
        list(dataset.chats().columns).index(c) for c in ("created_at", "updated_at")
    )
    messages = dataset.messages()
    for chat, sent in zip(
        messages.columns["chat_id"].python(), messages.columns["sent_at"].python(), strict=True
    ):
        assert chats[chat][created] <= sent <= chats[chat][updated]


def test_unread_messages_are_few_recent_and_last_in_their_chat(small):
    last_read = {}
    unread = []
    for number, status in enumerate(small["status"]):
        if small["from_me"][number]:
            continue
        if status == "delivery_ack":
            unread.append(number)
        else:
            last_read[small["chat_id"][number]] = number
    total = len(small["id"])
    assert 0.002 < len(unread) / total < 0.01
    assert min(unread) > total * 0.95
    assert all(last_read.get(small["chat_id"][number], -1) < number for number in unread)


def test_most_sent_messages_were_read_and_a_few_failed(small):
    sent = Counter(s for s, me in zip(small["status"], small["from_me"], strict=True) if me)
    total = sum(sent.values())
    assert sent["read"] / total > 0.8
    assert 0 < sent["error"] / total < 0.01
    assert sent["pending"] > 0


def test_instances_differ_by_orders_of_magnitude(small):
    sizes = [count for _, count in Counter(small["instance_id"]).most_common()]
    assert len(sizes) == 6
    assert sizes[0] / len(small["id"]) > 0.5
    assert sizes[0] > 100 * sizes[-1]


def test_few_chats_hold_most_messages(small):
    sizes = sorted(Counter(small["chat_id"]).values(), reverse=True)
    assert sizes[0] > 5 * median(sizes)
    assert sum(sizes[: len(sizes) // 5]) > 0.4 * sum(sizes)


def test_nights_weekends_and_deadlines_show(small):
    local = [sent - timedelta(hours=5) for sent in small["sent_at"]]
    hours, days, months = (
        Counter(f(t) for t in local)
        for f in (lambda t: t.hour, lambda t: t.weekday(), lambda t: t.month)
    )
    assert hours[20] > 10 * hours[3]
    assert days[0] > 2 * days[6]
    assert months[12] > 1.4 * months[11]


def test_edits_follow_the_sending_and_deletions_too(small):
    edited = [(s, e) for s, e in zip(small["sent_at"], small["edited_at"], strict=True) if e]
    deleted = [(s, d) for s, d in zip(small["sent_at"], small["deleted_at"], strict=True) if d]
    assert edited
    assert deleted
    assert all(sent <= later <= END for sent, later in edited + deleted)


def test_three_languages_are_spoken(small):
    texts = " ".join(body for body in small["body"] if body)
    assert "¿cuánto cuesta" in texts
    assert "how much is the tuition" in texts
    assert "quanto custa a mensalidade" in texts
    assert "👨‍👩‍👧" in texts


def test_subscriptions_are_upper_case_and_the_seeds_instance_is_there(tiny):
    assert tiny.instances().columns["name"].python()[0] == "sciencebot-production"
    events = tiny.webhooks().columns["events"].python()
    assert all(name == name.upper() for names in events for name in names)
    assert {"MESSAGES_UPSERT" in names for names in events} == {True, False}
    assert len({len(names) for names in events}) > 3


def test_credentials_do_not_compress():
    import zlib

    for secret in Dataset("tiny").sessions().columns["credentials"].python():
        assert len(zlib.compress(secret)) >= len(secret)


def test_json_is_written_once_and_in_utf8(tiny):
    values = tiny.messages().columns["message"].values
    assert all(json.loads(value) for value in values)
    assert not any(b"\\u" in value for value in values)


def test_a_sample_is_a_frame_over_the_whole_year(tiny):
    frame = tiny.sample(12)
    assert len(frame) == 12
    assert (frame["sent_at"].max() - frame["sent_at"].min()).days > 200
    assert len(tiny.sample(3, "instances")) == 3
