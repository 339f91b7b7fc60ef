"""Cores that do not fall asleep, so that waking them is no part of what is measured.

A core without work is put to sleep, and in a virtual machine handed back to the host, which takes
its own time to return it: 10 to 20 µs for each wake-up, and another figure in the next round. A
process of the lowest class (``SCHED_IDLE``) gives the core something to do that whoever else wants
it interrupts at once. Client and server on two cores then take as long in each round as in the one
before, within 1 or 2 %, and not within 20 %.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["kept_awake"]

# It looks for its parent as it goes: one that is killed can end nothing.
_SPIN = """
import os, sys
parent, core = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print("awake", flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def kept_awake(cores: Iterable[int]) -> Iterator[bool]:
    """Keep cores busy with nothing, at the lowest priority, for the length of a block.

    Args:
        cores: by number; this process may use them.

    Yields:
        Whether all are kept awake; False where the system has no such priority.
    """
    with ExitStack() as stack:
        awake = [stack.enter_context(_spinning(core)) for core in cores]
        yield all(awake)


@contextmanager
def _spinning(core: int) -> Iterator[bool]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SPIN, str(os.getpid()), str(core)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        yield process.stdout.readline() == b"awake\n"
    finally:
        process.kill()
        process.communicate()
