"""A real IPython shell whose ``%%sql`` runs on a test's database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from pglab import notebook


@dataclass
class Lab:
    """What %%sql needs of a lab, on a database of the test."""

    url: str
    name: str = "test"
    generation: int = 0
    opened: list[psycopg.Connection[Any]] = field(default_factory=list)

    def connection(
        self, autocommit: bool = False, application_name: str | None = None
    ) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            self.url, autocommit=autocommit, application_name=application_name
        )
        self.opened.append(connection)
        return connection

    def end(self, session: str = "sql") -> None:
        """Have the server end a session, and wait until it is gone."""
        ended = self.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE application_name = '{session}' AND datname = current_database()"
        )
        assert ended == [(True,)]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query).fetchall()


@dataclass
class Shown:
    """What a cell showed, and the error that it ended with."""

    text: str
    html: str
    error: BaseException | None
    printed: str


class Notebook:
    """Runs cells in an IPython shell of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        InteractiveShell.clear_instance()
        self.shell = InteractiveShell.instance(history_manager=None, colors="nocolor")
        notebook.activate(lab)

    def try_cell(self, cell: str) -> Shown:
        with capture_output() as captured:
            result = self.shell.run_cell(cell)
        bundles = [output.data for output in captured.outputs]
        return Shown(
            "\n".join(bundle.get("text/plain", "") for bundle in bundles),
            "\n".join(bundle.get("text/html", "") for bundle in bundles),
            result.error_in_exec,
            captured.stdout + captured.stderr,
        )

    def sql(self, text: str, options: str = "") -> Shown:
        """Run a %%sql cell that must succeed."""
        shown = self.try_cell(f"%%sql {options}\n{text}")
        if shown.error is not None:
            raise shown.error
        return shown

    def close(self) -> None:
        for connection in self.lab.opened:
            connection.close()
        InteractiveShell.clear_instance()
