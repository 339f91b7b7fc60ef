"""What can be seen in one node of a plan that ran, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pglab.plans.naming import sorts
from pglab.plans.tree import Node, Plan
from pglab.plans.words import number, pages, percent, rows

__all__ = ["CHECKS", "Finding"]

_DISCARDED_SHARE, _DISCARDED_ROWS = 0.9, 100
_MANY_LOOPS, _MANY_LOOPS_SHARE = 100, 0.2


@dataclass(frozen=True)
class Finding:
    """Something that matters in a plan.

    Attributes:
        kind: a stable word to test for, such as ``filter``, ``estimate_low``, ``sort_on_disk``.
        node: where; None for the plan as a whole.
        label: two or three words, as a mark beside the node.
        meaning: what was measured, what that means, and what may help.
    """

    kind: str
    node: Node | None
    label: str
    meaning: str


def _filter(node: Node, _plan: Plan) -> Iterator[Finding]:
    kept, removed = node.total_rows or 0, node.rows_removed
    if removed < _DISCARDED_ROWS or removed < _DISCARDED_SHARE * (kept + removed):
        return
    is_join = "Rows Removed by Join Filter" in node.raw and not node.filter
    share = percent(removed / (kept + removed), short_of_all=kept > 0)
    read = f"{number(removed)} of {number(kept + removed)}"
    if is_join:
        meaning = (
            f"{read} pairs of rows were formed and thrown away. A join on equality, or an index "
            "for the inner table, would not form them."
        )
    elif not node.relation:
        meaning = (
            f"{read} rows were made by what is below, and thrown away here. Could the condition "
            "be applied earlier?"
        )
    elif node.index or node.node_type == "Bitmap Heap Scan":
        meaning = (
            f"{read} rows that the index found were read from the table and thrown away by the "
            "filter. An index that has the filter's columns, too, would not find them."
        )
    else:
        meaning = (
            f"{read} rows were read and thrown away by the filter. An index on the filter's "
            "columns could find the others without reading these."
        )
    yield Finding("filter", node, f"filter discards {share}", meaning)


def _sort(node: Node, _plan: Plan) -> Iterator[Finding]:
    on_disk = [one for one in sorts(node.raw) if ", disk " in one]
    if on_disk:
        yield Finding(
            "sort_on_disk",
            node,
            "sort on disk",
            f"the rows did not fit into work_mem and were sorted in temporary files "
            f"({'; '.join(on_disk)}). More work_mem, fewer or narrower rows, or an index in this "
            "order would avoid that.",
        )


def _hash(node: Node, _plan: Plan) -> Iterator[Finding]:
    raw = node.raw
    batches = raw.get("Hash Batches", 1)
    if batches > 1:
        planned = raw.get("Original Hash Batches", batches)
        more = f", {planned} planned" if planned != batches else ""
        yield Finding(
            "hash_on_disk",
            node,
            "hash on disk",
            f"the hash table did not fit into work_mem × hash_mem_multiplier and was cut into "
            f"{batches:,} batches{more}; all but one wait in temporary files.",
        )
    on_disk = sum(one.get("Disk Usage", 0) for one in (raw, *raw.get("Workers", ())))
    if on_disk:
        yield Finding(
            "hash_on_disk",
            node,
            "hash on disk",
            f"the groups did not fit into work_mem × hash_mem_multiplier; "
            f"{on_disk:,} kB went through temporary files.",
        )


def _spill(node: Node, _plan: Plan) -> Iterator[Finding]:
    kept_rows = {"CTE Scan", "Materialize", "WindowAgg", "Function Scan", "Recursive Union"}
    if node.own_buffers.temp_written and node.node_type in kept_rows:
        yield Finding(
            "rows_on_disk",
            node,
            "rows on disk",
            f"it keeps rows for later, which did not fit into work_mem: "
            f"{pages(node.own_buffers.temp_written)} of temporary files were written.",
        )


def _lossy(node: Node, _plan: Plan) -> Iterator[Finding]:
    lossy = sum(one.get("Lossy Heap Blocks", 0) for one in (node.raw, *node.raw.get("Workers", ())))
    if lossy:
        again = node.raw.get("Rows Removed by Index Recheck", 0) * (node.loops or 0)
        yield Finding(
            "lossy",
            node,
            "lossy bitmap",
            f"the index knows stretches of pages and not rows (BRIN), or the bitmap did not fit "
            f"into work_mem: of {pages(lossy)} it only knows that they may hold a row. Every row "
            f"there is tested again, {number(again)} in vain.",
        )


def _heap_fetches(node: Node, _plan: Plan) -> Iterator[Finding]:
    fetches = node.raw.get("Heap Fetches", 0)
    if fetches:
        times = "once" if fetches == 1 else f"{fetches:,} times"
        yield Finding(
            "heap_fetches",
            node,
            f"{fetches:,} heap fetch{'es' * (fetches > 1)}",
            f"an index-only scan went to the table after all, {times} for "
            f"{rows(node.total_rows or 0)}: pages that changed since the last VACUUM are not "
            "marked as visible to all. VACUUM marks them; if they are few, not always at once.",
        )


def _loops(node: Node, plan: Plan) -> Iterator[Finding]:
    loops = node.loops or 0
    is_repeated = node.raw.get("Parent Relationship") == "Inner" or "SubPlan" in node.subplan
    if loops < _MANY_LOOPS or not is_repeated:
        return
    above = plan.node(node.parent) if node.parent else node
    is_new = node.subplan or loops > (above.loops or 0)
    share = max(node.ms / (plan.ms or 1), node.buffers.touched / max(plan.buffers.touched, 1))
    if not is_new or share < _MANY_LOOPS_SHARE:
        return
    why = "a subquery that runs for each row" if node.subplan else "it runs for each outer row"
    touched = node.buffers.touched
    yield Finding(
        "many_loops",
        node,
        f"{loops:,} loops",
        f"{why}: {loops:,} times {touched / loops:.3g} pages is {pages(touched)}. Rows and times "
        "that PostgreSQL prints here are those of one loop.",
    )


def _never(node: Node, plan: Plan) -> Iterator[Finding]:
    above = plan.node(node.parent) if node.parent else None
    if node.never_executed and not (above and above.never_executed):
        yield Finding(
            "never_executed",
            node,
            "never executed",
            "nothing asked for its rows, so it cost nothing, and its estimates stay untested.",
        )


def _workers(node: Node, _plan: Plan) -> Iterator[Finding]:
    planned, launched = node.raw.get("Workers Planned", 0), node.raw.get("Workers Launched", 0)
    if launched < planned and node.loops:
        yield Finding(
            "few_workers",
            node,
            f"{launched} of {planned} workers",
            "the plan counts on more processes than were free: see max_parallel_workers and "
            "max_worker_processes.",
        )


CHECKS: tuple[Callable[[Node, Plan], Iterator[Finding]], ...] = (
    _filter,
    _sort,
    _hash,
    _spill,
    _lossy,
    _heap_fetches,
    _loops,
    _workers,
    _never,
)
