"""A MariaDB server of our own: from the machine's programs, in a directory of its own, killable."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pglab.comparison.contract import EngineMissingError
from pglab.comparison.engine_process import EngineProcess
from pglab.errors import ServerStartError
from pglab.servers.process import clean_environment

if TYPE_CHECKING:
    from pglab.servers.account import Account

__all__ = ["MariadbServer", "server_program"]

_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin")


def server_program() -> tuple[Path, Path] | None:
    """Return the server and the program that makes its data directory, or None."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS])
    for server, maker in (("mariadbd", "mariadb-install-db"), ("mysqld", "mysql_install_db")):
        found, made_by = shutil.which(server, path=places), shutil.which(maker, path=places)
        if found and made_by:
            return Path(found), Path(made_by)
    return None


class MariadbServer(EngineProcess):
    """One server that listens on a unix socket only; it ends, and vanishes, with its maker.

    Its settings are the program's own defaults: no option file of the machine is read.

    Raises:
        EngineMissingError: the programs are not here.
        ServerStartError: it did not start; the message has its last words.
    """

    name = "MariaDB"

    def __init__(self) -> None:
        found = server_program()
        if found is None:
            raise EngineMissingError(
                "mariadbd and mariadb-install-db are not on PATH nor in /usr/sbin; "
                "install them (Debian: apt-get install --no-install-recommends mariadb-server)"
            )
        self._program, self._maker = found
        super().__init__()

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``pymysql.connect``."""
        # The socket's directory is the lock: nobody else can enter it.
        return {"unix_socket": str(self._socket), "user": "root", "password": ""}

    @property
    def _data(self) -> Path:
        return self._folder.path / "data"

    @property
    def _socket(self) -> Path:
        return self._folder.path / "m"

    def _account(self) -> Account | None:
        return self._folder.account

    def _prepare(self) -> None:
        import pwd  # Windows has none, and no such server either

        account = self._account()
        name = account.name if account else pwd.getpwuid(os.geteuid()).pw_name
        self._folder.write(self._log, b"")
        made = subprocess.run(
            [
                self._maker, "--no-defaults", f"--datadir={self._data}", f"--user={name}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
                "--skip-name-resolve",
            ],
            capture_output=True, text=True, check=False, env=clean_environment(), cwd="/",
        )  # fmt: skip
        if made.returncode != 0:
            said = (made.stdout + made.stderr).strip().splitlines()[-8:]
            raise ServerStartError("mariadb-install-db failed:\n  " + "\n  ".join(said))

    def _command(self) -> Sequence[str | Path]:
        self._socket.unlink(missing_ok=True)  # of a server that was killed
        return [
            self._program, "--no-defaults", f"--datadir={self._data}",
            f"--socket={self._socket}", "--skip-networking", "--skip-name-resolve",
            f"--pid-file={self._folder.path / 'pid'}",
        ]  # fmt: skip

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(self._socket))
                return bool(probe.recv(1))  # it greets whoever connects, once it is ready
            except OSError:
                return False
