"""What matters in a plan, in words: where the work is, and what looks wrong."""

from __future__ import annotations

from collections.abc import Iterator

from pglab.plans.accounting import Buffers
from pglab.plans.estimates import misestimates
from pglab.plans.marks import CHECKS, Finding
from pglab.plans.tree import Node, Plan
from pglab.plans.words import in_ms, number, pages, percent, rows

__all__ = ["Finding", "findings"]

_COMPILING_SHARE, _TRIGGER_SHARE, _OUTPUT_SHARE = 0.1, 0.1, 0.25
_FEW_PAGES = 50


def findings(plan: Plan) -> list[Finding]:
    """Return what matters in a plan that ran: the costliest first, the rest in its order.

    Estimates alone say nothing about what happened, so a plan that did not run has no findings.
    """
    if not plan.analyzed:
        return []
    found = [*_costliest(plan), *_most_pages(plan)]
    wrong = {one.number: finding for one, finding in _estimates(plan)}
    for node in plan.nodes():
        if node.number in wrong:
            found.append(wrong[node.number])
        for check in CHECKS:
            found += check(node, plan)
    return [*found, *_triggers(plan), *_output(plan), *_compiling(plan)]


def _costliest(plan: Plan) -> Iterator[Finding]:
    node = max(plan.nodes(), key=lambda one: one.own_ms)
    triggers = sum(one.ms for one in plan.triggers)
    if node.own_ms <= triggers or len(plan.nodes()) == 1:
        return
    yield Finding(
        "costliest",
        node,
        "costliest",
        f"{percent(node.own_ms / plan.ms)} of the time is spent here, {in_ms(node.own_ms)} of "
        f"{in_ms(plan.ms)}. A change anywhere else can save the rest at most.",
    )


def _most_pages(plan: Plan) -> Iterator[Finding]:
    node = max(plan.nodes(), key=lambda one: one.own_buffers.touched)
    touched, every = node.own_buffers.touched, plan.buffers.touched
    if len(plan.nodes()) == 1 or touched < max(_FEW_PAGES, every / 2):
        return
    yield Finding(
        "most_pages",
        node,
        "most pages",
        f"it touches {touched:,} of the plan's {every:,} pages ({percent(touched / every)}). "
        "Unlike times, pages are nearly the same in every run and on every machine.",
    )


def _estimates(plan: Plan) -> Iterator[tuple[Node, Finding]]:
    for node, factor in misestimates(plan):
        came = node.rows or 0
        low = came > node.rows_estimated
        each = " in each loop" if (node.loops or 0) > 1 else ""
        yield (
            node,
            Finding(
                "estimate_low" if low else "estimate_high",
                node,
                f"estimate {factor:,.0f}× too {'low' if low else 'high'}",
                f"the planner expected {rows(node.rows_estimated)}{each}, and {number(came)} "
                f"came. It chooses the order and the kind of joins by this number. Old statistics? "
                "ANALYZE. Columns that depend on each other? CREATE STATISTICS, then ANALYZE.",
            ),
        )


def _triggers(plan: Plan) -> Iterator[Finding]:
    for one in plan.triggers:
        if one.ms < _TRIGGER_SHARE * plan.ms:
            continue
        what = f"the foreign key {one.constraint}" if one.constraint else f"the trigger {one.name}"
        advice = ""
        if one.name.startswith("RI_ConstraintTrigger_c"):
            advice = " Each new row's key is looked up in the table that it refers to."
        if one.name.startswith("RI_ConstraintTrigger_a"):  # on the table that is referred to
            advice = (
                " Deleting or changing a key searches the table that refers to it: an index on "
                "the referring columns makes that quick, and PostgreSQL makes none by itself."
            )
        times = "once" if one.calls == 1 else f"{one.calls:,} times"
        yield Finding(
            "trigger",
            None,
            "trigger",
            f"{percent(one.ms / plan.ms)} of the time, {in_ms(one.ms)}, went into {what} of "
            f"{one.relation}, which fired {times}. Its queries are not in the plan, nor are their "
            f"pages.{advice}",
        )


def _output(plan: Plan) -> Iterator[Finding]:
    made = plan.raw.get("Serialization")
    if not made:
        return
    used, ms = Buffers.from_json(made), made.get("Time", 0.0)
    if not used.touched and (ms < _OUTPUT_SHARE * plan.ms or plan.ms < 1):
        return
    toast = (
        f" and touched {pages(used.touched)} more than the nodes: long values are kept apart "
        "(TOAST), and only fetched where they are needed"
        if used.touched
        else ""
    )
    yield Finding(
        "output",
        None,
        "output",
        f"writing the result as text, {made.get('Output Volume', 0):,} kB, took {in_ms(ms)}, "
        f"{percent(ms / (plan.ms or 1))} of the time{toast}. Fewer columns or rows would spare it.",
    )


def _compiling(plan: Plan) -> Iterator[Finding]:
    jit = plan.raw.get("JIT")
    if not jit:
        return
    ms = jit.get("Timing", {}).get("Total", 0.0)
    words = (
        "That is worth it for long queries only; jit_above_cost decides."
        if ms > _COMPILING_SHARE * plan.ms
        else "Here that is little."
    )
    yield Finding(
        "jit",
        None,
        "compiled",
        f"PostgreSQL compiled {jit.get('Functions', 0):,} functions for this run (JIT), which took "
        f"{in_ms(ms)}, {percent(ms / (plan.ms or 1))} of the time. {words}",
    )
