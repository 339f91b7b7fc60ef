"""What a lesson needs, looked at piece by piece; for each fault, what to do about it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pglab.config import Settings
from pglab.errors import PglabError
from pglab.servers import account as accounts
from pglab.servers import lifecycle
from pglab.servers.choose import NAMES, choose, survey
from pglab.servers.connect import connect_postgres, connect_redis
from pglab.servers.home import Kind, home_of, remove_tree, socket_directory
from pglab.servers.process import free_port, port_is_free

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["Finding", "ask_extensions", "examine", "may_create_databases", "time_zones"]

Status = Literal["ok", "note", "fault"]

_OLDEST_PYTHON: Final = (3, 11)
_NEEDED_BYTES: Final = 200_000_000
_COMFORTABLE_BYTES: Final = 2_000_000_000
# A unix socket's path has 108 bytes on Linux and 104 on macOS, its end included.
_SOCKET_PATH_BYTES: Final = 103

# Which lessons an extension serves. A server that lacks one can run the others.
_EXTENSIONS: Final = {
    "pg_stat_statements": "09",
    "pgcrypto": "06",
    "pageinspect": "05",
    "pgstattuple": "09",
    "pg_buffercache": "05 and the benchmarks",
    "pg_trgm": "05",
    "btree_gin": "04",
}
_LIBRARIES: Final = (
    "jupyterlab", "ipykernel", "psycopg", "sqlalchemy", "redis", "pandas", "matplotlib"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        status: ``ok``; ``note`` where something is worth knowing but lessons run; ``fault`` where
            they do not.
        remedy: what to do; empty where there is nothing to do.
    """

    check: str
    status: Status
    detail: str
    remedy: str = ""


def examine(settings_of: Callable[[], Settings] = Settings.from_environment) -> Iterator[Finding]:
    """Look at everything, one finding after another; what it starts, it stops.

    Args:
        settings_of: reads the settings; what it raises becomes a finding.
    """
    yield from _python()
    yield from _libraries()
    try:
        settings = settings_of()
    except PglabError as error:
        yield Finding("settings", "fault", str(error), "correct the variable that it names")
        return
    yield from _place(settings)
    yield _sockets()
    yield from _ports(settings)
    yield from _server("postgres", settings, _postgres)
    yield from _server("redis", settings, _redis)
    yield _lessons()


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    where = f"Python {version} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] >= _OLDEST_PYTHON:
        yield Finding("python", "ok", where)
    else:
        yield Finding("python", "fault", where, "install Python 3.11 or later, then: make lab")
    if sys.prefix == sys.base_prefix and not os.environ.get("CONDA_PREFIX"):
        yield Finding(
            "environment", "note", "no virtual environment: packages are shared with the system",
            "python3 -m venv .venv keeps them apart",
        )  # fmt: skip
    else:
        yield Finding("environment", "ok", "a virtual environment of its own")


def _libraries() -> Iterator[Finding]:
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(
            "libraries", "fault", f"missing: {', '.join(missing)}",
            "pip install --require-hashes -r requirements.lock",
        )  # fmt: skip
    else:
        yield Finding("libraries", "ok", f"{len(_LIBRARIES)} of {len(_LIBRARIES)} found")


def _place(settings: Settings) -> Iterator[Finding]:
    try:
        home = home_of(settings)
        accounts.make_private_directory(home)
        free = shutil.disk_usage(home).free
    except (PglabError, OSError) as error:
        yield Finding(
            "home", "fault", str(error), "set PGLAB_HOME to a directory that can be written"
        )
        return
    yield Finding("home", "ok", str(home))
    detail = f"{free / 1e9:.1f} GB free for data"
    if free < _NEEDED_BYTES:
        yield Finding(
            "disk", "fault", detail, "free at least 0.2 GB there, or set PGLAB_HOME to another disk"
        )
    elif free < _COMFORTABLE_BYTES:
        yield Finding("disk", "note", detail, "sizes medium and large want 2 and 10 GB")
    else:
        yield Finding("disk", "ok", detail)


def _sockets() -> Finding:
    if os.name != "posix":
        return Finding("socket path", "ok", "not used on this system: TCP instead")
    try:
        path = socket_directory(accounts.server_account())
    except PglabError as error:
        return Finding("socket path", "fault", str(error), "make /tmp writable, or set TMPDIR")
    remove_tree(path)
    length = len(os.fsencode(path / ".s.PGSQL.65535"))
    if length > _SOCKET_PATH_BYTES:
        return Finding("socket path", "fault", f"{length} bytes", "set TMPDIR to a short path")
    return Finding("socket path", "ok", f"{length} of at most {_SOCKET_PATH_BYTES} bytes")


def _ports(settings: Settings) -> Iterator[Finding]:
    wanted = {
        "PGLAB_POSTGRES_PORT": settings.postgres_port,
        "PGLAB_REDIS_PORT": settings.redis_port,
    }
    ours = {(unit.read_state() or {}).get("port") for unit in lifecycle.units(settings)}
    for name, port in wanted.items():
        if port is not None and port not in ours and not port_is_free(port):
            yield Finding(
                "ports", "fault", f"{name}={port} is taken by another program",
                f"set {name} to a free port, or unset it",
            )  # fmt: skip
            return
    try:
        yield Finding("ports", "ok", f"127.0.0.1 has free ones, such as {free_port()}")
    except OSError as error:
        yield Finding(
            "ports", "fault", f"127.0.0.1 cannot be listened on: {error}",
            "allow this program to listen on the loopback interface",
        )  # fmt: skip


