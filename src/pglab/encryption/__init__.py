"""Encrypt in the program what the database server must not read; rotate keys; search blindly.

    from pglab import encryption

    keys = encryption.FileKeys.create("keys.json", "2026-11")  # or EnvironmentKeys, or a KMS
    encryption.store_session(connection, instance_id, {"me": "…"}, keys)
    encryption.load_session(connection, instance_id, keys)

    place = encryption.Context("contacts", "phone", contact_id)
    blob = encryption.encrypt(b"…", keys=keys, context=place)  # or encrypt_json
    encryption.decrypt(blob, keys=keys, context=place)  # the plaintext or a named error
    encryption.key_id_of(blob), encryption.Envelope.parse(blob)

    keys = keys.add("2027-02")  # now current
    for column in (encryption.SESSIONS, another_column):  # every one that the key ever wrapped
        encryption.rotate(connection, keys, column=column, batch=100, on_batch=print)
    if not any(encryption.remaining(connection, "2026-11", column=c) for c in …):
        keys = keys.remove("2026-11")

    index = encryption.BlindIndex(another_key, "contacts.phone", normalise=encryption.digits)
    index.search(connection, "+51 987…", table="contacts", index_column="…", columns=["id"])

    encryption.pgcrypto.ENCRYPT, encryption.pgcrypto.options(cipher="aes256")  # SQL, for psycopg

Envelope encryption: each value has a data key of its own, and a key-encryption key wraps that one
(``envelope``; ``layout`` documents every byte). Knows no server: what stores or rotates is given
a psycopg connection. Not imported by ``import pglab``.
"""

from __future__ import annotations

from pglab.encryption import pgcrypto
from pglab.encryption.blind_index import BlindIndex, digits, folded
from pglab.encryption.columns import SESSIONS, EncryptedColumn, remaining
from pglab.encryption.context import Context
from pglab.encryption.envelope import (
    decrypt,
    decrypt_json,
    encrypt,
    encrypt_json,
    key_id_of,
    rewrap,
)
from pglab.encryption.errors import (
    EncryptionError,
    KeyFileError,
    KeyMaterialError,
    MalformedError,
    TamperedError,
    UnknownKeyError,
    UnwrapError,
)
from pglab.encryption.key_file import FileKeys
from pglab.encryption.key_material import environment_value, generate_key
from pglab.encryption.keys import EnvironmentKeys, KeyProvider, LocalKeys
from pglab.encryption.layout import Envelope
from pglab.encryption.rotation import Failure, RotationReport, rotate
from pglab.encryption.sessions import load_session, session_context, store_session

__all__ = [
    "SESSIONS",
    "BlindIndex",
    "Context",
    "EncryptedColumn",
    "EncryptionError",
    "Envelope",
    "EnvironmentKeys",
    "Failure",
    "FileKeys",
    "KeyFileError",
    "KeyMaterialError",
    "KeyProvider",
    "LocalKeys",
    "MalformedError",
    "RotationReport",
    "TamperedError",
    "UnknownKeyError",
    "UnwrapError",
    "decrypt",
    "decrypt_json",
    "digits",
    "encrypt",
    "encrypt_json",
    "environment_value",
    "folded",
    "generate_key",
    "key_id_of",
    "load_session",
    "pgcrypto",
    "remaining",
    "rewrap",
    "rotate",
    "session_context",
    "store_session",
]
