"""On which cores client and servers run: the largest effect that a local benchmark meets.

Waking a process on another core takes 20 to 60 µs, as long as a look-up itself: some of it the
processor's, and most of it the time in which a core that sleeps wakes up. On one core client and
server wait for one another anyway, so that a single client loses nothing, and the interval between
rounds shrinks from some 18 % to 2 %; two cores that are kept awake come near that. With several
clients nothing is pinned.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, get_args

from pglab.bench.awake import kept_awake
from pglab.errors import BenchError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Mode", "check_mode", "drawn_cores", "is_here", "is_postgres", "placed"]

_LOOK_S: Final = 0.1

Mode = Literal["auto", "one-core", "two-cores", "unpinned"]
_WHY: Final = {
    "auto": "one core for client and servers if the system lets us, else unpinned",
    "one-core": "client and servers on one core",
    "two-cores": "the client on one core and the servers on another, both kept awake",
    "unpinned": "each round on cores drawn anew, or wherever the system puts them",
}


def check_mode(mode: str) -> Mode:
    """Return the mode if there is one of this name.

    Raises:
        BenchError: there is none.
    """
    for known in get_args(Mode):
        if mode == known:
            return known  # type: ignore[no-any-return]
    listed = "; ".join(f"{name}: {why}" for name, why in _WHY.items())
    raise BenchError(f"placement {mode!r} is unknown; use one of {listed}")


@contextmanager
def placed(mode: Mode, server_pids: Iterable[int]) -> Iterator[str]:
    """Place this process and the servers' for the length of a block; then put them back.

    Args:
        mode: how.
        server_pids: the backends of the measured connections, and Redis.

    Yields:
        In words where they run, to be kept with the results.

    Raises:
        BenchError: a placement was insisted on, and the system does not allow it.
    """
    if mode == "unpinned":
        yield (
            "unpinned: each round on cores drawn anew where they can be, for a wake-up on another "
            "core may take longer than a look-up"
        )
        return
    server_pids = list(server_pids)
    trouble = _trouble(mode)
    if trouble is None and not server_pids:
        trouble = "the servers' processes are out of reach"
    before: dict[int, set[int]] = {}
    if trouble is None:
        cores = sorted(os.sched_getaffinity(0))
        idlest = _by_idleness(cores)
        client, server = idlest[0], idlest[0] if mode != "two-cores" else idlest[1]
        try:
            for pid in server_pids:
                before[pid] = os.sched_getaffinity(pid)
                os.sched_setaffinity(pid, {server})
            before[0] = set(cores)
            os.sched_setaffinity(0, {client})
        except OSError as error:
            _restore(before)
            before = {}
            trouble = f"the servers' processes cannot be placed ({error.strerror})"
    if trouble is not None:
        if mode != "auto":
            raise BenchError(f"--placement {mode}: {trouble}; use --placement unpinned")
        yield f"unpinned, for {trouble}: a wake-up on another core may take longer than a look-up"
        return
    try:
        if client == server:
            yield f"client and servers on core {client}"
        else:
            with kept_awake([client, server]) as awake:
                yield (
                    f"client on core {client}, servers on core {server}, "
                    f"{'both kept awake' if awake else 'which may fall asleep'}"
                )
    finally:
        _restore(before)


@contextmanager
def drawn_cores(server_pids: Sequence[int], rng: np.random.Generator) -> Iterator[None]:
    """Keep this process on a core drawn at random, and the servers' on another draw, for a round.

    Left alone, the system keeps one variant's server process on the client's core and another's
    on the other one for many rounds on end, whatever they do: a variant then seems four times as
    fast as itself, and starting each share of a round on a random core did not help, for the
    system moves the processes back within milliseconds. So cores are a block of the design as in
    any experiment: drawn for each round, the same for all its variants. Where processes cannot be
    placed, nothing is done.

    Args:
        server_pids: of all variants; none where they mean nothing on this machine.
        rng: draws the cores.
    """
    before: dict[int, set[int]] = {}
    if hasattr(os, "sched_setaffinity") and server_pids:
        cores = sorted(os.sched_getaffinity(0))
        client, server = (int(core) for core in rng.choice(cores, 2))
        try:
            for pid, core in ((0, client), *((pid, server) for pid in server_pids)):
                before[pid] = os.sched_getaffinity(pid)
                os.sched_setaffinity(pid, {core})
        except OSError:
            # All or none: a round whose variants are placed differently compares nothing.
            _restore(before)
            before = {}
    try:
        yield
    finally:
        _restore(before)


def _trouble(mode: Mode) -> str | None:
    if not hasattr(os, "sched_setaffinity"):
        return f"{sys.platform} has no way to place a process"
    if mode == "two-cores" and len(os.sched_getaffinity(0)) < 2:
        return "this process may use one core only"
    return None


def _by_idleness(cores: Sequence[int]) -> list[int]:
    """Return the cores, the one with least to do first: a pinned process cannot evade others."""
    import psutil

    busy = psutil.cpu_percent(interval=_LOOK_S, percpu=True)
    # Among equals the last: interrupts and whatever else gathers on the first.
    return sorted(cores, key=lambda core: (busy[core] if core < len(busy) else 0.0, -core))


def _restore(before: dict[int, set[int]]) -> None:
    for pid, cores in before.items():
        with suppress(OSError):  # a backend that has ended needs no core
            os.sched_setaffinity(pid, cores)


def is_postgres(pid: int) -> bool:
    """Tell whether a process of this machine is PostgreSQL's."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return "postgres" in " ".join([process.name(), *process.cmdline()[:1]])
    return False


def is_here(host: str | None, socket_directory: str | None) -> bool:
    """Tell whether a server's process ids mean something on this machine."""
    if socket_directory is not None:
        return True
    return host in {"localhost", "127.0.0.1", "::1", socket.gethostname()}
