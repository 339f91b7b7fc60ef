"""Finding a running server or starting it, stopping it, and saying how it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from pglab import errors
from pglab.config import Backend, Secret, Settings
from pglab.servers.choose import NAMES, choose
from pglab.servers.connect import connect_postgres, connect_redis
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint
from pglab.servers.home import START_TIMEOUT_S, Kind, Lease, Unit, home_of, starting
from pglab.servers.process import clean_environment, log_tail
from pglab.servers.redis import answers
from pglab.servers.supervisor import Order

__all__ = ["Running", "ensure_postgres", "ensure_redis", "stop", "units"]

_SOURCES: tuple[Backend, ...] = ("embedded", "local", "containers")
_DOWN_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        endpoint: where.
        lease: what keeps it up while this process lives; None for a server that is not ours.
        started: whether this call started it.
    """

    endpoint: PostgresEndpoint | RedisEndpoint
    lease: Lease | None
    started: bool

    def release(self) -> None:
        """Say that this process does not need the server any more."""
        if self.lease is not None:
            self.lease.release()


def ensure_postgres(settings: Settings) -> tuple[PostgresEndpoint, Running]:
    """Return a PostgreSQL server that answers, started where necessary.

    Raises:
        NoServerError: no source can provide one.
        ServerStartError: it did not start.
        ServerUnreachableError: DATABASE_URL leads nowhere.
    """
    running = _ensure("postgres", settings)
    assert isinstance(running.endpoint, PostgresEndpoint)  # noqa: S101 - for the type checker
    return running.endpoint, running


def ensure_redis(settings: Settings) -> tuple[RedisEndpoint, Running]:
    """Return a Redis server that answers, started where necessary.

    Raises:
        NoServerError: no source can provide one.
        ServerStartError: it did not start.
        ServerUnreachableError: REDIS_URL leads nowhere.
    """
    running = _ensure("redis", settings)
    assert isinstance(running.endpoint, RedisEndpoint)  # noqa: S101 - for the type checker
    return running.endpoint, running


def _ensure(kind: Kind, settings: Settings) -> Running:
    source = choose(kind, settings)
    if source == "url":
        return Running(_external(kind, settings), None, started=False)
    unit = Unit(home_of(settings), kind, source)
    unit.make()
    # The lease comes first: an idle server that is about to stop sees it, or we see it stopped.
    lease = unit.lease()
    try:
        endpoint = _answering(unit)
        if endpoint is not None:
            return Running(endpoint, lease, started=False)
        with starting(unit):
            endpoint, started = _start(unit, settings)
        return Running(endpoint, lease, started)
    except BaseException:
        lease.release()
        raise


def _start(unit: Unit, settings: Settings) -> tuple[PostgresEndpoint | RedisEndpoint, bool]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        endpoint = _answering(unit)
        if endpoint is not None:
            return endpoint, False
        if not _supervisor_lives(unit):
            _spawn_supervisor(unit, settings)
            endpoint = _answering(unit)
            if endpoint is not None:
                return endpoint, True
        time.sleep(0.02)  # its supervisor is starting, restarting or stopping it
    raise errors.ServerStartError(
        f"{NAMES[unit.kind]} did not answer within {START_TIMEOUT_S:.0f} s; its last words:\n"
        f"{log_tail(unit.server_log)}\nrun: pglab down, then pglab up"
    )


