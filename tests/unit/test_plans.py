"""Reading a plan, and what it says of itself: on PostgreSQL's JSON, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pglab import plans
from pglab.plans import Buffers, Plan
from pglab.plans.naming import details


def node(kind: str, *below: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Return a node as PostgreSQL writes it; hit=3 is short for three pages found in memory."""
    raw = {
        "Node Type": kind,
        "Plan Rows": 1,
        "Total Cost": 1.0,
        "Actual Rows": 1,
        "Actual Loops": 1,
        "Actual Total Time": 1.0,
        "Shared Hit Blocks": facts.pop("hit", 0),
    }
    raw |= {key.replace("_", " "): value for key, value in facts.items()}
    if below:
        raw["Plans"] = [{"Parent Relationship": "Outer"} | one for one in below]
    return raw


def plan(root: dict[str, Any], **facts: Any) -> Plan:
    return Plan.from_json([{"Plan": root, "Execution Time": 10.0, **facts}])


def kinds(found: Plan) -> list[str]:
    return [one.kind for one in plans.findings(found)]


# Reading


@pytest.mark.parametrize("wrap", [lambda x: x, json.dumps, lambda x: json.dumps(x).encode()])
def test_any_form_of_the_answer_is_read(wrap: Any) -> None:
    answer = [{"Plan": node("Result")}]
    assert Plan.from_json(wrap(answer)).root.node_type == "Result"
    assert Plan.from_json(wrap(answer[0])).root.node_type == "Result"


@pytest.mark.parametrize(
    "answer", [[], {}, None, "[]", "[{}]", ["Utility Statement"], [{"Plan": None}], "Seq Scan on t"]
)
def test_what_is_no_plan_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"no plan|Expecting value"):
        Plan.from_json(answer)


def test_nodes_are_numbered_in_postgresqls_order() -> None:
    read = plan(node("Limit", node("Nested Loop", node("Seq Scan"), node("Index Scan"))))
    assert [(n.number, n.depth, n.parent, n.node_type) for n in read.nodes()] == [
        (1, 0, None, "Limit"),
        (2, 1, 1, "Nested Loop"),
        (3, 2, 2, "Seq Scan"),
        (4, 2, 2, "Index Scan"),
    ]
    assert read.node(4).node_type == "Index Scan"


