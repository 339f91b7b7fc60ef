"""The judged table for a notebook, where every claim can be opened, and for a terminal.

A verdict is a sign and words; the colour repeats it and is not needed.
"""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Final

from pglab.comparison.cells import COLUMNS, ROWS
from pglab.comparison.contract import AS_INSTALLED
from pglab.comparison.judging import Verdict
from pglab.framed import framed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pglab.comparison.result import Comparison, Judged
    from pglab.comparison.seen import Seen

__all__ = ["SIGNS", "as_html", "as_text"]

SIGNS: Final = {
    Verdict.HOLDS: "✓", Verdict.ONLY_IF: "◐", Verdict.NOT: "✗", Verdict.NOT_RUN: "–",
}  # fmt: skip

# Okabe and Ito's blue, orange and vermilion, thinned: they differ for every colour vision.
_COLOURS: Final = {
    Verdict.HOLDS: "0,114,178", Verdict.ONLY_IF: "230,159,0", Verdict.NOT: "213,94,0",
    Verdict.NOT_RUN: "128,128,128",
}  # fmt: skip
_STYLE: Final = (
    "<style>.pglab-judged{margin:.3em 0;overflow-x:auto}"
    ".pglab-judged table{border-collapse:separate;border-spacing:3px;margin:0;font-size:inherit}"
    ".pglab-judged th,.pglab-judged td{padding:.4em .7em!important;text-align:left!important;"
    "vertical-align:top!important;white-space:normal!important;min-width:11em}"
    ".pglab-judged th[scope=row]{min-width:7em}"
    ".pglab-judged p{margin:.3em 0!important}.pglab-judged summary{cursor:pointer}"
    ".pglab-judged small{opacity:.8}"
    ".pglab-judged dl{margin:.4em 0 0}.pglab-judged dt{font-weight:bold;margin-top:.4em}"
    ".pglab-judged dd{margin:0 0 0 .8em}</style>"
)
_WIDTH: Final = 100


def as_html(comparison: Comparison) -> str:
    """Return the table, what stands beside it, and where all of it comes from."""
    judged = {(each.cell.row, each.cell.engine): each for each in comparison.table()}
    head = "".join(
        f'<th scope="col" align="left">{escape(name)}<br><small>{_ran_as(comparison, engine)}'
        "</small></th>"
        for engine, name in COLUMNS.items()
    )
    body = "".join(
        f'<tr><th scope="row" align="left">{escape(row)}<br><small>{escape(meaning)}</small></th>'
        + "".join(_td(judged[row, engine]) for engine in COLUMNS)
        + "</tr>"
        for row, meaning in ROWS.items()
    )
    beside = "".join(
        f'<tr><th scope="row" align="left">{escape(_name(comparison, each.cell.engine))}</th>'
        f"{_td(each)}</tr>"
        for each in comparison.beside()
    )
    return _STYLE + framed(
        f"<table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
        '<table><thead><tr><th></th><th align="left">What the seed says beside its table</th></tr>'
        f"</thead><tbody>{beside}</tbody></table><p><small>{_legend()} Open a cell to see what was "
        f"run and what was seen.</small></p>{_sources(comparison)}",
        "pglab-judged",
    )


def _name(comparison: Comparison, engine: str) -> str:
    source = comparison.source(engine)
    name = {**COLUMNS, "mongodb": "MongoDB"}[engine]
    if source is None or source.note.product == name:
        return name
    return f"{name}, run as {source.note.product}"


def _ran_as(comparison: Comparison, engine: str) -> str:
    source = comparison.source(engine)
    if source is None:
        return "not run here"
    return escape(f"{source.note}{', kept' if source.kept else ''}")


