"""What a benchmark compares: a case, its variants, and the plan that each of them claims.

    Case(
        name="by-status",
        question="Does an index on a column of few values help?",
        variants=(
            Variant("no index", Query(LOOK_UP), claim=Claim(scan=("Seq Scan",))),
            Variant("index", Query(LOOK_UP), setup=("CREATE INDEX … ON messages (status)",)),
        ),
        parameters=Draw("SELECT DISTINCT status FROM messages"),
    )

A case is data: nothing here opens a connection. Each variant gets twins of the tables, real ones
in a schema of its own, so that the same statement runs against all of them by turns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, get_args

from pglab.errors import BenchError

if TYPE_CHECKING:
    from pglab.bench.operations import Operation
    from pglab.plans import Plan

__all__ = [
    "DEFAULT_SIZES",
    "Case",
    "Claim",
    "Draw",
    "Picture",
    "Variant",
    "check_several",
    "check_sizes",
]

DEFAULT_SIZES: Final = (10_000, 31_600, 100_000, 316_000, 1_000_000)
"""Messages, half a power of ten apart: a straight line on log axes shows as one."""

How = Literal["uniform", "zipf"]
Picture = Literal["growth", "bars", "hit_ratio", "rate"]
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_several(name: str, value: object) -> None:
    """Refuse one text where several are meant: it would be taken for its letters.

    Raises:
        BenchError: it is one.
    """
    if isinstance(value, str):
        raise BenchError(f"{name}={value!r}: it takes several, so write {name}=({value!r},)")


def check_sizes(sizes: Iterable[object], *, whose: str) -> None:
    """Refuse what is no number of messages.

    Args:
        sizes: to be looked at.
        whose: as the message names them.

    Raises:
        BenchError: there are none, or one is no whole number, or less than 500.
    """
    listed = list(sizes)
    # bool is an int, too.
    if not listed or not all(type(size) is int and size >= 500 for size in listed):
        raise BenchError(
            f"{whose} has the sizes {listed}; each is a number of messages, at least 500"
        )


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The plan that a variant stands for; a run with another plan is refused.

    Attributes:
        relation: the table whose reading is claimed.
        scan: the node types that may read it, such as ``Seq Scan``; empty: any.
        index: the index that must be read; empty: none is asked for.
        without: node types that must not occur in the plan, such as ``Sort``.
        needs: node types that must occur, such as ``WindowAgg``.
    """

    relation: str = "messages"
    scan: tuple[str, ...] = ()
    index: str = ""
    without: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("scan", "without", "needs"):
            check_several(name, getattr(self, name))

    def mismatch(self, plan: Plan) -> str | None:
        """Return in words how a plan is another one than claimed; None if it is this one."""
        found = {node.node_type for node in plan.nodes()}
        if self.scan:
            # A bitmap heap scan is listed with its table; the scan of the index below it is not.
            scans = {node.node_type for node in plan.scans(self.relation)}
            if not scans or scans - set(self.scan):
                return (
                    f"{self.relation} is read by {', '.join(sorted(scans)) or 'nothing'}, "
                    f"and {' or '.join(self.scan)} is claimed"
                )
        if self.index and self.index not in plan.indexes:
            read = ", ".join(plan.indexes) or "none"
            return f"the index {self.index} is claimed, and the plan reads {read}"
        if unwanted := found & set(self.without):
            return f"the plan has {', '.join(sorted(unwanted))}, and none is claimed"
        if missing := set(self.needs) - found:
            return f"the plan has no {', '.join(sorted(missing))}, which is claimed"
        return None

    def __str__(self) -> str:
        words = []
        if self.scan:
            words.append(f"{self.relation} read by {' or '.join(self.scan)}")
        if self.index:
            words.append(f"the index {self.index}")
        words += [f"no {kind}" for kind in self.without] + [f"a {kind}" for kind in self.needs]
        return ", ".join(words) or "any plan"


