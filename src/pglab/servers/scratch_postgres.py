"""A PostgreSQL server that is there to be broken: killed, misconfigured, restored, imitated.

It has a cluster of its own, listens on a unix socket and, where asked, on 127.0.0.1, and ends with
its maker, however that ends. The lab's own server notices nothing of it.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from pglab.closeable import Closeable
from pglab.config import Secret
from pglab.errors import ServerStartError
from pglab.servers.postgres import default_settings
from pglab.servers.process import (
    free_port,
    log_tail,
    port_is_free,
    spawn,
)
from pglab.servers.scratch_address import ScratchAddress
from pglab.servers.scratch_cluster import find_programs, make_cluster, server_programs
from pglab.servers.scratch_files import write_hba, write_settings
from pglab.servers.scratch_folder import ScratchFolder
from pglab.servers.scratch_kill import end_at_once

__all__ = ["ScratchPostgres"]

StopMode = Literal["smart", "fast", "immediate"]

_READY_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.005
_STATUS_LINE = 7  # of postmaster.pid, from 0; see PostgreSQL's src/include/utils/pidfile.h

_OWN_SETTINGS: Final = {
    "cluster_name": "pglab-scratch",
    # In the data directory, where a killed server leaves nothing in the machine's memory.
    "dynamic_shared_memory_type": "mmap",
}


class ScratchPostgres(ScratchAddress, Closeable):
    """One server, running when it is made; use it as a context manager.

    Settings go to a file that postgresql.conf includes last, so that ALTER SYSTEM still wins; only
    the addresses stand on the command line. Writes are as safe as PostgreSQL's defaults make them.

    Args:
        settings: of the server, such as ``{"ssl": "on"}``.
        hba: the lines of pg_hba.conf; initdb's (SCRAM for everybody) when omitted.
        files: to be put into the data directory, such as ``{"server.key": b"…"}``, with mode 0600.
        tcp: also listen on 127.0.0.1.
        directory: a data directory to run from, such as a restored base backup. It is given to the
            servers' account, changed, and never removed.
        port: a port to insist on.
        password: of the superuser in ``directory``. Without it, whoever made this server enters
            through its socket by the name of the operating system's account (peer).

    Attributes:
        data_directory: where the cluster is.
        settings: for the next start.

    Raises:
        NoServerError: PostgreSQL's programs are not here.
        ServerStartError: it did not start; the message has its last words.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] | None = None,
        files: Mapping[str, bytes | str] | None = None,
        tcp: bool = False,
        directory: Path | str | None = None,
        port: int | None = None,
        password: Secret | None = None,
    ) -> None:
        self._found = find_programs()
        self._given = Path(directory).absolute() if directory is not None else None
        self._folder = ScratchFolder([self._given] if self._given else ())
        super().__init__(
            socket_directory=self._folder.path,
            programs=self._found.bin,
            tcp=tcp,
            port=port or 0,
            password=password,
        )
        self.settings = dict(settings or {})
        self.data_directory = self._given or self._folder.path / "data"
        self._child: subprocess.Popen[bytes] | None = None
        try:
            self._folder.write(self.log_path, b"")
            self._program = server_programs(self._found, self._folder.account) / "postgres"
            self._make(hba, files or {})
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> bool:
        """Tell whether the server's process lives."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """Return the process id of the postmaster, None where it does not run."""
        return self._child.pid if self._child is not None and self.running else None

    # --- making -----------------------------------------------------------------------------

    def _make(self, hba: Sequence[str] | None, files: Mapping[str, bytes | str]) -> None:
        if self._given is None:
            self.password = make_cluster(
                self._folder, self.data_directory, self._found, self.log_path
            )
        elif not (self._given / "PG_VERSION").exists():
            raise ServerStartError(
                f"{self._given} holds no PostgreSQL cluster (it has no PG_VERSION); "
                "give the directory that pg_basebackup or initdb wrote"
            )
        else:
            self._given.chmod(0o700)
            self._folder.own(self._given)
        self._write_settings()
        if hba is not None:
            self.write_hba(hba)
        elif self.password is None:
            self.write_hba((self.data_directory / "pg_hba.conf").read_text().splitlines())
        for name, content in files.items():
            self._folder.write(self.data_directory / name, content)
        if self.password is not None:
            self._folder.write(self.password_file, f"*:*:*:{self.user}:{self.password.reveal()}\n")

    def _write_settings(self) -> None:
        write_settings(
            self._folder,
            self.data_directory,
            {**default_settings(self._found), **_OWN_SETTINGS, **self.settings},
        )

    def write_hba(self, lines: Sequence[str]) -> None:
        """Replace pg_hba.conf; a running server heeds it after ``SELECT pg_reload_conf()``."""
        peer = self.user if self.password is None else None
        write_hba(self._folder, self.data_directory, lines, peer=peer)

    # --- living -----------------------------------------------------------------------------

    def start(self, *, timeout_s: float = _READY_S) -> None:
        """Start it, if it does not run, and wait until it accepts connections.

        One that recovers from a base backup answers queries already before it has come to the end:
        see ``wait_until_writable``.

        Raises:
            ServerStartError: it did not start; the message has its last words.
        """
        if self.running:
            return
        self.kill()  # children that outlived their postmaster would be in the way
        self._write_settings()
        fixed = self.port
        if fixed and self.tcp and not port_is_free(fixed):
            raise ServerStartError(
                f"port {fixed} of 127.0.0.1 is taken by another program; "
                "end that, or leave out port="
            )
        for port in [fixed] if fixed else [free_port() for _ in range(5)]:
            if self._try_port(port, timeout_s):
                self.port = port
                return
        raise ServerStartError(f"no port was free; PostgreSQL's last words:\n{self._last_words()}")

    def _try_port(self, port: int, timeout_s: float) -> bool:
        after = self.log_end()
        addresses = {
            "listen_addresses": "127.0.0.1" if self.tcp else "",
            "port": str(port),
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
        }
        options = [part for name, value in addresses.items() for part in ("-c", f"{name}={value}")]
        with self.log_path.open("ab") as log:
            self._child = spawn(
                [self._program, "-D", self.data_directory, *options],
                account=self._folder.account,
                death_signal=signal.SIGQUIT,  # at once, with its children
                stdout=log,
                own_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not self._is_ready(self._child.pid):
            ended = self._child.poll()
            if ended is not None:
                self._child = None
                if "could not bind" in self.read_log(after) and not self.port:
                    return False
                raise ServerStartError(
                    f"PostgreSQL ended with {ended} while starting; its last words:\n"
                    f"{self._last_words()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    f"PostgreSQL was not ready after {timeout_s:g} s; its last words:\n"
                    f"{self._last_words()}"
                )
            time.sleep(_POLL_S)
        return True

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
            status = lines[_STATUS_LINE].strip()
            return int(lines[0]) == pid and status == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def wait_until_writable(self, *, timeout_s: float = _READY_S) -> None:
        """Wait until a server that recovers from a base backup has come to its end.

        Raises:
            ServerStartError: it ended, or still recovers (with recovery_target_action = 'pause',
                PostgreSQL's default, it does so until pg_wal_replay_resume()).
        """
        import psycopg

        deadline = time.monotonic() + timeout_s
        try:
            with self.connect(autocommit=True) as connection:
                while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
                    if time.monotonic() > deadline:
                        raise ServerStartError(
                            f"PostgreSQL still recovers after {timeout_s:g} s; its last words:\n"
                            f"{self._last_words()}"
                        )
                    time.sleep(_POLL_S)
        except psycopg.OperationalError:
            raise ServerStartError(
                f"PostgreSQL ended while it recovered; its last words:\n{self._last_words()}"
            ) from None

    def _last_words(self) -> str:
        return log_tail(self.log_path)

    def stop(self, mode: StopMode = "fast") -> None:
        """Shut it down and wait: smart waits for clients, immediate leaves the rest to recovery.

        One that has not ended after 30 s is killed.
        """
        child = self._child
        if child is None or child.poll() is not None:
            self.kill()  # its children may have outlived a postmaster that somebody killed
            return
        self._child = None
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        child.send_signal(number[mode])
        child.send_signal(signal.SIGCONT)  # a suspended one would not hear
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._child = child
            self.kill()

    def kill(self) -> None:
        """End every process of it with SIGKILL, as a power cut would; the data stay as they are.

        Unlike after a power cut, what the server handed to the operating system is kept: fsync is
        not what this tries.
        """
        child, self._child = self._child, None
        if child is not None:
            end_at_once(child, self.data_directory)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop it and start it again, at the same address."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """End it, and remove all that it made; a directory that was given is kept."""
        if self._folder.is_ours:
            if self._given is not None:
                self.stop()
            else:
                self.stop("immediate")
            self._folder.close()
