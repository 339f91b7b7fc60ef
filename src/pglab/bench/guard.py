"""Looking at the plan that really runs, and refusing a run whose plan is not the one claimed.

The prepared statement itself is explained (``EXPLAIN EXECUTE``), so that what is seen is what the
session's plan cache gives: a plan for these values, or one for any.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pglab.bench.operations import positional, values
from pglab.bench.results import PlanRecord
from pglab.errors import BenchError, PlanMismatchError
from pglab.plans import Plan, explain_prefix

if TYPE_CHECKING:
    from pglab.bench.case import Claim
    from pglab.bench.operations import Opened, Parameters

__all__ = ["Guard", "tree"]

_PROBES: Final = 5


@dataclass(frozen=True)
class Guard:
    """What is looked at for one variant.

    Attributes:
        case, variant: their names, for the message.
        claim: the plan that it must be; None if the variant claims none.
        opened: the operation.
        parameters: of which some are tried.
    """

    case: str
    variant: str
    claim: Claim | None
    opened: Opened
    parameters: list[Parameters]

    def check(self, before: PlanRecord | None = None) -> PlanRecord | None:
        """Return the plan as it is now.

        Args:
            before: what was found before the timing, which is kept but for the server's counts.

        Raises:
            PlanMismatchError: it is not the plan that is claimed.
        """
        connection = self.opened.connection
        if connection is None or not self.opened.check:
            return None
        name, generic, custom = self._prepared(connection)
        plans = [self._explain(connection, name, each) for each in self._probes()]
        for plan in plans:
            problem = self.claim.mismatch(plan) if self.claim is not None else None
            if problem is not None:
                when = "" if before is None else " after the timing, though not before"
                raise PlanMismatchError(
                    f"case {self.case!r}, variant {self.variant!r}: {problem}{when}; nothing of it "
                    f"is reported.\nclaimed: {self.claim}\nfound:\n"
                    + "\n".join(f"  {line}" for line in tree(plan))
                    + "\nA table this small, a planner setting or missing statistics may be the "
                    "reason: try a larger --size."
                )
        record = PlanRecord(
            claim=str(self.claim) if self.claim is not None else "",
            nodes=tuple(tree(plans[0])),
            buffers=statistics.median(plan.buffers.touched for plan in plans),
            generic=generic,
            custom=custom,
        )
        return record if before is None else replace(before, generic=generic, custom=custom)

    def _probes(self) -> list[Parameters]:
        if not self.parameters:
            return [()]
        step = max(1, len(self.parameters) // _PROBES)
        return self.parameters[::step][:_PROBES]

    def _prepared(
        self, connection: psycopg.Connection[Any]
    ) -> tuple[str | None, int | None, int | None]:
        """Return the statement's name and the server's counts, if the session has prepared it."""
        row = (
            connection.cursor(row_factory=tuple_row)
            .execute(
                # Of several with this text, the one that takes the largest integers.
                "SELECT name, (sum(generic_plans) OVER ())::bigint, "
                "(sum(custom_plans) OVER ())::bigint FROM pg_prepared_statements "
                "WHERE statement = %s ORDER BY (SELECT sum(t.typlen) FROM pg_type AS t "
                "WHERE t.oid = ANY(parameter_types)) DESC, prepare_time DESC LIMIT 1",
                [self.opened.statement],
                prepare=False,
            )
            .fetchone()
            if self.opened.statement
            else None
        )
        return row if row is not None else (None, None, None)

    def _explain(
        self, connection: psycopg.Connection[Any], name: str | None, parameters: Parameters
    ) -> Plan:
        text, names = positional(self.opened.check)
        given = values(parameters, names) if parameters or names else []
        if name is not None and text == self.opened.statement:
            execute = sql.SQL("EXECUTE {}").format(sql.Identifier(name))
            if given:
                literals = sql.SQL(", ").join(map(sql.Literal, given))
                execute = sql.SQL("{}({})").format(execute, literals)
            # psycopg prepares a statement for small integers and another one for larger ones.
            with suppress(psycopg.errors.NumericValueOutOfRange):
                return self._asked(connection, execute)
        plain = dict(zip(names, given, strict=True)) if any(names) else given
        return self._asked(connection, sql.SQL(self.opened.check), plain or None)

    def _asked(
        self,
        connection: psycopg.Connection[Any],
        statement: sql.Composable,
        given: Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> Plan:
        prefix = sql.SQL(explain_prefix(connection.info.server_version))
        with _undone(connection):
            row = (
                connection.cursor(row_factory=tuple_row)
                .execute(prefix + statement, given, prepare=False)
                .fetchone()
            )
        if row is None:
            raise BenchError(f"case {self.case!r}: PostgreSQL explained nothing")
        return Plan.from_json(row[0])


@contextmanager
def _undone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Roll back what is done in the block, behind psycopg's back.

    psycopg deallocates all its prepared statements when it sees a rollback, and the one that is
    being looked at may be its own.
    """
    connection.pgconn.exec_(b"BEGIN")
    try:
        yield
    finally:
        connection.pgconn.exec_(b"ROLLBACK")


def tree(plan: Plan) -> list[str]:
    """Return a plan's nodes, one a line, indented as they call one another."""
    return ["  " * node.depth + node.title for node in plan.nodes()]