def test_a_plan_that_did_not_run() -> None:
    raw = {"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "t", "Plan Rows": 9}
    read = Plan.from_json([{"Plan": raw}])
    assert not read.analyzed
    assert read.root.rows is read.root.loops is read.root.total_rows is None
    assert not read.root.never_executed
    assert read.execution_ms is None
    assert read.buffers == Buffers()
    assert plans.findings(read) == []
    assert "estimates only" in repr(read)


@pytest.mark.parametrize(
    ("facts", "title"),
    [
        ({"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "t"}, "Seq Scan on t"),
        ({"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "a"}, "Seq Scan on t a"),
        (
            {"Node Type": "Index Scan", "Scan Direction": "Backward", "Index Name": "i",
             "Relation Name": "t", "Alias": "t"},
            "Index Scan Backward using i on t",
        ),
        ({"Node Type": "Bitmap Index Scan", "Index Name": "i"}, "Bitmap Index Scan on i"),
        ({"Node Type": "Aggregate", "Strategy": "Hashed"}, "HashAggregate"),
        (
            {"Node Type": "Aggregate", "Strategy": "Sorted", "Partial Mode": "Finalize"},
            "Finalize GroupAggregate",
        ),
        ({"Node Type": "Hash Join", "Join Type": "Left"}, "Hash Left Join"),
        ({"Node Type": "Nested Loop", "Join Type": "Anti"}, "Nested Loop Anti Join"),
        ({"Node Type": "Hash Join", "Join Type": "Inner", "Parallel Aware": True},
         "Parallel Hash Join"),
        ({"Node Type": "ModifyTable", "Operation": "Update", "Relation Name": "t", "Alias": "t"},
         "Update on t"),
        ({"Node Type": "CTE Scan", "CTE Name": "c", "Alias": "a"}, "CTE Scan on c a"),
        ({"Node Type": "Function Scan", "Function Name": "f", "Alias": "f"}, "Function Scan on f"),
        ({"Node Type": "Subquery Scan", "Alias": "q"}, "Subquery Scan on q"),
        ({"Node Type": "SetOp", "Strategy": "Hashed"}, "HashSetOp"),
        ({"Node Type": "Quantum Scan"}, "Quantum Scan"),
    ],
)  # fmt: skip
def test_nodes_are_called_as_in_postgresqls_text(facts: dict[str, Any], title: str) -> None:
    assert Plan.from_json({"Plan": facts}).root.title == title


def test_details_are_in_postgresqls_words() -> None:
    sort = node("Sort", Sort_Key=["a", "b DESC"], Sort_Method="external merge",
                Sort_Space_Type="Disk", Sort_Space_Used=1234)  # fmt: skip
    assert details(sort) == ["Sort Key: a, b DESC", "Sort Method: external merge, disk 1,234 kB"]
    scan = node("Seq Scan", Filter="(a = 1)", Rows_Removed_by_Filter=2000, Actual_Loops=3)
    assert details(scan) == ["Filter: (a = 1)", "Rows Removed by Filter: 2,000 a loop"]


def test_an_index_is_known_by_what_it_is_on() -> None:
    raw = node("Index Scan", Index_Name="i", Relation_Name="t")
    read = Plan.from_json({"Plan": raw}, {"i": ["chat_id", "sent_at", "id"]})
    assert read.uses_index(on=("chat_id", "sent_at"))
    assert not read.uses_index(on=("sent_at",))
    assert not read.uses_index("j")
    assert not Plan.from_json({"Plan": node("Result")}).uses_index(on=("a",))
    with pytest.raises(ValueError, match="'i' is on is not known"):
        Plan.from_json({"Plan": raw}).uses_index(on=("chat_id",))


# What a node cost by itself


def test_a_nodes_own_part_is_what_is_not_below_it() -> None:
    read = plan(
        node("Sort", node("Seq Scan", hit=7, Actual_Total_Time=2.0), hit=9, Actual_Total_Time=5.0)
    )
    assert [(n.own_buffers.hit, n.own_ms) for n in read.nodes()] == [(2, 3.0), (7, 2.0)]
    assert read.root.buffers.hit == 9
    assert read.buffers.touched == 9


def test_times_are_of_one_loop_and_pages_of_all() -> None:
    inner = node("Index Scan", hit=300, Actual_Loops=100, Actual_Total_Time=0.05, Actual_Rows=2)
    read = plan(node("Nested Loop", node("Seq Scan", hit=1), inner, hit=301, Actual_Total_Time=8))
    scan = read.nodes()[2]
    assert scan.own_ms == pytest.approx(5.0)
    assert scan.own_buffers.hit == 300
    assert scan.total_rows == 200
    assert read.root.own_ms == pytest.approx(2.0)


def test_processes_side_by_side_take_the_time_of_one() -> None:
    scan = node("Seq Scan", hit=90, Actual_Loops=3, Actual_Total_Time=4.0)
    gather = node("Gather", node("Aggregate", scan, hit=90, Actual_Loops=3, Actual_Total_Time=5.0),
                  hit=90, Actual_Total_Time=6.0)  # fmt: skip
    assert [n.own_ms for n in plan(gather).nodes()] == pytest.approx([1.0, 1.0, 4.0])
    # Twice around, with two processes each time.
    again = node("Gather", node("Seq Scan", Actual_Loops=4, Actual_Total_Time=2.0),
                 Actual_Loops=2, Actual_Total_Time=3.0)  # fmt: skip
    assert [n.own_ms for n in plan(again).nodes()] == pytest.approx([2.0, 4.0])


INIT_PLANS = {"before 17": ("InitPlan 1 (returns $0)", "(a > $0)"),
              "since 17": ("InitPlan 1", "(a > (InitPlan 1).col1)")}  # fmt: skip


@pytest.mark.parametrize("form", INIT_PLANS)
def test_an_init_plan_is_taken_off_the_node_that_names_it(form: str) -> None:
    name, condition = INIT_PLANS[form]
    once = node("Aggregate", hit=50, Actual_Total_Time=3.0, Subplan_Name=name)
    once["Parent Relationship"] = "InitPlan"
    other = node("Seq Scan", hit=60, Actual_Total_Time=4.0, Filter="(b > $01)")
    user = node("Seq Scan", hit=55, Actual_Total_Time=4.0, Filter=condition)
    read = plan(node("Append", once, other, user, hit=115, Actual_Total_Time=9.0))
    assert {n.number: n.own_buffers.hit for n in read.nodes()} == {1: 0, 2: 50, 3: 60, 4: 5}
    assert read.nodes()[3].own_ms == pytest.approx(1.0)
    assert read.buffers.hit == 115


def test_an_init_plan_that_nobody_names_was_run_where_it_fits() -> None:
    once = node("Aggregate", hit=50, Actual_Total_Time=3.0, Subplan_Name="InitPlan 1")
    once["Parent Relationship"] = "InitPlan"
    scan = node("Seq Scan", hit=60, Actual_Total_Time=4.0)
    read = plan(node("Sort", once, scan, hit=60, Actual_Total_Time=5.0))
    assert [n.own_buffers.hit for n in read.nodes()] == [0, 50, 10]


def test_a_cte_that_nobody_reads_is_in_no_other_node() -> None:
    cte = node("ModifyTable", hit=50, Actual_Total_Time=3.0, Subplan_Name="CTE w")
    cte["Parent Relationship"] = "InitPlan"
    read = plan(node("Result", cte))
    assert [n.own_buffers.hit for n in read.nodes()] == [0, 50]
    assert read.buffers.hit == 50


def test_two_readers_of_a_cte_share_its_cost() -> None:
    cte = node("Seq Scan", hit=10, Actual_Total_Time=3.0, Subplan_Name="CTE c")
    cte["Parent Relationship"] = "InitPlan"
    readers = [
        node("CTE Scan", hit=hit, Actual_Total_Time=ms, CTE_Name="c")
        for hit, ms in ((8, 4.0), (2, 1.0))
    ]
    read = plan(node("Append", cte, *readers, hit=10, Actual_Total_Time=5.0))
    assert [n.own_buffers.hit for n in read.nodes()] == [0, 10, 0, 0]
    assert sum(n.own_ms for n in read.nodes()) == pytest.approx(5.0)


def test_pages_of_temporary_tables_count_like_others() -> None:
    raw = {"Shared Hit Blocks": 1, "Local Hit Blocks": 2, "Local Read Blocks": 4,
           "Temp Written Blocks": 8, "Temp Read Blocks": 16}  # fmt: skip
    used = Buffers.from_json(raw)
    assert (used.hit, used.read, used.touched, used.temp) == (3, 4, 7, 24)


# What matters


def test_the_costliest_and_the_node_of_most_pages_may_differ() -> None:
    scan = node("Seq Scan", hit=500, Actual_Total_Time=2.0)
    read = plan(node("Sort", scan, hit=500, Actual_Total_Time=9.0))
    costliest, most_pages = plans.findings(read)
    assert (costliest.kind, costliest.node) == ("costliest", read.root)
    assert costliest.meaning.startswith("70 % of the time is spent here, 7 ms of 10 ms")
    assert (most_pages.kind, most_pages.node) == ("most_pages", read.nodes()[1])


def test_a_plan_of_one_node_has_no_costliest() -> None:
    assert kinds(plan(node("Seq Scan", hit=500))) == []


@pytest.mark.parametrize(
    ("expected", "came", "label"),
    [
        (1, 10, None),
        (1, 11, "estimate 11× too low"),
        (100, 10, None),
        (101, 10, "estimate 10× too high"),
        (10, 0, None),  # 0 may be a mean of 0.4 in each loop
        (11, 0, "estimate 11× too high"),
        (50, 2.5, "estimate 20× too high"),
    ],
)
def test_estimates_wrong_by_more_than_ten(expected: int, came: float, label: str | None) -> None:
    read = plan(node("Seq Scan", Plan_Rows=expected, Actual_Rows=came))
    assert [one.label for one in plans.findings(read)] == ([label] if label else [])


def test_a_wrong_estimate_is_told_where_it_begins() -> None:
    scan = node("Seq Scan", Plan_Rows=1, Actual_Rows=100)
    read = plan(node("Sort", node("Hash", scan, Plan_Rows=1, Actual_Rows=150), Plan_Rows=1,
                     Actual_Rows=900))  # fmt: skip
    wrong = [one.node.node_type for one in plans.findings(read)
             if one.node and one.kind == "estimate_low"]  # fmt: skip
    assert wrong == ["Sort", "Seq Scan"]  # the sort's is clearly worse than what follows from below


CUT = {"Plan Rows": 5000, "Actual Rows": 3}


def test_who_may_be_told_to_stop_early() -> None:
    def too_high(above: dict[str, Any]) -> bool:
        return "estimate_high" in kinds(plan(above))

    scan = node("Seq Scan") | CUT
    inner = {"Parent Relationship": "Inner"}
    assert too_high(node("Append", scan))
    assert not too_high(node("Limit", scan, Plan_Rows=3, Actual_Rows=3))
    assert not too_high(node("Limit", node("Nested Loop", scan), Plan_Rows=3, Actual_Rows=3))
    assert too_high(node("Limit", node("Sort", scan), Plan_Rows=3, Actual_Rows=3))
    assert too_high(node("Limit", scan, Plan_Rows=5, Actual_Rows=3))
    assert not too_high(node("Merge Join", scan))
    assert not too_high(node("Nested Loop", node("Result"), scan | inner, Join_Type="Semi"))
    assert not too_high(node("Nested Loop", node("Result"), scan | inner, Inner_Unique=True))
    assert too_high(node("Nested Loop", node("Result"), scan | inner, Join_Type="Left"))
    assert not too_high(node("Result", scan | {"Subplan Name": "SubPlan 1"}))
    empty = node("Hash", Actual_Rows=0) | inner
    assert not too_high(node("Hash Join", scan, empty))
    assert too_high(node("Hash Join", scan, node("Hash", Actual_Rows=1) | inner))
    hashed = node("Aggregate", scan, Strategy="Hashed")
    assert too_high(node("Limit", hashed))
    assert not too_high(node("Limit", node("Aggregate", scan, Strategy="Sorted")))


@pytest.mark.parametrize(
    ("kept", "removed", "loops", "label"),
    [
        (10, 90, 1, None),  # too few rows to speak of
        (100, 900, 1, "filter discards 90 %"),
        (101, 900, 1, None),
        (0, 50, 3, "filter discards 100 %"),
        (1, 99_999, 1, "filter discards 99.99 %"),
    ],
)
def test_filters_that_discard_most(kept: int, removed: int, loops: int, label: str | None) -> None:
    scan = node("Seq Scan", Relation_Name="t", Filter="(a = 1)", Plan_Rows=max(kept, 1),
                Actual_Rows=kept, Actual_Loops=loops, Rows_Removed_by_Filter=removed)  # fmt: skip
    assert [one.label for one in plans.findings(plan(scan))] == ([label] if label else [])


def test_a_worker_that_sorts_on_disk_is_seen() -> None:
    workers = [{"Sort Method": "external merge", "Sort Space Type": "Disk", "Sort Space Used": 8}]
    sort = node("Sort", Sort_Method="quicksort", Sort_Space_Type="Memory", Sort_Space_Used=5,
                Workers=workers)  # fmt: skip
    assert kinds(plan(sort)) == ["sort_on_disk"]


def test_compiling_is_told_with_its_share() -> None:
    jit = {"Functions": 12, "Timing": {"Total": 6.0}}
    (finding,) = plans.findings(plan(node("Result"), JIT=jit))
    assert "compiled 12 functions for this run (JIT), which took 6 ms, 60 %" in finding.meaning
    assert "jit_above_cost" in finding.meaning
    jit["Timing"] = {"Total": 0.1}
    (finding,) = plans.findings(plan(node("Result"), JIT=jit))
    assert finding.meaning.endswith("Here that is little.")


def test_what_never_ran_is_told_once() -> None:
    never = {"Actual Loops": 0, "Actual Rows": 0, "Plan Rows": 999}
    read = plan(node("Append", node("Sort", node("Seq Scan") | never) | never))
    assert [(one.kind, one.node and one.node.number) for one in plans.findings(read)] == [
        ("costliest", 1),
        ("never_executed", 2),
    ]


# Comparing


def test_a_difference_in_words() -> None:
    scan = node("Seq Scan", Relation_Name="t", Alias="x", hit=500)
    index = node("Index Scan", Relation_Name="t", Alias="x", Index_Name="i", hit=4)
    before = plan(node("Hash Join", node("Sort", scan, hit=500), hit=500), Settings={"jit": "off"})
    after = plan(node("Nested Loop", index, hit=4, Actual_Rows=2), **{"Execution Time": 0.5})
    found = plans.compare(before, after)
    different = (
        "The first gives 1 row and the second 2: they do not answer the same question, or the data "
        "changed in between."
    )
    assert list(found.shape) == [
        different,
        "t x: Index Scan using i instead of Seq Scan.",
        "Joined by Nested Loop instead of Hash Join.",
        "Gone: Sort.",
        "The setting jit is the default instead of off.",
    ]
    measures = {one.name: (one.before, one.after, one.words) for one in found.changes}
    assert measures["Pages touched"] == ("500", "4", "125 times fewer")
    assert measures["of them read"] == ("0", "0", "the same")
    assert measures["Time, in this run"] == ("10 ms", "0.5 ms", "20 times less")


def test_plans_alike() -> None:
    one, two = plan(node("Result", hit=3)), plan(node("Result", hit=0))
    assert plans.compare(one, one).shape == ("The nodes are the same.",)
    assert plans.compare(one, two).changes[0].words == "none any more"
    assert plans.compare(two, one).changes[0].words == "none before"


def test_estimates_are_compared_by_cost_alone() -> None:
    one = Plan.from_json({"Plan": {"Node Type": "Result", "Total Cost": 8.0, "Plan Rows": 1}})
    assert [change.name for change in plans.compare(one, one).changes] == ["Cost, estimated"]


# Asking


@pytest.mark.parametrize(
    ("version", "asked"),
    [
        (150000, "EXPLAIN (ANALYZE, BUFFERS, SETTINGS, WAL, FORMAT JSON) "),
        (160000, "EXPLAIN (ANALYZE, BUFFERS, SETTINGS, WAL, FORMAT JSON) "),
        (170010,
         "EXPLAIN (ANALYZE, BUFFERS, SETTINGS, MEMORY, WAL, SERIALIZE TEXT, FORMAT JSON) "),
    ],
)  # fmt: skip
def test_a_server_is_asked_what_its_version_knows(version: int, asked: str) -> None:
    assert plans.explain_prefix(version) == asked


def test_a_generic_plan_is_not_run_and_not_of_version_15() -> None:
    generic = plans.explain_prefix(160000, analyze=False, generic=True)
    assert generic == "EXPLAIN (GENERIC_PLAN, BUFFERS, SETTINGS, FORMAT JSON) "
    with pytest.raises(ValueError, match="came with PostgreSQL 16; this server is 15"):
        plans.explain_prefix(150004, analyze=False, generic=True)
    with pytest.raises(ValueError, match="cannot be run"):
        plans.explain_prefix(170000, generic=True)


def test_plans_need_no_notebook() -> None:
    code = "import pglab.plans, sys; print([n for n in sys.modules if n in %r])"
    heavy = ("IPython", "pandas", "psycopg", "pglab.notebook", "wcwidth")
    done = subprocess.run(
        [sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
