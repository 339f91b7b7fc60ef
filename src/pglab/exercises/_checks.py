"""The checks that a problem is made of. Each has its own sentence for what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from pglab.exercises import _plan
from pglab.exercises._compare import Wanted, compare
from pglab.exercises._plan import IndexOn
from pglab.exercises._results import Result
from pglab.exercises._scene import Scene
from pglab.exercises._verdict import Fault
from pglab.notebook.explain_error import condition_name

__all__ = ["Accepts", "Check", "Fails", "Plan", "Refuses", "Rows", "State"]


class Check(Protocol):
    """What a check does: note what is right after the reference, then look at the answer."""

    @property
    def visible_only(self) -> bool:
        """Tell whether it is left out on the hidden data."""

    def reference(self, scene: Scene) -> Any:
        """Return what is right, seen after the reference solution."""

    def examine(self, scene: Scene, reference: Any) -> Fault | None:
        """Return what is wrong after the learner's answer, or None."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The answer returns the reference's rows, as many times each, in any order unless asked.

    Attributes:
        order_by: names of result columns that the question sorts by, as ("messages", "name").
            Their values must come in the reference's order; rows with equal values in any.
        names: the columns' names count; name them in the prompt.
        column_order: the columns' order counts; say so in the prompt.
        exact_types: int and bigint, text and varchar are different.
        pool: where LIMIT cuts through ties: a query for *all* rows that may be in the answer, with
            the reference's columns (usually the reference without LIMIT).
        says: one more sentence for the learner when this check fails.
    """

    order_by: Sequence[str] = ()
    names: bool = True
    column_order: bool = False
    exact_types: bool = False
    pool: str = ""
    says: str = ""
    visible_only: bool = False

    def reference(self, scene: Scene) -> tuple[Result, Result | None]:
        """Keep the reference's result."""
        if scene.result is None:
            raise ValueError("the reference solution returns no rows")
        unknown = set(self.order_by) - set(scene.result.names)
        if unknown:
            raise ValueError(f"order_by names no column of the reference: {sorted(unknown)}")
        return scene.result, scene.query(self.pool) if self.pool else None

    def examine(self, scene: Scene, reference: tuple[Result, Result | None]) -> Fault | None:
        """Compare."""
        expected, pool = reference
        if scene.result is None:
            return Fault(f"Your statement ({scene.tag}) returns no rows; a query is asked for.")
        wanted = Wanted(
            names=self.names,
            column_order=self.column_order,
            exact_types=self.exact_types,
            order_by=tuple(self.order_by),
        )
        return _adding(self.says, compare(expected, scene.result, wanted, pool))


@dataclass(frozen=True, kw_only=True)
class State:
    """After the answer, a query of yours returns what it returns after the reference.

    Attributes:
        probe: one query. Leave out what may rightly differ (generated ids, now()).
        about: what it looks at, as in "After your statement, {about}: 2 rows too many".
        order_by: as in Rows; usually empty.
        says: one more sentence for the learner when this check fails.
    """

    probe: str
    about: str
    order_by: Sequence[str] = ()
    says: str = ""
    visible_only: bool = False

    def reference(self, scene: Scene) -> Result:
        """Look after the reference."""
        return scene.query(self.probe)

    def examine(self, scene: Scene, reference: Result) -> Fault | None:
        """Look after the answer, and compare."""
        try:
            actual = scene.query(self.probe, keep=len(reference.rows) + 20)
        except psycopg.Error as error:
            said = error.diag.message_primary or str(error)
            return _adding(self.says, Fault(f"After your statement, {self.about}: {said}."))
        fault = compare(reference, actual, Wanted(order_by=tuple(self.order_by)))
        if fault is None:
            return None
        message = f"After your statement, {self.about}: {fault.message}"
        return _adding(self.says, Fault(message, fault.tables))


@dataclass(frozen=True, kw_only=True)
class Accepts:
    """After the answer, statements of yours succeed (they are undone).

    Attributes:
        sql: one or several statements.
        says: what the learner reads if they fail, such as "A name of 100 letters is refused."
    """

    sql: str
    says: str
    visible_only: bool = False

    def reference(self, scene: Scene) -> None:
        """Make sure that the reference passes."""
        _must_pass(self.examine(scene, None))

    def examine(self, scene: Scene, reference: object) -> Fault | None:  # noqa: ARG002
        """Try the statements."""
        error = scene.attempt(self.sql)
        if error is None:
            return None
        return Fault(self.says, verbatim=f"{self.sql.strip()}\n→ {_named(error)}")