def _supervisor_lives(unit: Unit) -> bool:
    # Only asked by the holder of the start lock, so that nobody takes our probe for a supervisor.
    lock = unit.supervisor_lock
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _spawn_supervisor(unit: Unit, settings: Settings) -> None:
    order = Order(
        home=str(unit.home),
        kind=unit.kind,
        source=unit.source,
        port=settings.postgres_port if unit.kind == "postgres" else settings.redis_port,
        idle_minutes=settings.idle_minutes,
        image=settings.postgres_image if unit.kind == "postgres" else settings.redis_image,
    )
    log = os.open(unit.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # -P: the folder that a learner works in is no place to import from.
        starter = subprocess.Popen(
            [sys.executable, "-P", "-m", "pglab.servers.supervisor"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            cwd="/" if os.name == "posix" else None,
            env=clean_environment(), start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)
    said, _ = starter.communicate(order.to_json().encode())
    try:
        report = json.loads(said)
    except ValueError:
        raise errors.ServerStartError(
            f"the supervisor of {unit.name} ended without a word; its log ends with:\n"
            f"{log_tail(unit.supervisor_log)}\nrun: pglab doctor"
        ) from None
    if not report["ready"]:
        error = getattr(errors, report["error"], None)
        if isinstance(error, type) and issubclass(error, errors.ServerError):
            raise error(report["message"])
        raise errors.ServerStartError(
            f"{unit.name} did not start: {report['error']}: {report['message']}; "
            f"see {unit.supervisor_log}"
        )


def _answering(unit: Unit) -> PostgresEndpoint | RedisEndpoint | None:
    """Return the endpoint of the unit's server if it answers with our password."""
    state = unit.read_state()
    if not state or "port" not in state:
        return None
    if unit.kind == "postgres":
        endpoint = postgres_endpoint(unit, state)
        with contextlib.suppress(errors.ServerUnreachableError):
            connect_postgres(endpoint, application_name="pglab: is it up?").close()
            return endpoint
        return None
    return redis_endpoint(unit, state) if _redis_answers(unit, state) else None


def _redis_answers(unit: Unit, state: dict[str, Any]) -> bool:
    if state.get("socket"):
        return answers(Path(state["socket"]), unit.password().reveal())
    import redis

    try:
        with connect_redis(redis_endpoint(unit, state), socket_connect_timeout=5) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def postgres_endpoint(unit: Unit, state: dict[str, Any]) -> PostgresEndpoint:
    """Return the endpoint that a unit's state describes."""
    return PostgresEndpoint(
        source=unit.source,
        host=state["host"],
        port=state["port"],
        user=state.get("user", "postgres"),
        password=unit.password(),
        socket_directory=state.get("socket_directory"),
        programs=Path(state["programs"]) if state.get("programs") else None,
    )


def redis_endpoint(unit: Unit, state: dict[str, Any]) -> RedisEndpoint:
    """Return the endpoint that a unit's state describes."""
    return RedisEndpoint(
        source=unit.source,
        host=state["host"],
        port=state["port"],
        password=unit.password(),
        socket=state.get("socket"),
    )


def _external(kind: Kind, settings: Settings) -> PostgresEndpoint | RedisEndpoint:
    from pglab.servers import external

    if kind == "postgres":
        return external.postgres(settings.database_url or Secret(""))
    return external.redis(settings.redis_url or Secret(""))


def units(settings: Settings) -> list[Unit]:
    """Return the units that exist in this environment's home."""
    home = home_of(settings)
    kinds: tuple[Kind, ...] = ("postgres", "redis")
    every = (Unit(home, kind, source) for kind in kinds for source in _SOURCES)
    return [unit for unit in every if unit.path.is_dir()]


def stop(unit: Unit) -> bool:
    """Stop a unit's supervisor, and with it the server.

    Returns:
        Whether one was running.

    Raises:
        ServerError: it does not end.
    """
    with starting(unit):
        if not _supervisor_lives(unit):
            return False
        deadline = time.monotonic() + _DOWN_TIMEOUT_S
        asked: int | None = None
        while _supervisor_lives(unit):
            with contextlib.suppress(OSError, ValueError):
                pid = int(unit.supervisor_pid.read_text())
                if pid != asked:
                    os.kill(pid, signal.SIGTERM)
                    asked = pid
            if time.monotonic() > deadline:
                raise errors.ServerError(
                    f"the supervisor of {unit.name} (process {asked}) does not end; "
                    f"see {unit.supervisor_log}, then end that process"
                )
            time.sleep(0.01)
        return True


def describe(unit: Unit) -> dict[str, Any]:
    """Return what ``pglab status`` shows of a unit, nothing secret in it."""
    state = unit.read_state() or {}
    endpoint = _answering(unit)
    shown = {
        "name": unit.name,
        "kind": unit.kind,
        "source": unit.source,
        "running": endpoint is not None,
        "url": endpoint.url() if endpoint is not None else None,
        "used_by": unit.leases_held() if unit.path.is_dir() else 0,
        "directories": [str(path) for path in unit.owned_paths()],
        "log": str(unit.server_log),
    }
    for name in ("pid", "supervisor_pid", "version", "origin", "idle_minutes", "started_at"):
        shown[name] = state.get(name) if endpoint is not None else None
    return shown
