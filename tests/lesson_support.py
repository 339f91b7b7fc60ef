"""What the tests of lessons share: what a cell's output says, and the lesson's SQL run again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nbformat
import psycopg

from pglab.lab import Lab
from pglab.notebook.explain_error import condition_name
from pglab.notebook.statements import split

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def cells_of(lesson: Path) -> dict[str, Any]:
    """Return a lesson's cells by their ids, in order."""
    return {cell.id: cell for cell in nbformat.read(lesson, as_version=4).cells}


def said(cell: Any) -> str:
    """Return the text of a cell's outputs; spaces and line ends in a row are one space."""
    texts = []
    for output in cell.outputs:
        assert output.output_type != "error", output
        texts.append(output.text if output.output_type == "stream" else output.data["text/plain"])
    return re.sub(r"\s+", " ", "\n".join(texts))


def plans_of(
    lab: Lab,
    lesson: Path,
    *,
    without: Collection[str] = (),
    rewritten: Callable[[str], str] = str,
) -> dict[str, dict[str, Any]]:
    """Run a lesson's SQL in its order; return the plan of each cell that explains one.

    Each cell must fail as announced, or not at all.

    Args:
        lab: on whose database; ``--as`` in a cell's first line names a session of its own.
        lesson: the notebook.
        without: ids of cells that need what a Python cell made.
        rewritten: makes the text to run of a cell's text.
    """
    found: dict[str, dict[str, Any]] = {}
    sessions: dict[str, psycopg.Connection[Any]] = {}
    with ExitStack() as stack:
        for cell in cells_of(lesson).values():
            magic, _, text = cell.source.partition("\n")
            if (
                cell.cell_type != "code"
                or not magic.startswith(("%%sql", "%%explain"))
                or cell.id in without
            ):
                continue
            name = re.search(r"--as (\w+)", magic)
            who = name[1] if name else "sql"
            if who not in sessions:
                sessions[who] = stack.enter_context(lab.connection(autocommit=True))
            failed = ""
            try:
                for statement in split(rewritten(text)):
                    query = re.sub(r"^EXPLAIN \([^)]*\)\s*", "", statement.text)
                    if magic.startswith("%%explain") or query != statement.text:
                        found[cell.id] = explained(sessions[who], query)
                    else:
                        sessions[who].execute(statement.text.encode())
            except psycopg.Error as error:
                failed = condition_name(error.sqlstate or "")
            announced = re.search(r"--expect (\w+)", magic)
            assert failed == (announced[1] if announced else ""), cell.id
    return found


def explained(connection: psycopg.Connection[Any], query: str) -> dict[str, Any]:
    """Return the plan of a query that was run, and undone."""
    with connection.transaction(force_rollback=True):
        options = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON"
        row = connection.execute(f"EXPLAIN ({options}) {query}".encode()).fetchone()
    assert row
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's nodes from the top."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def pages(plan: dict[str, Any]) -> int:
    """Return how many pages a plan touched."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
