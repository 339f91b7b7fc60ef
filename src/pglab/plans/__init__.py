"""PostgreSQL's plans as typed trees: read them, ask them, judge them, compare them.

    from pglab import plans
    plan = plans.explain(connection, "SELECT …", analyze=True)
    plan.scans("messages"), plan.buffers.touched, plan.uses_index(on=("chat_id", "sent_at"))
    plans.findings(plan)

Knows no server and no notebook: ``explain`` is given a psycopg connection, ``Plan.from_json`` the
answer of ``EXPLAIN (FORMAT JSON)`` from anywhere.
"""

from __future__ import annotations

from pglab.plans.accounting import Buffers
from pglab.plans.asking import explain, explain_prefix, index_columns
from pglab.plans.difference import Change, Difference, compare
from pglab.plans.findings import Finding, findings
from pglab.plans.tree import Node, Plan, Trigger

__all__ = [
    "Buffers",
    "Change",
    "Difference",
    "Finding",
    "Node",
    "Plan",
    "Trigger",
    "compare",
    "explain",
    "explain_prefix",
    "findings",
    "index_columns",
]
