"""A ciphertext opens to what was encrypted, where it was encrypted for, or to a named error."""

from __future__ import annotations

import json
import traceback
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from pglab import encryption
from pglab.encryption import (
    Context,
    EncryptionError,
    Envelope,
    LocalKeys,
    MalformedError,
    TamperedError,
    UnknownKeyError,
    UnwrapError,
    decrypt,
    encrypt,
)
from pglab.encryption.envelope import LONGEST_BYTES
from pglab.errors import PglabError

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
KEYS = LocalKeys({"2026-11": OLD, "2025-04": NEW})
PLACE = Context("sessions", "credentials", UUID(int=7))
SECRET = b'{"noiseKey": "never to be seen"}'
BLOB = encrypt(SECRET, keys=KEYS, context=PLACE)

plaintexts = st.binary(max_size=300)
contexts = st.builds(
    Context, st.text(max_size=8), st.text(max_size=8), st.text(max_size=8) | st.integers()
)


@given(plaintext=plaintexts, context=contexts)
def test_what_goes_in_comes_out(plaintext: bytes, context: Context) -> None:
    blob = encrypt(plaintext, keys=KEYS, context=context)
    assert decrypt(blob, keys=KEYS, context=context) == plaintext
    assert encryption.key_id_of(blob) == "2026-11"
    assert len(blob) == len(plaintext) + 103
    assert len(plaintext) < 8 or plaintext not in blob


@pytest.mark.parametrize("size", [0, 1, 1_000, 1_000_000])
def test_sizes_to_a_megabyte(size: int) -> None:
    plaintext = b"\x00" * size
    blob = encrypt(plaintext, keys=KEYS, context=PLACE)
    assert decrypt(memoryview(blob).toreadonly(), keys=KEYS, context=PLACE) == plaintext


def test_every_flipped_bit_is_noticed() -> None:
    for bit in range(8 * len(BLOB)):
        damaged = bytearray(BLOB)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedError, UnknownKeyError, TamperedError)):
            decrypt(bytes(damaged), keys=KEYS, context=PLACE)


def test_every_truncation_is_noticed() -> None:
    for length in range(len(BLOB)):
        with pytest.raises((MalformedError, TamperedError)):
            decrypt(BLOB[:length], keys=KEYS, context=PLACE)


def test_what_is_cut_short_says_where() -> None:
    blob = encrypt(b"", keys=KEYS, context=PLACE)
    for length, part in ((5, "key id's length"), (9, "key id"), (14, "wrapped key's length")):
        with pytest.raises(MalformedError, match=f"ends after {length} bytes, within the {part};"):
            decrypt(blob[:length], keys=KEYS, context=PLACE)
    for length, part in ((74, "wrapped key"), (86, "nonce"), (102, "tag")):
        with pytest.raises(MalformedError, match=f"ends after {length} bytes, within the {part};"):
            decrypt(blob[:length], keys=KEYS, context=PLACE)


@pytest.mark.parametrize("length", [1, 7, 12, 27, 28, 61, 4096])
def test_a_wrapped_key_of_another_length_does_not_open(length: int) -> None:
    parts = Envelope.parse(BLOB)
    wrapped = (parts.wrapped_key + bytes(4096))[:length]
    damaged = Envelope(
        key_id=parts.key_id, wrapped_key=wrapped, nonce=parts.nonce, sealed=parts.sealed
    )
    with pytest.raises(UnwrapError):
        decrypt(damaged.to_bytes(), keys=KEYS, context=PLACE)


@given(data=st.data())
def test_damage_of_any_kind_gives_a_named_error_and_never_a_wrong_plaintext(
    data: st.DataObject,
) -> None:
    at = data.draw(st.integers(0, len(BLOB)))
    gone = data.draw(st.integers(0, 20))
    put = data.draw(st.binary(max_size=20))
    damaged = BLOB[:at] + put + BLOB[at + gone :]
    if damaged == BLOB:
        assert decrypt(damaged, keys=KEYS, context=PLACE) == SECRET
    else:
        with pytest.raises((MalformedError, UnknownKeyError, TamperedError)):
            decrypt(damaged, keys=KEYS, context=PLACE)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_named_error(noise: bytes) -> None:
    with pytest.raises(MalformedError):
        decrypt(noise, keys=KEYS, context=PLACE)
    with pytest.raises(EncryptionError):
        decrypt(BLOB[:5] + noise, keys=KEYS, context=PLACE)


