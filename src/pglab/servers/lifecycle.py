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
from typing import Any, Final

from filelock import Timeout

from pglab import errors
from pglab.config import Backend, Secret, Settings
from pglab.servers.choose import NAMES, choose
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint
from pglab.servers.home import START_TIMEOUT_S, Kind, Lease, Unit, home_of, room_explained, starting
from pglab.servers.process import clean_environment, log_tail
from pglab.servers.running import is_supervisor, probe
from pglab.servers.supervisor import Order

__all__ = ["Running", "ensure_postgres", "ensure_redis", "stop", "units"]

_SOURCES: tuple[Backend, ...] = ("embedded", "local", "containers")
_DOWN_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 10.0
_POLL_S = 0.02
# A server that is there and no use may be just starting or recovering.
_PATIENCE_S: Final = 3.0
# After giving a server up, starting it again and again would only hide why it dies.
_GIVEN_UP_S: Final = 60.0


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
    with room_explained(unit):
        return _find_or_start(unit, settings)


def _find_or_start(unit: Unit, settings: Settings) -> Running:
    unit.make()
    # The lease comes first: an idle server that is about to stop sees it, or we see it stopped.
    lease = unit.lease()
    try:
        endpoint = probe(unit).endpoint
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
    started = False
    since: float | None = None
    while (now := time.monotonic()) < deadline:
        # A server without a supervisor is just ending, if it is there at all.
        if not _supervisor_lives(unit):
            _refuse_after_giving_up(unit)
            _spawn_supervisor(unit, settings)
            started = True
        answer = probe(unit)
        if answer.endpoint is not None:
            return answer.endpoint, started
        since = (since or now) if answer.trouble else None
        if since is not None and time.monotonic() - since >= _PATIENCE_S:
            raise errors.ServerUnreachableError(
                f"{NAMES[unit.kind]} is running, but {answer.trouble}"
            )
        time.sleep(_POLL_S)  # its supervisor is starting, restarting or stopping it
    raise errors.ServerStartError(
        f"{NAMES[unit.kind]} did not answer within {START_TIMEOUT_S:.0f} s; its last words:\n"
        f"{log_tail(unit.server_log)}\nrun: pglab down, then pglab up"
    )


def _refuse_after_giving_up(unit: Unit) -> None:
    state = unit.read_state() or {}
    at = state.get("gave_up_at")
    if isinstance(at, (int, float)) and 0 <= time.time() - at < _GIVEN_UP_S:
        raise errors.ServerStartError(
            f"{NAMES[unit.kind]} was given up {time.time() - at:.0f} s ago, because "
            f"{state.get('gave_up')}; its last words:\n{log_tail(unit.server_log)}\n"
            f"see {unit.supervisor_log}; to try again at once, run: pglab down, then pglab up"
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
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "pglab.servers.supervisor"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            cwd="/" if os.name == "posix" else None,
            env=clean_environment(), start_new_session=True,
        ) as starter:  # fmt: skip
            assert starter.stdin is not None  # noqa: S101 - pipes were asked for
            assert starter.stdout is not None  # noqa: S101
            with contextlib.suppress(BrokenPipeError), starter.stdin:
                starter.stdin.write(order.to_json().encode())
            if unit.kind == "postgres":
                # The next thing that we need, and its import takes a tenth of a second: meanwhile
                # the server starts.
                import psycopg  # noqa: F401
            said = starter.stdout.read()
    finally:
        os.close(log)
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
            if "gave_up_at" in (unit.read_state() or {}):
                unit.clear_state()  # who stops it wants a new beginning
            return _end_leftovers(unit)
        if not _end_supervisor(unit, signal.SIGTERM, _DOWN_TIMEOUT_S) and not (
            # Its death ends the server in good order, too, but nobody restarts that.
            hasattr(signal, "SIGKILL") and _end_supervisor(unit, signal.SIGKILL, _KILL_TIMEOUT_S)
        ):
            raise errors.ServerError(
                f"the supervisor of {unit.name} does not end; see {unit.supervisor_log}, "
                "then end that process"
            )
        return True


def _end_supervisor(unit: Unit, number: signal.Signals, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    asked: int | None = None
    while _supervisor_lives(unit):
        with contextlib.suppress(OSError, ValueError):
            pid = int(unit.supervisor_pid.read_text())
            if pid != asked and is_supervisor(pid):
                os.kill(pid, number)
                if hasattr(signal, "SIGCONT"):  # a suspended one would not hear
                    os.kill(pid, signal.SIGCONT)
                asked = pid
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _end_leftovers(unit: Unit) -> bool:
    if unit.source != "containers":
        return False
    from pglab.servers.engine import engine_problem, remove_leftovers

    if engine_problem() is not None:
        return False
    removed = remove_leftovers(unit)
    unit.clear_state()
    return removed


def describe(unit: Unit) -> dict[str, Any]:
    """Return what ``pglab status`` shows of a unit, nothing secret in it."""
    state = unit.read_state() or {}
    endpoint = probe(unit).endpoint
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
