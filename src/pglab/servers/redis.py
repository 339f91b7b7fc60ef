"""A Redis server of our own: Valkey, its open-source continuation, or redis-server.

Its configuration goes in through standard input, so that the password stands neither on disk nor
in the list of processes. Nothing is saved: here it is a cache, and PostgreSQL is the truth.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pglab.errors import ServerStartError
from pglab.servers import account as accounts
from pglab.servers.home import Unit, remove_tree, socket_directory
from pglab.servers.process import log_tail, ports_to_try, spawn, working_in

__all__ = ["DATABASES", "RedisProcess", "WrongPasswordError", "ping"]

# Each lesson has a logical database of its own; Redis counts them from 0.
DATABASES = 512

_READY_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.005


@dataclass
class RedisProcess:
    """One server process.

    Attributes:
        wanted_port: a port to insist on; None for the last one, or any.
    """

    unit: Unit
    program: Path
    origin: str
    account: accounts.Account | None
    wanted_port: int | None = None
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    port: int = field(default=0, init=False)
    _sockets: Path | None = field(default=None, init=False)

    def start(self) -> dict[str, Any]:
        """Start it and wait until it answers PING to the right password.

        Returns:
            What ``state.json`` says of it: port, socket, pid.

        Raises:
            ServerStartError: it did not start; the message has its last words.
        """
        folder = accounts.reachable_copy(self.program.parent, self.account)
        program = folder / self.program.name
        if self._sockets is None:
            self._end_predecessor(program)
            self._sockets = socket_directory(self.account, self.unit)
        path = self._sockets / "redis.sock"
        last = self.unit.last_port()
        for port in ports_to_try(self.wanted_port, last, "PGLAB_REDIS_PORT"):
            self.port = port
            if self._try_port(program, path):
                return {
                    "host": "127.0.0.1",
                    "port": self.port,
                    "socket": str(path),
                    "sockets": str(self._sockets),
                    "pid": self.child.pid if self.child else None,
                    "origin": self.origin,
                }
        raise ServerStartError(
            f"{self.program.name} did not start; its last words:\n"
            f"{log_tail(self.unit.server_log)}\nrun: pglab doctor"
        )

    def _end_predecessor(self, program: Path) -> None:
        # A killed supervisor's server is just ending; it would take our socket's file along.
        last = self.unit.last_sockets()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while last is not None and (old := working_in(last, program.resolve().name)):
            for pid in old:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
                    os.kill(pid, signal.SIGCONT)
            time.sleep(_POLL_S)

    def _try_port(self, program: Path, path: Path) -> bool:
        password = self.unit.password().reveal()
        configuration = "\n".join((
            "bind 127.0.0.1",
            f"port {self.port}",
            "protected-mode yes",
            f"unixsocket {path}",
            "unixsocketperm 700",
            f"requirepass {password}",
            f"databases {DATABASES}",
            f"dir {path.parent}",
            "daemonize no",
            'save ""',
            "appendonly no",
            "",
        ))  # fmt: skip
        log = self.unit.server_log
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            self.child = spawn(
                [program, "-"], account=self.account, death_signal=signal.SIGTERM,
                stdin=subprocess.PIPE, stdout=output,
            )  # fmt: skip
        assert self.child.stdin is not None  # noqa: S101 - a pipe was asked for
        with self.child.stdin as pipe:
            pipe.write(configuration.encode())
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                ping(path, password, timeout_s=1.0)
                return True
            time.sleep(_POLL_S)
        self.stop()
        return False

    def stop(self) -> None:
        """End it in good order."""
        child, self.child = self.child, None
        if child is not None and child.poll() is None:
            child.terminate()
            child.send_signal(signal.SIGCONT)  # a suspended one would not hear
            try:
                child.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(_STOP_TIMEOUT_S)

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self.child is not None and self.child.poll() is None

    def clean(self) -> None:
        """Remove what only a running server needs."""
        if self._sockets is not None:
            remove_tree(self._sockets)
            self._sockets = None


class WrongPasswordError(ConnectionError):
    """A server answers, and refuses the password."""


def ping(path: Path, password: str, *, timeout_s: float) -> None:
    """Ask the server on this unix socket whether it answers to the password.

    Raises:
        WrongPasswordError: it does not.
        TimeoutError: it says nothing.
        OSError: nobody is there, or somebody else.
    """
    # Two commands by hand: importing a client would cost more than the server's whole start.
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout_s)
        client.connect(str(path))
        client.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        said = b""
        while said.count(b"\r\n") < 2:
            part = client.recv(256)
            if not part:
                raise ConnectionError("it hung up")
            said += part
    if said.startswith(b"-WRONGPASS"):
        raise WrongPasswordError("it refuses the password")
    if said != b"+OK\r\n+PONG\r\n":
        raise ConnectionError("it is not Redis, or not ready")
