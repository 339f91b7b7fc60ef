"""What is timed: a statement through one of four meters, or a function of one's own.

The meters are layers of the same look-up. ``libpq`` sends a prepared statement and counts the rows
of the answer, which is what pgbench does; ``simple`` is the same without preparing; ``cursor``
decodes the rows into Python's values; ``core`` is SQLAlchemy's, a subject of comparisons and never
the meter of another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

from pglab.bench.case import check_several
from pglab.errors import BenchError

if TYPE_CHECKING:
    import psycopg

    from pglab.bench.ground import Place

__all__ = ["Call", "Meter", "Opened", "Operation", "Parameters", "Query", "positional"]

Meter = Literal["libpq", "cursor", "core", "simple"]
Parameters = Sequence[Any] | Mapping[str, Any]

_PLACEHOLDER: Final = re.compile(r"%(?:\((?P<name>\w+)\)s|(?P<plain>[s%]))")
_STATEMENT: Final = b"pglab_bench"


@dataclass(frozen=True)
class Opened:
    """An operation that is ready to run.

    Attributes:
        once: does operation number i and returns how many rows came or were written.
        before: called with the first number and how many follow, before each round and outside
            the timing.
        statement: what the server was given, with $1 …, as ``pg_prepared_statements`` has it;
            empty if nothing was.
        check: statement with psycopg's placeholders whose plan is to be looked at; empty: none.
        connection: on which it runs; None if it is the operation's own affair.
        after: called once when all is done.
        measures: asked for further numbers at the end.
    """

    once: Callable[[int], int]
    before: Callable[[int, int], object] | None = None
    statement: str = ""
    check: str = ""
    connection: psycopg.Connection[Any] | None = None
    after: Callable[[], object] | None = None
    measures: Callable[[], Mapping[str, float]] | None = None


class Operation(Protocol):
    """What a variant does; ``Query`` and ``Call`` are two."""

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:
        """Make it ready on a variant's own twins, with the parameters that were drawn."""
        ...


@dataclass(frozen=True)
class Query:
    """A statement, asked again and again with the next parameters.

    Attributes:
        sql: with psycopg's placeholders, %s or %(name)s. Unqualified tables are the twins.
        meter: through what it is sent; ``simple`` is libpq without preparing, the values written
            into the text.
        before: SQL that is run before each round, outside the timing; ``{size}``, ``{first}`` and
            ``{count}`` are messages, the round's first operation, and how many it has.
        check: whose plan is looked at, where it is not the statement's own: the query that a
            foreign key's trigger runs appears in no plan.
    """

    sql: str
    meter: Meter = "libpq"
    before: tuple[str, ...] = ()
    check: str = ""

    def __post_init__(self) -> None:
        if self.meter not in get_args(Meter):
            raise BenchError(f"no meter {self.meter!r}; use one of {', '.join(get_args(Meter))}")
        check_several("before", self.before)

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:
        """Prepare the statement on the place's connection.

        Raises:
            psycopg.Error: it is no SQL, or a table is missing.
            BenchError: the parameters do not fit the placeholders.
        """
        opening = {
            "libpq": _libpq,
            "simple": _simple,
            "cursor": _cursor,
            "core": _core,
        }[self.meter]
        names = positional(self.sql)[1]
        for each in parameters or [()]:
            values(each, names)  # that they fit is known before anything is timed
        once, connection = opening(self.sql, place, list(parameters) or [()])
        return Opened(
            once,
            before=self._before(place),
            statement="" if self.meter == "simple" else positional(self.sql)[0],
            check=self.check or self.sql,
            connection=connection,
        )

    def _before(self, place: Place) -> Callable[[int, int], object] | None:
        if not self.before:
            return None

        def run(first: int, count: int) -> None:
            for statement in self.before:
                text = statement
                # Not format(): JSON has braces of its own.
                for name, value in (("size", place.size), ("first", first), ("count", count)):
                    text = text.replace(f"{{{name}}}", str(value))
                place.connection.execute(text.encode())

        return run


@dataclass(frozen=True)
class Call:
    """A function of one's own.

    Attributes:
        function: given the place and the parameters, it returns ``once(i) -> rows``, or an
            ``Opened`` where there is more to say. A function at the top of a module can also be
            run by several processes.
        check: SQL whose plan is looked at; empty: none is.
    """

    function: Callable[[Place, Sequence[Parameters]], Callable[[int], int] | Opened]
    check: str = ""

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:
        """Call the function."""
        found = self.function(place, parameters)
        if isinstance(found, Opened):
            return found
        return Opened(found, check=self.check, connection=place.connection)


