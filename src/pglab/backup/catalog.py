"""What PostgreSQL's catalogue says of a database: tables, sequences, constraints, roles.

Every query here names ``pg_catalog``, since the search path is empty while a state is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg

__all__ = ["LARGE_OBJECTS", "Table", "sequence_values", "structure", "tables"]

LARGE_OBJECTS: Final = "large objects"

# Not the system's own, not other sessions' temporary ones, nothing that CREATE EXTENSION makes.
_OURS: Final = """
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                    WHERE e.classid = '{catalog}'::pg_catalog.regclass AND e.objid = {alias}.oid
                    AND e.deptype = 'e')"""
_RELATION: Final = _OURS.format(catalog="pg_catalog.pg_class", alias="c")

# A collation's order of strings may change with the system's library; that of "C" does not.
_TABLES: Final = f"""
SELECT format('%I.%I', n.nspname, c.relname),
       pg_catalog.pg_table_size(c.oid),
       c.reltuples::bigint,
       (SELECT pg_catalog.array_agg(format('%s %s%s%s%s', pg_catalog.quote_ident(a.attname),
                   pg_catalog.format_type(a.atttypid, a.atttypmod),
                   CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                   CASE a.attidentity WHEN 'a' THEN ' IDENTITY ALWAYS'
                                      WHEN 'd' THEN ' IDENTITY' ELSE '' END,
                   coalesce(CASE a.attgenerated WHEN '' THEN ' DEFAULT ' ELSE ' GENERATED ' END
                            || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname)
                   || CASE WHEN a.attcollation <> 0 THEN ' COLLATE "C"' ELSE '' END,
                   ', ' ORDER BY k.place)
        FROM pg_catalog.pg_index i,
             LATERAL pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND {_RELATION}
ORDER BY 1"""  # noqa: S608 - of our own words

_SEQUENCES: Final = f"""
SELECT format('%I.%I', n.nspname, c.relname), s.seqincrement
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND {_RELATION} ORDER BY 1"""  # noqa: S608

_CONSTRAINTS: Final = f"""
SELECT format('%I.%I: %I', n.nspname, c.relname, k.conname),
       pg_catalog.pg_get_constraintdef(k.oid)
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND {_RELATION} ORDER BY 1"""  # noqa: S608

_INDEXES: Final = f"""
SELECT format('%I.%I', n.nspname, c.relname),
       pg_catalog.pg_get_indexdef(c.oid)
       || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' (INVALID)' END
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE {_RELATION} ORDER BY 1"""  # noqa: S608

_OBJECTS: Final = f"""
SELECT 'view', format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm', 'p', 'f') AND {_RELATION}
UNION ALL
SELECT 'function', format('%I.%I(%s)', n.nspname, p.proname,
                          pg_catalog.pg_get_function_identity_arguments(p.oid))
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE {_OURS.format(catalog="pg_catalog.pg_proc", alias="p")}
UNION ALL
SELECT 'trigger', format('%I.%I: %I', n.nspname, c.relname, t.tgname)
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND {_RELATION}
UNION ALL
SELECT 'policy', format('%I.%I: %I', n.nspname, c.relname, p.polname)
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {_RELATION}
UNION ALL
SELECT 'enum', format('%I.%I (%s)', n.nspname, t.typname,
       (SELECT pg_catalog.string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
        FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid))
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'e' AND {_OURS.format(catalog="pg_catalog.pg_type", alias="t")}
ORDER BY 1, 2"""  # noqa: S608

# The bootstrap superuser's ownership is not in pg_shdepend; it exists on every server.
_ROLES: Final = """
SELECT r.rolname, pg_catalog.concat_ws(' ',
       CASE WHEN r.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
       CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
       CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
       CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
       CASE WHEN r.rolreplication THEN 'REPLICATION' END,
       CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END)
FROM pg_catalog.pg_roles r
WHERE r.oid IN (SELECT d.refobjid FROM pg_catalog.pg_shdepend d
                WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                AND d.dbid = (SELECT oid FROM pg_catalog.pg_database
                              WHERE datname = pg_catalog.current_database()))
ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Table:
    """One table that holds rows (a partitioned one's partitions, not itself).

    Attributes:
        name: quoted, with its schema.
        size: bytes on disk, without indexes.
        rows: PostgreSQL's estimate; below zero if it has none.
        columns: each in words.
        statement: the COPY that writes its rows in the order of its key.
    """

    name: str
    size: int
    rows: int
    columns: tuple[str, ...]
    statement: str


def tables(connection: psycopg.Connection[Any]) -> list[Table]:
    """Return every table whose rows a dump holds; large objects, if any, as one more."""
    found = [
        Table(
            name, size, rows, tuple(described or ()),
            # Rows without a key have no order of their own: that of their text will do.
            f"COPY (SELECT {columns or ''} FROM ONLY {name} AS t "  # noqa: S608 - quoted names
            f"ORDER BY {key or 't::text COLLATE ' + chr(34) + 'C' + chr(34)}) TO STDOUT",
        )
        for name, size, rows, described, columns, key in connection.execute(_TABLES).fetchall()
    ]  # fmt: skip
    row = connection.execute("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata").fetchone()
    if row and row[0]:
        query = (
            "COPY (SELECT oid, pg_catalog.lo_get(oid) FROM pg_catalog.pg_largeobject_metadata "
            "ORDER BY oid) TO STDOUT"
        )
        found.append(Table(LARGE_OBJECTS, 0, row[0], ("oid", "content"), query))
    return found


def sequence_values(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Return the next value of every sequence, by quoted name."""
    found = connection.execute(_SEQUENCES).fetchall()
    if not found:
        return {}
    parts = [
        f"SELECT {number}, last_value + CASE WHEN is_called THEN {step} ELSE 0 END FROM {name}"  # noqa: S608
        for number, (name, step) in enumerate(found)
    ]
    values = dict(connection.execute(" UNION ALL ".join(parts).encode()).fetchall())
    return {name: values[number] for number, (name, _) in enumerate(found)}


def structure(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return constraints, indexes, extensions, other objects and roles, each as a mapping."""
    objects: dict[str, list[str]] = {}
    for kind, name in connection.execute(_OBJECTS).fetchall():
        objects.setdefault(kind, []).append(name)
    extensions = "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1"
    return {
        "constraints": dict(connection.execute(_CONSTRAINTS).fetchall()),
        "indexes": dict(connection.execute(_INDEXES).fetchall()),
        "extensions": dict(connection.execute(extensions).fetchall()),
        "objects": {kind: tuple(names) for kind, names in objects.items()},
        "roles": dict(connection.execute(_ROLES).fetchall()),
    }
