"""Which server does a client accept? Each sslmode against an honest server and its impostors.

The stage has five addresses, all reached by the name ``localhost``:

- honest: the real server, with a certificate of the CA that the client trusts; by its ``hostssl``
  rule it takes nobody without TLS;
- another CA, self-signed: servers of somebody else, with certificates for the same name. They let
  everybody in without a password, to hear what comes;
- other name: as before, but with a certificate that the trusted CA issued for another machine;
- relay: no server, but a man in the middle, who passes everything on to the honest one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pglab.config import Secret
from pglab.servers.connect import without_libpq_variables
from pglab.servers.home import new_password
from pglab.servers.scratch import ScratchFolder, ScratchPostgres
from pglab.tls import CertificateAuthority, Issued, self_signed
from pglab.tls_relay import Relay

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

__all__ = ["MODES", "Attempt", "Stage", "accepted", "as_table", "attempt", "stage"]

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
NAME: Final = "localhost"
ROLE: Final = "app"

# What libpq or the server says, and what we call it; the first that fits counts.
_KINDS: Final = (
    ("certificate verify failed", "certificate not trusted"),
    ("does not match host name", "name does not match"),
    ("channel binding", "channel binding"),
    ("no encryption", "server insists on TLS"),
    ("no pg_hba.conf entry", "server insists on TLS"),
    ("server does not support SSL", "server has no TLS"),
    ("root certificate file", "no root certificate"),
    ("authentication method requirement", "way of authentication refused"),
    ("password authentication failed", "wrong password"),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one connection.

    Attributes:
        server: which one, as the stage calls it.
        sslmode: of the client.
        connected: whether a query was answered.
        refused: why not, in two or three words; empty where connected.
        encrypted: whether the client's connection was.
        tls: version that the server's pg_stat_ssl shows; None where it says there is no TLS. Both
            are told, because they are of two connections where somebody stands in the middle.
        said: the error's own words.
    """

    server: str
    sslmode: str
    connected: bool
    refused: str = ""
    encrypted: bool = False
    tls: str | None = None
    said: str = ""

    def __str__(self) -> str:
        if not self.connected:
            return f"refused: {self.refused}"
        if not self.encrypted:
            return "connected IN THE CLEAR"
        return f"connected, {self.tls}" if self.tls else "connected, yet the server sees no TLS"


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers of the experiment, while it runs.

    Attributes:
        authority: the CA whose root the client has.
        root: file with that root, for ``sslrootcert``.
        honest: the real server.
        impostors: servers of somebody else, by name.
        relay: a man in the middle who speaks TLS to both sides.
        stripping_relay: one who speaks to the honest server without TLS; it must allow that.
        password: of the role ``app`` on the honest server.
    """

    authority: CertificateAuthority
    root: Path
    honest: ScratchPostgres
    impostors: Mapping[str, ScratchPostgres]
    relay: Relay
    stripping_relay: Relay
    password: Secret

    @property
    def ports(self) -> dict[str, int]:
        """Return the port of each address, the honest server's first."""
        return {
            "honest": self.honest.port,
            **{name: server.port for name, server in self.impostors.items()},
            "relay": self.relay.port,
        }

    def parameters(self, server: str) -> dict[str, str]:
        """Return the client's libpq parameters for an address, the password in the clear."""
        return _parameters(self.ports[server], self.password)

    def allow_plaintext(self, allowed: bool) -> None:
        """Let the honest server take clients without TLS (``host``), or not (``hostssl``)."""
        self.honest.write_hba(_hba("host" if allowed else "hostssl"))
        # A restart, because a reload is heeded at some later moment.
        self.honest.restart()


def attempt(
    parameters: Mapping[str, str],
    *,
    server: str = "",
    sslmode: str = "verify-full",
    root: Path | None = None,
    **options: str,
) -> Attempt:
    """Try one connection, and ask the server how it sees it.

    Args:
        parameters: of libpq, such as ``stage.parameters("honest")``.
        server: its name in the result.
        sslmode: of the client.
        root: for sslrootcert. None is a client that has none: a file in the home of the learner's
            account does not count.
        options: further parameters, such as ``channel_binding="require"``.
    """
    import psycopg

    chosen = {
        **parameters,
        "sslmode": sslmode,
        "sslrootcert": str(root) if root else "/nonexistent",
        "connect_timeout": "10",
        "gssencmode": "disable",  # it would come first where the learner has a Kerberos ticket
        **options,
    }
    try:
        with without_libpq_variables():
            connection = psycopg.connect(**chosen)  # type: ignore[arg-type]
        with connection:
            row = connection.execute(
                "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()
            encrypted = bool(connection.pgconn.ssl_in_use)
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())
        return Attempt(server, sslmode, connected=False, refused=_kind(said), said=said)
    return Attempt(
        server, sslmode, connected=True, encrypted=encrypted, tls=row[0] if row else None
    )


