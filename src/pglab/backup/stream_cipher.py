"""Encrypting a stream of any length in chunks, so that no cut, swap or repetition goes unseen.

    offset  bytes  what
    0       4      magic: 50 47 42 31, "PGB1"
    4       1      n: length of the key id, 1 to 40
    5       n      key id
    5+n     2      w: length of the wrapped data key, big-endian
    7+n     w      wrapped data key, as the key provider made it
    7+n+w   7      prefix of the nonces, random
    then           chunks: each 1 MiB of ciphertext and a tag of 16 bytes; the last may be shorter,
                   and may hold nothing

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and
its Nonce-Reuse Misuse-Resistance, CRYPTO 2015), with AES-256-GCM: the nonce of a chunk is the
prefix, the chunk's number in 4 bytes, and one byte that is 1 for the last chunk only. A chunk at
another place, or a stream that ends without its last, fits no tag. Each stream has a data key of
its own. The header and the caller's context are authenticated with every chunk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pglab.backup.errors import DamagedBackupError, TruncatedBackupError, WrongKeyError
from pglab.encryption import EncryptionError, KeyProvider

__all__ = ["CHUNK_BYTES", "decrypted", "encrypt"]

MAGIC: Final = b"PGB1"
CHUNK_BYTES: Final = 2**20
_TAG_BYTES: Final = 16
_PREFIX_BYTES: Final = 7
_MOST_CHUNKS: Final = 2**32


def encrypt(source: IO[bytes], sink: IO[bytes], *, keys: KeyProvider, context: bytes) -> None:
    """Encrypt all of a stream into another, under a new data key.

    Args:
        source: of the plaintext, read to its end.
        sink: for the ciphertext.
        keys: whose current key wraps the data key.
        context: what the ciphertext belongs to; needed again to decrypt it, and not stored.

    Raises:
        DamagedBackupError: the stream is longer than 4 PiB, which the counter ends at.
        OSError: reading or writing failed.
    """
    key_id = keys.current_key_id
    data_key = AESGCM.generate_key(bit_length=256)
    start = MAGIC + bytes([len(key_id)]) + key_id.encode("ascii")
    wrapped = keys.wrap(key_id, data_key, start + context)
    prefix = os.urandom(_PREFIX_BYTES)
    header = start + struct.pack(">H", len(wrapped)) + wrapped + prefix
    sink.write(header)
    cipher = AESGCM(data_key)
    number = 0
    chunk = _read(source, CHUNK_BYTES)
    while True:
        # Whether a chunk is the last is only known after looking for another.
        following = _read(source, CHUNK_BYTES) if len(chunk) == CHUNK_BYTES else b""
        last = not following
        if number >= _MOST_CHUNKS:
            raise DamagedBackupError("the dump is longer than 4 PiB; dump it in parts")
        sink.write(cipher.encrypt(_nonce(prefix, number, last), chunk, header + context))
        if last:
            return
        chunk = following
        number += 1


def decrypted(source: IO[bytes], *, keys: KeyProvider, context: bytes) -> Iterator[bytes]:
    """Yield the plaintext in pieces, each authenticated; the end, too, once it is reached.

    Whoever uses the pieces must undo that if an error comes after them.

    Args:
        source: of the ciphertext.
        keys: who unwraps the data key.
        context: as it was encrypted with.

    Raises:
        WrongKeyError: the key is not at hand, or does not open the data key.
        TruncatedBackupError: the stream ends before its last chunk.
        DamagedBackupError: a chunk was changed, or is not at its place; or this is no such stream.
    """
    header, key_id, wrapped, prefix = _header(source)
    start = header[: len(MAGIC) + 1 + len(key_id)]
    try:
        data_key = keys.unwrap(key_id, wrapped, start + context)
    except EncryptionError as error:
        raise WrongKeyError(
            f"the dump is encrypted under key {key_id!r}, which does not open it here; {error}"
        ) from None
    cipher = AESGCM(data_key)
    number = 0
    chunk = _read(source, CHUNK_BYTES + _TAG_BYTES)
    while True:
        whole = len(chunk) == CHUNK_BYTES + _TAG_BYTES
        following = _read(source, CHUNK_BYTES + _TAG_BYTES) if whole else b""
        last = not following
        try:
            yield cipher.decrypt(_nonce(prefix, number, last), chunk, header + context)
        except (InvalidTag, ValueError):
            unmarked = _nonce(prefix, number, last=False) if last else None
            raise _fault(
                cipher, chunk, header + context, unmarked=unmarked, number=number
            ) from None
        if last:
            return
        chunk = following
        number += 1


def _fault(
    cipher: AESGCM,
    chunk: bytes,
    aad: bytes,
    *,
    unmarked: bytes | None,
    number: int,
) -> DamagedBackupError:
    cut = unmarked is not None
    if unmarked is not None and len(chunk) == CHUNK_BYTES + _TAG_BYTES:
        try:  # an honest chunk, which should have had a successor
            cipher.decrypt(unmarked, chunk, aad)
        except InvalidTag:
            cut = False
    if cut:
        return TruncatedBackupError(
            f"the encrypted dump ends within chunk {number + 1}, or that chunk was changed; use "
            "another backup"
        )
    return DamagedBackupError(
        f"chunk {number + 1} of the encrypted dump was changed, or is not at its place; use "
        "another backup"
    )


def _header(source: IO[bytes]) -> tuple[bytes, str, bytes, bytes]:
    start = _exactly(source, len(MAGIC) + 1)
    if start[: len(MAGIC)] != MAGIC:
        raise DamagedBackupError(
            f"the dump does not begin with {MAGIC!r}, as encrypted ones do; use another backup"
        )
    name = _exactly(source, start[-1])
    length = _exactly(source, 2)
    wrapped = _exactly(source, struct.unpack(">H", length)[0])
    prefix = _exactly(source, _PREFIX_BYTES)
    return (
        start + name + length + wrapped + prefix,
        name.decode("ascii", "replace"),
        wrapped,
        prefix,
    )


def _exactly(source: IO[bytes], count: int) -> bytes:
    piece = _read(source, count)
    if len(piece) < count:
        raise TruncatedBackupError("the encrypted dump ends within its header; use another backup")
    return piece


def _read(source: IO[bytes], count: int) -> bytes:
    """Read so many bytes, fewer only at the end: a pipe gives what it has."""
    pieces = []
    while count > 0:
        piece = source.read(count)
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + struct.pack(">IB", number, last)
