"""How a node is called, and what is worth knowing about it, in PostgreSQL's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["details", "sorts", "title"]

Raw = Mapping[str, Any]

_STRATEGIES = {
    "Aggregate": {
        "Plain": "Aggregate",
        "Sorted": "GroupAggregate",
        "Hashed": "HashAggregate",
        "Mixed": "MixedAggregate",
    },
    "SetOp": {"Sorted": "SetOp", "Hashed": "HashSetOp"},
}
_CONDITIONS = (
    "Index Cond",
    "Recheck Cond",
    "TID Cond",
    "Order By",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "One-Time Filter",
    "Filter",
    "Sort Key",
    "Presorted Key",
    "Group Key",
    "Cache Key",
    "Function Call",
    "Conflict Resolution",
    "Conflict Arbiter Indexes",
)


def title(raw: Raw) -> str:
    """Return a node's name as PostgreSQL's text format writes it."""
    kind = raw["Node Type"]
    kind = _STRATEGIES.get(kind, {}).get(raw.get("Strategy", ""), kind)
    if kind == "ModifyTable":
        kind = raw.get("Operation", kind)
    join = raw.get("Join Type", "Inner")
    if join != "Inner":
        kind = f"{kind.removesuffix(' Join')} {join} Join"
    if raw.get("Partial Mode", "Simple") != "Simple":
        kind = f"{raw['Partial Mode']} {kind}"
    if raw.get("Parallel Aware"):
        kind = f"Parallel {kind}"
    if raw.get("Scan Direction") == "Backward":
        kind += " Backward"
    if raw["Node Type"] == "Bitmap Index Scan":
        return f"{kind} on {raw['Index Name']}"
    if raw.get("Index Name"):
        kind += f" using {raw['Index Name']}"
    target = next(
        (raw[key] for key in ("Relation Name", "CTE Name", "Function Name") if raw.get(key)), ""
    )
    alias = raw.get("Alias", "")
    if not target:
        return f"{kind} on {alias}" if alias else str(kind)
    return f"{kind} on {target}" + (f" {alias}" if alias and alias != target else "")


def details(raw: Raw) -> list[str]:
    """Return the lines that belong below a node's name: conditions, keys, memory, workers."""
    lines = [f"{key}: {_listed(raw[key])}" for key in _CONDITIONS if raw.get(key)]
    lines += [
        f"{key}: {raw[key]:,} a loop" if raw.get("Actual Loops", 1) > 1 else f"{key}: {raw[key]:,}"
        for key in (
            "Rows Removed by Filter",
            "Rows Removed by Join Filter",
            "Rows Removed by Index Recheck",
        )
        if raw.get(key)
    ]
    lines += [f"Sort Method: {method}" for method in sorts(raw)]
    if "Hash Batches" in raw:
        lines.append(
            f"Buckets: {raw['Hash Buckets']:,}, batches: {raw['Hash Batches']:,}, "
            f"memory: {raw['Peak Memory Usage']:,} kB"
        )
    elif "HashAgg Batches" in raw:
        disk = f", disk: {raw['Disk Usage']:,} kB" if raw.get("Disk Usage") else ""
        lines.append(
            f"Batches: {raw['HashAgg Batches']:,}, memory: {raw['Peak Memory Usage']:,} kB{disk}"
        )
    if raw.get("Exact Heap Blocks") or raw.get("Lossy Heap Blocks"):
        lines.append(
            f"Heap Blocks: exact {raw.get('Exact Heap Blocks', 0):,}, "
            f"lossy {raw.get('Lossy Heap Blocks', 0):,}"
        )
    if "Heap Fetches" in raw and raw.get("Actual Loops"):
        lines.append(f"Heap Fetches: {raw['Heap Fetches']:,}")
    if "Workers Planned" in raw:
        launched = f", launched {raw['Workers Launched']}" if "Workers Launched" in raw else ""
        lines.append(f"Workers: planned {raw['Workers Planned']}{launched}")
    if raw.get("Cache Misses"):
        lines.append(f"Cache: {raw['Cache Hits']:,} hits, {raw['Cache Misses']:,} misses")
    if raw.get("Subplans Removed"):
        lines.append(f"Subplans Removed: {raw['Subplans Removed']:,}")
    return lines


def sorts(raw: Raw) -> list[str]:
    """Return how a sort was done, by each process that sorted: ``quicksort, memory 25 kB``."""
    return [
        f"{one['Sort Method']}, {one['Sort Space Type'].lower()} {one['Sort Space Used']:,} kB"
        for one in (raw, *raw.get("Workers", ()))
        if "Sort Method" in one
    ]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
