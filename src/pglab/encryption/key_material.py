"""Keys as bytes and as text: made at random, and checked before anybody relies on them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pglab.encryption.errors import KeyMaterialError
from pglab.encryption.layout import check_key_id

__all__ = [
    "KEY_BYTES",
    "check_key",
    "check_keys",
    "environment_value",
    "generate_key",
    "key_from_text",
    "key_to_text",
]

KEY_BYTES: Final = 32


def generate_key() -> bytes:
    """Return 32 random bytes from the operating system: a key for ``LocalKeys`` or an index.

    A notebook prints a cell's last value: assign the key to a name.
    """
    return AESGCM.generate_key(bit_length=8 * KEY_BYTES)


def environment_value(keys: Mapping[str, bytes]) -> str:
    """Return what to set ``PGLAB_KEYS`` to, for ``EnvironmentKeys``. It holds the keys."""
    check_keys(keys)
    return ",".join(f"{key_id}:{key_to_text(key)}" for key_id, key in keys.items())


def key_to_text(key: bytes) -> str:
    """Return the key in base64: 44 characters."""
    return base64.b64encode(key).decode("ascii")


def key_from_text(text: str, *, what: str) -> bytes:
    """Return the 32 bytes of a key in base64.

    Raises:
        KeyMaterialError: it is something else; the message names ``what`` and not the text.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = None
    if key is None or len(key) != KEY_BYTES:
        size = "no base64" if key is None else f"{len(key)} bytes"
        raise KeyMaterialError(
            f"the key of {what} is {size}, not {KEY_BYTES} bytes in base64; make one with "
            "generate_key() (the value is not shown here)"
        )
    return key


def check_key(key: object, *, what: str) -> None:
    """Check that something is a key, of which the message says ``what``.

    Raises:
        KeyMaterialError: it is not 32 bytes.
    """
    if not isinstance(key, bytes | bytearray) or len(key) != KEY_BYTES:
        size = f"{len(key)} bytes" if isinstance(key, bytes | bytearray) else type(key).__name__
        raise KeyMaterialError(
            f"{what} is {size}, not {KEY_BYTES} bytes; make one with generate_key()"
        )


def check_keys(keys: Mapping[str, bytes]) -> None:
    """Check that keys can be used together.

    Raises:
        KeyMaterialError: no key, a wrong length or id, or one key under two ids.
    """
    if not keys:
        raise KeyMaterialError("there is no key; give at least one, made with generate_key()")
    seen: dict[bytes, str] = {}
    for key_id, key in keys.items():
        check_key_id(key_id)
        check_key(key, what=f"key {key_id!r}")
        if (other := seen.setdefault(bytes(key), key_id)) != key_id:
            raise KeyMaterialError(
                f"keys {other!r} and {key_id!r} are the same key; rotation from one to the other "
                "would change nothing: make a new one with generate_key()"
            )
