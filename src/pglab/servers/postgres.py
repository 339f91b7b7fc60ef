"""A PostgreSQL cluster of our own: made by initdb, run as a child, stopped in good order."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pglab.errors import ServerStartError
from pglab.servers import account as accounts
from pglab.servers.home import Unit, new_password, remove_tree, socket_directory, write_private
from pglab.servers.process import log_tail, ports_to_try, spawn, working_in
from pglab.servers.programs import EXE, PostgresPrograms

__all__ = ["SETTINGS", "SUPERUSER", "PostgresProcess", "default_settings"]

SUPERUSER = "postgres"

# What the lessons count on, whoever runs the server.
SETTINGS: Final = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "200",
    "timezone": "UTC",
    "cluster_name": "pglab",
}

_READY_TIMEOUT_S = 60.0  # recovery after a crash may replay a lot of WAL on a slow disk
_STOP_TIMEOUT_S = 30.0
_IMMEDIATE_STOP_TIMEOUT_S = 10.0
_ORPHAN_TIMEOUT_S = 2.0
_POLL_S = 0.005
_STATUS_LINE = 7  # of postmaster.pid, from 0; see PostgreSQL's src/include/utils/pidfile.h

# A fast shutdown, which a suspended process would not hear of; an immediate one, after which the
# next start replays the WAL; and what always works, with the same recovery.
_STOPS: Final[tuple[tuple[tuple[signal.Signals, ...], float], ...]] = (
    (
        ((signal.SIGINT, signal.SIGCONT), _STOP_TIMEOUT_S),
        ((signal.SIGQUIT, signal.SIGCONT), _IMMEDIATE_STOP_TIMEOUT_S),
        ((signal.SIGKILL,), _IMMEDIATE_STOP_TIMEOUT_S),
    )
    if sys.platform != "win32"
    else (((signal.SIGTERM,), _STOP_TIMEOUT_S),)
)


@dataclass
class PostgresProcess:
    """One server process over one data directory.

    Attributes:
        wanted_port: a port to insist on; None for the last one, or any.
        settings: further server settings, as ``name: value``.
    """

    unit: Unit
    programs: PostgresPrograms
    account: accounts.Account | None
    wanted_port: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    port: int = field(default=0, init=False)
    _sockets: Path | None = field(default=None, init=False)

    def start(self) -> dict[str, Any]:
        """Make the cluster if there is none, start it, and wait until it accepts connections.

        Returns:
            What ``state.json`` says of it: port, socket directory, pid, version.

        Raises:
            ServerStartError: initdb or the server failed; the message has its last words.
        """
        programs = accounts.reachable_copy(
            self.programs.bin.parent, self.account, *self.programs.beside
        )
        version = self.programs.version()
        data = self.unit.data_directory(self.account, int(version.partition(".")[0]))
        # root's environment may be closed to the account, but not the other way about
        server_programs = programs / self.programs.bin.name
        self._end_predecessor(data)
        if self._sockets is None:
            self._sockets = socket_directory(self.account, self.unit)
        if not (data / "PG_VERSION").exists():
            self._initialise(server_programs, data)
        elif not self.unit.has_password():
            self._reset_password(server_programs, data)
        self._launch(server_programs, data)
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "socket_directory": str(self._sockets) if os.name == "posix" else None,
            "sockets": str(self._sockets),
            "pid": self.child.pid if self.child else None,
            "version": version,
            "origin": self.programs.origin,
            "programs": str(self.programs.bin),
            "data": str(data),
        }

    def _initialise(self, programs: Path, data: Path) -> None:
        # Made under another name and moved when complete: a killed initdb leaves no half cluster.
        for stale in data.parent.glob(f"{data.name}.new-*"):
            remove_tree(stale)
        scratch = data.with_name(f"{data.name}.new-{secrets.token_hex(4)}")
        assert self._sockets is not None  # noqa: S101 - start() made it
        password_file = self._sockets / "pw"
        write_private(password_file, self.unit.password().reveal() + "\n")
        accounts.own(password_file, self.account)
        try:
            with self._log() as log:
                child = spawn(
                    [
                        programs / f"initdb{EXE}", "--pgdata", scratch, "--username", SUPERUSER,
                        "--pwfile", password_file, "--auth", "scram-sha-256",
                        "--encoding", "UTF8", *self.programs.locale(), "--no-instructions",
                    ],
                    account=self.account, death_signal=signal.SIGTERM, stdout=log,
                )  # fmt: skip
                status = child.wait()
        finally:
            password_file.unlink(missing_ok=True)
        if status != 0:
            remove_tree(scratch)
            raise ServerStartError(
                f"initdb ended with {status}; its last words:\n{log_tail(self.unit.server_log)}\n"
                "check the free space there, then try again"
            )
        scratch.rename(data)

    def _reset_password(self, programs: Path, data: Path) -> None:
        # In single-user mode nobody is asked for one. Kept only afterwards: if we are killed
        # between the two, it is lost still, and the next start does this again.
        password = new_password()
        with self._log() as log:
            child = spawn(
                [programs / f"postgres{EXE}", "--single", "-D", data, "postgres"],
                account=self.account, death_signal=signal.SIGTERM,
                stdin=subprocess.PIPE, stdout=log,
            )  # fmt: skip
            # One line is one statement there. A random word of letters, digits, - and _.
            child.communicate(f"ALTER ROLE {SUPERUSER} PASSWORD '{password.reveal()}'\n".encode())
        if child.returncode != 0:
            raise ServerStartError(
                f"the password in {self.unit.secret} is lost, and setting a new one failed; the "
                f"server's last words:\n{log_tail(self.unit.server_log)}\nrun: pglab doctor"
            )
        self.unit.set_password(password)

    def _end_predecessor(self, data: Path) -> None:
        """Wait for a server that a killed supervisor left, which is just shutting down.

        Raises:
            ServerStartError: it does not end.
        """
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while (pid := self._running_postmaster(data)) is not None:
            with contextlib.suppress(OSError, AttributeError):
                os.kill(pid, signal.SIGCONT)  # a suspended one does not hear that it is to end
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"process {pid} still serves {data}; end it (kill -INT {pid}), then try again"
                )
            time.sleep(_POLL_S)
        # Without a postmaster its backends end by themselves, unless they are busy or suspended;
        # the server refuses to start while they hold its shared memory.
        deadline = time.monotonic() + _ORPHAN_TIMEOUT_S
        while orphans := working_in(data, "postgres"):
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(_POLL_S)

    @staticmethod
    def _running_postmaster(data: Path) -> int | None:
        """Return the process that serves the data directory; a stale file that says so goes."""
        file = data / "postmaster.pid"
        try:
            pid, served = file.read_text().splitlines()[:2]
            number = int(pid)
            os.kill(number, 0)
        except (OSError, ValueError):
            return None
        # The number may be another program's by now, or, in a copied directory, the original's
        # server; PostgreSQL itself would look no further and refuse to start.
        same = os.path.exists(served) and os.path.samefile(served, data)  # noqa: PTH110, PTH121
        if same and (sys.platform != "linux" or number in working_in(data, "postgres")):
            return number
        file.unlink(missing_ok=True)
        return None

    def _launch(self, programs: Path, data: Path) -> None:
        last = self.unit.last_port()
        for port in ports_to_try(self.wanted_port, last, "PGLAB_POSTGRES_PORT"):
            self.port = port
            if self._try_port(programs, data):
                return
        said = log_tail(self.unit.server_log)
        raise ServerStartError(
            f"PostgreSQL did not start (data in {data}); its last words:\n{said}\nrun: pglab doctor"
        )

    def _try_port(self, programs: Path, data: Path) -> bool:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            **({"unix_socket_directories": str(self._sockets)} if os.name == "posix" else {}),
            "unix_socket_permissions": "0700",
            **default_settings(self.programs),
            **self.settings,
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        offset = self.unit.server_log.stat().st_size if self.unit.server_log.exists() else 0
        with self._log() as log:
            self.child = spawn(
                [programs / f"postgres{EXE}", "-D", data, *arguments],
                account=self.account, death_signal=signal.SIGINT, stdout=log,
            )  # fmt: skip
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                with self.unit.server_log.open("rb") as said:
                    said.seek(offset)
                    words = said.read()
                if b"could not bind" in words and self.wanted_port is None:
                    return False
                if b"pre-existing shared memory block" in words:
                    time.sleep(_ORPHAN_TIMEOUT_S)  # backends without a postmaster are just ending
                    return False
                raise ServerStartError(
                    f"PostgreSQL ended with {self.child.returncode} while starting; its last "
                    f"words:\n{log_tail(self.unit.server_log)}\nrun: pglab doctor"
                )
            if self._is_ready(data, self.child.pid):
                return True
            time.sleep(_POLL_S)
        self.stop()
        return False

    @staticmethod
    def _is_ready(data: Path, pid: int) -> bool:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == pid and lines[_STATUS_LINE].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def stop(self) -> None:
        """Shut down fast: open transactions are rolled back, committed ones are on disk."""
        child, self.child = self.child, None
        if child is None or child.poll() is not None:
            return
        for signals, timeout_s in _STOPS:
            for number in signals:
                child.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout_s)
                return

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self.child is not None and self.child.poll() is None

    def clean(self) -> None:
        """Remove what only a running server needs."""
        if self._sockets is not None:
            remove_tree(self._sockets)
            self._sockets = None

    def _log(self) -> Any:
        log = self.unit.server_log
        if log.exists() and log.stat().st_size > 4_000_000:
            log.replace(log.with_suffix(".log.1"))
        return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def default_settings(programs: PostgresPrograms) -> dict[str, str]:
    """Return ``SETTINGS`` without what these programs, or this machine, cannot do."""
    options = {
        **SETTINGS,
        # Our wheel reads the system's time zones, and slim images have none; GMT is built in.
        **({} if _has_time_zones() else {"timezone": "GMT", "log_timezone": "GMT"}),
    }
    if not _has_statement_statistics(programs):
        del options["shared_preload_libraries"]
    return options


def _has_statement_statistics(programs: PostgresPrograms) -> bool:
    # Some distributions pack contrib apart, and preloading what is missing is fatal.
    root = programs.bin.parent
    if any(root.glob("lib*/**/pg_stat_statements.*")):
        return True
    return any(Path("/usr/lib/postgresql").glob(f"{root.name}/lib/pg_stat_statements.so"))


def _has_time_zones() -> bool:
    return os.name != "posix" or Path("/usr/share/zoneinfo/UTC").exists()
