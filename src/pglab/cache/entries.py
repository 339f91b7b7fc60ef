"""What stands in Redis under a key: an entry, or a marker; and how a wrong one is recognised.

    token                     16 bytes: somebody holds the lease, and loads
    token + "!"               17 bytes: not cacheable just now; every reader loads for itself
    token + envelope          an entry; the token is that of the lease under which it was loaded

An entry's envelope is an array: format, its own key, when it was stored, until when it is fresh,
how long the load took, and the value (null: there is no such object). Whatever does not decode into
the value's type, has another format, or belongs to another key is *poisoned*: it counts as a miss.
There is no checksum: TCP has one, and against malice it would not help.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from pglab.errors import ConfigError

__all__ = [
    "MARKER_BYTES",
    "TOKEN_BYTES",
    "Codec",
    "Envelope",
    "PoisonedError",
    "new_token",
    "token_of",
]

V = TypeVar("V")

FORMAT: Final = 1
TOKEN_BYTES: Final = 16
MARKER_BYTES: Final = TOKEN_BYTES + 1
PASS: Final = b"!"


class PoisonedError(Exception):
    """What stands under a key is not this key's entry; the message says why."""


class Envelope(msgspec.Struct, Generic[V], array_like=True, forbid_unknown_fields=True, gc=False):
    """An entry without its token.

    Attributes:
        format: of this array.
        key: under which it was stored.
        stored_ms: when, in milliseconds since 1970.
        fresh_until_ms: until when it may be served without asking; Redis may keep it for longer.
        load_us: what loading the value took, in microseconds.
        value: None: there is no such object.
    """

    format: Literal[1]
    key: str
    stored_ms: int
    fresh_until_ms: int
    load_us: int
    value: V | None


def token_of(raw: bytes) -> bytes:
    """Return an entry's token."""
    return raw[:TOKEN_BYTES]


_process = secrets.token_hex(5)
_count = itertools.count()


def new_token() -> bytes:
    """Return 16 characters that no other lease has: 40 random bits a process, and a counter."""
    return f"{_process}{next(_count) & 0xFFFFFF:06x}".encode()


def _reseed() -> None:
    global _process  # noqa: PLW0603 - a forked child must not hand out its parent's tokens
    _process = secrets.token_hex(5)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


class Codec(Generic[V]):
    """Turns values into entries, and back.

    Args:
        value_type: what the value is decoded into; whatever msgspec can (``dict[str, Any]``, a
            dataclass, a Struct, …).
        serialization: ``json`` can be read with redis-cli; ``msgpack`` is smaller.
        enc_hook: for types that msgspec does not know, as in msgspec's encoders.
        dec_hook: its inverse.

    Raises:
        ConfigError: msgspec cannot decode into that type.
    """

    def __init__(
        self,
        value_type: Any,
        serialization: Literal["json", "msgpack"] = "json",
        *,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[type, Any], Any] | None = None,
    ) -> None:
        if serialization not in {"json", "msgpack"}:
            raise ConfigError(f"serialization {serialization!r} is unknown; use json or msgpack")
        module = msgspec.json if serialization == "json" else msgspec.msgpack
        try:
            decoder = module.Decoder(Envelope[value_type], dec_hook=dec_hook)
        except (TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"msgspec cannot decode {serialization} into {value_type!r}: {error}; use another "
                "type, such as a dataclass"
            ) from error
        self._decode = decoder.decode
        self._encode = module.Encoder(enc_hook=enc_hook).encode

    def encode(
        self,
        token: bytes,
        name: str,
        value: V | None,
        *,
        stored_ms: int,
        ttl_ms: int,
        load_us: int,
    ) -> bytes:
        """Return an entry.

        Raises:
            TypeError: the value has a type that msgspec does not know.
            ValueError: … or a value that it cannot write, such as half a surrogate pair.
        """
        envelope = (FORMAT, name, stored_ms, stored_ms + ttl_ms, load_us, value)
        encoded: bytes = self._encode(envelope)
        return token + encoded

    def decode(self, raw: bytes, name: str) -> Envelope[V]:
        """Return the entry of this key.

        Raises:
            PoisonedError: it is not one.
        """
        try:
            envelope: Envelope[V] = self._decode(raw[TOKEN_BYTES:])
        # A hook of the caller's may raise anything, and what it was given came from outside.
        except Exception as error:
            raise PoisonedError(f"{type(error).__name__}: {error}") from error
        if envelope.key != name:
            raise PoisonedError(f"it is the entry of {envelope.key!r:.80}")
        return envelope
