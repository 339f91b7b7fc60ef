"""Where each engine is found: a URL of the learner's, a program here, a container, or nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pglab.comparison.containers import run_container
from pglab.comparison.contract import Engine, EngineMissingError, Power
from pglab.comparison.mariadb import MariadbEngine
from pglab.comparison.mongodb import MongodbEngine
from pglab.comparison.postgres import PostgresEngine
from pglab.comparison.sqlite import SqliteEngine
from pglab.errors import ConfigError, NoServerError, ServerError
from pglab.servers.scratch import ScratchFolder, scratch_postgres

__all__ = ["ENGINES", "Place", "find"]

MARIADB_URL: Final = "PGLAB_MARIADB_URL"
MONGODB_URL: Final = "PGLAB_MONGODB_URL"


@dataclass(frozen=True, slots=True)
class Place:
    """An engine that answers.

    Attributes:
        engine: it.
        how: where it came from, for people.
        power: who can kill it; None where it is not ours, or is no server.
    """

    engine: Engine
    how: str
    power: Power | None = None


@contextmanager
def _cleared(engine: Engine) -> Iterator[Engine]:
    """Leave nothing of ours on somebody's server."""
    try:
        yield engine
    finally:
        engine.clear()


@contextmanager
def _postgres() -> Iterator[Place]:
    with scratch_postgres() as server:
        engine = PostgresEngine(server.parameters())
        yield Place(engine, "the lab's programs, in a server of its own", server)


@contextmanager
def _sqlite() -> Iterator[Place]:
    with ScratchFolder() as room:
        yield Place(SqliteEngine(room.path / "comparison.db"), "Python's own, in this process")


@contextmanager
def _mariadb() -> Iterator[Place]:
    from pglab.comparison.mariadb_server import MariadbServer, server_program

    url = os.environ.get(MARIADB_URL)
    if url:
        with _cleared(MariadbEngine(mariadb_parameters(url))) as engine:
            yield Place(engine, f"the server of {MARIADB_URL}")
    elif server_program() is not None:
        with MariadbServer() as server:
            yield Place(
                MariadbEngine(server.parameters()), "the machine's programs, started by us", server
            )
    else:
        with run_container("mariadb") as container:
            parameters = {
                "host": container.host, "port": container.port,
                "user": "root", "password": container.password,
            }  # fmt: skip
            yield Place(MariadbEngine(parameters), f"a container of {container.image}", container)


@contextmanager
def _mongodb() -> Iterator[Place]:
    from pglab.comparison.secantus_server import SecantusServer, server_program

    url = os.environ.get(MONGODB_URL)
    if url:
        with _cleared(MongodbEngine({"host": url})) as engine:
            yield Place(engine, f"the server of {MONGODB_URL}")
        return
    with ExitStack() as stack:
        try:
            container = stack.enter_context(run_container("mongodb"))
        except EngineMissingError:
            if server_program() is None:
                raise
            server = stack.enter_context(SecantusServer())
            yield Place(
                MongodbEngine(server.parameters()),
                "SecantusDB, which speaks MongoDB's protocol and is not MongoDB; started by us",
                server,
            )
        else:
            address = {
                "host": container.host, "port": container.port, "directConnection": True,
            }  # fmt: skip
            yield Place(MongodbEngine(address), f"a container of {container.image}", container)


ENGINES: Final[Mapping[str, Callable[[], Any]]] = {
    "postgres": _postgres,
    "mysql": _mariadb,
    "sqlite": _sqlite,
    "mongodb": _mongodb,
}
"""The columns of the seed's comparison, and who finds each."""


@contextmanager
def find(name: str) -> Iterator[Place]:
    """Find an engine, start it if need be, and end what was started.

    Args:
        name: postgres, mysql, sqlite or mongodb.

    Raises:
        EngineMissingError: it cannot be run here; the message says why.
        ConfigError: a URL cannot be read.
    """
    with ExitStack() as stack:
        try:
            place = stack.enter_context(ENGINES[name]())
        except EngineMissingError:
            raise
        except (NoServerError, ServerError) as error:
            raise EngineMissingError(str(error)) from error
        yield place


def mariadb_parameters(url: str) -> dict[str, Any]:
    """Return PyMySQL's parameters of ``mysql://user:password@host:port``.

    Raises:
        ConfigError: it is not such a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError as error:
        raise ConfigError(f"{MARIADB_URL} cannot be read ({error})") from None
    if parts.scheme not in {"mysql", "mariadb"} or not parts.hostname:
        raise ConfigError(
            f"{MARIADB_URL} must look like mysql://user:password@host:3306; "
            f"it begins with {parts.scheme or 'no scheme'}://"
        )
    return {
        "host": parts.hostname,
        "port": port,
        "user": unquote(parts.username or "root"),
        "password": unquote(parts.password or ""),
    }
