"""Every problem of every lesson, proven: what is right passes, what is wrong is told so.

Nothing is listed here by hand; a new module below pglab.exercises is found.
"""

from __future__ import annotations

import ast

import pytest
from psycopg import sql

from pglab.exercises import STARTER, Problem, Rows, Status, check
from pglab.exercises._engine import judge
from pglab.exercises._registry import lessons, problems_of
from pglab.exercises._results import Result
from pglab.exercises._sandbox import sandbox
from pglab.exercises._scene import MOST_ROWS, scene
from pglab.notebook.statements import split

pytestmark = pytest.mark.server

PYTHON_NOTHING = ("# nothing", "pass", "...", '"""Nothing."""')
NONSENSE = ("pass", "return [7]")

PROBLEMS = [problem for lesson in lessons() for problem in problems_of(lesson)]


def cases(part: str) -> list[object]:
    return [
        pytest.param(problem, one, id=f"{problem.id}-{number}")
        for problem in PROBLEMS
        for number, one in enumerate(getattr(problem, part), 1)
    ]


@pytest.mark.parametrize("lesson", lessons())
def test_a_lessons_problems_are_numbered(lesson: str) -> None:
    ids = [problem.id for problem in problems_of(lesson)]
    assert ids == [f"{lesson}.{number}" for number in range(1, len(ids) + 1)]
    assert ids


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.id)
def test_a_problem_is_complete(problem: Problem) -> None:
    assert len(problem.hints) >= 2
    assert len(problem.wrong) >= 3
    assert len({wrong.text for wrong in problem.wrong}) == len(problem.wrong)
    for answer in (*problem.solutions, *problem.wrong):
        assert answer.text == (answer.python if problem.is_python else answer.sql)
    texts = [problem.title, problem.prompt, *problem.hints]
    texts += [solution.why for solution in problem.solutions]
    texts += [wrong.says for wrong in problem.wrong]
    assert all(text.strip() for text in texts)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.id)
def test_the_starter_is_not_attempted(problem: Problem) -> None:
    nothing = PYTHON_NOTHING if problem.is_python else (STARTER, "/* nothing */ ; ;")
    for text in (problem.starter, f"\n{problem.starter}\n\n", "", *nothing):
        assert judge(problem, text, strict=True).status is Status.NOT_ATTEMPTED


@pytest.mark.parametrize(("problem", "solution"), cases("solutions"))
def test_each_solution_passes(problem: Problem, solution) -> None:
    text = f"# mine\n{solution.text}\n" if problem.is_python else f"-- mine\n{solution.text};\n"
    verdict = check(problem.id, text, strict=True)
    assert verdict.solved, verdict
    if problem.hidden and not problem.is_python:
        assert "on other data" in verdict.message


@pytest.mark.parametrize(("problem", "wrong"), cases("wrong"))
def test_each_wrong_answer_fails_with_its_words(problem: Problem, wrong) -> None:
    verdict = judge(problem, wrong.text, strict=True)
    assert verdict.status is Status.NOT_YET, verdict
    assert wrong.says in f"{verdict.message}\n{verdict.verbatim}"
    assert problem.is_python or split(wrong.text), "an answer without a statement proves nothing"


PYTHON = [problem for problem in PROBLEMS if problem.is_python]


@pytest.mark.parametrize("problem", PYTHON, ids=lambda problem: problem.id)
def test_a_careless_answer_is_told_and_never_trips_the_check(problem: Problem) -> None:
    """What is asked for is there, and returns nonsense: no fault of the exercise's."""
    slow = any(one.database for one in problem.behaviours)  # a copy of the data for each
    for nonsense in NONSENSE[:1] if slow else NONSENSE:
        verdict = judge(problem, returning(nonsense, problem.solutions[0].text), strict=True)
        assert verdict.status is Status.NOT_YET, f"{nonsense}: {verdict}"


def returning(value: str, source: str) -> str:
    """Return the source with the body of each function or method replaced by one statement."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            node.body = ast.parse(value).body
    return ast.unparse(tree)


QUERIES = [p for p in PROBLEMS if p.answer == "query" and p.hidden]


@pytest.mark.parametrize("problem", QUERIES, ids=lambda problem: problem.id)
def test_a_copied_output_does_not_pass(problem: Problem) -> None:
    """Constants in place of a query pass on the visible data at best."""
    copied = as_values(right_result(problem))
    verdict = judge(problem, copied, strict=True)
    assert verdict.status is Status.NOT_YET, verdict
    rows_only = all(isinstance(check, Rows) for check in problem.checks)
    assert not rows_only or "wrong on other data" in verdict.message


def right_result(problem: Problem) -> Result:
    with sandbox("visible") as box, scene(box, problem, split(problem.solutions[0].text)) as made:
        made.answer(MOST_ROWS)
        assert made.result is not None
        return made.result


def as_values(result: Result) -> str:
    casts = [f"::{column.type_name}" for column in result.columns]
    nothing = (None,) * len(casts)
    rows = [
        ", ".join(
            (sql.Literal(value).as_string() if value is not None else "NULL") + cast
            for value, cast in zip(row, casts, strict=True)
        )
        for row in (result.rows or [nothing])
    ]
    names = ", ".join(sql.Identifier(name).as_string() for name in result.names)
    values = ", ".join(f"({row})" for row in rows)
    return f"WITH copied({names}) AS (VALUES {values}) SELECT * FROM copied" + (
        "" if result.rows else " WHERE false"
    )