@dataclass(frozen=True)
class Draw:
    """Parameters drawn from the data: what is looked up is there, in proportions that are stated.

    Attributes:
        query: rows of candidates, each a tuple of parameters (or, with named placeholders in the
            statement, columns of these names), in an order that does not change.
        how: ``uniform``, or ``zipf``: the first candidate most often, as
            P(rank) ∝ 1/rank**exponent.
        exponent: of zipf; 0.99 is YCSB's (Cooper et al., 2010), hot as a real cache's keys are.
        misses: share of parameters, 0 to 1, that are drawn from ``absent`` instead.
        absent: rows of parameters that nothing has.
        count: how many are drawn; they are used in turn, the same for every variant.
    """

    query: str
    how: How = "uniform"
    exponent: float = 0.99
    misses: float = 0.0
    absent: str = ""
    count: int = 1_024

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise BenchError(
                f"how={self.how!r} is no way to draw; use {' or '.join(get_args(How))}"
            )
        if not (math.isfinite(self.exponent) and self.exponent > 0):
            raise BenchError(f"exponent={self.exponent} of a Zipf draw; it must be above 0")
        if not 0 <= self.misses <= 1:
            raise BenchError(f"misses={self.misses}; a share lies between 0 and 1")
        if self.misses and not self.absent:
            raise BenchError(
                f"misses={self.misses} without absent=…; give a query whose rows nothing has"
            )
        if type(self.count) is not int or self.count < 1:
            raise BenchError(f"count={self.count!r}; draw at least one set of parameters")


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to do it.

    Attributes:
        name: as results and pictures show it; within a case each name is another.
        operation: what is timed.
        setup: SQL that makes this variant what it is, run once its twins are filled; unqualified
            names mean the twins. ``{size}`` is the number of messages.
        claim: the plan that the statement must have; None: any.
        theory: how its cost should grow: a key of ``pglab.bench.statistics.THEORY``; empty: not
            said.
        about: a sentence for the report.
        twins: for a table another SELECT that fills its twin here than the case's.
    """

    name: str
    operation: Operation
    setup: tuple[str, ...] = ()
    claim: Claim | None = None
    theory: str = ""
    about: str = ""
    twins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        check_several("setup", self.setup)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A question that a measurement can answer.

    Attributes:
        name: lower-case words joined by dashes; what the command line calls it.
        question: a sentence that ends with a question mark.
        variants: at least two; the first is the baseline that the others are compared with. One
            alone is measured and compared with nothing.
        twins: for each table that a variant has a twin of, the SELECT that fills it; read from the
            course's tables in the schema ``public``. Tables that are not named are shared.
        parameters: what the statements are asked with; None: nothing.
        sizes: messages; an exponent of growth needs two, and is worth something from three on.
        group: under which heading it is listed.
        unit: what one operation is.
        rows: what ``rows/s`` is counted in where the rate is the point; empty: nobody counts.
        operations: operations in a round; None: as many as the shortest round takes.
        picture: which one shows it best.
        writes: the operations change the twins.
        expected: in words what the result should show, with its source.
    """

    name: str
    question: str
    variants: tuple[Variant, ...]
    twins: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"messages": "SELECT * FROM messages ORDER BY id"})
    )
    parameters: Draw | None = None
    sizes: Sequence[int] = DEFAULT_SIZES
    group: str = "own"
    unit: str = "look-up"
    rows: str = ""
    operations: int | None = None
    picture: Picture = "growth"
    writes: bool = False
    expected: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BenchError(
                f"case name {self.name!r}: use lower-case words joined by dashes, as in chat-page"
            )
        if not self.variants:
            raise BenchError(f"case {self.name!r} has no variants; give it one or more")
        names = [variant.name for variant in self.variants]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise BenchError(
                f"case {self.name!r} has two variants named {min(twice)!r}; rename one of them"
            )
        check_sizes(self.sizes, whose=f"case {self.name!r}")
        if self.operations is not None and (
            type(self.operations) is not int or self.operations < 1
        ):
            raise BenchError(f"operations={self.operations!r} in a round; at least 1 is needed")

    @property
    def baseline(self) -> Variant:
        """The variant that the others are compared with."""
        return self.variants[0]
