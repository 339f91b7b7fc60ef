"""The ``%%explain`` magic: show how PostgreSQL does a statement, and what matters in its plan."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import psycopg
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display as show

from pglab.notebook import report
from pglab.notebook.explain_error import condition_name, describe
from pglab.notebook.failures import SqlUsageError, StatementError, StatementInterrupted
from pglab.notebook.plan_options import PREVIOUS, PlanOptions, help_text, parse
from pglab.notebook.plan_pair import draw_pair
from pglab.notebook.plan_run import ask, check, prefixed, remedy
from pglab.notebook.plan_table import draw
from pglab.notebook.results import Note
from pglab.notebook.session import Session
from pglab.notebook.statements import Statement, split
from pglab.notebook.tables import Shown
from pglab.plans import Plan, compare

if TYPE_CHECKING:
    from pglab.notebook.magic import SqlMagics

__all__ = ["ExplainMagics"]

display: Callable[[object], object] = show  # IPython has no types for it

_UNDONE = "The statement ran and was rolled back: no row has changed."
_WROTE = re.compile(r"^[ >-]*(?:Insert|Update|Delete|Merge) on .*\(actual ", re.MULTILINE)


@magics_class
class ExplainMagics(Magics):
    """Explains on the sessions of ``%%sql``, and remembers the plan before."""

    def __init__(self, shell: InteractiveShell, sql: SqlMagics) -> None:
        super().__init__(shell)
        self._variables = shell.user_ns
        self._sql = sql
        self._previous: tuple[Plan, str] | None = None

    # Without no_var_expand IPython would replace {names} and $names in %explain's text.
    @no_var_expand
    @line_cell_magic
    def explain(self, line: str, cell: str | None = None) -> None:
        """Draw a statement's plan as it ran; ``%explain --help`` lists the options."""
        options = parse(line)
        if options.help:
            print(help_text())
            return
        if cell is not None and options.sql:
            raise SqlUsageError(
                f"%%explain: {options.sql!r} is not an option. The statement belongs below the "
                "%%explain line; %explain --help lists the options"
            )
        text = options.sql if cell is None else cell
        statements = split(text)
        page = report.Page(display)
        if not statements:
            if options.to or options.compare is not None:
                raise SqlUsageError("there is no SQL statement here: write one below %%explain")
            page.notes([Note("NOTE", "there is no SQL statement in this cell yet")])
            page.flush()
            return
        earlier = self._earlier(options, len(statements))
        for statement in statements:
            check(statement)
        session = self._sql.session(options.session)
        run = _Run(session, options, text, 1 if cell is None else 2, page)
        try:
            answers = run(statements)
        finally:
            page.flush()
        self._show(options, statements, answers, earlier)
        page.notes(report.transaction_notes(session.transaction, session.name))
        page.flush()

    def _earlier(self, options: PlanOptions, count: int) -> tuple[Plan, str] | None:
        """Return the plan to compare with; refuse a cell that has not one statement for each."""
        if options.compare is None or options.compare != PREVIOUS:
            if count > 1:
                raise SqlUsageError(
                    f"%%explain takes one statement, and this cell has {count}. Put what prepares "
                    "it (SET, CREATE INDEX, ANALYZE) into a %%sql cell before; to set two "
                    "statements side by side: %%explain --compare. Nothing was run"
                )
            return None if options.compare is None else self._named(options.compare)
        if count > 2:
            raise SqlUsageError(
                f"--compare takes two statements, or one to compare with the plan before; this "
                f"cell has {count}. Nothing was run"
            )
        if count == 1 and self._previous is None:
            raise SqlUsageError(
                "--compare: there is no plan before this one to compare with. Explain the other "
                "statement first, or write both into this cell. Nothing was run"
            )
        return self._previous if count == 1 else None

    def _named(self, name: str) -> tuple[Plan, str]:
        found = self._variables.get(name)
        if isinstance(found, Plan):
            return found, ""
        what = "no such variable" if found is None else f"a {type(found).__name__}"
        raise SqlUsageError(
            f"--compare={name}: {name} is {what}, and should be a plan that %%explain --to {name} "
            "kept. Nothing was run"
        )

    def _show(
        self,
        options: PlanOptions,
        statements: list[Statement],
        answers: list[Plan | str],
        earlier: tuple[Plan, str] | None,
    ) -> None:
        plans = [answer for answer in answers if isinstance(answer, Plan)]
        last = statements[-1].text
        if not plans:
            for answer in answers:
                display(_verbatim(str(answer)))
            return
        note = _UNDONE if any(plan.analyzed and plan.writes for plan in plans) else ""
        if options.compare is None:
            display(draw(plans[0], note))
        elif earlier is None:
            texts = (statements[0].text, last)
            display(draw_pair(compare(*plans), ("first", "second"), texts, note))
        else:
            names = (options.compare or "before", "now")
            display(draw_pair(compare(earlier[0], plans[0]), names, (earlier[1], last), note))
        self._previous = plans[-1], last
        if options.to:
            self._variables[options.to] = plans[-1]


class _Run:
    """One execution of a cell."""

    def __init__(
        self, session: Session, options: PlanOptions, text: str, first_line: int, page: report.Page
    ) -> None:
        self.session = session
        self.options = options
        self.text = text
        self.first_line = first_line
        self.page = page

    def __call__(self, statements: list[Statement]) -> list[Plan | str]:
        self.page.notes(self.session.prepare(statements))
        return [self._one(statement) for statement in statements]

    def _one(self, statement: Statement) -> Plan | str:
        asked = prefixed(self.session, statement, self.options)
        try:
            return ask(self.session, asked, self.options)
        except psycopg.Error as error:
            raise self._explained(error, asked, statement) from None
        except KeyboardInterrupt:
            raise StatementInterrupted(
                "interrupted: the statement was cancelled on the server, and nothing of it is kept"
            ) from None
        finally:
            self.page.notes(self.session.take_notes())

    def _explained(
        self, error: psycopg.Error, asked: Statement, statement: Statement
    ) -> StatementError:
        lines: list[Any] = describe(error, asked, self.text, self.first_line)
        lines += filter(None, [remedy(error, statement)])
        notes = report.transaction_notes(self.session.transaction, self.session.name)
        lines += [note.message for note in notes]
        state = error.sqlstate or ""
        return StatementError("\n".join(lines), sqlstate=state, condition=condition_name(state))


def _verbatim(text: str) -> Shown:
    caption = "PostgreSQL's own text"
    if _WROTE.search(text):
        caption += f". {_UNDONE}"
    return Shown(f"<div>{escape(caption)}</div><pre>{escape(text)}</pre>", f"{caption}\n{text}")
