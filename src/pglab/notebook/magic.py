"""The ``%%sql`` magic: run the cell's statements on the lesson's session and show the results."""

from __future__ import annotations

from typing import Any

import psycopg
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display
from psycopg import pq

from pglab.notebook import report
from pglab.notebook.explain_error import condition_name, describe
from pglab.notebook.failures import (
    NoLabError,
    ResultTooLargeError,
    SessionLostError,
    SqlUsageError,
    StatementError,
    StatementInterrupted,
    UnexpectedOutcomeError,
)
from pglab.notebook.frames import to_frame
from pglab.notebook.options import Options, help_text, parse
from pglab.notebook.results import Note, Outcome
from pglab.notebook.session import HasConnection, Session
from pglab.notebook.statements import Statement, split
from pglab.notebook.wire import ROWS_COUNTED

__all__ = ["SqlMagics"]

_PLAN_ROWS = 1_000  # a plan is one text; ten of its lines would mean nothing


@magics_class
class SqlMagics(Magics):
    """Holds the current lab and its sessions."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.lab: HasConnection | None = None
        self._sessions: dict[str, Session] = {}

    def use(self, lab: HasConnection) -> None:
        """Make a lab the current one; the sessions of another lab are closed."""
        if lab is self.lab:
            return
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self.lab = lab

    def session(self, name: str) -> Session:
        """Return the session of that name on the current lab.

        Raises:
            NoLabError: no lab was opened yet.
        """
        if self.lab is None:
            raise NoLabError(
                "no lab is open, so there is no database to ask. Open one first, in a Python "
                'cell: import pglab; lab = pglab.open("schema")'
            )
        return self._sessions.setdefault(name, Session(self.lab, name))

    # Without no_var_expand IPython would replace {names} and $names in %sql's text.
    @no_var_expand
    @line_cell_magic
    def sql(self, line: str, cell: str | None = None) -> None:
        """Run SQL statements on the lesson's database; ``%sql --help`` lists the options."""
        options = parse(line)
        if options.help:
            print(help_text())
            return
        if cell is not None and options.sql:
            raise SqlUsageError(
                f"%%sql: {options.sql!r} is not an option. Statements belong below the %%sql "
                "line; %sql --help lists the options"
            )
        text = options.sql if cell is None else cell
        statements = split(text)
        if not statements:
            self._nothing_to_run(options)
            return
        for statement in statements:
            if statement.copies_through_client:
                raise SqlUsageError(
                    "COPY … FROM STDIN / TO STDOUT streams data through the client, which a cell "
                    "cannot do; nothing of this cell was run. In a Python cell: "
                    "with lab.connection() as c, c.cursor().copy('COPY …') as copy: …"
                )
        # The editor numbers the lines of a cell from its %%sql line.
        _Run(self.shell, self.session(options.session), options, text, 1 if cell is None else 2)(
            statements
        )

    @staticmethod
    def _nothing_to_run(options: Options) -> None:
        # An exercise that nobody has begun is a comment; running all cells shall pass over it.
        if options.expect or options.to:
            raise SqlUsageError("there is no SQL statement here: write one below %%sql")
        page = report.Page(display)
        page.notes([Note("NOTE", "there is no SQL statement in this cell yet")])
        page.flush()


class _Run:
    """One execution of a cell."""

    def __init__(
        self, shell: Any, session: Session, options: Options, text: str, first_line: int
    ) -> None:
        self.shell = shell
        self.session = session
        self.options = options
        self.text = text
        self.first_line = first_line
        self.page = report.Page(display)
        self.kept: Outcome | None = None

    def __call__(self, statements: list[Statement]) -> None:
        self.page.notes(self.session.prepare(statements))
        try:
            for number, statement in enumerate(statements, 1):
                self._one(statement, number, len(statements))
        except StatementError as error:
            self._failed(error)
            return
        finally:
            self.page.flush()
        if self.options.expect:
            raise UnexpectedOutcomeError(
                f"this cell announced the error {' or '.join(self.options.expect)} (--expect), and "
                f"every statement succeeded: {len(statements)} of {len(statements)}"
            )
        if self.options.to:
            self._keep(self.options.to)
        self.page.notes(report.transaction_notes(self.session.transaction, self.session.name))
        self.page.flush()

    def _one(self, statement: Statement, number: int, total: int) -> None:
        shown = _PLAN_ROWS if statement.verb == "EXPLAIN" else self.options.rows
        keep, count = shown, ROWS_COUNTED
        if self.options.to:
            keep, count = self.options.most + 1, self.options.most
        try:
            outcome = self.session.run(statement, keep=keep, count=count)
        except psycopg.Error as error:
            self.page.notes(self.session.take_notes())
            raise self._explained(error, statement, number, total) from None
        except SessionLostError:
            self.page.notes(self.session.take_notes())
            raise
        except KeyboardInterrupt:
            raise StatementInterrupted(
                f"interrupted: statement {number} of {total} was cancelled on the server"
                + self._aftermath(number, total)
            ) from None
        if outcome.columns is not None:
            self.kept = outcome
        self.page.outcome(outcome, number, total, shown, self.options.width)

    def _explained(
        self, error: psycopg.Error, statement: Statement, number: int, total: int
    ) -> StatementError:
        lines = describe(error, statement, self.text, self.first_line)
        state = error.sqlstate or ""
        return StatementError(
            "\n".join(lines) + self._aftermath(number, total),
            sqlstate=state,
            condition=condition_name(state),
        )

    def _aftermath(self, number: int, total: int) -> str:
        """Say what of the cell is done, what is not, and in what state the session is."""
        transaction = self.session.transaction
        words = [f"Statement {number} of {total} failed."] if total > 1 else []
        if number > 1:
            fate = "done" if transaction == pq.TransactionStatus.IDLE else "not committed"
            words.append(f"Before it, {_numbered(1, number - 1)} succeeded ({fate}).")
        if number < total:
            words.append(f"Not run: {_numbered(number + 1, total)}.")
        lines = [" ".join(words)] if words else []
        lines += [n.message for n in report.transaction_notes(transaction, self.session.name)]
        return "".join(f"\n{line}" for line in lines)

    def _failed(self, error: StatementError) -> None:
        expected = self.options.expect
        if not expected:
            raise error
        if error.sqlstate in expected or error.condition in expected:
            self.page.expected(str(error))
            return
        raise UnexpectedOutcomeError(
            f"this cell announced the error {' or '.join(expected)} (--expect), and another one "
            f"occurred:\n{error}"
        ) from None

    def _keep(self, name: str) -> None:
        outcome = self.kept
        if outcome is None or outcome.columns is None:
            raise SqlUsageError(f"--to {name}: no statement of this cell returned rows to keep")
        if outcome.seen > self.options.most:
            raise ResultTooLargeError(
                f"--to {name}: the result has more than {self.options.most:,} rows, so nothing "
                "was kept. Let the server do more of the work (WHERE, GROUP BY, LIMIT), or raise "
                f"the limit with --max {max(1_000_000, self.options.most * 2)}"
            )
        frame, texts = to_frame(outcome.columns, outcome.rows, self.session.open_connection)
        self.shell.push({name: frame})
        self.page.notes([report.kept_note(name, len(frame), len(frame.columns), texts)])


def _numbered(first: int, last: int) -> str:
    return f"statement {first}" if first == last else f"statements {first} to {last}"
