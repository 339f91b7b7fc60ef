"""A blind index says equal for equal values of one purpose and key, and nothing else."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.encryption import BlindIndex, EncryptionError, KeyMaterialError, digits, folded

KEY = bytes(range(32))
PHONE = BlindIndex(KEY, "contacts.phone", normalise=digits)


def test_it_is_hmac_sha_256_of_purpose_and_value() -> None:
    message = b"\x00\x00\x00\x0econtacts.phone51987654"
    expected = hmac.new(KEY, message, hashlib.sha256).digest()
    assert PHONE.of("+51 987-654") == expected[:16]
    assert (
        BlindIndex(KEY, "contacts.phone", normalise=digits, size_bytes=32).of("51987654")
        == expected
    )


@given(st.text(min_size=1), st.text(min_size=1))
def test_equal_for_equal_and_else_different(one: str, other: str) -> None:
    index = BlindIndex(KEY, "t.c", normalise=str)
    assert (index.of(one) == index.of(other)) is (one == other)


def test_spellings_that_are_normalised_away_are_equal() -> None:
    index = BlindIndex(KEY, "contacts.name", normalise=folded)
    assert len({index.of(name) for name in ("Ñandú", " ñandú ", "n\u0303andu\u0301", "ÑANDÚ")}) == 1
    assert index.of("nandu") != index.of("ñandú")
    assert folded(" STRASSE ") == folded("straße")
    assert digits("+51 987-654 ٣") == "51987654"


def test_another_key_or_purpose_gives_another_index() -> None:
    value = "51987654"
    others = [
        BlindIndex(bytes(32), "contacts.phone", normalise=digits),
        BlindIndex(KEY, "instances.phone", normalise=digits),
        # The purpose does not run into the value.
        BlindIndex(KEY, "contacts.phone5", normalise=digits),
    ]
    assert len({PHONE.of(value), *(other.of(value) for other in others)}) == 4
    assert others[2].of("1987654") != PHONE.of("51987654")


def test_few_bytes_share_entries_on_purpose() -> None:
    index = BlindIndex(KEY, "t.c", size_bytes=4)
    assert len(index.of("x")) == 4
    assert index.of("x") == BlindIndex(KEY, "t.c").of("x")[:4]


@pytest.mark.parametrize("value", ["", "abc", "+", "٣"])
def test_what_is_empty_once_normalised_is_refused(value: str) -> None:
    with pytest.raises(EncryptionError, match="empty once normalised") as caught:
        PHONE.of(value)
    assert "abc" not in str(caught.value)


def test_what_cannot_be_an_index_is_refused() -> None:
    with pytest.raises(KeyMaterialError, match="the key of a blind index is 16 bytes, not 32"):
        BlindIndex(KEY[:16], "t.c")
    for size in (0, 3, 33):
        with pytest.raises(EncryptionError, match=f"size_bytes is {size}"):
            BlindIndex(KEY, "t.c", size_bytes=size)
    with pytest.raises(EncryptionError, match="purpose is empty"):
        BlindIndex(KEY, "")


def test_its_key_does_not_show() -> None:
    shown = f"{PHONE}{PHONE!r}{vars(PHONE)}"
    assert KEY.hex() not in shown
    assert repr(KEY)[2:-1] not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(PHONE)
    assert copy.deepcopy(PHONE) is PHONE
