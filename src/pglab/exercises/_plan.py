"""Read a plan: which index, which tables as a whole, how many pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pglab.exercises._results import Result

__all__ = ["Index", "IndexOn", "complaint", "indexes", "outline"]

_Node = dict[str, Any]


@dataclass(frozen=True)
class IndexOn:
    """An index, by what it is on: ``IndexOn("messages", "chat_id", "sent_at")``.

    Attributes:
        table: its name.
        columns: the leading columns (or expressions, as pg_get_indexdef writes them), in order.
            The index may have more.
    """

    table: str
    columns: tuple[str, ...]

    def __init__(self, table: str, *columns: str) -> None:
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "columns", columns)

    def __str__(self) -> str:
        return f"{self.table} ({', '.join(self.columns)})"


@dataclass(frozen=True)
class Index:
    """An index that exists."""

    name: str
    table: str
    columns: tuple[str, ...]

    def serves(self, wanted: IndexOn) -> bool:
        """Tell whether it is on that table and begins with those columns."""
        leading = self.columns[: len(wanted.columns)]
        return self.table == wanted.table and leading == wanted.columns

    def __str__(self) -> str:
        return f"{self.table} ({', '.join(self.columns)})"


def indexes(query: Callable[[str], Result]) -> list[Index]:
    """Return all indexes of the course's tables; ``query`` runs a query where they exist."""
    found = query(
        """
        SELECT c.relname, t.relname,
               array_to_string(array(SELECT pg_get_indexdef(c.oid, n, true)
                                     FROM generate_series(1, i.indnkeyatts) AS n), chr(31))
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_class AS t ON t.oid = i.indrelid
        WHERE t.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
        """
    )
    return [
        Index(str(name), str(table), tuple(str(columns).split("\x1f")))
        for name, table, columns in found.rows
    ]


def complaint(
    plan: _Node,
    whose: str,
    *,
    index: IndexOn | None,
    known: Sequence[Index],
    no_seq_scan: Sequence[str],
    max_buffers: int | None,
    nodes: Sequence[str],
    no_nodes: Sequence[str],
) -> str | None:
    """Return the first thing that is wrong with a plan, in words, or None."""
    every = list(_walk(plan))
    kinds = {node["Node Type"] for node in every}
    for table in no_seq_scan:
        if any(n["Node Type"] == "Seq Scan" and n.get("Relation Name") == table for n in every):
            return (
                f"The server reads the whole table {table} for {whose} (a sequential scan); "
                "it is to be found through an index."
            )
    if index is not None:
        names = {node["Index Name"] for node in every if "Index Name" in node}
        used = [one for one in known if one.name in names]
        if not any(one.serves(index) for one in used):
            found = f"it uses {', '.join(map(str, used))}" if used else "it uses no index"
            return f"For {whose} the server is to use an index on {index}; {found}."
    for kind in nodes:
        if kind not in kinds:
            return f"The plan of {whose} is to have a node {kind}; it has none."
    for kind in no_nodes:
        if kind in kinds:
            return f"The plan of {whose} has a node {kind}; it is to do without."
    if max_buffers is not None:
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        if pages > max_buffers:
            return (
                f"Right, but {whose} touches {pages:,} pages of 8 kB; {max_buffers:,} are enough."
            )
    return None


def outline(plan: _Node, depth: int = 0) -> str:
    """Return a plan as an indented list of its nodes."""
    head = plan["Node Type"]
    if "Index Name" in plan:
        head += f" using {plan['Index Name']}"
    if "Relation Name" in plan:
        head += f" on {plan['Relation Name']}"
    facts = [
        f"{name}: {plan[name]}" for name in ("Index Cond", "Filter", "Sort Key") if name in plan
    ]
    lines = ["  " * depth + ("→ " if depth else "") + "  ".join([head, *facts])]
    lines += [outline(child, depth + 1) for child in plan.get("Plans", [])]
    return "\n".join(lines)


def _walk(plan: _Node) -> Iterator[_Node]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _walk(child)
