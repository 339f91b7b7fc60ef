"""The container engine of this machine: whether it answers, and what of a unit it keeps.

An engine outlives whoever asked it for a container. What it keeps for a unit carries a label with
the unit's name, by which a later process recognises it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from pglab.errors import ServerError
from pglab.servers.home import Unit, write_private

__all__ = [
    "HOST",
    "LABEL",
    "TIMEOUT_S",
    "connected",
    "end",
    "engine_problem",
    "first_line",
    "name_of",
    "remove_leftovers",
    "remove_volume",
]

HOST: Final = "127.0.0.1"  # the one address that ports are published on
LABEL: Final = "pglab.unit"
TIMEOUT_S: Final = 30

_PROBE_TIMEOUT_S: Final = 5
_STOP_TIMEOUT_S: Final = 30
_PROBLEM_IS_NEW_S: Final = 5.0


def engine_problem() -> str | None:
    """Return why no container can be run here, with the remedy, or None; kept for some seconds."""
    now = int(time.monotonic() / _PROBLEM_IS_NEW_S)
    return _look_for_problem(os.environ.get("DOCKER_HOST"), now)


@lru_cache(maxsize=1)
def _look_for_problem(_host: str | None, _now: int) -> str | None:
    try:
        from docker.errors import DockerException
    except ImportError as error:
        return f"testcontainers is not installed ({error}); run: pip install testcontainers"
    try:
        # A docker program on PATH would prove nothing: this asks the engine for its version.
        _knock()
        with connected(_PROBE_TIMEOUT_S) as engine:
            where = urlsplit(str(engine.api.base_url)).hostname or "localhost"
    except (DockerException, OSError, ValueError, ImportError, RuntimeError) as error:
        said = first_line(error)
        if isinstance(error, PermissionError):
            return (
                f"this account may not use the container engine ({said}); "
                "add it to the group docker and log in again"
            )
        return (
            f"no container engine answers ({said}); "
            "start Docker or Podman, or point DOCKER_HOST at its socket"
        )
    if where not in ("localhost", HOST, "::1", "localnpipe"):
        return (
            f"the container engine is on another machine ({where}), and servers are published on "
            f"{HOST} there; use an engine on this machine, or set DATABASE_URL and REDIS_URL"
        )
    return None


def _knock() -> None:
    # Where nobody listens, this says so in fewer words than docker-py, which leaves a socket open.
    from testcontainers.core.docker_client import get_docker_host

    host = get_docker_host() or ("unix:///var/run/docker.sock" if os.name == "posix" else "")
    if host.startswith("unix://"):
        path = host.removeprefix("unix://")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_TIMEOUT_S)
            try:
                probe.connect(path)
            except OSError as error:
                raise type(error)(error.errno, f"{path}: {error.strerror}") from None


def remove_leftovers(unit: Unit) -> bool:
    """Remove the containers of this unit, those that a killed supervisor left; tell if any was."""
    with connected() as engine:
        found = engine.containers.list(
            all=True, ignore_removed=True, filters={"label": f"{LABEL}={name_of(unit)}"}
        )
        for container in found:
            end(unit, container)
    return bool(found)


def remove_volume(unit: Unit) -> None:
    """Remove the unit's containers and its data; nothing to do where there are none.

    Raises:
        ServerError: the engine that has them does not answer.
    """
    from docker.errors import NotFound

    problem = engine_problem()
    if problem is not None:
        raise ServerError(
            f"the volume {name_of(unit)} is in a container engine's keeping: {problem}; "
            f"then try again, or remove {unit.path} by hand"
        )
    remove_leftovers(unit)
    with connected() as engine, suppress(NotFound):
        engine.volumes.get(name_of(unit)).remove(force=True)


def name_of(unit: Unit) -> str:
    """Return what the unit's container, its volume and its label's value are called."""
    home = os.path.realpath(unit.home)
    return f"pglab-{hashlib.sha256(home.encode()).hexdigest()[:12]}-{unit.kind}"


@contextmanager
def connected(timeout_s: int = TIMEOUT_S) -> Iterator[Any]:
    """Yield docker-py's client of the engine that testcontainers finds."""
    from testcontainers.core.docker_client import DockerClient

    client = DockerClient(timeout=timeout_s).client
    try:
        yield client
    finally:
        client.close()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name."""
    return (str(error) or type(error).__name__).splitlines()[0]


def end(unit: Unit, container: Any) -> None:
    """Stop a container in good order, keep its last words in the unit's log, and remove it."""
    from docker.errors import NotFound

    with suppress(NotFound):
        container.stop(timeout=_STOP_TIMEOUT_S)
        said = container.logs(tail=1000)
        write_private(unit.server_log, said.decode(errors="replace"))
        container.remove(v=True, force=True)  # v: unnamed volumes only; ours has a name
