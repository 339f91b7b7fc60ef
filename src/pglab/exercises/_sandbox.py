"""Where answers run: a copy of the lessons' data that belongs to nobody, never the learner's own.

There are two: ``visible`` is a copy of what a lesson begins with, ``hidden`` has other rows. An
answer runs in a transaction that is rolled back. What cannot run in one gets a copy to spoil. So a
verdict does not depend on what the learner did before, and nothing that an answer does can reach
the lesson's database, nor wait for its locks.

A copy is used again as long as it is as good as new. While an answer runs, the copy is marked; a
mark that is found under the lock was left by a process that was killed, and the copy is remade.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pglab import databases, schema, templates
from pglab.config import Settings
from pglab.servers.connect import connect_postgres
from pglab.servers.lifecycle import ensure_postgres

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["SIZE", "Data", "Sandbox", "sandbox"]

Data = Literal["visible", "hidden"]

SIZE: Final = "small"
"""Answers are checked on this size, whichever the learner opened: plans depend on it."""
_HIDDEN_MESSAGES: Final = 3_000
_HIDDEN_SEED: Final = 4711
_IN_USE: Final = "made by pglab, an answer is running here"
_CLEAN: Final = "made by pglab, a copy for exercises"
# Rolled-back rows are cleaned up by VACUUM; what grew does not shrink, so that many call for a new
# copy. Without INDEX_CLEANUP, VACUUM would leave a few dead rows, and their pages not all-visible.
_MANY_ROWS: Final = 200

# No parallel workers and no compilation: plans shall not depend on the machine.
_SETTINGS: Final = """
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
    SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lock_timeout = '10s';
    SET max_parallel_workers_per_gather = 0; SET jit = off;
    SET idle_in_transaction_session_timeout = 0
"""


@dataclass
class Sandbox:
    """A copy that is held for one answer.

    Attributes:
        database: its name; another name means other data.
        spoilt: it must not be used again.
    """

    endpoint: PostgresEndpoint
    database: str
    spoilt: bool = False

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a new autocommit connection whose settings make results comparable."""
        with connect_postgres(
            self.endpoint, self.database, autocommit=True, application_name="pglab exercise"
        ) as connection:
            connection.execute(_SETTINGS)
            yield connection

    def repair(self, touched: dict[str, int]) -> None:
        """Remove what rolled-back writes left in tables (dead rows, and no visibility map)."""
        if sum(touched.values()) > _MANY_ROWS:
            self.spoilt = True
        if self.spoilt or not touched:
            return
        from psycopg import sql

        with self.connection() as connection:
            for name in touched:
                table = sql.Identifier(*name.split(".", 1))
                known = connection.execute(
                    "SELECT to_regclass(%s)", (table.as_string(connection),)
                ).fetchone()
                if known != (None,):  # what a problem's set-up made has gone with its transaction
                    connection.execute(sql.SQL("VACUUM (INDEX_CLEANUP ON) {}").format(table))


@contextmanager
def sandbox(data: Data, *, throw_away: bool = False) -> Iterator[Sandbox]:
    """Hold a copy of the data, made now if need be; one answer at a time, over all kernels.

    Args:
        data: which.
        throw_away: the answer commits, so that the copy is dropped afterwards.

    Raises:
        PglabError: there is no server, a permission is missing, the disk is full.
    """
    from pglab.lab import scope_of

    settings = Settings.from_environment()
    endpoint, running = ensure_postgres(settings)
    try:
        with connect_postgres(
            endpoint, autocommit=True, application_name="pglab exercises"
        ) as admin:
            scope = scope_of(settings, endpoint)
            template = _template(endpoint, admin, data, scope)
            prefix = template.replace("_template_", "_exercise_").rpartition("_")[0] + "_"
            name = f"{prefix}{template.rpartition('_')[2]}"
            with databases.locked(admin, prefix):
                _make(admin, name, prefix, template)
                held = Sandbox(endpoint, name, spoilt=throw_away)
                _mark(admin, name, _IN_USE)
                try:
                    yield held
                except BaseException:
                    held.spoilt = True
                    raise
                finally:
                    if not admin.closed:
                        if held.spoilt:
                            databases.drop(admin, name)
                        else:
                            _mark(admin, name, _CLEAN)
    finally:
        running.release()


def _make(admin: psycopg.Connection[Any], name: str, prefix: str, template: str) -> None:
    for other in databases.made_by_us(admin, prefix):
        if other != name or _comment(admin, other) != _CLEAN:
            databases.drop(admin, other)
    if not databases.exists(admin, name):
        templates.copy(admin, name, template)


def _comment(admin: psycopg.Connection[Any], name: str) -> str:
    row = admin.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
    ).fetchone()
    return str(row[0]) if row else ""


def _mark(admin: psycopg.Connection[Any], name: str, comment: str) -> None:
    from psycopg import sql

    admin.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
    )


def _template(
    endpoint: PostgresEndpoint, admin: psycopg.Connection[Any], data: Data, scope: str
) -> str:
    if data == "visible":
        return templates.ensure(endpoint, admin, SIZE, scope=scope, progress=False)
    like = templates.template_name("tiny", scope)
    prefix = like.replace("_template_tiny_", "_template_hidden_").rpartition("_")[0] + "_"
    name = f"{prefix}{like.rpartition('_')[2]}"
    if databases.exists(admin, name):
        return name
    with databases.locked(admin, name):
        if not databases.exists(admin, name):
            for stale in databases.made_by_us(admin, prefix):
                databases.drop(admin, stale)
            databases.create(
                admin,
                name,
                settings=templates.SETTINGS,
                fill=lambda building: _fill(endpoint, building),
            )
    return name


def _fill(endpoint: PostgresEndpoint, building: str) -> None:
    from pglab.dataset import Dataset
    from pglab.load import fill_seed, load

    with connect_postgres(endpoint, building, autocommit=True) as connection:
        schema.create(connection)
        load(connection, Dataset(_HIDDEN_MESSAGES, seed=_HIDDEN_SEED), progress=False)
        fill_seed(connection)
        connection.execute("VACUUM (ANALYZE)")
