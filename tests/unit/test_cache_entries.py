"""Entries: what was stored comes back, and whatever else stands there is poisoned."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.cache.entries import FORMAT, MARKER_BYTES, Codec, PoisonedError, new_token
from pglab.errors import ConfigError


@dataclass
class Session:
    """What an application caches."""

    id: uuid.UUID
    name: str
    seen_at: dt.datetime
    settings: dict[str, int]
    ratio: float | None = None


SESSIONS = st.builds(
    Session,
    id=st.uuids(),
    name=st.text(st.characters(exclude_categories=["Cs"])),
    seen_at=st.datetimes(timezones=st.just(dt.UTC)),
    settings=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1)
    ),
    ratio=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
NAME = "session:v1:a"
CODECS = {kind: Codec(Session, kind) for kind in ("json", "msgpack")}
both = pytest.mark.parametrize("kind", ["json", "msgpack"])


def stored(codec, value, name=NAME):
    return codec.encode(new_token(), name, value, stored_ms=1_000, ttl_ms=500, load_us=42)


def example():
    return Session(uuid.UUID(int=7), "Peña", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), {"a": 1}, 0.5)


@both
@given(value=st.none() | SESSIONS)
def test_what_was_stored_comes_back(kind, value):
    raw = stored(CODECS[kind], value)
    entry = CODECS[kind].decode(raw, NAME)
    assert entry.value == value
    assert (entry.stored_ms, entry.fresh_until_ms, entry.load_us) == (1_000, 1_500, 42)
    assert len(raw) > MARKER_BYTES


@both
@given(value=SESSIONS, data=st.data())
def test_a_truncated_entry_is_poisoned(kind, value, data):
    raw = stored(CODECS[kind], value)
    short = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(PoisonedError):
        CODECS[kind].decode(short, NAME)


@both
@given(rubbish=st.binary(max_size=200))
def test_rubbish_is_poisoned(kind, rubbish):
    with pytest.raises(PoisonedError):
        CODECS[kind].decode(rubbish, NAME)


@both
@given(value=SESSIONS, data=st.data())
def test_changed_bytes_are_poisoned_or_at_least_of_the_type(kind, value, data):
    raw = bytearray(stored(CODECS[kind], value))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(16, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        entry = CODECS[kind].decode(bytes(raw), NAME)
    except PoisonedError:
        return
    assert entry.key == NAME
    assert entry.format == FORMAT
    assert entry.value is None or isinstance(entry.value, Session)
    if entry.value is not None:
        assert isinstance(entry.value.id, uuid.UUID)
        assert all(type(number) is int for number in entry.value.settings.values())


@both
@given(
    name=st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != NAME),
    value=st.none() | SESSIONS,
)
def test_another_keys_entry_is_poisoned(kind, name, value):
    raw = stored(CODECS[kind], value, name)
    with pytest.raises(PoisonedError, match="it is the entry of"):
        CODECS[kind].decode(raw, NAME)


JSON_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@both
@given(value=JSON_VALUES)
def test_a_value_of_another_type_is_poisoned(kind, value):
    raw = stored(Codec(Any, kind), value)
    with pytest.raises(PoisonedError):
        CODECS[kind].decode(raw, NAME)


@both
@pytest.mark.parametrize(
    "envelope",
    [
        (FORMAT + 1, NAME, 1, 2, 3, None),
        (str(FORMAT), NAME, 1, 2, 3, None),
        (FORMAT, NAME, 1, 2, 3),
        (FORMAT, NAME, 1, 2, 3, None, None),
        (FORMAT, NAME, 1, "2", 3, None),
        (FORMAT, 7, 1, 2, 3, None),
        {"format": FORMAT, "key": NAME},
        None,
        "text",
    ],
)
def test_another_format_is_poisoned(kind, envelope):
    encode = msgspec.json.encode if kind == "json" else msgspec.msgpack.encode
    with pytest.raises(PoisonedError):
        CODECS[kind].decode(new_token() + encode(envelope), NAME)


def test_endless_nesting_is_poisoned():
    raw = new_token() + b"[" * 100_000
    with pytest.raises(PoisonedError):
        Codec(Any).decode(raw, NAME)


def test_what_a_hook_raises_is_poisoned():
    class Odd:
        pass

    def hook(kind, value):
        raise KeyError(value)

    codec = Codec(Odd, enc_hook=lambda odd: "odd", dec_hook=hook)
    with pytest.raises(PoisonedError, match="KeyError"):
        codec.decode(stored(codec, Odd()), NAME)


@pytest.mark.parametrize("kind", ["pickle", "", None])
def test_an_unknown_serialization_is_named(kind):
    with pytest.raises(ConfigError, match=f"serialization {kind!r}"):
        Codec(Session, kind)


def test_a_type_that_cannot_be_decoded_is_named():
    with pytest.raises(ConfigError, match="cannot decode json"):
        Codec(dict[Session, int] | list[int] | set[int])


def test_no_two_tokens_are_equal():
    tokens = {new_token() for _ in range(10_000)}
    assert len(tokens) == 10_000
    assert {len(token) for token in tokens} == {16}
    assert example() == CODECS["json"].decode(stored(CODECS["json"], example()), NAME).value
