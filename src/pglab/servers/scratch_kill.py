"""A power cut for one PostgreSQL server: every process of it ends with SIGKILL."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

from pglab.servers.process import working_in

__all__ = ["end_at_once", "shared_memory_of"]

_POLL_S = 0.005
_MOST_LOOKS = 200
_IPC_RMID = 0  # from <sys/ipc.h>
_SHARED_MEMORY_LINE = 6  # of postmaster.pid, from 0; see PostgreSQL's src/include/utils/pidfile.h


def end_at_once(postmaster: subprocess.Popen[bytes], data: Path) -> None:
    """Kill the postmaster and its children, before any of them can say or write a last word.

    Where there is no /proc, the children are not found; without a postmaster they end themselves.
    """
    segment = shared_memory_of(postmaster.pid, data)
    if postmaster.poll() is None:
        # Suspended first, so that it starts no further process and tells none to end.
        postmaster.send_signal(signal.SIGSTOP)
    for _ in range(_MOST_LOOKS):
        others = [pid for pid in working_in(data, "postgres") if pid != postmaster.pid]
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if postmaster.poll() is None:
            postmaster.kill()
            postmaster.wait()
        if not others:
            break
        time.sleep(_POLL_S)
    if segment is not None:  # a power cut would have taken this, too
        ctypes.CDLL(None).shmctl(segment, _IPC_RMID, None)


def shared_memory_of(pid: int, data: Path) -> int | None:
    """Return the id of the shared memory by which this postmaster guards its data directory."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[_SHARED_MEMORY_LINE].split()[1]) if int(lines[0]) == pid else None
    except (OSError, ValueError, IndexError):
        return None
