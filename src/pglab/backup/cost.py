"""What a proven backup costs: dump, restore and verify, beside plain pg_dump and pg_restore.

    python -m pglab.backup.cost --size medium

Both take turns on the same database. The plain way is ``pg_dump -Fd -j2`` and ``pg_restore -j2``
with their own settings. It is shown a second time with our compression, which says how much of the
difference is pg_dump's choice of gzip, and how much the proof costs.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pglab.backup.dump import create
from pglab.backup.programs import Programs, programs_for, started
from pglab.backup.restore import restore
from pglab.servers.connect import connect_postgres

if TYPE_CHECKING:
    from pglab.lab import Lab

__all__ = ["cost"]

_MOST: Final = 1.3
_OURS: Final = "dump, restore and verify"
_PLAIN: Final = "pg_dump -Fd -j2, pg_restore -j2"
_ZSTD: Final = "the same with --compress=zstd:1"


def cost(lab: Lab, folder: Path, *, rounds: int = 3) -> dict[str, list[float]]:
    """Return the seconds of each way, by round; they take turns.

    Args:
        lab: whose database is dumped; it is only read.
        folder: for the dumps; each is deleted at once.
        rounds: of each way.
    """
    with lab.connection() as connection:
        programs = programs_for(lab.server, server_major=connection.info.server_version // 10_000)
    times: dict[str, list[float]] = {_PLAIN: [], _ZSTD: [], _OURS: []}
    for number in range(rounds):
        ways = list(times)
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            copy = f"pglab_cost_{secrets.token_hex(6)}"
            with tempfile.TemporaryDirectory(dir=folder) as place:
                began = time.monotonic()
                if way == _OURS:
                    restore(create(lab.server, lab.database, Path(place)), lab.server, copy)
                else:
                    _plainly(lab, programs, Path(place), copy, zstd=way == _ZSTD)
                times[way].append(time.monotonic() - began)
            with connect_postgres(lab.server, autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {copy} WITH (FORCE)".encode())
    return times


def _plainly(lab: Lab, programs: Programs, place: Path, copy: str, *, zstd: bool) -> None:
    dump = place / "plain"
    arguments = ["--format=directory", "--jobs=2", f"--file={dump}"]
    arguments += ["--compress=zstd:1"] if zstd else []
    with started(
        programs, "pg_dump", arguments, endpoint=lab.server, database=lab.database
    ) as running:
        running.wait()
    with connect_postgres(lab.server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {copy} TEMPLATE template0".encode())
    with started(
        programs, "pg_restore", ["--jobs=2", dump], endpoint=lab.server, database=copy
    ) as running:
        running.wait()


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print the ratio beside what was promised."""
    from pglab.lab import open_lab

    parser = argparse.ArgumentParser(prog="python -m pglab.backup.cost", description=__doc__)
    parser.add_argument("--size", default="medium")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    with open_lab("backup_cost", given.size) as lab, tempfile.TemporaryDirectory() as folder:
        times = cost(lab, Path(folder), rounds=given.rounds)
        lab.drop()
    medians = {way: statistics.median(each) for way, each in times.items()}
    for way, each in times.items():
        spread = ", ".join(f"{seconds:.1f}" for seconds in sorted(each))
        print(f"{way:<34}{medians[way]:>7.2f} s   ({spread})")
    ratio = medians[_OURS] / medians[_PLAIN]
    print(f"ours over plain                   {ratio:>7.2f}     at most {_MOST}")
    print(f"ours over plain, both with zstd   {medians[_OURS] / medians[_ZSTD]:>7.2f}")
    return 0 if ratio <= _MOST else 1


if __name__ == "__main__":
    sys.exit(main())
