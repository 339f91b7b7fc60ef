"""Starting a server as a child that cannot outlive us, and reading what it last said."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from pglab.servers.account import Account

__all__ = ["clean_environment", "free_port", "log_tail", "port_is_free", "spawn"]

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>; the signal a child gets when its parent's thread ends


def clean_environment() -> dict[str, str]:
    """Return our environment without libpq's variables: a nonsense PGHOST must change nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # pglab's own variables begin with PG too, and the password of a URL is nobody's business.
    kept.pop("DATABASE_URL", None)
    kept.pop("REDIS_URL", None)
    return kept


def spawn(
    argv: Sequence[str | Path],
    *,
    account: Account | None,
    death_signal: signal.Signals,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any],
) -> subprocess.Popen[bytes]:
    """Start a program as ``account``, in ``/``, its output in ``stdout``.

    If this process dies, even by SIGKILL, the child receives ``death_signal``: from the kernel on
    Linux, elsewhere from a small watcher that notices the end of a pipe.
    """
    identity: dict[str, Any] = (
        {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    child = subprocess.Popen(  # noqa: PLW1509 - the supervisor that calls this has one thread
        [str(part) for part in argv],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={**clean_environment(), "LC_ALL": "C"},
        umask=0o077,
        preexec_fn=_die_with_parent(death_signal) if sys.platform == "linux" else None,
        **identity,
    )
    if sys.platform != "linux" and os.name == "posix":
        _watch(child.pid, death_signal)
    return child


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    # Loaded before the fork: after it, only what is already in memory is safe to touch.
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare


def _watch(pid: int, death_signal: signal.Signals) -> None:
    # The write end stays open in this process alone, and closes however it ends.
    read_end, write_end = os.pipe()
    subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -{death_signal.name[3:]} {pid}"],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read_end)
    os.set_inheritable(write_end, False)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing can be taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def log_tail(path: Path, lines: int = 12) -> str:
    """Return the last lines of a log, indented for a message; what cannot be read is said."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            text = log.read().decode(errors="replace")
    except OSError as error:
        return f"  (no log: {error.strerror})"
    last = [f"  {line}" for line in text.splitlines()[-lines:]]
    return "\n".join(last) if last else "  (the log is empty)"