def _td(judged: Judged) -> str:
    cell, verdict = judged.cell, judged.verdict
    colour = _COLOURS[verdict]
    ran = "".join(
        f"<dt>{escape(title)}</dt><dd>{escape(ran)}{'<br>' if ran else ''}→ {_mark(seen.passed)}"
        f"{escape(seen.saw)}</dd>"
        for title, ran, seen in _titled(judged)
    )
    kept = f"<dt>Where</dt><dd>{escape(str(judged.source))}</dd>" if judged.source else ""
    return (
        f'<td align="left" style="background:rgba({colour},.16);border-left:5px solid '
        f'rgb({colour})"><details><summary><em lang="es">{escape(cell.claim)}</em> '
        f"<small>({escape(cell.english)})</small><br><strong>{SIGNS[verdict]} "
        f"{verdict.value}</strong>{escape(_condition(judged))}{_kept_words(judged)}</summary>"
        f"<dl><dt>Read as</dt><dd>{escape(cell.reading)}</dd>{ran}{kept}</dl></details></td>"
    )


def _condition(judged: Judged) -> str:
    ruling = judged.ruling
    if not ruling.words:
        return ""
    return f" {ruling.words}" if ruling.verdict is Verdict.ONLY_IF else f": {ruling.words}"


def _kept_words(judged: Judged) -> str:
    source = judged.source
    return f" <small>(kept from {source.day})</small>" if source and source.kept else ""


def _mark(passed: bool | None) -> str:
    return "" if passed is None else ("passes. " if passed else "fails. ")


def _titled(judged: Judged) -> Iterator[tuple[str, str, Seen]]:
    """Yield a title, what was run where that is not the same as just before, and what was seen."""
    before = ""
    for seen in judged.seen:
        title = seen.check.replace("_", " ")
        if seen.setup != AS_INSTALLED:
            title += f" ({seen.setup})"
        yield title, "" if seen.ran == before else seen.ran, seen
        before = seen.ran


def _legend() -> str:
    return "; ".join(f"{sign} {verdict.value}" for verdict, sign in SIGNS.items()) + "."


def _sources(comparison: Comparison) -> str:
    lines = [f"<li>{escape(line)}</li>" for line in source_lines(comparison)]
    return (
        "<details><summary><small>What ran, and where</small></summary>"
        f"<ul>{''.join(lines)}</ul></details>"
    )


def source_lines(comparison: Comparison) -> list[str]:
    """Return one line an engine: what ran, or what is shown in its place and why."""
    lines = []
    for engine, name in {**COLUMNS, "mongodb": "MongoDB"}.items():
        source = comparison.source(engine)
        if source is None and engine in comparison.missing:
            why = comparison.missing[engine]
            lines.append(f"{name}: not run here, and no result is kept. {why}")
        elif source is None:
            lines.append(f"{name}: not asked for")
        elif source.kept:
            lines.append(f"{name}: {source}. {comparison.missing.get(engine, '')}")
        else:
            lines.append(f"{name}: {source}")
    return [*lines, f"This machine: {comparison.machine}, {comparison.day}"]


def as_text(comparison: Comparison) -> str:
    """Return everything as text: each claim with what was run and seen, and the verdict."""
    lines = ["The seed's comparison, judged again", ""]
    lines += [f"  {line}" for line in source_lines(comparison)]
    for row in ROWS:
        lines += ["", f"{row} ({ROWS[row]})"]
        for each in comparison.table():
            if each.cell.row == row:
                lines += _lines(comparison, each)
    lines += ["", "Beside the table"]
    for each in comparison.beside():
        lines += _lines(comparison, each)
    return "\n".join([*lines, "", _legend()])


def _lines(comparison: Comparison, judged: Judged) -> list[str]:
    name = _name(comparison, judged.cell.engine)
    kept = f" (kept from {judged.source.day})" if judged.source and judged.source.kept else ""
    head = f"  {SIGNS[judged.verdict]} {name}: “{judged.cell.claim}” "
    head += f"{judged.verdict.value}{_condition(judged)}{kept}"
    lines = _wrapped(head, "      ")
    lines += _wrapped(f"      read as: {judged.cell.reading}", "        ")
    for title, ran, seen in _titled(judged):
        if ran:
            lines += _wrapped(f"      ran: {ran}", "        ")
        lines += _wrapped(f"      {title}: {_mark(seen.passed)}{seen.saw}", "        ")
    return lines


def _wrapped(line: str, indent: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent)