def _server(
    kind: Kind, settings: Settings, ask: Callable[[Settings], Iterable[Finding]]
) -> Iterator[Finding]:
    name = NAMES[kind]
    try:
        chosen: str | None = choose(kind, settings)
    except PglabError:
        chosen = None
    for report in survey(kind, settings):
        mark = " (chosen)" if report.source == chosen else ""
        yield Finding(
            f"{name} from {report.source}",
            "ok" if report.available else "note",
            f"{report.detail}{mark}",
        )
    try:
        yield from ask(settings)
    except PglabError as error:
        # Without Redis, the lessons on PostgreSQL run.
        yield Finding(
            name, "fault" if kind == "postgres" else "note", str(error),
            "see the sources above; set DATABASE_URL or PGLAB_BACKEND to choose another"
            if kind == "postgres"
            else "lesson 07 needs Redis: see the sources above, or set REDIS_URL",
        )  # fmt: skip


def _postgres(settings: Settings) -> Iterator[Finding]:
    endpoint, running = lifecycle.ensure_postgres(settings)
    try:
        with connect_postgres(endpoint, autocommit=True) as connection:
            yield from _ask_postgres(endpoint, connection)
    finally:
        _let_go("postgres", settings, running)


def _ask_postgres(
    endpoint: PostgresEndpoint, connection: psycopg.Connection[Any]
) -> Iterator[Finding]:
    version = connection.info.server_version
    detail = f"{version // 10000}.{version % 10000} answers at {endpoint.url()}"
    if version < 150000:
        yield Finding("PostgreSQL", "fault", detail, "the lessons need PostgreSQL 15 or later")
    else:
        yield Finding("PostgreSQL", "ok", detail)
    yield may_create_databases(connection)
    yield ask_extensions(connection)
    yield time_zones(connection)
    row = connection.execute(
        "SELECT setting, current_setting('ssl') FROM pg_settings WHERE name = 'ssl_library'"
    ).fetchone()
    if row is None or not row[0]:
        yield Finding(
            "TLS", "note", "this server was built without it",
            "the TLS part of lesson 06 needs another source",
        )  # fmt: skip
    else:
        yield Finding("TLS", "ok", f"built with {row[0]}; now {row[1]} (loopback needs none)")


def ask_extensions(connection: psycopg.Connection[Any]) -> Finding:
    """Tell which of the lessons' extensions the server has."""
    rows = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
    available = {row[0] for row in rows}
    missing = [name for name in _EXTENSIONS if name not in available]
    if missing:
        lessons = "; ".join(f"{name} (lesson {_EXTENSIONS[name]})" for name in missing)
        return Finding(
            "extensions", "note", f"missing: {lessons}",
            "those lessons show kept results there; another source has them all",
        )  # fmt: skip
    return Finding("extensions", "ok", f"all {len(_EXTENSIONS)} that the lessons use")


def time_zones(connection: psycopg.Connection[Any]) -> Finding:
    """Tell whether the server knows the time zones that lessons travel to."""
    row = connection.execute(
        "SELECT count(*) FROM pg_timezone_names WHERE name IN ('UTC', 'America/Lima')"
    ).fetchone()
    if row is None or row[0] < 2:
        return Finding(
            "time zones", "fault", "the server knows none, and lesson 02 travels to Lima",
            "install the system's time zones, on Debian and Ubuntu: apt-get install tzdata; "
            "then: pglab down",
        )  # fmt: skip
    return Finding("time zones", "ok", "known to the server")


def may_create_databases(connection: psycopg.Connection[Any]) -> Finding:
    """Tell what the role may do: lessons make databases, and some ask what a superuser may."""
    row = connection.execute(
        "SELECT rolsuper, rolcreatedb, rolname FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None  # noqa: S101 - the current role exists
    superuser, may, role = row
    if not (superuser or may):
        return Finding(
            "permissions", "fault", f"role {role!r} may not create databases",
            f'let an administrator run: ALTER ROLE "{role}" CREATEDB',
        )  # fmt: skip
    if not superuser:
        return Finding(
            "permissions", "note", f"role {role!r} is no superuser",
            "lessons 05, 06 and 09 have cells that need one",
        )  # fmt: skip
    return Finding("permissions", "ok", f"role {role!r} is a superuser, of this server alone")


def _redis(settings: Settings) -> Iterator[Finding]:
    endpoint, running = lifecycle.ensure_redis(settings)
    try:
        with connect_redis(endpoint, decode_responses=True) as client:
            info: dict[str, Any] = client.info("server")
        version = info.get("valkey_version") or info.get("redis_version")
        product = "Valkey" if info.get("valkey_version") else "Redis"
        yield Finding("Redis", "ok", f"{product} {version} answers at {endpoint.url()}")
    finally:
        _let_go("redis", settings, running)


def _let_go(kind: Kind, settings: Settings, running: lifecycle.Running) -> None:
    running.release()
    if running.started:
        for unit in lifecycle.units(settings):
            if unit.kind == kind and not unit.leases_held():
                lifecycle.stop(unit)


def _lessons() -> Finding:
    from pglab import workspace

    try:
        originals = workspace.find_originals()
        count = len(list(originals.glob("*.ipynb")))
        with tempfile.TemporaryFile(dir=Path.cwd()):
            pass
    except PglabError as error:
        return Finding("lessons", "fault", str(error), "run pglab from a checkout of the course")
    except OSError as error:
        return Finding(
            "lessons", "note", f"this folder cannot be written: {error.strerror}",
            "go to a folder of your own before: pglab lab",
        )  # fmt: skip
    return Finding("lessons", "ok", f"{count} notebooks in {originals}")
