"""Envelope encryption: each value under a data key of its own, which a long-lived key wraps."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pglab.encryption.context import Context
from pglab.encryption.errors import EncryptionError, MalformedError, TamperedError
from pglab.encryption.key_material import KEY_BYTES
from pglab.encryption.keys import KeyProvider
from pglab.encryption.layout import NONCE_BYTES, PREFIX, Envelope

__all__ = [
    "LONGEST_BYTES",
    "decrypt",
    "decrypt_json",
    "encrypt",
    "encrypt_json",
    "key_id_of",
    "rewrap",
]

LONGEST_BYTES: Final = 2**29 - 2**16
"""Longest plaintext. PostgreSQL writes bytea in two digits a byte, and a field ends at 1 GB:
a longer one could be stored, but not dumped."""


def encrypt(plaintext: bytes, *, keys: KeyProvider, context: Context) -> bytes:
    """Encrypt a value under a new data key, and wrap that key with the current one.

    AES-256-GCM (NIST SP 800-38D) with random nonces of 96 bits. The length stays visible.

    Args:
        plaintext: the value; may be empty.
        keys: who wraps the data key.
        context: the place that the value will be stored in; only that place opens it.

    Returns:
        The bytes to store; ``pglab.encryption.layout`` describes each.

    Raises:
        EncryptionError: the value is longer than ``LONGEST_BYTES``.
    """
    if len(plaintext) > LONGEST_BYTES:
        raise EncryptionError(
            f"the value is {len(plaintext):,} bytes, and at most {LONGEST_BYTES:,} can be stored "
            "and dumped as bytea; store it outside of the database, or in pieces"
        )
    data_key = AESGCM.generate_key(bit_length=8 * KEY_BYTES)
    nonce = os.urandom(NONCE_BYTES)
    place = context.to_bytes()
    sealed = AESGCM(data_key).encrypt(nonce, plaintext, PREFIX + place)
    key_id = keys.current_key_id
    wrapped = keys.wrap(key_id, data_key, Envelope.header_of(key_id) + place)
    return Envelope(key_id=key_id, wrapped_key=wrapped, nonce=nonce, sealed=sealed).to_bytes()


def decrypt(blob: bytes, *, keys: KeyProvider, context: Context) -> bytes:
    """Return the plaintext of a value, or an error: never another plaintext.

    Raises:
        MalformedError: the bytes are not of our format, or are cut short.
        UnknownKeyError: the key that wrapped the value is not at hand.
        UnwrapError: that key does not open it here: it was changed, or belongs to another place,
            or another key goes by this id. The three cannot be told apart.
        TamperedError: key and place are right, and the content was changed.
    """
    envelope = Envelope.parse(blob)
    place = context.to_bytes()
    cipher = AESGCM(_data_key(envelope, keys, place))
    try:
        return cipher.decrypt(envelope.nonce, envelope.sealed, PREFIX + place)
    except InvalidTag:
        raise TamperedError(
            f"the value of {_words(context)} was changed after its encryption: its key opens, its "
            "content does not fit the tag; restore it from a backup"
        ) from None


def rewrap(blob: bytes, *, keys: KeyProvider, context: Context) -> bytes:
    """Wrap a value's data key with the current key; nonce and content stay as they are.

    The content is not looked at: one that was damaged before is as damaged after.

    Raises:
        MalformedError, UnknownKeyError, UnwrapError: as ``decrypt``.
    """
    envelope = Envelope.parse(blob)
    place = context.to_bytes()
    data_key = _data_key(envelope, keys, place)
    key_id = keys.current_key_id
    wrapped = keys.wrap(key_id, data_key, Envelope.header_of(key_id) + place)
    return Envelope(
        key_id=key_id, wrapped_key=wrapped, nonce=envelope.nonce, sealed=envelope.sealed
    ).to_bytes()


def key_id_of(blob: bytes) -> str:
    """Return the id of the key that wrapped a value, without any key.

    Raises:
        MalformedError: the bytes are not of our format, or are cut short.
    """
    return Envelope.parse(blob).key_id


def encrypt_json(value: Any, *, keys: KeyProvider, context: Context) -> bytes:
    """Encrypt a value as JSON; what comes back is what JSON keeps of it (a tuple as a list).

    Raises:
        TypeError, ValueError: JSON has no such value (bytes, NaN, infinity).
        EncryptionError: as ``encrypt``.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return encrypt(text.encode("ascii"), keys=keys, context=context)


def decrypt_json(blob: bytes, *, keys: KeyProvider, context: Context) -> Any:
    """Return a value that ``encrypt_json`` encrypted.

    Raises:
        EncryptionError: as ``decrypt``; MalformedError also if the plaintext is not JSON.
    """
    plaintext = decrypt(blob, keys=keys, context=context)
    try:
        return json.loads(plaintext)
    except (ValueError, RecursionError):
        pass
    # Raised out here, since a JSONDecodeError carries the plaintext, and would be its context.
    raise MalformedError(
        f"the value of {_words(context)} is authentic, but not JSON; read it with decrypt()"
    )


def _data_key(envelope: Envelope, keys: KeyProvider, place: bytes) -> bytes:
    aad = Envelope.header_of(envelope.key_id) + place
    data_key = keys.unwrap(envelope.key_id, envelope.wrapped_key, aad)
    if len(data_key) != KEY_BYTES:
        raise MalformedError(
            f"the data key is {len(data_key)} bytes, not {KEY_BYTES}; the key provider unwrapped "
            "something that pglab.encryption did not wrap"
        )
    return data_key


def _words(context: Context) -> str:
    return f"{context.table}.{context.column}, key {context.key}"
