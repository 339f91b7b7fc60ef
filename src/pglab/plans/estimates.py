"""Where the planner's guess of the number of rows was far off."""

from __future__ import annotations

from collections.abc import Iterator

from pglab.plans.tree import Node, Plan

__all__ = ["FACTOR", "misestimates"]

FACTOR = 10
"""An estimate is called wrong if it is off by more than this, either way."""

# These read all of their input before they give out a row, so nothing above cuts it short.
_BLOCKING = {"Sort", "Hash", "Bitmap Heap Scan", "ModifyTable"}
# PostgreSQL counts no rows for these, or they only pass on what was estimated below.
_WITHOUT_ROWS = {"BitmapAnd", "BitmapOr", "ModifyTable"}


def misestimates(plan: Plan) -> list[tuple[Node, float]]:
    """Return the nodes where a wrong estimate begins, and by which factor it is wrong.

    Rows are compared loop by loop, as both are counted. A node that was told to stop early (below
    LIMIT, EXISTS or a semi-join) cannot be blamed for giving fewer rows than it had. Above a wrong
    estimate others follow from it; only those that are clearly worse are returned.
    """
    return [(node, factor) for node, factor, _ in _wrong(plan.root, is_cut=False)]


def _wrong(node: Node, *, is_cut: bool) -> Iterator[tuple[Node, float, bool]]:
    """Yield wrong nodes, each with its factor and whether the estimate was too low."""
    below = [
        found
        for child in node.children
        for found in _wrong(child, is_cut=_cuts(node, child, is_cut))
    ]
    yield from below
    if not node.loops or node.rows is None or node.node_type in _WITHOUT_ROWS:
        return
    # A guess is never below 1, and before PostgreSQL 18 a mean of 0.4 rows is printed as 0.
    expected, came = max(node.rows_estimated, 1.0), max(node.rows, 1.0)
    low = came > expected
    factor = came / expected if low else expected / came
    if factor <= FACTOR or (is_cut and not low):
        return
    inherited = max((f for _, f, was_low in below if was_low == low), default=0.0)
    if factor > 2 * inherited:
        yield node, factor, low


def _cuts(node: Node, child: Node, is_cut: bool) -> bool:
    """Tell whether the child may be stopped before it has given all its rows."""
    raw = node.raw
    relationship = child.raw.get("Parent Relationship")
    if child.subplan:
        return True  # EXISTS takes one row of it, a reader of a CTE as many as it likes
    if node.node_type == "Limit":
        # With fewer rows than the limit lets through, the input was read to its end.
        return is_cut or (node.rows or 0) >= node.rows_estimated
    if node.node_type == "Merge Join":
        return True  # ends as soon as either side does
    if relationship == "Inner" and (
        raw.get("Inner Unique") or raw.get("Join Type") in {"Semi", "Anti", "Right Semi"}
    ):
        return child.node_type != "Hash"
    if node.node_type == "Hash Join" and relationship == "Outer":
        hashed = node.children[-1]
        return is_cut or hashed.rows == 0
    if node.node_type == "Aggregate":
        return is_cut and raw.get("Strategy") == "Sorted"
    return is_cut and node.node_type not in _BLOCKING
