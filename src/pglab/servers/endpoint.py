"""Where a server answers: one type for PostgreSQL and one for Redis, whatever its source.

A password is a ``Secret``: it is in no repr, and ``url()`` masks it unless told to reveal it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pglab.config import Backend, Secret

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PostgresEndpoint", "RedisEndpoint", "mask_url"]

# Parameters of libpq, besides password, whose value is secret in itself.
_SECRET_OPTIONS: Final = frozenset(
    {"sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresEndpoint:
    """A PostgreSQL server that answers.

    Attributes:
        source: who provides it.
        host: name or address for TCP; None where it listens on a socket only.
        socket_directory: directory of its unix socket, where there is one: the faster way.
        maintenance_database: a database that always exists, to connect to before one's own does.
        programs: folder of psql, pg_dump and pgbench of this server's version, where known.
        options: further libpq parameters from a URL, such as ``sslmode``.
    """

    source: Backend
    user: str
    password: Secret
    port: int
    host: str | None = None
    socket_directory: str | None = None
    maintenance_database: str = "postgres"
    programs: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def managed(self) -> bool:
        """Whether pglab started this server, and so may stop it."""
        return self.source != "url"

    def parameters(self, database: str | None = None, *, tcp: bool = False) -> dict[str, str]:
        """Return libpq parameters, the password in the clear.

        Args:
            database: its name; the maintenance database when omitted.
            tcp: insist on TCP where a unix socket would be chosen.
        """
        host = self.host if tcp or self.socket_directory is None else self.socket_directory
        return {
            **self.options,
            "host": host or self.socket_directory or "",
            "port": str(self.port),
            "user": self.user,
            **({"password": self.password.reveal()} if self.password else {}),
            "dbname": database or self.maintenance_database,
        }

    def url(self, database: str | None = None, *, reveal: bool = False) -> str:
        """Return ``postgresql://user:***@host:port/database``; the password only if ``reveal``."""
        secret = ":" + (quote(self.password.reveal(), safe="") if reveal else "***")
        user = quote(self.user, safe="") + (secret if self.password else "")
        name = quote(database or self.maintenance_database, safe="")
        host = self.host or quote(self.socket_directory or "", safe="")
        if ":" in host:
            host = f"[{host}]"
        options = "&".join(
            f"{k}={quote(v, safe='') if reveal or k not in _SECRET_OPTIONS else '***'}"
            for k, v in self.options.items()
        )
        return f"postgresql://{user}@{host}:{self.port}/{name}" + (f"?{options}" if options else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisEndpoint:
    """A Redis (or Valkey) server that answers.

    Attributes:
        socket: path of its unix socket, where there is one.
        external_url: the learner's own URL, where the source is ``url``; nothing else is used then.
    """

    source: Backend
    host: str | None = None
    port: int = 0
    password: Secret = field(default_factory=lambda: Secret(""))
    socket: str | None = None
    external_url: Secret | None = None

    @property
    def managed(self) -> bool:
        """Whether pglab started this server, and so may flush and stop it."""
        return self.external_url is None

    def url(self, database: int = 0, *, reveal: bool = False) -> str:
        """Return ``redis://:***@host:port/database``; the password only if ``reveal``."""
        if self.external_url is not None:
            url = self.external_url.reveal()
            return url if reveal else mask_url(url)
        secret = quote(self.password.reveal(), safe="") if reveal else "***"
        return f"redis://:{secret}@{self.host}:{self.port}/{database}"


def mask_url(url: str) -> str:
    """Return the URL with its password and query as ``***``: either may hold a secret.

    A password that was not percent-encoded may hold any sign; what cannot be told from a password
    is masked with it.
    """
    scheme, mark, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if "?" in login:  # a query with an @, or a password with a ?
        return f"{scheme}{mark}***"
    user, colon, _ = login.partition(":")
    place, question, _ = place.partition("?")
    host, slash, path = place.partition("/")
    name, port_colon, port = host.rpartition(":")
    if port_colon and not port.isdecimal() and not host.endswith("]"):
        host = f"{name}:***"  # user:password without the @host that should follow
    return (
        f"{scheme}{mark}{user}{colon}{'***' if colon else ''}{at}{host}{slash}{path}"
        f"{'?***' if question else ''}"
    )
