"""What watching costs: how soon all is answered, and what a load beside it loses.

    python -m pglab.monitor.cost [--quick] [--json]

It starts a server of its own with a database of 500 tables. pgbench works on them from as many
clients as there are cores, with commits that do not wait for the disk, so that whatever the watch
uses is taken from it. Rounds with and without a watch take turns (ABBA).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pglab.bench.statistics import Ratio, paired_ratio
from pglab.errors import BenchError, PglabError
from pglab.monitor.asking import survey
from pglab.monitor.watch import Watch
from pglab.servers.scratch import scratch_postgres

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.scratch import ScratchPostgres

__all__ = ["Cost", "measure_cost"]

MOST_MS: Final = 150.0
MOST_SHARE: Final = 0.02
_TABLES: Final = 500
_INTERVAL_S: Final = 2.0  # what ``pglab monitor`` takes when nothing else is said
_SLOW_EVERY_S: Final = 30.0  # … and for what changes slowly

_MAKE: Final = """\
DO $make$
BEGIN
    FOR n IN {first} .. {last} LOOP
        EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, parent int, body text,
                        at timestamptz DEFAULT now())', 't' || n);
        EXECUTE format('CREATE INDEX ON %I (parent)', 't' || n);
        EXECUTE format('CREATE INDEX ON %I (parent, at)', 't' || n);
        EXECUTE format('INSERT INTO %I SELECT i, i %% 50 + 1, repeat(''x'', 60)
                        FROM generate_series(1, 200) AS i', 't' || n);
        IF n > 1 THEN
            EXECUTE format('ALTER TABLE %I ADD FOREIGN KEY (parent) REFERENCES %I',
                           't' || n, 't' || n - 1);
        END IF;
    END LOOP;
END $make$"""

_SCRIPT: Final = """\
\\set n random(1, {tables})
\\set id random(1, 200)
SELECT body FROM t:n WHERE id = :id;
SELECT count(*) FROM t:n WHERE parent = :id % 50 + 1;
UPDATE t:n SET at = now() WHERE id = :id;
"""


@dataclass(frozen=True)
class Cost:
    """What was measured.

    Attributes:
        tables: in the database.
        clients: of the load.
        answers_ms: for each of the rounds, until every question was answered.
        with_watch, without: transactions per second of the load, pair by pair.
        survey_cpu_ms, round_cpu_ms: processor time, of the server and of who asks, for all
            questions and for a round of those that a watch asks each time; on the books of the
            system, and so the same on a busy machine.
        every_s: seconds between two rounds of the watch.
    """

    tables: int
    clients: int
    answers_ms: tuple[float, ...]
    with_watch: tuple[float, ...]
    without: tuple[float, ...]
    survey_cpu_ms: float
    round_cpu_ms: float
    every_s: float = _INTERVAL_S

    @property
    def answer_ms(self) -> float:
        """Return the median."""
        return statistics.median(self.answers_ms)

    @property
    def kept(self) -> Ratio:
        """Return the throughput with a watch over that without, with its interval."""
        return paired_ratio(self.with_watch, self.without)

    @property
    def cpu_share(self) -> float:
        """Return the share of one core that a watch takes, 0 to 1."""
        rounds_ms = self.round_cpu_ms / self.every_s
        return (rounds_ms + self.survey_cpu_ms / _SLOW_EVERY_S) / 1000

    @property
    def passed(self) -> bool:
        """Tell whether both numbers are kept; of the cost, the best estimate decides."""
        return self.answer_ms <= MOST_MS and 1 - self.kept.value <= MOST_SHARE

    def text(self) -> str:
        """Return both numbers in words."""
        kept = self.kept
        lost, least, most = (100 * (1 - value) for value in (kept.value, kept.high, kept.low))
        sure = (
            "and that is certain"
            if most <= 100 * MOST_SHARE
            else "but the machine was too restless to be certain"
            if lost <= 100 * MOST_SHARE
            else "which is too much"
        )
        return (
            f"{self.tables} tables: all questions answered in {self.answer_ms:.0f} ms "
            f"(median of {len(self.answers_ms)}; at most {MOST_MS:.0f} ms are allowed)\n"
            f"a load of {self.clients} clients loses {lost:.1f} % to a watch every "
            f"{self.every_s:g} s, {least:.1f} % to {most:.1f} % ({len(self.without)} pairs of "
            f"rounds; at most {100 * MOST_SHARE:g} % are allowed), {sure}\n"
            f"processor time: {self.round_cpu_ms:.0f} ms a round and {self.survey_cpu_ms:.0f} ms "
            f"for all questions; every {self.every_s:g} s and every {_SLOW_EVERY_S:g} s that is "
            f"{100 * self.cpu_share:.2f} % of one core"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        kept = self.kept
        return {**asdict(self), "answer_ms": self.answer_ms, "kept": asdict(kept)}


def measure_cost(
    *, tables: int = _TABLES, pairs: int = 12, seconds: int = 5, answers: int = 21
) -> Cost:
    """Measure both numbers on a server of its own.

    Args:
        tables: of the database.
        pairs: of rounds, one with a watch and one without.
        seconds: that a round takes.
        answers: how often all is asked.

    Raises:
        BenchError: pgbench is not here, or failed.
        NoServerError: PostgreSQL's programs are not here.
    """
    settings = {
        "shared_preload_libraries": "pg_stat_statements",
        "synchronous_commit": "off",
        "shared_buffers": "256MB",
        "autovacuum": "off",
        "max_wal_size": "4GB",
    }
    clients = os.cpu_count() or 2
    with (
        scratch_postgres(settings=settings) as server,
        tempfile.NamedTemporaryFile("w", suffix=".sql") as script,
        server.connect(autocommit=True, application_name="pglab monitor cost") as connection,
    ):
        _make(connection, tables)
        script.write(_SCRIPT.format(tables=tables))
        script.flush()
        load = _Load(server, Path(script.name), clients, seconds)
        load.run()  # plans, caches
        asked = []
        for _ in range(answers):
            began = time.perf_counter()
            survey(connection)
            asked.append(1000 * (time.perf_counter() - began))
        watch = Watch(connection, slow_every_s=_SLOW_EVERY_S)
        watch.next()
        survey_ms = _cpu_ms(connection, lambda: survey(connection), answers)
        round_ms = _cpu_ms(connection, watch.next, answers)
        watched: list[float] = []
        alone: list[float] = []
        for pair in range(pairs):
            for with_watch in (True, False) if pair % 2 else (False, True):
                if with_watch:
                    with _Watching(watch):
                        watched.append(load.run())
                else:
                    alone.append(load.run())
    return Cost(tables, clients, tuple(asked), tuple(watched), tuple(alone), survey_ms, round_ms)


def _cpu_ms(connection: psycopg.Connection[Any], ask: Callable[[], object], times: int) -> float:
    """Return the processor time of one question in ms, of the session's process and of ours."""
    import psutil

    processes = [psutil.Process(connection.info.backend_pid), psutil.Process()]

    def used_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    before = used_s()
    for _ in range(times):
        ask()
    return 1000 * (used_s() - before) / times


def _make(connection: psycopg.Connection[Any], tables: int) -> None:
    connection.execute("CREATE EXTENSION pg_stat_statements")
    for first in range(1, tables + 1, 50):
        last = min(first + 49, tables)
        connection.execute(_MAKE.format(first=first, last=last).encode())
    connection.execute("VACUUM ANALYZE")


@dataclass(frozen=True)
class _Load:
    server: ScratchPostgres
    script: Path
    clients: int
    seconds: int

    def run(self) -> float:
        """Run one round; return transactions per second."""
        done = subprocess.run(
            [
                self.server.programs.pgbench, "--no-vacuum", "--protocol", "simple",
                "--client", str(self.clients), "--jobs", str(self.clients),
                "--time", str(self.seconds), "--file", self.script,
            ],
            env=self.server.environment(), capture_output=True, text=True, check=False,
            timeout=self.seconds + 60,
        )  # fmt: skip
        found = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode != 0 or found is None:
            raise BenchError(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return float(found[1])


class _Watching:
    """Looks around every two seconds in a thread, until the block ends."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="pglab watch", daemon=True)

    def _look(self) -> None:
        while True:
            began = time.monotonic()
            self._watch.next()
            if self._stop.wait(max(0.0, _INTERVAL_S - (time.monotonic() - began))):
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; the exit status is 1 if a number is not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m pglab.monitor.cost",
        description="Measure how soon all questions are answered, and what a load loses by it.",
    )
    parser.add_argument("--pairs", type=int, default=12, help="of rounds (default: 12)")
    parser.add_argument("--seconds", type=int, default=5, help="of a round (default: 5)")
    parser.add_argument("--tables", type=int, default=_TABLES, help=f"(default: {_TABLES})")
    parser.add_argument("--quick", action="store_true", help="3 pairs of 2 seconds")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args(arguments)
    pairs, seconds = (3, 2) if given.quick else (given.pairs, given.seconds)
    try:
        found = measure_cost(tables=given.tables, pairs=pairs, seconds=seconds)
    except PglabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(found.to_json(), indent=2) if given.json else found.text())
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
