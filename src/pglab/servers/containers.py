"""Servers in containers, where a Docker or Podman engine on this machine answers.

The supervisor decides how long a container lives, but the engine runs it: if the supervisor is
killed, its container stays. It carries a label of its unit, and counts as gone from then on: the
next start, ``pglab down`` or ``purge`` removes it. (Ryuk, which does this for testcontainers, is
an image more to be pulled, and is left out unless TESTCONTAINERS_RYUK_DISABLED is set to false.)

Ports are published on 127.0.0.1 alone. The password goes in as a file, through the engine's API:
it is in no command line and not in what ``docker inspect`` shows. PostgreSQL's own image puts it
into its server's environment afterwards, which root and that server's account can read. The data
are in a named volume and outlive the container; what Redis holds is a cache and does not.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from pglab.errors import ServerStartError, ServerUnreachableError
from pglab.servers.connect import connect_postgres, connect_redis
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint
from pglab.servers.engine import (
    HOST,
    LABEL,
    TIMEOUT_S,
    connected,
    end,
    first_line,
    name_of,
    remove_leftovers,
)
from pglab.servers.home import Kind, Unit
from pglab.servers.postgres import SETTINGS, SUPERUSER
from pglab.servers.process import log_tail, ports_to_try
from pglab.servers.redis import DATABASES

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

__all__ = ["PostgresService", "RedisService"]

# In the container.
_PASSWORD_FILE: Final = "/pglab-password"  # noqa: S105
_STATEMENT: Final = "/pglab-password.sql"
_REDIS_CONFIGURATION: Final = "/pglab-redis.conf"
_DATA: Final = "/pglab"

_PROBE_TIMEOUT_S: Final = 5
_READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05


@dataclass
class _Service(ABC):
    """One server in one container.

    Attributes:
        image: its name, with a tag.
        wanted_port: a port of 127.0.0.1 to insist on; None for the last one, or any.
    """

    unit: Unit
    image: str
    wanted_port: int | None = None
    port: int = field(default=0, init=False)
    _container: DockerContainer | None = field(default=None, init=False)
    _image_environment: dict[str, str] = field(default_factory=dict, init=False)

    kind: ClassVar[Kind]
    inner_port: ClassVar[int]
    stop_signal: ClassVar[str]

    @abstractmethod
    def _configure(self, container: DockerContainer) -> None:
        """Add what this server needs."""

    @abstractmethod
    def _version(self) -> str:
        """Ask the server, with the password.

        Raises:
            ServerUnreachableError: it does not answer yet.
        """

    def _mend(self, error: ServerUnreachableError) -> bool:  # noqa: ARG002
        """Remove what keeps the server from answering; tell whether that was possible."""
        return False

    def start(self) -> dict[str, Any]:
        """Pull the image if it is not here, run it, and wait until the server answers.

        Returns:
            What ``state.json`` says of it: host, port, version, origin.

        Raises:
            ServerStartError: the image cannot be pulled, or the server did not start; the message
                has its last words.
        """
        from docker.errors import DockerException

        # Read when testcontainers starts a container; this process is the supervisor's own.
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        try:
            remove_leftovers(self.unit)
            self._pull()
            self._publish()
            version = self._wait()
        except (DockerException, OSError) as error:
            raise ServerStartError(
                f"the container engine failed: {first_line(error)}; run: pglab doctor"
            ) from error
        return {
            "host": HOST,
            "port": self.port,
            "version": version,
            "origin": f"the image {self.image}",
            "container": name_of(self.unit),
        }

    def _pull(self) -> None:
        """Make sure of the image, and learn its environment."""
        from docker.errors import APIError, ImageNotFound

        with connected() as engine:
            try:
                image = engine.images.get(self.image)
            except ImageNotFound:
                print(f"pulling the image {self.image}", file=sys.stderr, flush=True)
                try:
                    image = engine.images.pull(self.image)
                except APIError as error:
                    said = error.explanation or first_line(error)
                    raise ServerStartError(
                        f"the container image {self.image} cannot be pulled: {said}; set "
                        f"PGLAB_{self.kind.upper()}_IMAGE to one that this engine has (docker "
                        "images) or can reach"
                    ) from None
            variables = image.attrs["Config"].get("Env") or []
        self._image_environment = dict(variable.split("=", 1) for variable in variables)

    def _publish(self) -> None:
        variable = f"PGLAB_{self.kind.upper()}_PORT"
        for port in ports_to_try(self.wanted_port, self.unit.last_port(), variable):
            self.port = port
            if self._run():
                return
        raise ServerStartError(f"no port of {HOST} can be published; run: pglab doctor")

    def _run(self) -> bool:
        """Run the container; False if another program took the port meanwhile."""
        from docker.errors import APIError
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(self.image, docker_client_kw={"timeout": TIMEOUT_S})
        container.with_name(name_of(self.unit)).with_kwargs(
            labels={LABEL: name_of(self.unit), "pglab.home": str(self.unit.home)},
            network="bridge",
            shm_size="256m",  # parallel queries share memory there
            stop_signal=self.stop_signal,
        )
        # docker-py takes (address, port), which with_bind_ports cannot say.
        container.ports[f"{self.inner_port}/tcp"] = cast("int", (HOST, self.port))
        self._configure(container)
        try:
            container.start()
        except APIError as error:
            container.stop()
            said = str(error)
            if "already allocated" in said or "already in use" in said:
                return False
            raise
        self._container = container
        return True

    def _wait(self) -> str:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                return self._version()
            except ServerUnreachableError as error:
                if self._mend(error):
                    continue
                ended = not self.alive()
                if ended or time.monotonic() > deadline:
                    self.stop()
                    what = "ended" if ended else f"did not answer in {_READY_TIMEOUT_S:.0f} s"
                    raise ServerStartError(
                        f"the container of {self.image} {what} ({error}); its last words:\n"
                        f"{log_tail(self.unit.server_log)}\nrun: pglab doctor"
                    ) from None
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop the server in good order and remove the container; its data stay."""
        from docker.errors import DockerException

        container, self._container = self._container, None
        if container is not None:
            # An engine that has gone took the container with it, or the next start removes it.
            with suppress(DockerException, OSError):
                end(self.unit, container.get_wrapped_container())
                container.get_docker_client().client.close()

    def alive(self) -> bool:
        """Tell whether the container runs (one request to the engine, some 2 ms)."""
        from docker.errors import DockerException
        from requests.exceptions import ReadTimeout

        if self._container is None:
            return False
        try:
            self._container.reload()
        except ReadTimeout:  # a busy engine is no reason to start the server anew
            return True
        except (DockerException, OSError):
            return False
        return self._container.status == "running"

    def clean(self) -> None:  # noqa: B027 - nothing is left when ``stop`` has removed the container
        """Remove what only a running server needs."""


