"""MariaDB in a container: an image of this machine's own programs, as no registry is needed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from comparison_support import here
from tools.docker_engine import Engine, _new_image

from pglab.comparison.checks import CHECKS
from pglab.comparison.contract import AS_INSTALLED, EngineMissingError
from pglab.comparison.mariadb_server import server_program
from pglab.comparison.places import MARIADB_URL, find
from pglab.servers import engine as engines

pytestmark = [
    pytest.mark.server,
    pytest.mark.containers,
    pytest.mark.xdist_group("containers"),  # the engine is one worker's
]

IMAGE = "pglab-test/mariadb:1"

# It honours the official image's variable for root's password, at each start.
_ENTRYPOINT = r"""#!/bin/sh
set -eu
echo "CREATE OR REPLACE USER root@'%' IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';" > /tmp/init.sql
echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;" >> /tmp/init.sql
unset MARIADB_ROOT_PASSWORD
exec mariadbd --no-defaults --user=root --datadir=/data --socket=/tmp/s --init-file=/tmp/init.sql \
  --lc-messages-dir=/usr/share/mysql --skip-name-resolve --bind-address=0.0.0.0
"""


@pytest.fixture(scope="module")
def engine(container_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Yield an engine that has an image of MariaDB."""
    found = server_program()
    if found is None:
        with here("mysql"):  # skips, or fails in CI, with the reason
            raise AssertionError
    server, maker = found
    data = tmp_path_factory.mktemp("mariadb") / "data"
    subprocess.run(
        [
            maker, "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
            "--auth-root-authentication-method=normal", "--skip-name-resolve",
            "--innodb-log-file-size=8M",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in container_engine.environment.items():
            patch.setenv(name, value)
        patch.setenv("PGLAB_MARIADB_IMAGE", IMAGE)
        patch.delenv(MARIADB_URL, raising=False)
        patch.setattr("pglab.comparison.mariadb_server.server_program", lambda: None)
        host = container_engine.environment.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        with _new_image(
            host, IMAGE, ['ENTRYPOINT ["/entrypoint"]', "ENV PATH=/bin", "EXPOSE 3306"]
        ) as tree:
            tree.base([server], server.parent / "none")
            tree.copy(server.resolve(), "bin/mariadbd")
            tree.copy(Path("/usr/share/mysql"), "usr/share/mysql")
            tree.copy(data, "data")
            tree.text("entrypoint", _ENTRYPOINT, 0o755)
        yield container_engine


def test_a_container_is_found_killed_started_and_removed(engine: Engine) -> None:
    with find("mysql") as place:
        assert place.how == f"a container of {IMAGE}"
        assert place.engine.product == "MariaDB"
        assert CHECKS["all_or_nothing"](place, AS_INSTALLED).passed
        assert CHECKS["survives_kill"](place, AS_INSTALLED).passed
        assert len(_containers()) == 1
    assert _containers() == []


def test_a_server_of_ones_own_is_used_by_its_url(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with find("mysql") as container:
        address = container.engine.address()
        url = f"mysql://{address['user']}:{address['password']}@{address['host']}:{address['port']}"
        monkeypatch.setenv(MARIADB_URL, url)
        with find("mysql") as place:
            assert place.how == f"the server of {MARIADB_URL}"
            assert address["password"] not in f"{place} {place.engine}"
            assert CHECKS["broken_rules"](place, AS_INSTALLED).passed
            assert CHECKS["survives_kill"](place, AS_INSTALLED).passed is None
        with pytest.raises(Exception, match="Unknown database"):
            container.engine.connect(AS_INSTALLED)


def test_without_its_image_nothing_is_downloaded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGLAB_MARIADB_IMAGE", "pglab-test/nothing:1")
    with pytest.raises(EngineMissingError, match="docker pull pglab-test/nothing:1"), find("mysql"):
        pass


def test_a_container_that_does_not_start_is_removed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("pglab.comparison.containers.free_port", lambda: port)
        with pytest.raises(EngineMissingError, match="did not start"), find("mysql"):
            pass
    assert _containers() == []


def _containers() -> list[str]:
    with engines.connected() as client:
        found = client.containers.list(
            all=True, filters={"label": f"{engines.LABEL}=comparison-mariadb"}
        )
        return [container.name for container in found]
