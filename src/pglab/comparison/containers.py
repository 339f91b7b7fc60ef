"""MariaDB or MongoDB in a container, where its image is on this machine already.

Nothing is downloaded behind a learner's back: ``docker pull mariadb:11`` is theirs to say. Another
image can be named by PGLAB_MARIADB_IMAGE or PGLAB_MONGODB_IMAGE.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pglab.comparison.contract import EngineMissingError
from pglab.errors import ServerStartError
from pglab.servers import engine as engines
from pglab.servers.process import free_port

__all__ = ["IMAGES", "Container", "run_container"]

IMAGES: Final[Mapping[str, tuple[str, int]]] = {
    "mariadb": ("mariadb:11", 3306),
    "mongodb": ("mongo:8", 27017),
}
"""Image and port of each, unless the environment names another image."""

_ONE_MEMBER: Final = {"_id": "one", "members": [{"_id": 0, "host": "127.0.0.1:27017"}]}
_READY_S = 120.0
_POLL_S = 0.1


@dataclass(slots=True)
class Container:
    """A running container.

    Attributes:
        host: always this machine's loopback address.
        port: published there.
        password: of MariaDB's root.
        image: its name.
        product: mariadb or mongodb.
    """

    host: str
    port: int
    image: str
    product: str
    password: str = field(repr=False)
    _inner: Any = field(repr=False)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._inner.kill("SIGKILL")
        self._inner.wait()

    def start(self) -> None:
        """Start it again, and wait until it answers at the same address."""
        self._inner.start()
        self.wait()

    def wait(self) -> None:
        """Wait until it greets whoever connects.

        Raises:
            ServerStartError: it ended, or took too long.
        """
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            self._inner.reload()
            if self._inner.status == "exited" or time.monotonic() > deadline:
                said = self._inner.logs(tail=8).decode(errors="replace")
                raise ServerStartError(f"{self.image} did not start; its last words:\n{said}")
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        if self.product == "mongodb":
            import pymongo

            with pymongo.MongoClient[Any](
                self.host, self.port, serverSelectionTimeoutMS=1_000, directConnection=True
            ) as client:
                try:
                    said = client.admin.command("hello")
                    if not said.get("setName"):
                        client.admin.command("replSetInitiate", _ONE_MEMBER)
                except pymongo.errors.PyMongoError:
                    return False
                return bool(said.get("isWritablePrimary"))
        import pymysql

        try:
            pymysql.connect(
                host=self.host, port=self.port, user="root", password=self.password,
                connect_timeout=2,
            ).close()  # fmt: skip
        except (pymysql.MySQLError, OSError):
            return False
        return True


@contextmanager
def run_container(name: str) -> Iterator[Container]:
    """Run a container, and remove it with its data at the end.

    Args:
        name: mariadb or mongodb.

    Raises:
        EngineMissingError: no engine answers, or it has no such image.
        ServerStartError: it does not get ready.
    """
    image, inner_port = IMAGES[name]
    image = os.environ.get(f"PGLAB_{name.upper()}_IMAGE", image)
    problem = engines.engine_problem()
    if problem is not None:
        raise EngineMissingError(f"{name} is not on this machine, and {problem}")
    from docker.errors import DockerException, ImageNotFound

    with engines.connected() as client:
        try:
            client.images.get(image)
        except ImageNotFound:
            raise EngineMissingError(
                f"{name} is not on this machine, and the container engine has no image {image}; "
                f"run: docker pull {image}"
            ) from None
        password = secrets.token_urlsafe(18)
        # A port of the engine's choice would be another one after a kill.
        port = free_port()
        inner = None
        try:
            try:
                # Made and started apart: one that does not start is still there to be removed.
                inner = client.containers.create(
                    image, ports={f"{inner_port}/tcp": (engines.HOST, port)},
                    labels={engines.LABEL: f"comparison-{name}"}, **_arguments(name, password),
                )  # fmt: skip
                inner.start()
            except DockerException as error:
                raise ServerStartError(
                    f"{image} did not start ({engines.first_line(error)})"
                ) from error
            container = Container(engines.HOST, port, image, name, password, inner)
            container.wait()
            yield container
        finally:
            if inner is not None:
                with suppress(DockerException):
                    inner.remove(force=True, v=True)


def _arguments(name: str, password: str) -> dict[str, Any]:
    if name == "mariadb":
        return {"environment": {"MARIADB_ROOT_PASSWORD": password}}
    # Transactions need a replica set; one member is enough.
    return {"command": ["--bind_ip_all", "--replSet", str(_ONE_MEMBER["_id"])]}
