"""PgBouncer, from the machine, in front of a server: for lessons and tests of pooling.

Many clients share a few of the server's connections. In *session* mode a client keeps one as long
as it is connected; in *transaction* mode only for a transaction, and whatever belongs to a session
(SET, LISTEN, advisory locks, temporary tables, prepared statements) is left behind on a connection
that somebody else gets next.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pglab.closeable import Closeable
from pglab.errors import NoServerError, ServerStartError
from pglab.servers.connect import without_libpq_variables
from pglab.servers.process import log_tail, spawn
from pglab.servers.scratch import ScratchFolder

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["PgBouncer", "PoolMode", "find_pgbouncer"]

PoolMode = Literal["session", "transaction", "statement"]

_READY_S: Final = 10.0
_STOP_S: Final = 5.0
# A port names the socket; nothing listens on TCP.
_PORT: Final = 6432
# Debian keeps it off an ordinary user's PATH.
_USUAL: Final = ("/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer")


def find_pgbouncer() -> Path | None:
    """Return the program, or None where there is none."""
    found = shutil.which("pgbouncer")
    if found is not None:
        return Path(found)
    return next((Path(place) for place in _USUAL if Path(place).is_file()), None)


class PgBouncer(Closeable):
    """One PgBouncer in front of one server; as a context manager it ends with the block.

    It listens on a unix socket in a private directory, runs as the servers' account, and ends with
    its maker. Clients log in with the server's own user and password.

    Args:
        endpoint: the server behind it.
        mode: when a server's connection is given back.
        pool_size: connections to the server, for each database and user.
        max_clients: connections of clients.
        settings: further lines of its configuration, such as ``{"query_wait_timeout": "2"}``.

    Raises:
        NoServerError: there is no program to start.
        ServerStartError: it did not start; the message has its last words.
    """

    def __init__(
        self,
        endpoint: PostgresEndpoint,
        *,
        mode: PoolMode = "transaction",
        pool_size: int = 5,
        max_clients: int = 100,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        program = find_pgbouncer()
        if program is None:
            raise NoServerError(
                "pgbouncer is not on this machine; install it (on Debian and Ubuntu: apt-get "
                "install pgbouncer; with Homebrew: brew install pgbouncer), or skip this part"
            )
        self._program = program
        self._endpoint = endpoint
        self._child: subprocess.Popen[bytes] | None = None
        self._settings = {
            "pool_mode": mode,
            "default_pool_size": str(pool_size),
            "max_client_conn": str(max_clients),
            # What libpq's clients send at the start and PgBouncer does not track.
            "ignore_startup_parameters": "extra_float_digits,options",
            **(settings or {}),
        }
        with ExitStack() as stack:
            self._folder = stack.enter_context(ScratchFolder())
            self._log = self._folder.path / "log"
            self._start()
            stack.pop_all()

    @property
    def version(self) -> tuple[int, int]:
        """Return its version, such as ``(1, 18)``.

        From 1.21 on it can keep track of prepared statements: ``max_prepared_statements``.
        """
        said = subprocess.run(
            [self._program, "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
        found = re.search(r"(\d+)\.(\d+)", said)
        if found is None:
            raise ServerStartError(f"{self._program.name} says {said!r} instead of its version")
        return int(found[1]), int(found[2])

    def parameters(self, database: str, **options: Any) -> dict[str, str]:
        """Return libpq parameters for a client of it, the password in the clear."""
        return {
            "host": str(self._folder.path),
            "port": str(_PORT),
            "user": self._endpoint.user,
            "password": self._endpoint.password.reveal(),
            "dbname": database,
            "connect_timeout": "10",
            **{name: str(value) for name, value in options.items()},
        }

    def connect(
        self,
        database: str,
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        **options: Any,
    ) -> psycopg.Connection[Any]:
        """Open a psycopg connection through it.

        Args:
            database: of the server behind it.
            autocommit: each statement is a transaction of its own.
            prepare_threshold: after how many executions psycopg prepares a statement; None: never.
            options: further parameters of libpq.

        Raises:
            psycopg.OperationalError: it refuses.
        """
        import psycopg
        from psycopg.conninfo import make_conninfo

        conninfo = make_conninfo("", **self.parameters(database, **options))
        with without_libpq_variables():
            return psycopg.connect(
                conninfo, autocommit=autocommit, prepare_threshold=prepare_threshold
            )

    def show(self, what: str) -> list[dict[str, Any]]:
        """Return the rows of a command of its console, such as ``POOLS`` or ``STATS``."""
        from psycopg import ClientCursor
        from psycopg.rows import dict_row

        word = re.fullmatch(r"[A-Z_]+", what)
        if word is None:
            raise ValueError(f"{what!r} is none of the words that SHOW knows, such as POOLS")
        # The console knows the simple protocol only: no parameters, and nothing prepared.
        with self.connect("pgbouncer", autocommit=True, prepare_threshold=None) as connection:
            cursor = ClientCursor(connection, row_factory=dict_row)
            cursor.execute(f"SHOW {word.group()}".encode())
            return cursor.fetchall()

    def _start(self) -> None:
        server = self._endpoint.parameters()
        folder = self._folder.path
        place = f"host={_value(server['host'])} port={server['port']}"
        lines = [
            "[databases]",
            f"* = {place}",
            "[pgbouncer]",
            "listen_addr =",
            f"listen_port = {_PORT}",
            f"unix_socket_dir = {folder}",
            f"logfile = {self._log}",
            "auth_type = scram-sha-256",
            f"auth_file = {folder / 'users'}",
            f"admin_users = {self._endpoint.user}",
            *(f"{name} = {value}" for name, value in self._settings.items()),
        ]
        user, password = self._endpoint.user, self._endpoint.password.reveal()
        self._folder.write(folder / "users", f"{_quoted(user)} {_quoted(password)}\n")
        self._folder.write(folder / "ini", "\n".join(lines) + "\n")
        self._folder.write(self._log, b"")
        with self._log.open("ab") as log:
            self._child = spawn(
                [self._program, "-q", folder / "ini"],
                account=self._folder.account,
                death_signal=signal.SIGKILL,
                stdout=log,
            )
        deadline = time.monotonic() + _READY_S
        while not _listens(folder / f".s.PGSQL.{_PORT}"):
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise ServerStartError(
                    f"pgbouncer did not start; its last words:\n{log_tail(self._log)}"
                )
            time.sleep(0.005)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.send_signal(signal.SIGTERM)  # at once; SIGINT would wait for the clients
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End it, and remove its directory; clients lose their connections."""
        self._end()
        self._folder.close()


def _listens(path: Path) -> bool:
    """Tell whether somebody accepts connections there: the file comes a moment before that."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_READY_S)
        return probe.connect_ex(str(path)) == 0


def _value(text: str) -> str:
    """Return a value of a connection string."""
    return "'" + text.replace("'", "''") + "'"


def _quoted(text: str) -> str:
    """Return a word of the users' file."""
    return '"' + text.replace('"', '""') + '"'
