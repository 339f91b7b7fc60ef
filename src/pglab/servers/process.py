"""Starting a server as a child that cannot outlive us, and reading what it last said."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pglab.errors import ServerStartError
from pglab.servers.account import Account

__all__ = [
    "clean_environment",
    "free_port",
    "log_tail",
    "port_is_free",
    "ports_to_try",
    "spawn",
    "working_in",
]

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
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program as ``account``, in ``/``, its output in ``stdout``.

    With ``own_session`` it does not hear a SIGINT that is meant for our process group, as Ctrl-C in
    a terminal and "Interrupt kernel" in a notebook send it.

    If this process dies, even by SIGKILL, the child receives ``death_signal``: from the kernel on
    Linux, elsewhere from a small watcher that notices the end of a pipe.
    """
    identity: dict[str, Any] = (
        {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    child = subprocess.Popen(
        [str(part) for part in argv],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={**clean_environment(), "LC_ALL": "C"},
        umask=0o077,
        start_new_session=own_session,
        # What makes this unsafe elsewhere: the supervisor that calls it has one thread.
        preexec_fn=_die_with_parent(death_signal) if sys.platform == "linux" else None,  # noqa: PLW1509
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


def ports_to_try(wanted: int | None, last: int | None, variable: str) -> Iterator[int]:
    """Yield ports of 127.0.0.1 to try in turn, because each may be taken a moment later.

    Args:
        wanted: a port to insist on, or None.
        last: the port of the last time: whoever kept the address finds the server again.
        variable: of the environment, where ``wanted`` comes from.

    Raises:
        ServerStartError: the wanted port is taken.
    """
    if wanted is not None:
        if not port_is_free(wanted):
            raise ServerStartError(
                f"port {wanted} of 127.0.0.1 is taken by another program; "
                f"set {variable} to a free one, or unset it"
            )
        yield wanted
        return
    if last is not None and port_is_free(last):
        yield last
    for _ in range(5):
        yield free_port()


def working_in(directory: Path, program: str) -> list[int]:
    """Return the processes of this program whose working directory this is (Linux only).

    A server works in its data directory, and so do its children: what it leaves behind when it is
    killed is found here. Elsewhere than on Linux the list is empty.

    Args:
        directory: where they would work.
        program: the name of their executable.
    """
    directory = directory.resolve()  # as the kernel names it
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() != directory:
                continue
            name = (process / "exe").readlink().name.removesuffix(" (deleted)")
        except OSError:  # it ended, or is not ours to look at
            continue
        if name == program:
            found.append(int(process.name))
    return found


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
