"""A MariaDB server of our own: from the machine's programs, in a directory of its own, killable."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pglab.comparison.contract import EngineMissingError
from pglab.errors import ServerStartError
from pglab.servers.process import clean_environment, log_tail, spawn
from pglab.servers.scratch_folder import ScratchFolder

__all__ = ["MariadbServer", "server_program"]

_READY_S = 60.0
_STOP_S = 20.0
_POLL_S = 0.02
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin")


def server_program() -> tuple[Path, Path] | None:
    """Return the server and the program that makes its data directory, or None."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS])
    for server, maker in (("mariadbd", "mariadb-install-db"), ("mysqld", "mysql_install_db")):
        found, made_by = shutil.which(server, path=places), shutil.which(maker, path=places)
        if found and made_by:
            return Path(found), Path(made_by)
    return None


class MariadbServer:
    """One server that listens on a unix socket only; it ends, and vanishes, with its maker.

    Its settings are the program's own defaults: no option file of the machine is read.

    Raises:
        EngineMissingError: the programs are not here.
        ServerStartError: it did not start; the message has its last words.
    """

    def __init__(self) -> None:
        import pwd  # Windows has none, and no such server either

        found = server_program()
        if found is None:
            raise EngineMissingError(
                "mariadbd and mariadb-install-db are not on PATH nor in /usr/sbin; "
                "install them (Debian: apt-get install --no-install-recommends mariadb-server)"
            )
        self._program, maker = found
        self._child: subprocess.Popen[bytes] | None = None
        self._folder = ScratchFolder()
        self._data = self._folder.path / "data"
        self._socket = self._folder.path / "m"
        self._log = self._folder.path / "log"
        self._account = (
            self._folder.account.name
            if self._folder.account
            else pwd.getpwuid(os.geteuid()).pw_name
        )
        try:
            self._folder.write(self._log, b"")
            self._make(maker)
            self.start()
        except BaseException:
            self.close()
            raise

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``pymysql.connect``."""
        # The socket's directory is the lock: nobody else can enter it.
        return {"unix_socket": str(self._socket), "user": "root", "password": ""}

    def _make(self, maker: Path) -> None:
        made = subprocess.run(
            [
                maker, "--no-defaults", f"--datadir={self._data}", f"--user={self._account}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
                "--skip-name-resolve",
            ],
            capture_output=True, text=True, check=False, env=clean_environment(), cwd="/",
        )  # fmt: skip
        if made.returncode != 0:
            said = (made.stdout + made.stderr).strip().splitlines()[-8:]
            raise ServerStartError("mariadb-install-db failed:\n  " + "\n  ".join(said))

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._child is not None and self._child.poll() is None:
            return
        self._socket.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._child = spawn(
                [
                    self._program, "--no-defaults", f"--datadir={self._data}",
                    f"--socket={self._socket}", "--skip-networking", "--skip-name-resolve",
                    f"--pid-file={self._folder.path / 'pid'}",
                ],
                account=self._folder.account, death_signal=signal.SIGKILL, stdout=log,
            )  # fmt: skip
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    f"MariaDB did not start; its last words:\n{log_tail(self._log)}"
                )
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(self._socket))
                return bool(probe.recv(1))  # it greets whoever connects, once it is ready
            except OSError:
                return False

    def kill(self) -> None:
        """End it with SIGKILL; it is one process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End it, and remove all that it made."""
        if not self._folder.is_ours:
            return
        child, self._child = self._child, None
        if child is not None and child.poll() is None:
            child.kill()  # what it holds is thrown away
            child.wait(_STOP_S)
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
