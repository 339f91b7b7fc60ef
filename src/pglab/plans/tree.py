"""A plan and its nodes, read from ``EXPLAIN (FORMAT JSON)`` of PostgreSQL 15 to 18."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pglab.plans.accounting import Buffers, Cost, costs, walk
from pglab.plans.naming import title

__all__ = ["Node", "Plan", "Trigger"]


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a plan. What ran has ``loops``; what was only planned has None there.

    Attributes:
        number: its place in PostgreSQL's order, from 1.
        depth: how many nodes are above it.
        parent: number of the node above; None for the first.
        node_type: as PostgreSQL's JSON has it, such as ``Seq Scan``, ``Aggregate``.
        title: as PostgreSQL's text has it: ``Index Scan using messages_pkey on messages m``.
        subplan: ``CTE recent``, ``InitPlan 1`` or ``SubPlan 1`` if it begins one, else empty.
        relation, alias, index: what it reads or writes; empty if it has none.
        index_condition: what the index looks up, as PostgreSQL prints it.
        filter: what is tested on each row after it was read.
        rows_estimated: the planner's guess, in each loop.
        rows: what came, in each loop on average (whole numbers before PostgreSQL 18).
        loops: how often it ran, 0 if never; in a parallel plan, of all processes together.
        ms, buffers: time on the clock and pages over all loops, with all that is below.
        own_ms, own_buffers: its own part of these.
        raw: all that PostgreSQL says about it, such as ``raw["Sort Method"]``.
    """

    number: int
    depth: int
    parent: int | None
    node_type: str
    title: str
    subplan: str
    relation: str
    alias: str
    index: str
    index_condition: str
    filter: str
    rows_estimated: float
    rows: float | None
    loops: int | None
    ms: float
    own_ms: float
    buffers: Buffers
    own_buffers: Buffers
    cost: float
    raw: Mapping[str, Any] = field(repr=False)
    children: tuple[Node, ...] = field(repr=False, default=())

    @property
    def never_executed(self) -> bool:
        """Tell whether the plan ran, but without need of this node."""
        return self.loops == 0

    @property
    def total_rows(self) -> float | None:
        """Rows of all loops together; before PostgreSQL 18 off by up to half a row a loop."""
        return None if self.rows is None else self.rows * (self.loops or 0)

    @property
    def rows_removed(self) -> float:
        """Rows of all loops that were read and that the filter, or a join's, threw away."""
        raw = self.raw
        each = raw.get("Rows Removed by Filter", 0) + raw.get("Rows Removed by Join Filter", 0)
        return float(each * (self.loops or 0))

    @property
    def writes(self) -> bool:
        """Tell whether it inserts, updates, deletes or merges."""
        return self.node_type == "ModifyTable"

    def nodes(self) -> Iterator[Node]:
        """Yield this node and all below it, in PostgreSQL's order."""
        yield self
        for child in self.children:
            yield from child.nodes()


@dataclass(frozen=True)
class Trigger:
    """A trigger that fired; ``constraint`` is its foreign key's name, or empty.

    Its queries are not in the plan: neither their nodes nor their pages.
    """

    name: str
    constraint: str
    relation: str
    calls: int
    ms: float


