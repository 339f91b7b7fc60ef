"""Every exercise that a notebook names exists, and every one that exists stands in a notebook."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

import pglab.exercises
from pglab.exercises import Problem
from pglab.exercises._registry import lessons, problems_of

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def _cells() -> dict[str, tuple[str, str]]:
    """Return for each exercise the notebook's name and what stands below its magic line."""
    found = {}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            match = re.match(r"%%exercise (\S+)\n(.*)", cell.source, flags=re.DOTALL)
            if cell.cell_type == "code" and match:
                assert match[1] not in found, f"{match[1]} stands twice"
                found[match[1]] = (path.name, match[2])
    return found


def _problems() -> dict[str, Problem]:
    return {problem.id: problem for lesson in lessons() for problem in problems_of(lesson)}


def test_notebooks_and_modules_name_the_same_exercises() -> None:
    assert _cells().keys() == _problems().keys()


def test_an_exercise_begins_with_its_starter() -> None:
    cells = _cells()
    different = {
        name: cells[name][1]
        for name, problem in _problems().items()
        if cells[name][1].strip() != problem.starter.strip()
    }
    assert different == {}


def test_a_lesson_has_its_own_exercises_in_order() -> None:
    for path in NOTEBOOKS:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        opened = re.search(r'pglab\.open\("(\w+)"', text)
        assert opened, path.name
        named = re.findall(r"^%%exercise (\S+)", text, flags=re.MULTILINE)
        assert named == [f"{opened[1]}.{number}" for number in range(1, len(named) + 1)], path.name
        fewest = {"00": 1, "01": 5, "08": 5, "09": 5, "10": 5}.get(path.name[:2], 6)
        assert len(named) >= fewest, path.name


def test_the_package_says_how_to_write_one() -> None:
    assert "Problem(" in (pglab.exercises.__doc__ or "")