def positional(sql: str) -> tuple[str, list[str]]:
    """Return a statement with $1 … in place of psycopg's placeholders, and the names in order.

    A name that occurs twice is one parameter, as in psycopg. Plain ``%s`` have empty names. Without
    any placeholder the statement is returned as it is.
    """
    names: list[str] = []

    def dollar(match: re.Match[str]) -> str:
        if match["plain"] == "%":
            return "%"
        name = match["name"] or ""
        if not name or name not in names:
            names.append(name)
            return f"${len(names)}"
        return f"${names.index(name) + 1}"

    text = _PLACEHOLDER.sub(dollar, sql)
    return (text, names) if names else (sql, [])


def values(parameters: Parameters, names: Sequence[str]) -> list[Any]:
    """Return one operation's parameters in the order of the statement's placeholders.

    Raises:
        BenchError: they do not fit.
    """
    try:
        if isinstance(parameters, Mapping):
            return [parameters[name] for name in names]
        if any(names):
            unique = list(names)
            if len(parameters) == len(unique):
                return list(parameters)
        elif len(parameters) == len(names):
            return list(parameters)
    except KeyError as error:
        raise BenchError(
            f"the statement asks for %({error.args[0]})s, and the parameters have "
            f"{', '.join(parameters)}; name the columns of Draw.query alike"
        ) from None
    raise BenchError(
        f"the statement has {len(names)} placeholders, and {len(parameters)} parameters were "
        "drawn; Draw.query must return a column for each"
    )


def encoded(
    connection: psycopg.Connection[Any], parameters: Sequence[Parameters], names: Sequence[str]
) -> list[Sequence[Any]]:
    """Return each operation's parameters as PostgreSQL's text, encoded before the clock runs."""
    transformer = Transformer(connection)
    found: list[Sequence[Any]] = []
    for each in parameters:
        row = values(each, names)
        found.append(transformer.dump_sequence(row, [PyFormat.TEXT] * len(row)))
    return found


Once = Callable[[int], int]


def _libpq(
    sql: str, place: Place, parameters: list[Parameters]
) -> tuple[Once, psycopg.Connection[Any]]:
    connection = place.connection
    text, names = positional(sql)
    pgconn = connection.pgconn
    _checked(connection, pgconn.prepare(_STATEMENT, text.encode()))
    rows = encoded(connection, parameters, names)
    count = len(rows)
    execute, good = pgconn.exec_prepared, pq.ExecStatus.TUPLES_OK

    def once(i: int) -> int:
        result = execute(_STATEMENT, rows[i % count])
        if result.status == good:
            return result.ntuples
        return _checked(connection, result).command_tuples or 0

    return once, connection


def _simple(
    sql: str, place: Place, parameters: list[Parameters]
) -> tuple[Once, psycopg.Connection[Any]]:
    import psycopg

    connection = place.connection
    cursor = psycopg.ClientCursor(connection)
    texts = [cursor.mogrify(sql, each or None).encode() for each in parameters]
    count = len(texts)
    pgconn = connection.pgconn

    def once(i: int) -> int:
        result = _checked(connection, pgconn.exec_(texts[i % count]))
        return result.ntuples or result.command_tuples or 0

    return once, connection


def _checked(connection: psycopg.Connection[Any], result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        return result
    if connection.broken:
        import psycopg

        # Without the server nobody gave it a code, by which psycopg would know its class.
        said = result.error_message.decode(errors="replace").strip()
        raise psycopg.OperationalError(said)
    raise error_from_result(result, encoding=connection.info.encoding)


def _cursor(
    sql: str, place: Place, parameters: list[Parameters]
) -> tuple[Once, psycopg.Connection[Any]]:
    connection = place.connection
    cursor = connection.cursor()
    count = len(parameters)
    rows = [each or None for each in parameters]
    execute, fetch, text = cursor.execute, cursor.fetchall, sql.encode()

    def once(i: int) -> int:
        execute(text, rows[i % count], prepare=True)
        result = cursor.pgresult
        # Without columns it was a write. (cursor.description would make an object for each column,
        # which costs as much as decoding the row.)
        return len(fetch()) if result is not None and result.nfields else cursor.rowcount

    return once, connection


def _core(
    sql: str, place: Place, parameters: list[Parameters]
) -> tuple[Once, psycopg.Connection[Any]]:
    import sqlalchemy

    connection = place.sqlalchemy_connection()
    _, names = positional(sql)
    if parameters != [()] and not all(names):
        raise BenchError("SQLAlchemy's text() has named parameters only; write %(name)s, not %s")
    statement = sqlalchemy.text(
        _PLACEHOLDER.sub(lambda m: "%" if m["plain"] == "%" else f":{m['name']}", sql)
    )
    rows: list[Any] = [
        dict(zip(names, values(each, names), strict=True)) if names else {} for each in parameters
    ]
    count = len(rows)

    def once(i: int) -> int:
        return len(connection.execute(statement, rows[i % count]).all())

    return once, place.raw(connection)