@given(one=contexts, other=contexts)
def test_another_place_does_not_open_it(one: Context, other: Context) -> None:
    blob = encrypt(SECRET, keys=KEYS, context=one)
    if one.to_bytes() == other.to_bytes():
        assert (one.table, one.column, str(one.key)) == (other.table, other.column, str(other.key))
    else:
        with pytest.raises(UnwrapError, match="belongs to another row"):
            decrypt(blob, keys=KEYS, context=other)


def test_the_parts_of_a_place_do_not_run_together() -> None:
    assert Context("ab", "c", "d").to_bytes() != Context("a", "bc", "d").to_bytes()
    assert Context("a", "b", "cd").to_bytes() != Context("a", "bc", "d").to_bytes()
    assert (
        Context("t", "c", UUID(int=7)).to_bytes() == Context("t", "c", str(UUID(int=7))).to_bytes()
    )


def test_two_rows_that_are_swapped_are_noticed() -> None:
    places = [Context("sessions", "credentials", UUID(int=number)) for number in (1, 2)]
    first, second = (encrypt(SECRET, keys=KEYS, context=place) for place in places)
    for place, blob in zip(places, (second, first), strict=True):
        with pytest.raises(UnwrapError):
            decrypt(blob, keys=KEYS, context=place)


def test_parts_of_two_ciphertexts_of_one_place_do_not_mix() -> None:
    one, other = (
        Envelope.parse(encrypt(text, keys=KEYS, context=PLACE)) for text in (b"yes", b"no!")
    )
    mixed = Envelope(
        key_id=one.key_id, wrapped_key=one.wrapped_key, nonce=other.nonce, sealed=other.sealed
    )
    with pytest.raises(TamperedError, match="its key opens, its content does not") as caught:
        decrypt(mixed.to_bytes(), keys=KEYS, context=PLACE)
    assert not isinstance(caught.value, UnwrapError)


def test_a_ciphertext_under_another_id_is_noticed() -> None:
    parts = Envelope.parse(BLOB)
    same_key = LocalKeys({"a-twin1": OLD})
    renamed = Envelope(
        key_id="a-twin1", wrapped_key=parts.wrapped_key, nonce=parts.nonce, sealed=parts.sealed
    )
    with pytest.raises(UnwrapError):
        decrypt(renamed.to_bytes(), keys=same_key, context=PLACE)


def test_a_wrong_key_under_the_right_id() -> None:
    with pytest.raises(UnwrapError, match="another key goes by this id"):
        decrypt(BLOB, keys=LocalKeys({"2026-11": NEW}), context=PLACE)


def test_an_unknown_key_names_itself_and_those_at_hand() -> None:
    with pytest.raises(UnknownKeyError, match=r"'2026-11' is not .* \(2025-04\)") as caught:
        decrypt(BLOB, keys=LocalKeys({"2025-04": NEW}), context=PLACE)
    assert isinstance(caught.value, LookupError)


def test_encrypting_twice_shares_nothing() -> None:
    one, other = (Envelope.parse(encrypt(SECRET, keys=KEYS, context=PLACE)) for _ in range(2))
    assert one.nonce != other.nonce
    assert one.sealed != other.sealed
    assert one.wrapped_key != other.wrapped_key


def test_the_layout_is_what_its_documentation_says() -> None:
    """Takes a ciphertext apart by the documented offsets, without the package's own reader."""
    assert BLOB[:6] == b"PGE\x01\x01\x07"
    assert BLOB[6:13] == b"2026-11"
    assert BLOB[13:15] == b"\x00\x3c"
    place = b"\x00\x00\x00\x08sessions\x00\x00\x00\x0bcredentials\x00\x00\x00\x24"
    place += b"00000000-0000-0000-0000-000000000007"
    data_key = AESGCM(OLD).decrypt(BLOB[15:27], BLOB[27:75], BLOB[:13] + place)
    assert len(data_key) == 32
    assert AESGCM(data_key).decrypt(BLOB[75:87], BLOB[87:], BLOB[:5] + place) == SECRET
    assert Envelope.parse(BLOB).to_bytes() == BLOB


def test_what_an_earlier_version_wrote_is_still_read() -> None:
    """Made on 2026-11-24 by version 1 of the layout: if this fails, stored data is lost."""
    blob = bytes.fromhex(
        "504745010107323032362d3131003cf724c4dfca61a01d5ec53a5cb8d4ace69d73759f15f42926d3"
        "ee9a04277676d8b9889117ba5e92182d559dfedbc3393718d9318df5d874b42d115dac44f92bd06a"
        "118b9401025cf3a090527b5447eb803b41611e935a8b9a500c9f476a3f97f176"
    )
    assert decrypt(blob, keys=KEYS, context=PLACE) == b"version 1"


