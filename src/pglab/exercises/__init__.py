'''Exercises: checks that learners can trust, and problems that are proven.

For a learner:

    from pglab.exercises import check, hint, progress, solution

    %%exercise schema.1            above the SQL (or Python) of a cell: run it, and be told
    check("schema.1", "SELECT …")  the same from Python; the answer is text
    hint("schema.1")               the next hint;  hint("schema.1", 1) the first again
    solution("schema.1")           worked solutions with their reasoning
    problem("schema.1")            the task again
    progress()                     what is done; progress().to_json() to take it along

For a lesson's author: one module a lesson, ``pglab/exercises/<lesson>.py``, where ``<lesson>`` is
the name given to ``pglab.open``. It holds data and nothing else: ``PROBLEMS``, a tuple of
``Problem``, numbered from 1. Nothing needs registering: tests/servers/test_exercises_proofs.py
proves every problem that it finds. Each solution passes on the visible and on the hidden data,
each wrong answer fails with its words, the starter is "not attempted".

    from pglab.exercises import Problem, Rows, Solution, Wrong

    PROBLEMS = (
        Problem(
            id="queries.1",
            title="The busiest chats",
            prompt="""
    Which three chats have the most messages? Show `name` and the number of `messages`, the
    busiest first.""",
            answer="query",
            checks=(
                Rows(
                    order_by=("messages",),
                    pool="""SELECT c.name, count(*) AS messages
                            FROM messages AS m JOIN chats AS c ON c.id = m.chat_id
                            GROUP BY c.id""",
                ),
            ),
            solutions=(
                Solution(
                    sql="""
    SELECT c.name, count(*) AS messages
    FROM messages AS m JOIN chats AS c ON c.id = m.chat_id
    GROUP BY c.id ORDER BY messages DESC LIMIT 3""",
                    why="Grouping by the key keeps two chats of the same name apart.",
                ),
            ),
            wrong=(
                Wrong(sql="SELECT name FROM chats LIMIT 3", says="column messages is missing"),
                Wrong(sql="SELECT … ORDER BY messages LIMIT 3", says="expected, 3 found"),
                Wrong(sql="VALUES ('Ana', 512), …", says="wrong on other data"),
            ),
            hints=("Join the two tables.", "Group by `c.id`; then sort, and `LIMIT 3`."),
        ),
    )

How answers run: on a copy of the lesson's data (always size small) as ``lab.reset()`` gives them,
in a transaction that is rolled back; ``Problem.setup`` runs first in the same transaction. With
``answer="statements"`` they run as in psql, on a copy that is thrown away. The reference is
``solutions[0]``, run on the same data; then the problem passes a second time on hidden data
(3,000 other messages; the same instances), unless ``hidden=False``.

Checks, cheap ones first; the first that fails is what the learner reads:

- ``Rows``: the same rows as the reference's, order only as far as ``order_by`` says.
- ``State``: a probe query returns what it returns after the reference.
- ``Accepts``, ``Refuses``: statements that must succeed, or fail with an SQLSTATE, afterwards.
- ``Fails``: the answer itself must fail with an SQLSTATE.
- ``Plan``: an index on these columns is used (``IndexOn``), no table read as a whole, at most so
  many pages. Of the answer, or of a query of yours after it. Never a time.

No check looks at the words of an answer.

``answer="script"`` is several statements in one transaction, which is rolled back: roles that are
made in it (or in ``setup``) vanish with it, so that ``Accepts(sql="SET LOCAL ROLE …; …")`` can try
what they may do, and learners on one server do not meet.

``answer="python"`` is a function or a class. Its checks are ``Behaves``, each with a scenario: a
function of the lesson's module that puts the answer to work and says what it should not have seen.

    def _reads_once(answer: Answer, world: World) -> None:
        redis, loads = world.redis(), []

        def load() -> int:
            loads.append(1)
            return 7

        expect(answer.cached(redis, "k", load) == 7, "The value of load() does not come back.")
        answer.cached(redis, "k", load)
        expect(len(loads) == 1, "The second call loads again.", f"loads: {len(loads)}")

    Problem(
        id="cache.2",
        answer="python",
        starter="def cached(redis, key, load): ...",
        checks=(Behaves(scenario=_reads_once),),
        hidden=False,
        solutions=(Solution(python="def cached(…): …", why="…"),),
        wrong=(Wrong(python="def cached(…): …", says="The second call loads again."), …),
        …,
    )

``answer.name`` is what the cell defines. ``world`` has a Redis of its own (``redis()``, and
``redis_server`` to kill and to start), with ``Behaves(…, database=True)`` a copy of the data
(``connect()``), and threads that start together (``together``). A scenario runs in a process that
is killed at ``limit_s``; errors, endless loops, ``input()`` and the like are told by the engine,
with the line. With ``database=True`` and ``hidden=True`` it is played a second time on the hidden
data. The notebook's variables are not there: put imports into the starter.
'''