class PostgresService(_Service):
    """PostgreSQL in a container of the official image, or of one that reads its variables."""

    kind = "postgres"
    inner_port = 5432
    stop_signal = "SIGINT"  # a fast shutdown

    def _configure(self, container: DockerContainer) -> None:
        volume = name_of(self.unit)
        with connected() as engine:
            engine.volumes.create(volume, labels={LABEL: volume})
        major = self._image_environment.get("PG_MAJOR", "")
        locale = "--locale=C"
        if major.isdecimal() and int(major) >= 17:
            locale += " --locale-provider=builtin --builtin-locale=C.UTF-8"
        settings = {**SETTINGS, "listen_addresses": "*"}  # of the container; see HOST
        container.with_envs(
            POSTGRES_USER=SUPERUSER,
            POSTGRES_PASSWORD_FILE=_PASSWORD_FILE,
            POSTGRES_DB="postgres",
            POSTGRES_INITDB_ARGS=f"--auth-host=scram-sha-256 --encoding=UTF8 {locale}",
            PGDATA=f"{_DATA}/data-{major}",
        )
        container.with_volume_mapping(volume, _DATA, "rw")
        container.with_copy_into_container(
            self.unit.password().reveal().encode(), _PASSWORD_FILE, 0o444
        )
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        container.with_command(["postgres", *options])

    def _version(self) -> str:
        endpoint = PostgresEndpoint(
            source="containers",
            host=HOST,
            port=self.port,
            user=SUPERUSER,
            password=self.unit.password(),
        )
        with connect_postgres(endpoint, timeout_s=_PROBE_TIMEOUT_S) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return str(row[0]).split()[0] if row else ""

    def _mend(self, error: ServerUnreachableError) -> bool:
        # The volume is older than the password: the unit's directory, or the file, was deleted.
        # Inside of the container, its superuser needs none.
        if self._container is None or "password authentication failed" not in str(error):
            return False
        statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{self.unit.password().reveal()}';\n"
        self._container.copy_into_container(statement.encode(), _STATEMENT, 0o444)
        done = self._container.exec(["psql", "--username", SUPERUSER, "--file", _STATEMENT])
        self._container.exec(["rm", _STATEMENT])
        return done.exit_code == 0


class RedisService(_Service):
    """Redis or Valkey in a container of either's official image."""

    kind = "redis"
    inner_port = 6379
    stop_signal = "SIGTERM"

    def _configure(self, container: DockerContainer) -> None:
        configuration = "\n".join((
            "bind * -::*",  # of the container; see HOST
            f"port {self.inner_port}",
            "protected-mode yes",
            f"requirepass {self.unit.password().reveal()}",
            f"databases {DATABASES}",
            "daemonize no",
            'save ""',
            "appendonly no",
            "",
        ))  # fmt: skip
        container.with_copy_into_container(configuration.encode(), _REDIS_CONFIGURATION, 0o444)
        # Both images' entrypoints put their server's name before a file that ends in .conf.
        container.with_command([_REDIS_CONFIGURATION])

    def _version(self) -> str:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        endpoint = RedisEndpoint(
            source="containers", host=HOST, port=self.port, password=self.unit.password()
        )
        timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _PROBE_TIMEOUT_S)
        try:
            # Without redis-py's own patience: _wait also looks whether the container lives.
            with connect_redis(endpoint, retry=Retry(NoBackoff(), 0), **timeouts) as client:
                client.ping()
                info = cast("dict[str, Any]", client.info("server"))
        except (redis.RedisError, OSError) as error:
            raise ServerUnreachableError(str(error)) from None
        return str(info.get("valkey_version") or info["redis_version"])