def test_a_newer_version_is_named() -> None:
    with pytest.raises(MalformedError, match="02 01, and this program knows 01 01"):
        decrypt(b"PGE\x02" + BLOB[4:], keys=KEYS, context=PLACE)


def test_wrapping_anew_changes_the_key_and_not_the_content() -> None:
    newer = LocalKeys({"2026-11": OLD, "2027-02": bytes(32)}, current="2027-02")
    blob = encryption.rewrap(BLOB, keys=newer, context=PLACE)
    assert encryption.key_id_of(blob) == "2027-02"
    assert Envelope.parse(blob).sealed == Envelope.parse(BLOB).sealed
    assert decrypt(blob, keys=LocalKeys({"2027-02": bytes(32)}), context=PLACE) == SECRET
    with pytest.raises(UnwrapError):
        encryption.rewrap(BLOB, keys=newer, context=Context("sessions", "credentials", 8))


class Service:
    """A key provider as a KMS is one: it gives no key out, and its wrapping is another."""

    current_key_id = "arn-1"

    def __init__(self) -> None:
        self.held: dict[bytes, tuple[bytes, bytes]] = {}

    def has(self, key_id: str) -> bool:
        return key_id == self.current_key_id

    def wrap(self, key_id: str, data_key: bytes, aad: bytes) -> bytes:
        ticket = b"ticket" * 30 + bytes([len(self.held)])
        self.held[ticket] = (data_key, aad)
        return ticket

    def unwrap(self, key_id: str, wrapped_key: bytes, aad: bytes) -> bytes:
        if not self.has(key_id):
            raise UnknownKeyError(f"no key {key_id!r}")
        data_key, expected = self.held.get(wrapped_key, (b"", b""))
        if not data_key or aad != expected:
            raise UnwrapError("the service refused")
        return data_key


def test_a_key_management_service_fits() -> None:
    service = Service()
    blob = encrypt(SECRET, keys=service, context=PLACE)
    assert decrypt(blob, keys=service, context=PLACE) == SECRET
    with pytest.raises(UnwrapError):
        decrypt(blob, keys=service, context=Context("sessions", "credentials", 8))
    service.held = {ticket: (b"short", aad) for ticket, (_, aad) in service.held.items()}
    with pytest.raises(MalformedError, match="5 bytes, not 32"):
        decrypt(blob, keys=service, context=PLACE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
).filter(lambda value: "Infinity" not in json.dumps(value))


@given(json_values)
def test_json_comes_back(value: object) -> None:
    blob = encryption.encrypt_json(value, keys=KEYS, context=PLACE)
    assert encryption.decrypt_json(blob, keys=KEYS, context=PLACE) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": b"bytes"}, {1, 2}])
def test_what_json_lacks_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encryption.encrypt_json(value, keys=KEYS, context=PLACE)


def test_no_error_carries_the_plaintext() -> None:
    blob = encrypt(b"never to be seen", keys=KEYS, context=PLACE)
    with pytest.raises(MalformedError, match="authentic, but not JSON") as caught:
        encryption.decrypt_json(blob, keys=KEYS, context=PLACE)
    assert caught.value.__context__ is None
    assert "never" not in "".join(traceback.format_exception(caught.value))


def test_json_that_is_too_deep_to_read_is_a_named_error() -> None:
    blob = encrypt(b"[" * 100_000, keys=KEYS, context=PLACE)
    with pytest.raises(MalformedError, match="authentic, but not JSON"):
        encryption.decrypt_json(blob, keys=KEYS, context=PLACE)


def test_what_cannot_be_dumped_is_refused() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return LONGEST_BYTES + 1

    with pytest.raises(EncryptionError, match="536,805,377 bytes"):
        encrypt(Long(), keys=KEYS, context=PLACE)


def test_the_errors_are_a_tree_below_the_root() -> None:
    from pglab.encryption import errors

    classes = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(kind, EncryptionError) for kind in classes)
    assert issubclass(EncryptionError, PglabError)
    assert issubclass(EncryptionError, ValueError)
    assert all(kind.__name__ in errors.__doc__ for kind in classes)
    assert all(str(kind("a fact")) == "a fact" for kind in classes)


def test_the_names_a_lesson_uses() -> None:
    assert sorted(encryption.__all__, key=lambda name: (name != name.upper(), name)) == (
        encryption.__all__
    )
    assert all(getattr(encryption, name) is not None for name in encryption.__all__)
