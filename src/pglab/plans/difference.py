"""What changed from one plan to another, in words and in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pglab.plans.findings import findings
from pglab.plans.tree import Node, Plan
from pglab.plans.words import in_ms, number, rows

__all__ = ["Change", "Difference", "compare"]

_MOST_WORDS = 12
_PASSING = {"Hash", "Bitmap Index Scan", "BitmapAnd", "BitmapOr"}  # they come with another node


@dataclass(frozen=True)
class Change:
    """One measure of both plans, and in words how the second compares."""

    name: str
    before: str
    after: str
    words: str


@dataclass(frozen=True)
class Difference:
    """Two plans compared.

    Attributes:
        shape: sentences on the nodes: how each table is read, how they are joined, what is new.
        changes: the measures; time is the only one that would differ in another run.
    """

    before: Plan
    after: Plan
    shape: tuple[str, ...]
    changes: tuple[Change, ...]


def compare(before: Plan, after: Plan) -> Difference:
    """Compare two plans, of one statement at two times or of two statements."""
    words = [*_same_answer(before, after), *_shape(before, after), *_settings(before, after)]
    if len(words) > _MOST_WORDS:
        words[_MOST_WORDS:] = [f"… and {len(words) - _MOST_WORDS} changes more."]
    return Difference(before, after, tuple(words), tuple(_changes(before, after)))


def _same_answer(before: Plan, after: Plan) -> Iterator[str]:
    one, two = before.root.total_rows, after.root.total_rows
    if one is not None and two is not None and one != two:
        yield (
            f"The first gives {rows(one)} and the second {number(two)}: they do not answer the "
            "same question, or the data changed in between."
        )


def _shape(before: Plan, after: Plan) -> Iterator[str]:
    if [n.title for n in before.nodes()] == [n.title for n in after.nodes()]:
        yield "The nodes are the same."
        return
    yield from _access(before, after)
    one, two = Counter(_steps(before)), Counter(_steps(after))
    gone, new = one - two, two - one
    joins = [_listed({k: c[k] for k in c if _is_join(k)}) for c in (gone, new)]
    if all(joins):
        yield f"Joined by {joins[1]} instead of {joins[0]}."
        gone, new = (Counter({k: c[k] for k in c if not _is_join(k)}) for c in (gone, new))
    if gone:
        yield f"Gone: {_listed(gone)}."
    if new:
        yield f"New: {_listed(new)}."
    for kind, text in (("sort_on_disk", "sorts"), ("hash_on_disk", "hashes")):
        was, is_ = (any(f.kind == kind for f in findings(plan)) for plan in (before, after))
        if was != is_:
            yield f"It {'no longer ' if was else 'now '}{text} on disk."


def _access(before: Plan, after: Plan) -> Iterator[str]:
    """Say of each table how it was read and how it is now."""
    one, two = _reads(before), _reads(after)
    for name in dict.fromkeys([*one, *two]):
        if name not in two:
            yield f"{name} is no longer read."
        elif name not in one:
            yield f"{name} is read, too: {', '.join(two[name])}."
        elif one[name] != two[name]:
            yield f"{name}: {', '.join(two[name])} instead of {', '.join(one[name])}."


def _reads(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in plan.nodes():
        if node.relation and not node.writes:
            alias = f" {node.alias}" if node.alias not in {"", node.relation} else ""
            found.setdefault(node.relation + alias, []).append(_how(node))
    return found


def _how(node: Node) -> str:
    how = node.title.partition(" on ")[0]
    indexes = [n.index for n in node.nodes() if n.node_type == "Bitmap Index Scan"]
    return f"{how} using {' and '.join(indexes)}" if indexes else how


def _steps(plan: Plan) -> Iterator[str]:
    for node in plan.nodes():
        if not node.relation and node.node_type not in _PASSING:
            yield node.title


def _is_join(kind: str) -> bool:
    return kind.endswith((" Join", "Nested Loop"))


def _listed(counted: dict[str, int]) -> str:
    return ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in counted.items())


def _settings(before: Plan, after: Plan) -> Iterator[str]:
    one, two = before.settings, after.settings
    for name in sorted({*one, *two}):
        if one.get(name) != two.get(name):
            yield (
                f"The setting {name} is {two.get(name, 'the default')} instead of "
                f"{one.get(name, 'the default')}."
            )


def _changes(before: Plan, after: Plan) -> Iterator[Change]:
    if before.analyzed and after.analyzed:
        one, two = before.buffers, after.buffers
        yield _counted("Pages touched", one.touched, two.touched)
        yield _counted("of them read", one.read, two.read)
        if one.temp or two.temp:
            yield _counted("Pages of temporary files", one.temp, two.temp)
    yield Change(
        "Cost, estimated",
        f"{before.root.cost:,.2f}",
        f"{after.root.cost:,.2f}",
        _ratio(before.root.cost, after.root.cost),
    )
    if before.execution_ms is not None and after.execution_ms is not None:
        yield Change(
            "Time, in this run",
            in_ms(before.execution_ms),
            in_ms(after.execution_ms),
            _ratio(before.execution_ms, after.execution_ms),
        )


def _counted(name: str, before: int, after: int) -> Change:
    words = _ratio(before, after).replace("times less", "times fewer").replace("as much", "as many")
    return Change(name, f"{before:,}", f"{after:,}", words)


def _ratio(before: float, after: float) -> str:
    if before == after:
        return "the same"
    if not before or not after:
        return "none before" if not before else "none any more"
    factor = before / after if before > after else after / before
    if factor < 1.05:
        return "about the same"
    shown = f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    return f"{shown} times {'less' if before > after else 'as much'}"
