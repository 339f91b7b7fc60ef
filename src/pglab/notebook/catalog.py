"""Read a schema's tables, columns and keys from PostgreSQL's catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

__all__ = ["CatalogTable", "ForeignKey", "TableColumn", "read_schema"]


@dataclass(frozen=True)
class TableColumn:
    """A column; ``type_name`` as PostgreSQL writes it."""

    name: str
    type_name: str
    not_null: bool


@dataclass(frozen=True)
class ForeignKey:
    """A reference from ``columns`` of one table to ``target_columns`` of another (or itself)."""

    name: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


@dataclass
class CatalogTable:
    """A table with its keys; column names as they are, without quotes."""

    name: str
    columns: list[TableColumn] = field(default_factory=list)
    primary_key: tuple[str, ...] = ()
    unique_keys: list[tuple[str, ...]] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)

    def at_most_one(self, key: ForeignKey) -> bool:
        """Tell whether a unique key allows one row at most for each row that is referenced."""
        keys = [unique for unique in (self.primary_key, *self.unique_keys) if unique]
        return any(set(unique) <= set(key.columns) for unique in keys)

    def is_mandatory(self, key: ForeignKey) -> bool:
        """Tell whether every row must reference one: no column of the key may be NULL."""
        required = {column.name for column in self.columns if column.not_null}
        return set(key.columns) <= required

    def marks(self, column: str) -> list[str]:
        """Return PK, FK, and U for a unique key; U1, U2 … for keys of several columns."""
        marks = ["PK"] if column in self.primary_key else []
        marks += ["FK"] if any(column in key.columns for key in self.foreign_keys) else []
        wide = self.wide_keys()
        marks += ["U"] if (column,) in self.unique_keys else []
        return marks + [f"U{number}" for number, key in enumerate(wide, 1) if column in key]

    def wide_keys(self) -> list[tuple[str, ...]]:
        """Return the unique keys of several columns."""
        return [key for key in self.unique_keys if len(key) > 1]


_COLUMNS = """
    SELECT c.relname AS "table", a.attname AS "column", a.attnotnull AS not_null,
           format_type(a.atttypid, a.atttypmod) AS type_name
      FROM pg_catalog.pg_class c
      LEFT JOIN pg_catalog.pg_attribute a
        ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p')
       AND NOT c.relispartition
     ORDER BY c.relname, a.attnum
"""
# A unique index without a constraint makes rows unique too, unless partial or on expressions.
_UNIQUE = """
    SELECT c.relname AS "table", i.indisprimary AS is_primary,
           array(SELECT a.attname::text
                   FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
                   JOIN pg_catalog.pg_attribute a
                     ON a.attrelid = c.oid AND a.attnum = k.number
                  WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
     WHERE c.relnamespace = %(schema)s::regnamespace AND i.indisunique AND i.indisvalid
       AND i.indpred IS NULL AND i.indexprs IS NULL
     ORDER BY c.relname, i.indexrelid
"""
_FOREIGN = """
    SELECT c.relname AS "table", k.conname AS name, t.relname AS target,
           array(SELECT a.attname::text
                   FROM unnest(k.conkey) WITH ORDINALITY AS u(number, place)
                   JOIN pg_catalog.pg_attribute a
                     ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place)
               AS columns,
           array(SELECT a.attname::text
                   FROM unnest(k.confkey) WITH ORDINALITY AS u(number, place)
                   JOIN pg_catalog.pg_attribute a
                     ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place)
               AS target_columns
      FROM pg_catalog.pg_constraint k
      JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
      JOIN pg_catalog.pg_class t ON t.oid = k.confrelid
     WHERE k.contype = 'f' AND k.conparentid = 0 AND k.connamespace = %(schema)s::regnamespace
     ORDER BY c.relname, k.conname
"""


def read_schema(
    connection: psycopg.Connection[Any], schema: str, tables: Sequence[str] | None = None
) -> list[CatalogTable]:
    """Return the tables of a schema by name; a partitioned table stands for its partitions.

    Args:
        connection: any psycopg connection; three queries on the catalogue are run.
        schema: its name as it is, without quotes.
        tables: names of the tables wanted; all by default.

    Raises:
        ValueError: the schema, or a table that was asked for, does not exist.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            "SELECT quote_ident(nspname) AS name FROM pg_catalog.pg_namespace WHERE nspname = %s",
            [schema],
        ).fetchone()
        if found is None:
            raise ValueError(f"there is no schema {schema!r} in this database")
        wanted = {"schema": found["name"]}
        columns = cursor.execute(_COLUMNS, wanted).fetchall()
        unique = cursor.execute(_UNIQUE, wanted).fetchall()
        foreign = cursor.execute(_FOREIGN, wanted).fetchall()
    by_name = {row["table"]: CatalogTable(row["table"]) for row in columns}
    for row in columns:
        if row["column"] is not None:
            by_name[row["table"]].columns.append(
                TableColumn(row["column"], row["type_name"], row["not_null"])
            )
    for row in unique:
        owner = by_name.get(row["table"])
        if owner is not None and row["is_primary"]:
            owner.primary_key = tuple(row["columns"])
        elif owner is not None:
            owner.unique_keys.append(tuple(row["columns"]))
    chosen = list(by_name) if tables is None else list(tables)
    missing = [name for name in chosen if name not in by_name]
    if missing:
        raise ValueError(
            f"schema {schema!r} has no table {missing[0]!r}; it has {', '.join(by_name) or 'none'}"
        )
    for row in foreign:
        # A reference to a table that is not drawn is still a mark on its columns.
        if row["table"] in by_name:
            by_name[row["table"]].foreign_keys.append(
                ForeignKey(
                    row["name"], tuple(row["columns"]), row["target"], tuple(row["target_columns"])
                )
            )
    return [by_name[name] for name in chosen]
