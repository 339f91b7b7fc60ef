"""Committed notebooks are executed, in order, and say nothing of the machine that did it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LONGEST_CODE_CELL = 12

# What must not stand in an output: paths of a machine, and what a password or token looks like.
_LEAKS = {
    "a path of the machine": re.compile(
        r"(?<![\w.])/(?:home|root|Users|work|tmp|var/(?:lib|tmp|folders)|opt|usr/lib)/[\w.-]+"
    ),
    "a password in a URL": re.compile(r"\w+://[^\s:/@]*:(?!\*\*\*@)[^\s@/]+@"),
    "a token": re.compile(r"[?&]token=\w+"),
    "a host name": re.compile(r"\b(?:[a-z0-9-]+\.)+(?:local|internal|lan)\b(?<!railway\.internal)"),
}


def _name(path: Path) -> str:
    return path.stem


@pytest.fixture(params=NOTEBOOKS, ids=_name)
def notebook(request: pytest.FixtureRequest) -> Any:
    node = nbformat.read(request.param, as_version=4)
    nbformat.validate(node)
    return node


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _texts(cell: Any) -> list[str]:
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        elif output.output_type == "error":
            texts.append("\n".join(output.traceback))
        else:
            texts += [str(value) for mime, value in output.data.items() if "image/png" not in mime]
    return texts


def test_there_are_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS][:1] == ["00"]


def test_executed_in_order_without_gaps(notebook: Any) -> None:
    counts = [cell.execution_count for cell in _code(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_no_error_that_was_not_announced(notebook: Any) -> None:
    for cell in _code(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        announced = "raises-exception" in cell.metadata.get("tags", [])
        assert not errors or announced, cell.source


def test_no_secret_and_no_machine_in_outputs(notebook: Any) -> None:
    found = [
        (cell.source.splitlines()[0], what, match.group())
        for cell in _code(notebook)
        for text in _texts(cell)
        for what, pattern in _LEAKS.items()
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_code_cells_are_small(notebook: Any) -> None:
    long = {
        cell.source.splitlines()[0]: len(cell.source.splitlines())
        for cell in _code(notebook)
        if len(cell.source.splitlines()) > LONGEST_CODE_CELL
        # A seed statement is shown as it was written.
        and "as-written" not in cell.metadata.get("tags", [])
    }
    assert long == {}


def test_cell_ids_are_unique_and_stable(notebook: Any) -> None:
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell_id) for cell_id in ids)


def test_a_lesson_has_its_parts(notebook: Any) -> None:
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    assert re.search(r"\d+ minutes", prose[0]), "how long it takes"
    headings = [
        line.lstrip("# ").strip()
        for text in prose
        for line in text.splitlines()
        if line.startswith("## ")
    ]
    assert "What you learned" in headings
    assert headings[-1] == "Next"


def test_no_output_was_left_in_the_metadata_of_a_machine(notebook: Any) -> None:
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /home/ana/pglab/.venv", "a path of the machine"),
        ("postgresql://postgres:hunter2@127.0.0.1/x", "a password in a URL"),
        ("/lab?token=abc123", "a token"),
    ],
)
def test_the_leak_patterns_see_a_leak(text: str, what: str) -> None:
    assert _LEAKS[what].search(text)


def test_the_leak_patterns_let_masked_urls_pass() -> None:
    text = "postgresql://postgres:***@127.0.0.1:5432/pglab_schema_small"
    assert not any(pattern.search(text) for pattern in _LEAKS.values())