def accepted(
    stage: Stage,
    *,
    trusting: bool = True,
    modes: Sequence[str] = MODES,
    servers: Sequence[str] | None = None,
    **options: str,
) -> list[Attempt]:
    """Try every mode against every server of the stage.

    Args:
        stage: the servers.
        trusting: the client has the root certificate of the CA; otherwise it has none.
        modes: values of sslmode.
        servers: names of ``stage.ports``; all when omitted.
        options: further parameters of libpq, for every attempt.
    """
    root = stage.root if trusting else None
    return [
        attempt(stage.parameters(name), server=name, sslmode=mode, root=root, **options)
        for mode in modes
        for name in (servers or stage.ports)
    ]


def as_table(attempts: Sequence[Attempt]) -> pd.DataFrame:
    """Return the attempts as a table: a row for each mode, a column for each server."""
    import pandas as pd

    modes = list(dict.fromkeys(a.sslmode for a in attempts))
    servers = list(dict.fromkeys(a.server for a in attempts))
    cells = {(a.sslmode, a.server): str(a) for a in attempts}
    return pd.DataFrame(
        [[cells.get((mode, server), "") for server in servers] for mode in modes],
        index=pd.Index(modes, name="sslmode"),
        columns=servers,
    )


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start the servers of the experiment, and end them.

    Raises:
        NoServerError: PostgreSQL's programs are not here.
        ServerStartError: a server did not start, for example because it was built without TLS.
    """
    ours = CertificateAuthority.create("the lesson's CA")
    theirs = CertificateAuthority.create("somebody else's CA")
    password = new_password()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(ScratchFolder())
        root = folder.path / "root.crt"
        root.write_bytes(ours.root_pem)
        honest = stack.enter_context(_server(ours.issue([NAME]), _hba("hostssl")))
        with honest.connect() as connection:
            _make_role(connection, password)
        impostors = {}
        for name, certificate in {
            "another CA": theirs.issue([NAME]),
            "self-signed": self_signed([NAME]),
            "other name": ours.issue(["printer.example"]),
        }.items():
            impostors[name] = stack.enter_context(_server(certificate, _open_hba()))
            with impostors[name].connect() as connection:
                _make_role(connection, new_password())
        forged = theirs.issue([NAME])
        yield Stage(
            authority=ours,
            root=root,
            honest=honest,
            impostors=impostors,
            relay=stack.enter_context(Relay(forged, honest.port)),
            stripping_relay=stack.enter_context(Relay(forged, honest.port, strip=True)),
            password=password,
        )


def _server(certificate: Issued, hba: Sequence[str]) -> ScratchPostgres:
    return ScratchPostgres(
        settings={"ssl": "on", "fsync": "off"},
        files={"server.key": certificate.key_pem, "server.crt": certificate.cert_pem},
        hba=hba,
        tcp=True,
    )


def _hba(kind: str) -> list[str]:
    return ["local all all scram-sha-256", f"{kind} all all 127.0.0.1/32 scram-sha-256"]


def _open_hba() -> list[str]:
    return ["local all all scram-sha-256", f"host all {ROLE} 127.0.0.1/32 trust"]


def _make_role(connection: psycopg.Connection[object], password: Secret) -> None:
    from psycopg import sql

    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
            sql.Identifier(ROLE), sql.Literal(password.reveal())
        )
    )


def _parameters(port: int, password: Secret) -> dict[str, str]:
    return {
        "host": NAME,
        "hostaddr": "127.0.0.1",
        "port": str(port),
        "user": ROLE,
        "password": password.reveal(),
        "dbname": "postgres",
    }


def _kind(said: str) -> str:
    return next((kind for words, kind in _KINDS if words in said), "other")
