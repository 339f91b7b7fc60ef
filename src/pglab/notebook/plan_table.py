"""A plan as a table, one row a node: for the eye, for terminals and for screen readers.

Indentation is made of characters and every mark is words, because places that show notebooks
(GitHub) strip style sheets, and because colour alone tells a screen reader nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from wcwidth import wcswidth

from pglab.framed import framed
from pglab.notebook.tables import Shown
from pglab.notebook.values import visible
from pglab.plans import Finding, Node, Plan, findings
from pglab.plans.naming import details
from pglab.plans.words import in_ms, number, rows

__all__ = ["BRIEF", "STYLE", "draw", "drawn_table", "heading"]

STYLE = (
    "<style>.pglab-plan tbody th{font-weight:normal;white-space:pre!important}"
    ".pglab-plan small{opacity:.8}.pglab-plan ul{margin:.2em 0;padding-left:1.4em}"
    ".pglab-plan li{max-width:60em;white-space:normal}"
    ".pglab-plan .b{opacity:.5}</style>"
)
_TEXT_WIDTH = 100
_LABEL_WIDTH = 46
_DETAIL = 160  # characters shown of a condition
_DETAIL_LINE = 52
_BAR = 6  # blocks for 100 %
_REMARK = (
    "Rows are those of one loop, as PostgreSQL prints them; pages (8 kB) and time are the node's "
    "own, of all its loops."
)


@dataclass(frozen=True)
class _Column:
    """A column of numbers: its heading in two parts, and what it says of a node."""

    name: str
    value: Callable[[Node, Plan], str]


def _share(node: Node, plan: Plan) -> str:
    return "" if node.never_executed else f"{node.own_ms / (plan.ms or 1) * 100:.0f} %"


def _came(node: Node, _plan: Plan) -> str:
    return "never run" if node.never_executed else number(node.rows or 0)


def _if_run(value: Callable[[Node], str]) -> Callable[[Node, Plan], str]:
    return lambda node, _: "" if node.never_executed else value(node)


_EXPECTED = _Column("rows expected", lambda node, _: number(node.rows_estimated))
_CAME = _Column("rows", _came)
_LOOPS = _Column("loops", _if_run(lambda node: f"{node.loops:,}"))
_HIT = _Column("pages hit", _if_run(lambda node: f"{node.own_buffers.hit:,}"))
_READ = _Column("pages read", _if_run(lambda node: f"{node.own_buffers.read:,}"))
_TOUCHED = _Column("pages", _if_run(lambda node: f"{node.own_buffers.touched:,}"))
_TIME = _Column("time", _if_run(lambda node: in_ms(node.own_ms)))
_SHARE = _Column("share", _share)
_COST = _Column("cost", lambda node, _: f"{node.cost:,.2f}")
_WIDTH = _Column("bytes a row", lambda node, _: f"{node.raw.get('Plan Width', 0):,}")

_RAN = (_EXPECTED, _CAME, _LOOPS, _HIT, _READ, _TIME, _SHARE)
_PLANNED = (_EXPECTED, _WIDTH, _COST)
BRIEF = (_CAME, _LOOPS, _TOUCHED, _TIME)
"""The columns of a plan beside another."""


def draw(plan: Plan, note: str = "") -> Shown:
    """Draw a plan: its sums, a row for each node, and what matters in it.

    Args:
        plan: any plan; one that did not run shows what was expected.
        note: a remark below, such as that the statement was rolled back.
    """
    found = findings(plan)
    grid = drawn_table(plan, _sums(plan), _RAN if plan.analyzed else _PLANNED, found)
    remarks = [_REMARK] if plan.analyzed else [_ESTIMATES_ONLY]
    remarks += [f"Settings that are not PostgreSQL's own: {_settings(plan)}."] * bool(plan.settings)
    remarks += [note] * bool(note)
    html = [grid.html, *(f"<div><small>{escape(one)}</small></div>" for one in remarks)]
    text = [grid.text, *(_wrapped(one) for one in remarks)]
    if found:
        html.append(f"{heading('What matters')}<ul>{_items(found)}</ul>")
        text += ["What matters:", *(_wrapped(f"- {_named(f)}: {f.meaning}", "  ") for f in found)]
    return Shown(STYLE + framed("".join(html), "pglab-plan"), "\n".join(text))


_ESTIMATES_ONLY = (
    "Estimates only: the statement was not run. Cost is in the planner's own unit (1 is about one "
    "page read in sequence) and includes the nodes below."
)


def heading(text: str) -> str:
    """Return a heading that is one to a screen reader, too, at whatever level the page is."""
    return f'<div role="heading" aria-level="4"><strong>{escape(text)}</strong></div>'


def drawn_table(
    plan: Plan,
    caption: str,
    columns: Sequence[_Column] = BRIEF,
    found: Sequence[Finding] | None = None,
) -> Shown:
    """Draw only the nodes, with a caption above and marks beside them."""
    marks: dict[int, list[str]] = {}
    for finding in findings(plan) if found is None else found:
        if finding.node is not None:
            marks.setdefault(finding.node.number, []).append(finding.label)
    if not plan.analyzed:
        columns = [column for column in columns if column in _PLANNED] or _PLANNED
    lines = [_Line(plan, node, guide, columns, marks) for node, guide in _guided(plan.root, "", "")]
    return Shown(_html(caption, columns, lines), _text(caption, columns, lines))


class _Line:
    """One node, ready to be written either way."""

    def __init__(
        self,
        plan: Plan,
        node: Node,
        guide: tuple[str, str],
        columns: Sequence[_Column],
        marks: dict[int, list[str]],
    ) -> None:
        self.node = node
        self.branch, self.stem = guide
        self.title = visible(f"{node.subplan}: {node.title}" if node.subplan else node.title, 200)
        self.details = [visible(one, _DETAIL) for one in (*details(node.raw), *_pages_of(node))]
        self.cells = [column.value(node, plan) for column in columns]
        self.html_cells = [
            _bar(cell) if column is _SHARE else cell
            for column, cell in zip(columns, self.cells, strict=True)
        ]
        self.marks = ", ".join(marks.get(node.number, ()))
        self.place = f"node {node.number}" + (f", below {node.parent}" if node.parent else "")


def _guided(node: Node, branch: str, stem: str) -> list[tuple[Node, tuple[str, str]]]:
    """Return the nodes with what is drawn left of their name and left of lines below it."""
    found = [(node, (branch, stem + ("│ " if node.children else "  ")))]
    for child in node.children:
        last = child is node.children[-1]
        found += _guided(child, stem + ("└ " if last else "├ "), stem + ("  " if last else "│ "))
    return found


def _pages_of(node: Node) -> list[str]:
    used = node.own_buffers
    lines = [f"Pages dirtied: {used.dirtied:,}"] if used.dirtied else []
    if used.temp:
        lines.append(
            f"Temporary files: {used.temp_written:,} pages written, {used.temp_read:,} read"
        )
    return lines


def _sums(plan: Plan) -> str:
    root = plan.root
    if not plan.analyzed:
        return f"Plan, not run · cost {root.cost:,.2f} · {rows(root.rows_estimated)} expected"
    used = plan.buffers
    facts = [f"Plan · {in_ms(plan.execution_ms or plan.ms)}"]
    facts.append(f"{used.touched:,} pages ({used.hit:,} hit, {used.read:,} read)")
    facts.append(rows(root.total_rows or 0))
    if plan.planning_ms is not None:
        facts.append(f"planning {in_ms(plan.planning_ms)}")
    if plan.writes:
        wal = sum(node.raw.get("WAL Bytes", 0) for node in plan.nodes() if node.writes)
        facts.append(f"{wal:,} bytes of WAL")
    return " · ".join(facts)


def _settings(plan: Plan) -> str:
    return ", ".join(f"{name} = {value}" for name, value in plan.settings.items())


def _named(finding: Finding) -> str:
    node = finding.node
    where = f"{node.number} {visible(node.title, 80)}" if node else "The statement"
    return f"{where}, {finding.label}"


def _items(found: Sequence[Finding]) -> str:
    return "".join(
        f"<li><strong>{escape(_named(one))}</strong>: {escape(one.meaning)}</li>" for one in found
    )


def _html(caption: str, columns: Sequence[_Column], lines: Sequence[_Line]) -> str:
    head = '<th scope="col" align="left">#</th><th scope="col" align="left">node</th>'
    head += "".join(
        f'<th scope="col" class="n" align="right">{column.name.replace(" ", "<br>", 1)}</th>'
        for column in columns
    )
    body = "".join(map(_row, lines))
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _row(line: _Line) -> str:
    label = f"{_drawn(line.branch)}{escape(line.title)}"
    # Below the name: in a column of their own they would be the first to be cut off at the right.
    if line.marks:
        label += f"<br>{_drawn(line.stem)}<strong>{escape(line.marks)}</strong>"
    # Cut by us: cells do not wrap, and a long filter would push the numbers out of sight.
    for part in (part for detail in line.details for part in textwrap.wrap(detail, _DETAIL_LINE)):
        label += f"<br>{_drawn(line.stem)}<small>{escape(part)}</small>"
    cells = "".join(f'<td class="n" align="right" nowrap>{cell}</td>' for cell in line.html_cells)
    return (
        f'<tr valign="top"><td class="n" align="right" aria-label="{line.place}">'
        f'{line.node.number}</td><th scope="row" align="left" nowrap>{label}</th>{cells}</tr>'
    )


def _drawn(guide: str) -> str:
    if not guide:
        return ""
    return f'<span aria-hidden="true">{guide.replace(" ", "&nbsp;&nbsp;")}</span>'


def _bar(share: str) -> str:
    if not share:
        return ""
    blocks = "█" * round(float(share.removesuffix(" %")) / 100 * _BAR)
    return f'<span aria-hidden="true" class="b">{blocks}</span> {share}' if blocks else share


def _text(caption: str, columns: Sequence[_Column], lines: Sequence[_Line]) -> str:
    digits = len(str(len(lines)))
    labels = [
        textwrap.wrap(
            line.title,
            max(20, _LABEL_WIDTH - len(line.branch)),
            break_on_hyphens=False,
            break_long_words=False,
        )
        for line in lines
    ]
    width = max(_wide(line.branch + label[0]) for line, label in zip(lines, labels, strict=True))
    widths = [
        max(len(column.name), *(len(line.cells[place]) for line in lines))
        for place, column in enumerate(columns)
    ]
    names = "  ".join(f"{c.name:>{w}}" for c, w in zip(columns, widths, strict=True))
    out = [caption, f"{'#':>{digits}}  {'node':<{width}}  {names}".rstrip()]
    out.append("-" * len(out[-1]))
    for line, label in zip(lines, labels, strict=True):
        cells = "  ".join(f"{c:>{w}}" for c, w in zip(line.cells, widths, strict=True))
        first = line.branch + label[0]
        padding = " " * (width - _wide(first))
        mark = f"  {line.marks}" if line.marks else ""
        out.append(f"{line.node.number:>{digits}}  {first}{padding}  {cells}{mark}".rstrip())
        below = [*label[1:], *line.details]
        out += [f"{' ' * digits}  {line.stem}{one}".rstrip() for one in below]
    return "\n".join(out)


def _wide(text: str) -> int:
    return max(wcswidth(text), 0)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _TEXT_WIDTH, subsequent_indent=indent, break_on_hyphens=False)
