"""Two plans side by side, and what changed from one to the other."""

from __future__ import annotations

from html import escape

from pglab.framed import framed
from pglab.notebook.plan_table import STYLE, drawn_table, heading
from pglab.notebook.tables import Shown, Table
from pglab.notebook.values import Cell, visible
from pglab.plans import Difference

__all__ = ["draw_pair"]

_STATEMENT = 72  # characters shown of one


def draw_pair(
    difference: Difference, names: tuple[str, str], statements: tuple[str, str], note: str = ""
) -> Shown:
    """Draw both plans, the measures that can be compared, and the changes in words.

    Args:
        difference: from ``pglab.plans.compare``.
        names: how to call the two, such as ``("before", "after")``.
        statements: their texts; empty where that is not known.
        note: a remark below.
    """
    plans = (difference.before, difference.after)
    drawn = [
        drawn_table(plan, _caption(name, text))
        for plan, name, text in zip(plans, names, statements, strict=True)
    ]
    measures = Table(
        ["", *names, "in words"],
        [
            [Cell(one.name), _number(one.before), _number(one.after), Cell(one.words)]
            for one in difference.changes
        ],
        caption="Compared",
        numeric=[False, True, True, False],
    )
    sentences = list(difference.shape)
    if any(one.name.startswith("Time") for one in difference.changes):
        sentences.append(
            "Time is that of this run only: another run, or another machine, has another. Pages "
            "are the steadier measure."
        )
    sentences += [note] * bool(note)
    html = (
        f'<div class="pglab-pair">{"".join(f"<div>{one.html}</div>" for one in drawn)}</div>'
        f"{measures.html()}{heading('What changed')}"
        f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>"
    )
    text = [one.text + "\n" for one in drawn]
    text += [measures.text(), "What changed:", *(f"- {one}" for one in sentences)]
    return Shown(STYLE + framed(html, "pglab-plan"), "\n".join(text))


def _caption(name: str, statement: str) -> str:
    text = visible(" ".join(statement.split()), _STATEMENT).partition("… (")
    return f"{name}: {text[0]}{'…' if text[1] else ''}" if statement else name


def _number(text: str) -> Cell:
    return Cell(text, is_number=True)
