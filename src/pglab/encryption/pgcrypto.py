"""Encryption by the server: pgcrypto's statements, which send key and plaintext to it.

The parameters are named, for psycopg: ``{"plaintext": …, "key": …, "options": options(…)}``. The
key is a passphrase: OpenPGP derives the key proper from it by hashing it again and again ("S2K",
string to key), which is where the time goes; ``options(s2k_count=…)`` sets how often.
"""

from __future__ import annotations

from typing import Final, Literal

from pglab.encryption.errors import EncryptionError

__all__ = [
    "CREATE_EXTENSION",
    "DECRYPT",
    "DECRYPT_BYTES",
    "ENCRYPT",
    "ENCRYPT_BYTES",
    "ENCRYPT_WITH_OPTIONS",
    "LOAD_SESSION",
    "STORE_SESSION",
    "options",
]

CREATE_EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS pgcrypto"

ENCRYPT: Final = "SELECT pgp_sym_encrypt(%(plaintext)s::text, %(key)s::text)"
"""Text with the defaults: AES-128, S2K of a random 65,536 to 253,952 octets of SHA-1."""

ENCRYPT_BYTES: Final = "SELECT pgp_sym_encrypt_bytea(%(plaintext)s::bytea, %(key)s::text)"

ENCRYPT_WITH_OPTIONS: Final = (
    "SELECT pgp_sym_encrypt(%(plaintext)s::text, %(key)s::text, %(options)s::text)"
)

DECRYPT: Final = "SELECT pgp_sym_decrypt(%(ciphertext)s::bytea, %(key)s::text)"
"""Reads its options from the ciphertext; else "Wrong key or corrupt data", SQLSTATE 39000."""

DECRYPT_BYTES: Final = "SELECT pgp_sym_decrypt_bytea(%(ciphertext)s::bytea, %(key)s::text)"

STORE_SESSION: Final = """
INSERT INTO sessions (instance_id, credentials, key_id)
VALUES (%(instance_id)s, pgp_sym_encrypt(%(credentials)s::jsonb::text, %(key)s::text), NULL)
ON CONFLICT (instance_id) DO UPDATE
SET credentials = excluded.credentials, key_id = excluded.key_id, updated_at = now()
"""

LOAD_SESSION: Final = """
SELECT pgp_sym_decrypt(credentials, %(key)s::text)::jsonb AS credentials
FROM sessions
WHERE instance_id = %(instance_id)s
"""

_COMPRESSION: Final = {"none": 0, "zip": 1, "zlib": 2}
_S2K_COUNTS: Final = (1024, 65_011_712)


def options(
    *,
    cipher: Literal["aes128", "aes192", "aes256"] | None = None,
    compress: Literal["none", "zip", "zlib"] | None = None,
    s2k_mode: Literal[0, 1, 3] | None = None,
    s2k_count: int | None = None,
) -> str:
    """Return the options of ``pgp_sym_encrypt`` as it reads them; what is None stays its default.

    Args:
        cipher: default aes128.
        compress: default none. Compressing before encrypting makes the length tell something
            about the content.
        s2k_mode: 0 hashes the passphrase alone, 1 once with a salt, 3 (the default) repeatedly.
        s2k_count: how many octets mode 3 hashes, 1024 to 65,011,712; default a random number from
            65,536 to 253,952.

    Raises:
        EncryptionError: an option is none of these.
    """
    if cipher not in {None, "aes128", "aes192", "aes256"}:
        raise EncryptionError(f"cipher is {cipher!r}; aes128, aes192 and aes256 are possible")
    if compress is not None and compress not in _COMPRESSION:
        raise EncryptionError(f"compress is {compress!r}; none, zip and zlib are possible")
    if s2k_mode not in {None, 0, 1, 3}:
        raise EncryptionError(f"s2k_mode is {s2k_mode!r}; 0, 1 and 3 are possible")
    if s2k_count is not None and not _S2K_COUNTS[0] <= s2k_count <= _S2K_COUNTS[1]:
        raise EncryptionError(f"s2k_count is {s2k_count}; 1024 to 65011712 are possible")
    given = {
        "cipher-algo": cipher,
        "compress-algo": None if compress is None else _COMPRESSION[compress],
        "s2k-mode": s2k_mode,
        "s2k-count": s2k_count,
    }
    return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
