"""The encrypted stream: every cut, swap, repetition and foreign piece is found."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.backup import stream_cipher
from pglab.backup.errors import DamagedBackupError, TruncatedBackupError, WrongKeyError
from pglab.backup.stream_cipher import decrypted, encrypt
from pglab.encryption import LocalKeys

KEYS = LocalKeys({"2026-11": b"k" * 32})
CHUNK = 64
SEALED = CHUNK + 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(stream_cipher, "CHUNK_BYTES", CHUNK)


def sealed(plaintext, keys=KEYS, context=b"backup 1"):
    sink = io.BytesIO()
    encrypt(io.BytesIO(plaintext), sink, keys=keys, context=context)
    return sink.getvalue()


def opened(blob, keys=KEYS, context=b"backup 1"):
    return b"".join(decrypted(io.BytesIO(blob), keys=keys, context=context))


def header_bytes():
    return len(sealed(b"")) - 16


def chunks(blob):
    start = header_bytes()
    body = blob[start:]
    return blob[:start], [body[at : at + SEALED] for at in range(0, len(body), SEALED)]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 7])
def test_what_went_in_comes_out(size):
    plaintext = bytes(n % 251 for n in range(size))
    assert opened(sealed(plaintext)) == plaintext


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content):
        self._left = content

    def read(self, count=-1):
        piece, self._left = self._left[: min(count, 5)], self._left[min(count, 5) :]
        return piece


def test_a_pipe_that_gives_little_at_a_time():
    sink = io.BytesIO()
    encrypt(Trickle(b"x" * 300), sink, keys=KEYS, context=b"backup 1")
    assert (
        b"".join(decrypted(Trickle(sink.getvalue()), keys=KEYS, context=b"backup 1")) == b"x" * 300
    )


@pytest.mark.parametrize("size", [3 * CHUNK, 3 * CHUNK + 9])
def test_every_cut_is_found(size):
    blob = sealed(b"p" * size)
    for end in range(len(blob)):
        with pytest.raises(TruncatedBackupError):
            opened(blob[:end])


def test_chunks_in_another_order_or_twice_are_found():
    start, parts = chunks(sealed(b"p" * (4 * CHUNK + 9)))
    for wrong in (
        [parts[1], parts[0], *parts[2:]],
        [parts[0], parts[0], *parts[1:]],
        [parts[0], *parts[2:]],
        [*parts, parts[-1]],
    ):
        with pytest.raises(DamagedBackupError):
            opened(start + b"".join(wrong))


def test_a_chunk_of_another_stream_is_found():
    start, parts = chunks(sealed(b"p" * (3 * CHUNK)))
    _, others = chunks(sealed(b"p" * (3 * CHUNK)))
    with pytest.raises(DamagedBackupError):
        opened(start + parts[0] + others[1] + parts[2])


@given(st.integers(0, 3 * CHUNK), st.data())
def test_every_changed_byte_is_found(size, data):
    blob = bytearray(sealed(b"p" * size))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((DamagedBackupError, WrongKeyError)):
        opened(bytes(blob))


def test_another_key_of_the_same_name_does_not_open_it():
    with pytest.raises(WrongKeyError, match="2026-11"):
        opened(sealed(b"secret"), keys=LocalKeys({"2026-11": b"x" * 32}))


def test_a_key_that_is_not_at_hand():
    with pytest.raises(WrongKeyError, match="2026-11"):
        opened(sealed(b"secret"), keys=LocalKeys({"2027-01": b"k" * 32}))


def test_the_dump_of_another_backup_does_not_open_in_this_ones_place():
    with pytest.raises(WrongKeyError):
        opened(sealed(b"secret"), context=b"backup 2")


def test_two_streams_of_one_content_have_nothing_in_common():
    one, two = chunks(sealed(b"p" * CHUNK))[1], chunks(sealed(b"p" * CHUNK))[1]
    assert one[0] != two[0]


def test_something_else_is_named_so():
    with pytest.raises(DamagedBackupError, match="does not begin"):
        opened(b"PGDMP and the rest of a custom dump")
