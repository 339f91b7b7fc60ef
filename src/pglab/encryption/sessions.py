"""Credentials in the lessons' table ``sessions``: encrypted and decrypted here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row

from pglab.encryption.context import Context
from pglab.encryption.envelope import decrypt_json, encrypt_json, key_id_of
from pglab.encryption.errors import MalformedError
from pglab.encryption.keys import KeyProvider

__all__ = ["load_session", "session_context", "store_session"]

# updated_at is the credentials' time: a rotation of keys leaves it alone.
_STORE = """
INSERT INTO sessions (instance_id, credentials, key_id)
VALUES (%(instance)s, %(credentials)s, %(key_id)s)
ON CONFLICT (instance_id) DO UPDATE
SET credentials = excluded.credentials, key_id = excluded.key_id, updated_at = now()
"""
_LOAD = "SELECT credentials FROM sessions WHERE instance_id = %(instance)s"


def session_context(instance_id: UUID | str) -> Context:
    """Return the place of an instance's credentials.

    Raises:
        ValueError: it is not a UUID.
    """
    # One spelling for each id: the text of a UUID may be upper case, or without dashes.
    return Context("sessions", "credentials", UUID(str(instance_id)))


def store_session(
    connection: psycopg.Connection[Any],
    instance_id: UUID | str,
    credentials: Mapping[str, Any],
    keys: KeyProvider,
) -> None:
    """Encrypt an instance's credentials and store them, in the place of any that it had.

    Args:
        connection: committed, unless a transaction is open already: that one stays the caller's.
        instance_id: the instance; it must exist.
        credentials: what JSON can hold.
        keys: their current key wraps the data key, and its id goes into ``key_id``.

    Raises:
        ValueError: the id is not a UUID.
        EncryptionError: as ``encrypt_json``.
        psycopg.errors.ForeignKeyViolation: there is no such instance.
    """
    context = session_context(instance_id)
    blob = encrypt_json(dict(credentials), keys=keys, context=context)
    with connection.transaction():
        connection.execute(
            _STORE, {"instance": context.key, "credentials": blob, "key_id": key_id_of(blob)}
        )


def load_session(
    connection: psycopg.Connection[Any], instance_id: UUID | str, keys: KeyProvider
) -> dict[str, Any] | None:
    """Return an instance's credentials, decrypted here; None if it has none.

    Raises:
        ValueError: the id is not a UUID.
        EncryptionError: as ``decrypt_json``; MalformedError for a row that holds no ciphertext of
            ours, as those of the generated data do not.
    """
    context = session_context(instance_id)
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_LOAD, {"instance": context.key}).fetchone()
    if row is None:
        return None
    value = decrypt_json(row[0], keys=keys, context=context)
    if not isinstance(value, dict):
        raise MalformedError(
            f"the credentials of {context.key} are a JSON {type(value).__name__}, not an object; "
            "store them with store_session()"
        )
    return value
