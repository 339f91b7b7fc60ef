"""Names of cached objects: what may be in a key, and that no two keys share a name."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.cache import KeySpace
from pglab.errors import ConfigError

SPACE = KeySpace("session", version=3)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("shop-lima", "session:v3:shop-lima"),
        ("5511987654321@s.whatsapp.net", "session:v3:5511987654321@s.whatsapp.net"),
        (7, "session:v3:7"),
        (-7, "session:v3:-7"),
        (uuid.UUID(int=1), "session:v3:00000000-0000-0000-0000-000000000001"),
        (("a", 1), "session:v3:a:1"),
        (("a:1",), "session:v3:a%3A1"),
        ("two words", "session:v3:two%20words"),
        ("100%", "session:v3:100%25"),
        ("line\nfeed", "session:v3:line%0Afeed"),
        ("Peña", "session:v3:Pe%C3%B1a"),
        ("*", "session:v3:%2A"),
        ("a" * 200, "session:v3:" + "a" * 200),
    ],
)
def test_a_key_has_a_name(key, name):
    assert SPACE.name(key) == name


def test_a_prefix_stands_before_it():
    assert KeySpace("page", version=0, prefix="pglab:cache").name(1) == "pglab:cache:page:v0:1"


def test_a_megabyte_becomes_a_hash():
    name = SPACE.name("x" * 1_000_000)
    assert re.fullmatch(r"session:v3:#[0-9a-f]{64}", name)
    assert name != SPACE.name("x" * 1_000_001)
    # … whose text, given as a key, is another one.
    assert SPACE.name(name.removeprefix("session:v3:")) != name


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_two_keys_never_share_a_name(one, other):
    assert (SPACE.name(tuple(one)) == SPACE.name(tuple(other))) == (one == other)


@given(st.lists(TEXT | st.integers() | st.uuids(), min_size=1, max_size=3))
def test_a_name_is_short_ascii_without_spaces(parts):
    name = SPACE.name(tuple(parts))
    assert re.fullmatch(r"session:v3(:[!-~]{1,200})+", name)
    assert name.count(":") == 1 + len(parts)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "empty"),
        (("a", ""), "empty"),
        ((), "no parts"),
        ("a\0b", "NUL at position 1"),
        ("a\ud800", "surrogate pair at position 1"),
        (True, "a bool"),
        (1.5, "a float"),
        (None, "a NoneType"),
        (b"bytes", "a bytes"),
        ((("a",),), "a tuple"),
    ],
)
def test_what_names_no_object_is_refused(key, says):
    with pytest.raises(ConfigError, match=says):
        SPACE.name(key)


@pytest.mark.parametrize("kind", ["", "a:b", "a b", "é", "1st", "a" * 65])
def test_a_kind_is_a_word(kind):
    with pytest.raises(ConfigError, match="no name"):
        KeySpace(kind)


@pytest.mark.parametrize("version", [-1, True, "1", 1.0, None])
def test_a_version_is_a_number(version):
    with pytest.raises(ConfigError, match="whole number"):
        KeySpace("session", version=version)


def test_a_prefix_has_no_spaces():
    with pytest.raises(ConfigError, match="space"):
        KeySpace("session", prefix="a b")