@dataclass(frozen=True, eq=False)
class Plan:
    """A statement's plan.

    Attributes:
        root: the topmost node.
        planning_ms, execution_ms: None if PostgreSQL was not asked.
        planning_buffers: pages of the catalogue that planning touched.
        settings: parameters of the planner that are not as PostgreSQL ships.
        triggers: those that fired.
        raw: PostgreSQL's answer.
        index_columns: for each index the plan names: its columns or expressions, in order.
    """

    root: Node
    planning_ms: float | None
    execution_ms: float | None
    planning_buffers: Buffers
    settings: Mapping[str, str]
    triggers: tuple[Trigger, ...]
    raw: Mapping[str, Any] = field(repr=False)
    index_columns: Mapping[str, tuple[str, ...]] = field(repr=False, default_factory=dict)

    @classmethod
    def from_json(
        cls, answer: Any, index_columns: Mapping[str, Sequence[str]] | None = None
    ) -> Plan:
        """Read PostgreSQL's answer.

        Args:
            answer: JSON text, or what ``json.loads`` or psycopg made of it.
            index_columns: what each index is on, for ``uses_index``; see ``pglab.plans.explain``.

        Raises:
            ValueError: this is no answer of ``EXPLAIN (FORMAT JSON)``, or one without a plan.
        """
        found = json.loads(answer) if isinstance(answer, str | bytes) else answer
        if isinstance(found, Sequence) and len(found) == 1:
            found = found[0]
        root = found.get("Plan") if isinstance(found, Mapping) else None
        if not root:
            raise ValueError(
                f"no plan in {str(answer)[:60]!r}; it takes what EXPLAIN (FORMAT JSON) answers "
                "for one query, INSERT, UPDATE, DELETE or MERGE"
            )
        triggers = [
            Trigger(
                one.get("Trigger Name", ""),
                one.get("Constraint Name", ""),
                one.get("Relation", ""),
                int(one.get("Calls", 0)),
                one.get("Time", 0.0),
            )
            for one in found.get("Triggers", ())
        ]
        return cls(
            _tree(root),
            found.get("Planning Time"),
            found.get("Execution Time"),
            Buffers.from_json(found.get("Planning", {})),
            dict(found.get("Settings", {})),
            tuple(triggers),
            found,
            {name: tuple(columns) for name, columns in (index_columns or {}).items()},
        )

    @property
    def analyzed(self) -> bool:
        """Tell whether the statement ran (ANALYZE), so that there are actual rows."""
        return self.root.loops is not None

    @property
    def writes(self) -> bool:
        """Tell whether any node inserts, updates, deletes or merges."""
        return any(node.writes for node in self.nodes())

    @property
    def buffers(self) -> Buffers:
        """Pages of all nodes; those of planning and of triggers' queries are not among them."""
        return sum((node.own_buffers for node in self.nodes()), Buffers())

    @property
    def ms(self) -> float:
        """Time that shares are taken of: the execution's, or the nodes' own together."""
        return max(self.execution_ms or 0.0, sum(node.own_ms for node in self.nodes()))

    @property
    def indexes(self) -> tuple[str, ...]:
        """Names of the indexes in the plan, each once, in the order of nodes."""
        return tuple(dict.fromkeys(node.index for node in self.nodes() if node.index))

    def nodes(self) -> list[Node]:
        """Return all nodes, in PostgreSQL's order."""
        return list(self.root.nodes())

    def node(self, number: int) -> Node:
        """Return a node by its number, which begins at 1."""
        return self.nodes()[number - 1]

    def scans(self, relation: str) -> list[Node]:
        """Return the nodes that read a table, by its name (partitions have their own)."""
        return [node for node in self.nodes() if node.relation == relation and not node.writes]

    def uses_index(self, name: str | None = None, *, on: Sequence[str] | None = None) -> bool:
        """Tell whether the plan reads an index of this name, or whose leading columns are these.

        Raises:
            ValueError: asked for columns, and the plan was read without knowledge of them.
        """
        names = [index for index in self.indexes if name in {None, index}]
        if on is None:
            return bool(names)
        unknown = [index for index in names if index not in self.index_columns]
        if unknown:
            raise ValueError(
                f"what the index {unknown[0]!r} is on is not known to this plan; "
                "pglab.plans.explain asks the server, Plan.from_json takes index_columns"
            )
        wanted = tuple(on)
        return any(self.index_columns[index][: len(wanted)] == wanted for index in names)

    def __repr__(self) -> str:
        what = f"{self.buffers.touched:,} pages" if self.analyzed else "estimates only"
        return f"<Plan {self.root.title!r}, {len(self.nodes())} nodes, {what}>"


def _tree(root: Mapping[str, Any]) -> Node:
    spent = costs(root)
    numbers = {id(raw): number for number, raw in enumerate(walk(root), 1)}
    return _node(root, None, 0, numbers, spent)


def _node(
    raw: Mapping[str, Any],
    parent: int | None,
    depth: int,
    numbers: dict[int, int],
    spent: dict[int, tuple[Cost, Cost]],
) -> Node:
    total, own = spent[id(raw)]
    number = numbers[id(raw)]
    loops = raw.get("Actual Loops")
    return Node(
        number,
        depth,
        parent,
        raw["Node Type"],
        title(raw),
        raw.get("Subplan Name", ""),
        raw.get("Relation Name", ""),
        raw.get("Alias", ""),
        raw.get("Index Name", ""),
        raw.get("Index Cond", ""),
        raw.get("Filter", ""),
        raw.get("Plan Rows", 0),
        raw.get("Actual Rows"),
        None if loops is None else int(loops),
        total.ms,
        own.ms,
        total.buffers,
        own.buffers,
        raw.get("Total Cost", 0.0),
        raw,
        tuple(_node(c, number, depth + 1, numbers, spent) for c in raw.get("Plans", ())),
    )