@dataclass(frozen=True, kw_only=True)
class Refuses:
    """After the answer, statements of yours fail with one of these codes (they are undone).

    Attributes:
        sql: one or several statements; any of them may fail.
        sqlstate: the code, such as "23514", or several.
        says: what the learner reads if they do not, such as "An empty name is still accepted."
    """

    sql: str
    sqlstate: str | Sequence[str]
    says: str
    visible_only: bool = False

    def reference(self, scene: Scene) -> None:
        """Make sure that the reference passes."""
        _must_pass(self.examine(scene, None))

    def examine(self, scene: Scene, reference: object) -> Fault | None:  # noqa: ARG002
        """Try the statements."""
        error = scene.attempt(self.sql)
        if error is not None and error.sqlstate in _codes(self.sqlstate):
            return None
        happened = "accepted" if error is None else f"refused, for another reason: {_named(error)}"
        return Fault(self.says, verbatim=f"{self.sql.strip()}\n→ {happened}")


@dataclass(frozen=True, kw_only=True)
class Fails:
    """The answer itself must fail with one of these codes.

    Attributes:
        sqlstate: the code, such as "23505", or several.
        says: one more sentence for the learner when this check fails.
    """

    sqlstate: str | Sequence[str]
    says: str = ""
    visible_only: bool = False

    def reference(self, scene: Scene) -> None:
        """Make sure that the reference fails so."""
        _must_pass(self.examine(scene, None))

    def examine(self, scene: Scene, reference: object) -> Fault | None:  # noqa: ARG002
        """Look at the answer's error."""
        codes = _codes(self.sqlstate)
        wanted = " or ".join(f"{code} ({condition_name(code)})" for code in codes)
        if scene.error is None:
            message = f"Your statement succeeds; it is to fail with {wanted}."
        elif scene.error.sqlstate in codes:
            return None
        else:
            message = f"Your statement is to fail with {wanted}; it failed with another error."
        verbatim = _named(scene.error) if scene.error else ""
        return _adding(self.says, Fault(message, verbatim=verbatim))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The server's plan for the answer, or for a query of yours after it. Never a time.

    Looked at on the visible data only, because plans depend on size.

    Attributes:
        query: whose plan; the answer's own when empty. Name one for problems whose answer is an
            index.
        index: the plan must read an index on this table whose leading columns are these.
        no_seq_scan: tables that must not be read as a whole.
        max_buffers: pages (8 kB) that it may touch, cached or not; runs it, and undoes it.
        nodes: kinds of nodes that must be there, such as "Index Only Scan".
        no_nodes: kinds of nodes that must not, such as "Sort".
        says: one more sentence for the learner when this check fails.
    """

    query: str = ""
    index: IndexOn | None = None
    no_seq_scan: Sequence[str] = ()
    max_buffers: int | None = None
    nodes: Sequence[str] = ()
    no_nodes: Sequence[str] = ()
    says: str = ""

    @property
    def visible_only(self) -> bool:
        """Plans depend on size."""
        return True

    def reference(self, scene: Scene) -> None:
        """Make sure that the reference passes."""
        _must_pass(self.examine(scene, None))

    def examine(self, scene: Scene, reference: object) -> Fault | None:  # noqa: ARG002
        """Ask for the plan, and look at it."""
        statement = self.query or scene.statements[-1].text
        plan = scene.explain(statement, analyze=self.max_buffers is not None)
        whose = "this query" if self.query else "your statement"
        complaint = _plan.complaint(
            plan,
            whose,
            index=self.index,
            known=_plan.indexes(scene.query) if self.index else (),
            no_seq_scan=self.no_seq_scan,
            max_buffers=self.max_buffers,
            nodes=self.nodes,
            no_nodes=self.no_nodes,
        )
        if complaint is None:
            return None
        shown = f"{self.query.strip()}\n\n" if self.query else ""
        return _adding(self.says, Fault(complaint, verbatim=shown + _plan.outline(plan)))


def _adding(says: str, fault: Fault | None) -> Fault | None:
    if fault is None or not says:
        return fault
    return Fault(f"{fault.message}\n{says}", fault.tables, fault.verbatim)


def _codes(sqlstate: str | Sequence[str]) -> tuple[str, ...]:
    return (sqlstate,) if isinstance(sqlstate, str) else tuple(sqlstate)


def _named(error: psycopg.Error) -> str:
    state = error.sqlstate or ""
    return f"{state} {condition_name(state)}: {error.diag.message_primary or error}"


def _must_pass(fault: Fault | None) -> None:
    if fault is not None:
        raise ValueError(f"the reference solution fails its own check: {fault.message}")
