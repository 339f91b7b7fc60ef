"""Start the processes that play scenarios.

Importing what they need takes longer than most answers. So, where there is fork, one process that
has it all imported waits, and a fork of it plays each scenario. It ends with us, or when nothing
has come for a while.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, Final

from pglab.exercises._failures import CannotCheckError
from pglab.servers.process import spawn

__all__ = ["play"]

_NURSE: Final = "from pglab.exercises._play import nurse; nurse()"
_ALONE: Final = "from pglab.exercises._play import alone; alone()"

_lock = threading.Lock()
_nursery: tuple[int, subprocess.Popen[bytes]] | None = None


def play(order: bytes, timeout_s: float) -> int | None:
    """Have a job played; return its process's exit code, negative for a signal.

    Args:
        order: the job, as a line of JSON.
        timeout_s: when to kill it; None is returned then.

    Raises:
        CannotCheckError: the process could not be started.
    """
    with _lock:
        if not hasattr(os, "fork"):
            return _alone(order, timeout_s)
        for attempt in (1, 2):
            try:
                return _forked(order, timeout_s)
            except BrokenPipeError:  # it was idle for too long, or killed: a new one
                _end()
                if attempt == 2:
                    raise
            except BaseException:
                _end()
                raise
    raise AssertionError("unreachable")


def _forked(order: bytes, timeout_s: float) -> int | None:
    process = _nurse()
    assert process.stdin is not None  # noqa: S101 - pipes were asked for
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(order)
    process.stdin.flush()
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    if not ready:
        _end()
        return None
    line = process.stdout.readline()
    if not line:
        raise BrokenPipeError
    try:
        return int(line)
    except ValueError:
        said = line + process.stdout.read()
        raise CannotCheckError(said.decode(errors="replace")[-1_000:]) from None


def _nurse() -> subprocess.Popen[bytes]:
    global _nursery  # noqa: PLW0603 - one a process
    if _nursery is None or _nursery[0] != os.getpid():
        _nursery = os.getpid(), _spawn(_NURSE)
    return _nursery[1]


def _spawn(program: str) -> subprocess.Popen[bytes]:
    return spawn(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"],
        account=None,
        death_signal=signal.SIGKILL,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@atexit.register
def _end() -> None:
    """End the nursery; what it plays ends with it (at its limit, where the system cannot)."""
    global _nursery
    found, _nursery = _nursery, None
    if found is not None and found[0] == os.getpid():
        _kill(found[1])


def _kill(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.kill()
    with suppress(OSError):
        process.communicate()


def _alone(order: bytes, timeout_s: float) -> int | None:
    process = _spawn(_ALONE)
    try:
        said, _ = process.communicate(order, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)
    if process.returncode and said.strip():  # it never came so far as to be silent
        raise CannotCheckError(said.decode(errors="replace")[-1_000:])
    return process.returncode
