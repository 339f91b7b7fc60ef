"""Where ciphertexts lie in a database, and the SQL that finds those of a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pglab.encryption.context import Context
from pglab.encryption.layout import MAGIC, Envelope, check_key_id

__all__ = ["SESSIONS", "EncryptedColumn", "remaining"]


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """A column of ciphertexts, beside a column with the id of the key that wrapped each.

    Attributes:
        table: name of the table, without a schema: found by the search path.
        column: the ciphertexts, bytea.
        key_id: the ids, text; for queries. What decrypts goes by the id in the ciphertext, which
            is authenticated, and not by this column, which anybody with UPDATE may change.
        primary_key: the one column of the primary key.
    """

    table: str
    column: str
    key_id: str
    primary_key: str

    def place(self, key: UUID | str | int) -> Context:
        """Return the context of the row with this primary key."""
        return Context(self.table, self.column, key)

    def compose(self, template: LiteralString) -> sql.Composed:
        """Fill in ``{table}``, ``{column}``, ``{key_id}``, ``{pk}``, and ``{stale}``.

        ``{stale}`` is the condition below; its parameters are those of ``stale_parameters``.
        """
        names: dict[str, sql.Composable] = {
            "table": sql.Identifier(self.table),
            "column": sql.Identifier(self.column),
            "key_id": sql.Identifier(self.key_id),
            "pk": sql.Identifier(self.primary_key),
        }
        return sql.SQL(template).format(stale=sql.SQL(_STALE).format(**names), **names)


SESSIONS: Final = EncryptedColumn("sessions", "credentials", "key_id", "instance_id")
"""The credentials of the lessons' table ``sessions``."""

_STALE: Final = """{column} IS NOT NULL
AND ({key_id} IS DISTINCT FROM %(current)s
     OR substring({column} FROM 1 FOR length(%(header)s::bytea)) <> %(header)s::bytea)
AND ({key_id} IS NOT NULL OR substring({column} FROM 1 FOR 3) = %(magic)s::bytea)"""
"""Rows whose ciphertext, or whose column of ids, names another key than the current one. Rows
without an id that do not begin as a ciphertext were never encrypted: they are left alone."""


def stale_parameters(current_key_id: str) -> dict[str, Any]:
    """Return the parameters of ``{stale}``."""
    return {
        "current": current_key_id,
        "header": Envelope.header_of(current_key_id),
        "magic": MAGIC,
    }


def remaining(
    connection: psycopg.Connection[Any], key_id: str, *, column: EncryptedColumn = SESSIONS
) -> int:
    """Return how many rows of a column still need a key.

    At 0 in *every* column that the key ever wrapped, it may be removed. A row counts if its
    ciphertext or its column of ids names the key. Backups of the database may
    need the key for longer than the database does.

    Raises:
        KeyMaterialError: the id cannot be one.
    """
    query = column.compose(
        "SELECT count(*) FROM {table} WHERE {key_id} = %(key)s "
        "OR substring({column} FROM 1 FOR length(%(header)s::bytea)) = %(header)s::bytea"
    )
    header = Envelope.header_of(check_key_id(key_id))
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(query, {"key": key_id, "header": header}).fetchone()
    return int(row[0]) if row else 0
