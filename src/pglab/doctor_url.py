"""One server by its URL, whoever runs it: what it is, what its TLS proves, what it can teach.

Nothing is made there: every question is read-only, and each is asked once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, LiteralString

from pglab.config import Secret
from pglab.doctor import Finding, ask_extensions, may_create_databases, time_zones
from pglab.errors import PglabError, ServerUnreachableError
from pglab.servers import external
from pglab.servers.connect import connect_postgres
from pglab.servers.programs import OLDEST_MAJOR

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["examine_url"]

_ASKED: Final = 20
_FAR_S: Final = 0.005
"""A round trip from which on the network, not the server, decides about a look-up."""
_CLOCK_S: Final = 2.0

# What a lesson needs of a server that is not pglab's own, beyond databases of its own.
_SUPERUSER_LESSONS: Final = ("05", "06", "09")
_OWN_SERVERS: Final = ("01", "06", "07", "08", "10")
"""They start further servers here, whatever DATABASE_URL says."""


def examine_url(url: Secret) -> Iterator[Finding]:
    """Look at a server, one finding after another.

    Args:
        url: as in DATABASE_URL.
    """
    from pglab.connections.anatomy import anatomy

    try:
        endpoint = external.postgres(url)
        parts = {part.name: part for part in anatomy(url.reveal())}
    except PglabError as error:
        yield Finding("URL", "fault", str(error), "correct the URL")
        return
    yield Finding("URL", "ok", endpoint.url())
    for name in ("sslmode", "password", "user", "dbname"):
        if parts[name].origin == "environment":
            yield Finding(
                "URL", "note", f"{name} comes from this machine's environment, not from the URL",
                "the same URL may mean something else on another machine: write it into the URL",
            )  # fmt: skip
    began = time.perf_counter()
    try:
        connection = connect_postgres(endpoint, autocommit=True)
    except ServerUnreachableError as error:
        yield Finding("connection", "fault", str(error), _remedy(str(error), endpoint))
        return
    except PglabError as error:
        yield Finding("connection", "fault", str(error), "use another database or role")
        return
    took = time.perf_counter() - began
    with connection:
        yield from _ask(endpoint, connection, took)


def _remedy(words: str, endpoint: PostgresEndpoint) -> str:
    host = endpoint.host or ""
    if host.endswith(".railway.internal"):
        return (
            "names in .railway.internal resolve only inside the project's private network: from "
            "here, use the URL of the TCP proxy (DATABASE_PUBLIC_URL)"
        )
    if "could not translate host name" in words or "failed to resolve host" in words:
        return "is the name right, and does it resolve from this machine?"
    if "password authentication failed" in words or "no password supplied" in words:
        return "check user and password; special signs must be percent-encoded"
    if "does not support SSL" in words or "server does not support SSL" in words:
        return "this server has no TLS: sslmode=disable where the network is trusted"
    if "certificate" in words:
        return "name the authority that signed the server's certificate with sslrootcert=FILE"
    return "is the server up, the port right, and a firewall in between?"


def _ask(
    endpoint: PostgresEndpoint, connection: psycopg.Connection[Any], connect_s: float
) -> Iterator[Finding]:
    version = connection.info.server_version
    said = f"PostgreSQL {version // 10000}.{version % 10000}"
    old = version < OLDEST_MAJOR * 10_000
    yield (
        Finding("version", "fault", said, f"the course needs {OLDEST_MAJOR} or later")
        if old
        else Finding("version", "ok", said)
    )
    yield from _tls(endpoint, connection)
    yield _latency(connection, connect_s)
    yield _sessions(connection)
    permissions = may_create_databases(connection)
    yield permissions
    extensions = ask_extensions(connection)
    yield extensions
    yield time_zones(connection)
    yield _clock(connection)
    yield _room(connection)
    yield _lessons(permissions, extensions, old=old)


def _tls(endpoint: PostgresEndpoint, connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    mode = endpoint.options.get("sslmode", "prefer")
    if endpoint.host is None:
        yield Finding("TLS", "ok", "a unix socket: nothing leaves the machine")
        return
    # libpq's own word: pg_stat_ssl would be a pooler's answer about its own connection.
    pgconn = connection.pgconn
    if not pgconn.ssl_in_use and endpoint.host in {"localhost", "127.0.0.1", "::1"}:
        yield Finding("TLS", "ok", "not encrypted, on the loopback interface of this machine")
        return
    if not pgconn.ssl_in_use:
        yield Finding(
            "TLS", "note", f"not encrypted (sslmode={mode})",
            "add sslmode=verify-full and sslrootcert=…; without TLS, whoever carries the packets "
            "reads and changes them",
        )  # fmt: skip
        return
    protocol = _row(connection, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    encrypted = f"encrypted ({protocol})" if protocol else "encrypted"
    if mode == "verify-full":
        yield Finding("TLS", "ok", f"{encrypted}; the certificate names this host (verify-full)")
        return
    proves = {
        "verify-ca": "the certificate is signed by your authority, for whatever host",
    }.get(mode, "nothing about who answers: anybody in between could")
    verified, why = _verify_full(endpoint)
    yield Finding(
        "TLS", "note", f"{encrypted}; sslmode={mode} proves {proves}",
        "sslmode=verify-full works here with the system's authorities: use it" if verified
        else f"sslmode=verify-full with the system's authorities does not work here ({why}); get "
        "the server's authority, and name it with sslrootcert=FILE",
    )  # fmt: skip


def _verify_full(endpoint: PostgresEndpoint) -> tuple[bool, str]:
    """Tell whether verify-full works, by connecting with it once."""
    options = {**endpoint.options, "sslmode": "verify-full"}
    options.setdefault("sslrootcert", "system")
    try:
        connect_postgres(replace(endpoint, options=options), timeout_s=5).close()
    except PglabError as error:
        return False, str(error).partition("failed: ")[2].partition(";")[0] or "no connection"
    return True, ""


def _latency(connection: psycopg.Connection[Any], connect_s: float) -> Finding:
    taken = []
    for _ in range(_ASKED):
        began = time.perf_counter()
        connection.execute("SELECT 1").fetchone()
        taken.append(time.perf_counter() - began)
    median = statistics.median(taken)
    detail = (
        f"a round trip takes {median * 1e3:.2f} ms (median of {_ASKED}), "
        f"connecting took {connect_s * 1e3:.0f} ms"
    )
    if median > _FAR_S:
        return Finding(
            "latency", "note", detail,
            "the network decides here: fewer round trips (joins, pipelines, batches) and a pool "
            "help more than any index; lessons take longer",
        )  # fmt: skip
    return Finding("latency", "ok", detail)


def _sessions(connection: psycopg.Connection[Any]) -> Finding:
    """Tell whether one client keeps one server process: behind some poolers it does not."""
    pids = {_row(connection, "SELECT pg_backend_pid()") for _ in range(5)}
    if pids == {connection.info.backend_pid}:
        return Finding("sessions", "ok", "a connection is a server process of its own")
    return Finding(
        "sessions", "note", "a pooler answers: the process is not the one that greeted us",
        "SET, LISTEN, advisory locks and prepared statements may be lost between transactions; "
        "lessons need a direct URL",
    )  # fmt: skip


def _clock(connection: psycopg.Connection[Any]) -> Finding:
    began = time.time()
    found = _row(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")
    ended = time.time()
    off = float(found) - (began + ended) / 2
    zone = connection.info.parameter_status("TimeZone") or "unknown"
    detail = f"time zone of the session: {zone}; clocks differ by {abs(off):.1f} s"
    if abs(off) > _CLOCK_S:
        return Finding("clock", "note", detail, "one of the two machines has the wrong time")
    return Finding("clock", "ok", detail)


def _room(connection: psycopg.Connection[Any]) -> Finding:
    most, used = connection.execute(
        "SELECT current_setting('max_connections')::int, count(*)::int FROM pg_stat_activity "
        "WHERE backend_type = 'client backend'"
    ).fetchone() or (0, 0)
    detail = f"{used} of {most} in use"
    if most - used < 10:
        return Finding("connections", "note", detail, "lessons need some ten of their own")
    return Finding("connections", "ok", detail)


def _lessons(permissions: Finding, extensions: Finding, *, old: bool) -> Finding:
    """Say which lessons run there."""
    if permissions.status == "fault" or old:
        return Finding(
            "lessons", "fault", "none can run there", "see the permissions and the version above"
        )
    notes = []
    if permissions.status == "note":
        notes.append(f"cells of {', '.join(_SUPERUSER_LESSONS)} that need a superuser say so")
    if extensions.status == "note":
        notes.append("cells whose extension is missing show kept results")
    kept = f"; {', '.join(_OWN_SERVERS)} also start servers here"
    return Finding("lessons", "ok", "all can run there" + kept + "".join(f"; {n}" for n in notes))


def _row(connection: psycopg.Connection[Any], query: LiteralString) -> Any:
    """Return the one value of a query."""
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]
