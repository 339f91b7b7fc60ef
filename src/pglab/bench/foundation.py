"""How long it takes to get to work: starting, opening, resetting, importing.

Whole processes are timed from outside, in a home of their own, several times; what is printed is
the median and the range of this run on this machine. Nothing is asserted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pglab.errors import NoServerError
from pglab.servers import account as accounts
from pglab.servers.home import remove_tree
from pglab.servers.programs import embedded_postgres, local_postgres

__all__ = ["main"]

_OPEN = """
import time, pglab
began = time.perf_counter()
lab = pglab.open({name!r}, size={size!r}, progress=False)
opened = time.perf_counter()
lab.reset()
print(opened - began, time.perf_counter() - opened)
"""


def main(rounds: int = 5, size: str = "small") -> None:
    """Print the numbers.

    Args:
        rounds: how often each is measured.
        size: of the database that is opened and reset.
    """
    with tempfile.TemporaryDirectory(prefix="pglab-bench-") as folder:
        Path(folder).chmod(0o755)  # the servers' account must get to its own directory below
        home = Path(folder) / "lab"
        environment = {**os.environ, "PGLAB_HOME": str(home), "PGLAB_IDLE_MINUTES": "5"}
        # The last: a learner's Python keeps the bytecode of our modules from one start to the next.
        for name in ("DATABASE_URL", "REDIS_URL", "PGLAB_BACKEND", "PYTHONDONTWRITEBYTECODE"):
            environment.pop(name, None)

        def run(*arguments: str) -> str:
            return subprocess.run(
                [sys.executable, *arguments],
                env=environment, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip

        def pglab(*arguments: str) -> None:
            run("-m", "pglab", *arguments)

        # A home for each cold start, all deleted at the end. On a fresh machine nothing was deleted
        # just before, and it matters: run after run of this script, with a thousand files deleted
        # in between, the same initdb took 0.43, 0.62 and 0.78 s; minutes later 0.43 again.
        homes = [str(Path(folder) / f"lab-{number}") for number in range(rounds)]

        def next_home() -> None:
            environment["PGLAB_HOME"] = homes.pop()

        try:
            pglab("up")  # once unmeasured: as root it copies the programs to where all can go
            cold, initdb = [], []
            for _ in range(rounds):  # side by side: a slow machine slows both
                initdb += _times(1, lambda: _initdb(folder))
                cold += _times(1, lambda: pglab("up"), before=next_home)
                pglab("down")
            environment["PGLAB_HOME"] = str(home)
            warm = _times(rounds, lambda: pglab("up"), before=lambda: pglab("down"))
            running = _times(rounds, lambda: pglab("up"))
            opened, reset = _open_and_reset(run, rounds, size)
            bare = _times(rounds * 2, lambda: run("-c", "pass"))
            imported = _times(rounds * 2, lambda: run("-c", "import pglab"))
        finally:
            for path in (home, *Path(folder).glob("lab-?")):
                environment["PGLAB_HOME"] = str(path)
                pglab("purge", "--yes")
            for path in Path(folder).glob("initdb-*"):
                remove_tree(path)
    over_bare = [statistics.median(imported) - statistics.median(bare)]
    print(f"{'seconds':<46}{'median':>8}{'range':>16}{'promised':>10}")
    _row("pglab up, cold: no data directory", cold, "≤ 1.5")
    _row("  initdb alone, in the same rounds", initdb, "")
    _row("pglab up, warm: the data are there", warm, "≤ 0.5")
    _row("pglab up, running already", running, "")
    _row(f"pglab.open on a running lab, {size}", opened, "≤ 0.15")
    _row(f"lab.reset(), {size}", reset, "≤ 0.3")
    _row("import pglab, over bare Python", over_bare, "≤ 0.1")


def _initdb(folder: str) -> None:
    account = accounts.server_account()
    programs = embedded_postgres() or local_postgres()
    if programs is None:
        raise NoServerError("no initdb to compare with; run: pglab doctor")
    tree = accounts.reachable_copy(programs.bin.parent, account, *programs.beside)
    data = Path(tempfile.mkdtemp(prefix="initdb-", dir=folder))
    accounts.own(data, account)
    who: dict[str, Any] = {}
    if account is not None:
        who = {"user": account.uid, "group": account.gid, "extra_groups": []}
    subprocess.run(
        [
            tree / "bin" / "initdb", "--pgdata", data, "--username", "postgres",
            "--auth", "reject", "--encoding", "UTF8", *programs.locale(),
        ],
        check=True, capture_output=True, cwd="/", **who,
    )  # fmt: skip


def _open_and_reset(
    run: Callable[..., str], rounds: int, size: str
) -> tuple[list[float], list[float]]:
    code = _OPEN.format(name="bench", size=size)
    run("-c", code)  # makes the template
    pairs = [tuple(map(float, run("-c", code).split())) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _times(
    rounds: int, action: Callable[[], object], before: Callable[[], object] | None = None
) -> list[float]:
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return times


def _row(what: str, seconds: list[float], promised: str) -> None:
    spread = f"{min(seconds):.3f} – {max(seconds):.3f}" if len(seconds) > 1 else ""
    print(f"{what:<46}{statistics.median(seconds):>8.3f}{spread:>16}{promised:>10}")