from __future__ import annotations

from pglab.exercises import _cards, _engine, _progress, _registry
from pglab.exercises._behaves import Behaves, NotYet, error_of, expect
from pglab.exercises._checks import Accepts, Check, Fails, Plan, Refuses, Rows, State
from pglab.exercises._failures import CannotCheckError, ExerciseUsageError, UnknownProblemError
from pglab.exercises._plan import IndexOn
from pglab.exercises._problem import STARTER, Problem, Solution, Wrong
from pglab.exercises._progress import Progress
from pglab.exercises._verdict import Status, Verdict
from pglab.exercises._world import Answer, World

__all__ = [
    "STARTER",
    "Accepts",
    "Answer",
    "Behaves",
    "CannotCheckError",
    "Check",
    "ExerciseUsageError",
    "Fails",
    "IndexOn",
    "NotYet",
    "Plan",
    "Problem",
    "Progress",
    "Refuses",
    "Rows",
    "Solution",
    "State",
    "Status",
    "UnknownProblemError",
    "Verdict",
    "World",
    "Wrong",
    "check",
    "error_of",
    "expect",
    "hint",
    "problem",
    "progress",
    "solution",
]


def check(name: str, answer: str, *, strict: bool | None = None, first_line: int = 1) -> Verdict:
    """Run an answer where it can do no harm, and return the verdict; keep the progress.

    Args:
        name: the problem's id, such as ``"indexes.3"``.
        answer: the SQL, or the source of the Python, as it stands in a cell.
        strict: raise CannotCheckError where an answer cannot be checked, instead of saying so;
            by default only if PGLAB_EXERCISES_STRICT is set.
        first_line: the number of the answer's first line in the editor, for errors.

    Raises:
        UnknownProblemError: there is no such problem; the message lists near ones.
    """
    verdict = _engine.judge(_registry.find(name), answer, strict=strict, first_line=first_line)
    _progress.note_verdict(verdict)
    return verdict


def hint(name: str, number: int | None = None) -> _cards.Card:
    """Return the next hint, or the one of that number, counted from 1.

    After the last one it stays there.

    Raises:
        UnknownProblemError: there is no such problem.
        ValueError: there is no hint of that number.
    """
    found = _registry.find(name)
    total = len(found.hints)
    if number is None:
        number = min(_progress.read().get(found.id, {}).get("hints", 0) + 1, total)
    if not 1 <= number <= total:
        raise ValueError(f"{found.id} has no hint {number}; its hints count from 1 to {total}")
    _progress.note_hint(found.id, number)
    return _cards.hint_card(found, number)


def solution(name: str) -> _cards.Card:
    """Return the worked solutions with their reasoning.

    Raises:
        UnknownProblemError: there is no such problem.
    """
    found = _registry.find(name)
    _progress.note_solution(found.id)
    return _cards.solution_card(found)


def problem(name: str) -> _cards.Card:
    """Return the task.

    Raises:
        UnknownProblemError: there is no such problem.
    """
    return _cards.prompt_card(_registry.find(name))


def progress(*lessons: str) -> Progress:
    """Return what is done in these lessons, or in all.

    Raises:
        UnknownProblemError: there is no such lesson.
    """
    return Progress.of(*lessons)
