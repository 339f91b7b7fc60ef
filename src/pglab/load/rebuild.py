"""Take constraints and indexes off tables and put them back as the catalogue describes them.

schema.sql stays the only place that says what they are. NOT NULL and CHECK stay in place: they
need no other row, so that COPY may test each row as it comes and name the bad line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import sql

# Keys before what refers to them; foreign keys once both sides have their rows and keys.
_CONSTRAINTS: LiteralString = """
SELECT format('%%I.%%I', n.nspname, r.relname) AS relation, c.conname AS name, c.contype AS kind,
       pg_get_constraintdef(c.oid) AS definition
FROM pg_constraint AS c
JOIN pg_class AS r ON r.oid = c.conrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE c.contype IN ('p', 'u', 'x', 'f') AND c.conparentid = 0
  AND (c.conrelid = ANY (%(tables)s::regclass[]) OR c.confrelid = ANY (%(tables)s::regclass[]))
ORDER BY array_position('{p,u,x,f}', c.contype::text), relation, name
"""
_INDEXES: LiteralString = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index AS i
WHERE i.indrelid = ANY (%(tables)s::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid
                  AND c.contype IN ('p', 'u', 'x'))
ORDER BY name
"""


# Rows as plain tuples, whatever the caller's connection makes of them.
Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]


@dataclass(frozen=True)
class _Constraint:
    relation: str
    name: str
    kind: str
    definition: str


@dataclass(frozen=True)
class Definitions:
    """What was found on the tables: constraints in the order of their making, and indexes."""

    constraints: tuple[_Constraint, ...]
    indexes: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.constraints) + len(self.indexes)


def _trusted(text: str) -> sql.SQL:
    """Mark text as SQL: PostgreSQL itself wrote it, names already quoted."""
    return sql.SQL(text)


def take_off(cursor: Cursor, tables: Sequence[str]) -> Definitions:
    """Drop keys, foreign keys (those of other tables too) and indexes; return their definitions."""
    parameters = {"tables": list(tables)}
    found = Definitions(
        tuple(_Constraint(*row) for row in cursor.execute(_CONSTRAINTS, parameters)),
        tuple((row[0], row[1]) for row in cursor.execute(_INDEXES, parameters)),
    )
    for constraint in reversed(found.constraints):
        cursor.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                _trusted(constraint.relation), sql.Identifier(constraint.name)
            )
        )
    for name, _ in found.indexes:
        cursor.execute(sql.SQL("DROP INDEX {}").format(_trusted(name)))
    return found


def statements(found: Definitions) -> list[tuple[str, sql.Composed]]:
    """Return what puts everything back, in order: a name for people, and the statement."""
    keys = [c for c in found.constraints if c.kind != "f"]
    references = [c for c in found.constraints if c.kind == "f"]
    making = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")

    def add(constraint: _Constraint) -> tuple[str, sql.Composed]:
        statement = making.format(
            _trusted(constraint.relation),
            sql.Identifier(constraint.name),
            _trusted(constraint.definition),
        )
        return constraint.name, statement

    return [
        *map(add, keys),
        *((name, sql.Composed([_trusted(definition)])) for name, definition in found.indexes),
        *map(add, references),
    ]
