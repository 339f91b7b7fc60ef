"""Where key-encryption keys come from: a protocol that a KMS fits, memory, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pglab.encryption.errors import KeyMaterialError, UnknownKeyError, UnwrapError
from pglab.encryption.key_material import check_keys, key_from_text
from pglab.encryption.layout import NONCE_BYTES, check_key_id

__all__ = ["EnvironmentKeys", "KeyProvider", "LocalKeys"]


class KeyProvider(Protocol):
    """What envelope encryption asks of whoever holds the key-encryption keys.

    No method gives a key out. A key management service (KMS) fits: it wraps and unwraps on its own
    side, and every KMS takes associated data ("encryption context") with the request.
    """

    @property
    def current_key_id(self) -> str:
        """The key that wraps new data keys."""
        ...

    def has(self, key_id: str) -> bool:
        """Return whether ``unwrap`` can be asked for this key."""
        ...

    def wrap(self, key_id: str, data_key: bytes, aad: bytes) -> bytes:
        """Encrypt a data key of 32 bytes, bound to ``aad``; return at most 4096 bytes.

        Raises:
            UnknownKeyError: there is no such key.
        """
        ...

    def unwrap(self, key_id: str, wrapped_key: bytes, aad: bytes) -> bytes:
        """Return the data key.

        Raises:
            UnknownKeyError: there is no such key.
            UnwrapError: it was wrapped by another key or with other ``aad``, or was changed.
        """
        ...


class LocalKeys:
    """Keys in the memory of this process; the base of those from the environment or a file.

    A data key is wrapped with AES-256-GCM, as 12 bytes of random nonce, then 32 of key and 16 of
    tag. AES key wrap (RFC 3394) would need no nonce, but takes no associated data, so it could
    bind neither the key's id nor the row. The price: with random nonces, one key may wrap at most
    2³² data keys (NIST SP 800-38D, 8.3), so rotate before four thousand million writes.

    The keys are never shown: not by repr or str, not by an error, and pickling is refused.

    Args:
        keys: 32 random bytes for each key id.
        current: id of the key that wraps new data keys; the first if None.

    Raises:
        KeyMaterialError: no key, a wrong length or id, or one key under two ids.
        UnknownKeyError: ``current`` is none of them.
    """

    def __init__(self, keys: Mapping[str, bytes], *, current: str | None = None) -> None:
        check_keys(keys)
        # The ciphers are kept, not the bytes: what is no attribute is not shown by accident.
        self._ciphers: Final = {key_id: AESGCM(bytes(key)) for key_id, key in keys.items()}
        self._current = next(iter(self._ciphers)) if current is None else check_key_id(current)
        self._cipher(self._current)

    @property
    def current_key_id(self) -> str:
        """The key that wraps new data keys."""
        return self._current

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys."""
        return tuple(self._ciphers)

    def has(self, key_id: str) -> bool:
        """Return whether there is such a key."""
        return key_id in self._ciphers

    def wrap(self, key_id: str, data_key: bytes, aad: bytes) -> bytes:
        """Encrypt a data key, bound to ``aad``.

        Raises:
            UnknownKeyError: there is no such key.
        """
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher(key_id).encrypt(nonce, data_key, aad)

    def unwrap(self, key_id: str, wrapped_key: bytes, aad: bytes) -> bytes:
        """Return the data key.

        Raises:
            UnknownKeyError: there is no such key.
            UnwrapError: it was wrapped by another key or with other ``aad``, or was changed.
        """
        cipher = self._cipher(key_id)
        nonce, sealed = wrapped_key[:NONCE_BYTES], wrapped_key[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed, aad)
        except (InvalidTag, ValueError):  # ValueError: a nonce too short, so it was changed
            raise UnwrapError(
                f"key {key_id!r} does not open the data key: the value was changed, or belongs to "
                "another row, or another key goes by this id, which cannot be told apart; see "
                "whether other rows open, and restore this one from a backup"
            ) from None

    def _cipher(self, key_id: str) -> AESGCM:
        try:
            return self._ciphers[key_id]
        except KeyError:
            raise UnknownKeyError(
                f"key {key_id!r} is not among the keys at hand ({', '.join(self._ciphers)}); add "
                "it from the backup of the keys: without it, what it wrapped stays closed"
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(current={self._current!r}, key_ids={self.key_ids!r})"

    def __copy__(self) -> LocalKeys:
        return self

    def __deepcopy__(self, memo: object) -> LocalKeys:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled, for that would write them out; load them again")


class EnvironmentKeys(LocalKeys):
    """Keys from an environment variable: ``PGLAB_KEYS="2026-11:base64,2025-04:base64"``.

    The first is current, unless another is named. The environment of a process can be read by its
    user, by root (``/proc/<pid>/environ``) and by every program that it starts; a crash report
    may carry it away. A file with checked permissions (``FileKeys``) tells fewer.

    Args:
        variable: name of the variable.
        current: id of the key that wraps new data keys; the first if None.
        environ: where to look; ``os.environ`` if None.

    Raises:
        KeyMaterialError: the variable is missing or malformed; its value is not repeated.
        UnknownKeyError: ``current`` is none of the keys.
    """

    def __init__(
        self,
        variable: str = "PGLAB_KEYS",
        *,
        current: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        text = (os.environ if environ is None else environ).get(variable, "")
        if not text.strip():
            raise KeyMaterialError(
                f"{variable} is empty or not set; set it to id:key, or to several with commas "
                "between, each key 32 random bytes in base64 (see environment_value)"
            )
        keys: dict[str, bytes] = {}
        for number, entry in enumerate(text.split(","), start=1):
            key_id, colon, encoded = entry.strip().partition(":")
            if not colon:
                raise KeyMaterialError(
                    f"entry {number} of {variable} is not id:key; write the key's id, a colon and "
                    "its 32 bytes in base64 (the value is not shown here)"
                )
            if check_key_id(key_id) in keys:
                raise KeyMaterialError(
                    f"key id {key_id!r} is given twice in {variable}; each id names one key"
                )
            keys[key_id] = key_from_text(encoded, what=f"entry {number} of {variable}")
        super().__init__(keys, current=current)
