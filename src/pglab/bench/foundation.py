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

        try:
            pglab(
                "up"
            )  # once unmeasured: as root it copies the programs to where nobody can run them
            cold = _times(rounds, lambda: pglab("up"), before=lambda: pglab("purge", "--yes"))
            warm = _times(rounds, lambda: pglab("up"), before=lambda: pglab("down"))
            running = _times(rounds, lambda: pglab("up"))
            opened, reset = _open_and_reset(run, rounds, size)
            bare = _times(rounds * 2, lambda: run("-c", "pass"))
            imported = _times(rounds * 2, lambda: run("-c", "import pglab"))
        finally:
            pglab("purge", "--yes")
    over_bare = [statistics.median(imported) - statistics.median(bare)]
    print(f"{'seconds':<46}{'median':>8}{'range':>16}{'promised':>10}")
    _row("pglab up, cold: no data directory", cold, "≤ 1.5")
    _row("pglab up, warm: the data are there", warm, "≤ 0.5")
    _row("pglab up, running already", running, "")
    _row(f"pglab.open on a running lab, {size}", opened, "≤ 0.15")
    _row(f"lab.reset(), {size}", reset, "≤ 0.3")
    _row("import pglab, over bare Python", over_bare, "≤ 0.1")


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
