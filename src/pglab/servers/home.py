"""Where a lab keeps its servers' state: one home an environment, one unit in it a server.

A home belongs to a virtual environment, so that every kernel and command of one checkout agree on
it, whatever their working directory, and two checkouts never meet. Below it:

    postgres-embedded/      a unit: the server's kind and source
        start.lock          held by whoever is starting it
        supervisor.lock     held by its supervisor for as long as that lives
        state.json          where it answers, or did: its port and socket stay the same
        secret              its password
        leases/             one locked file for each process that uses it
        supervisor.log, server.log
        data-17/            its data, by major version

Everything is 0700 or 0600. As root the data belong to the servers' account, which could not enter
a home of root's: they lie beside the home, in ``<home>.<unit>``, or under ``/var/lib/pglab``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pglab.config import Backend, Secret, Settings
from pglab.errors import ServerError, ServerStartError
from pglab.servers import account as accounts

__all__ = ["Kind", "Lease", "Unit", "home_of"]

Kind = Literal["postgres", "redis"]

# How long one process may take to start a server while others wait for it.
START_TIMEOUT_S = 90.0

# A new cluster has 40 MB; the write-ahead log of a lesson's first databases comes on top.
_ROOM_MB = 120


def home_of(settings: Settings) -> Path:
    """Return the directory of this environment's lab; it need not exist yet."""
    if settings.home is not None:
        return settings.home
    key = hashlib.sha256(os.path.realpath(sys.prefix).encode()).hexdigest()[:12]
    return _base() / key


def _base() -> Path:
    if os.name == "posix" and os.geteuid() == 0:
        return accounts.shared_directory()
    import platformdirs

    try:
        base = Path(platformdirs.user_data_dir("pglab", appauthor=False))
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # HOME is missing or cannot be written
        pass
    else:
        if os.access(base, os.W_OK | os.X_OK):
            return base
    # Lasts over a restart of the machine, unlike /tmp; make_private_directory refuses another's.
    uid = os.getuid() if os.name == "posix" else 0
    return accounts.make_private_directory(Path(f"/var/tmp/pglab-{uid}"))  # noqa: S108


@dataclass(frozen=True, slots=True)
class Unit:
    """One server of a home: the files through which processes find and share it."""

    home: Path
    kind: Kind
    source: Backend

    @property
    def name(self) -> str:
        """Return the kind and source, such as ``postgres-embedded``."""
        return f"{self.kind}-{self.source}"

    @property
    def path(self) -> Path:
        """Return the unit's own directory."""
        return self.home / self.name

    @property
    def start_lock(self) -> FileLock:
        """Return the lock that a starting process holds."""
        return FileLock(self.path / "start.lock", timeout=START_TIMEOUT_S, mode=0o600)

    @property
    def supervisor_lock(self) -> FileLock:
        """Return the lock that the supervisor holds while it lives; probe it under start_lock."""
        return FileLock(self.path / "supervisor.lock", mode=0o600)

    @property
    def server_log(self) -> Path:
        """Return the file that the server's own output goes to."""
        return self.path / "server.log"

    @property
    def supervisor_pid(self) -> Path:
        """Return the file with the process id of the supervisor that last held its lock."""
        return self.path / "supervisor.pid"

    @property
    def supervisor_log(self) -> Path:
        """Return the file that the supervisor's output goes to."""
        return self.path / "supervisor.log"

    def make(self) -> None:
        """Make the directories.

        Raises:
            ServerStartError: the place cannot be written.
        """
        try:
            accounts.make_private_directory(self.home)
            accounts.make_private_directory(self.path)
            accounts.make_private_directory(self.path / "leases")
        except OSError as error:
            raise ServerStartError(
                f"cannot write {error.filename or self.path}: {error.strerror}; "
                "make it writable, or set PGLAB_HOME to a directory that is"
            ) from error

    def data_directory(self, account: accounts.Account | None, major: int) -> Path:
        """Return where data of this major version go, its parent made and private."""
        if account is None:
            return self.path / f"data-{major}"
        return accounts.make_private_directory(self._account_path(account), account) / (
            f"data-{major}"
        )

    def _account_path(self, account: accounts.Account) -> Path:
        if accounts.reachable(self.home.parent, account):
            return self.home.with_name(f"{self.home.name}.{self.name}")
        key = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return accounts.shared_directory() / f"{key}.{self.name}"

    def owned_paths(self) -> list[Path]:
        """Return every directory that belongs to this unit, for ``purge``."""
        paths = [self.path]
        account = accounts.server_account()
        if account is not None:
            paths.append(self._account_path(account))
        sockets = self.last_sockets()  # there still, if the supervisor was killed
        if sockets is not None and _is_ours(sockets, account):
            paths.append(sockets)
        return [path for path in paths if path.exists()]

    def read_state(self) -> dict[str, Any] | None:
        """Return where the server was last said to answer, or None; it may be gone since."""
        try:
            state = json.loads((self.path / "state.json").read_bytes())
        except (OSError, ValueError):
            return None
        # A copy of a home must neither use the original's server nor remove its socket.
        ours = isinstance(state, dict) and state.get("unit") == os.path.realpath(self.path)
        return state if ours else None

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state as a whole: a reader sees the old one or the new one."""
        state = {"unit": os.path.realpath(self.path), **state}
        write_private(self.path / "state.json", json.dumps(state, indent=1) + "\n")

    def clear_state(self, **facts: str | float) -> None:
        """Say that no server answers, but not forget which port and socket directory it had.

        Args:
            facts: what else to say, such as why there is none.
        """
        sockets = self.last_sockets()
        kept = {"last_port": self.last_port(), "sockets": str(sockets) if sockets else None}
        self.write_state({**kept, **facts})

    def last_port(self) -> int | None:
        """Return the port that the server has, or had the last time."""
        state = self.read_state() or {}
        port = state.get("port") or state.get("last_port")
        return port if isinstance(port, int) and 0 < port <= 65535 else None

    def last_sockets(self) -> Path | None:
        """Return the directory where the server has its socket, or had it the last time."""
        path = (self.read_state() or {}).get("sockets")
        return Path(path) if isinstance(path, str) else None

    @property
    def secret(self) -> Path:
        """Return the file with the server's password."""
        return self.path / "secret"

    def has_password(self) -> bool:
        """Tell whether there is a password already; an empty or spoilt file holds none."""
        return self._read_password() is not None

    def password(self) -> Secret:
        """Return the server's password, made at random where there is none."""
        return self._read_password() or self.set_password(new_password())

    def set_password(self, password: Secret) -> Secret:
        """Keep a password, and return it."""
        write_private(self.secret, password.reveal() + "\n")
        return password

    def _read_password(self) -> Secret | None:
        try:
            text = self.secret.read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return Secret(text) if re.fullmatch(r"[\w-]{16,}", text) else None

    def lease(self) -> Lease:
        """Return a new lease: while it is held, the server is in use."""
        return Lease(self.path / "leases")

    def leases_held(self) -> int:
        """Count the processes that use the server; files of dead ones are removed."""
        held = 0
        for path in (self.path / "leases").glob("*.lock"):
            lock = FileLock(path, mode=0o600)
            try:
                with lock.acquire(timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                held += 1
            except OSError:
                continue
        return held


class Lease:
    """A locked file that says: this process uses the server. The kernel frees it if we die."""

    def __init__(self, directory: Path) -> None:
        self._pid = os.getpid()
        while True:
            path = directory / f"{os.getpid()}-{secrets.token_hex(4)}.lock"
            self._lock = FileLock(path, mode=0o600, thread_local=False)
            with contextlib.suppress(
                Timeout
            ):  # the supervisor was just looking whether it is stale
                self._lock.acquire(timeout=0)
                if path.exists():
                    self._path = path
                    return
                self._lock.release()

    def release(self) -> None:
        """Give the lease back; doing so twice is harmless, and so is it in a forked child."""
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)
            self._lock.release()


def new_password() -> Secret:
    """Return a new random password."""
    return Secret(secrets.token_urlsafe(24))


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file as a whole, through a temporary name beside it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave an empty secret
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def socket_directory(account: accounts.Account | None, unit: Unit | None = None) -> Path:
    """Make a private directory whose sockets' paths are short enough (about 100 bytes).

    Args:
        account: who is to own it.
        unit: whose it is, if it is to last. It is the one of the last time where that is possible:
            whoever kept the address finds the server again, and what a killed supervisor left
            there goes.

    Raises:
        ServerStartError: no temporary directory can be written.
    """
    last = unit.last_sockets() if unit is not None else None
    if last is not None and _make_again(last, account):
        return last
    problems = []
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108
        # ".s.PGSQL.65535.lock" and our own name come on top.
        if len(os.fsencode(base)) > 60 or not accounts.reachable(Path(base), account):
            problems.append(f"{base} is too long, or closed to the servers' account")
            continue
        path = Path(base, f"pglab-{secrets.token_hex(6)}")
        if unit is not None:
            unit.clear_state(sockets=str(path))  # before it exists: it is never forgotten
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            problems.append(f"{base}: {error.strerror}")
            continue
        accounts.own(path, account)
        return path
    raise ServerStartError(f"no directory for a socket: {'; '.join(problems)}; make /tmp writable")


def _make_again(path: Path, account: accounts.Account | None) -> bool:
    try:
        if _is_ours(path, account):
            remove_tree(path)
        path.mkdir(mode=0o700)  # fails where somebody else took the name
    except OSError:
        return False
    accounts.own(path, account)
    return True


def _is_ours(path: Path, account: accounts.Account | None) -> bool:
    # The path comes from a file, and what it names is going to be removed.
    owners = {os.geteuid(), account.uid} if account else {os.geteuid()}
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in owners and path.name.startswith("pglab-")


@contextlib.contextmanager
def starting(unit: Unit) -> Iterator[None]:
    """Hold the unit's start lock.

    Raises:
        ServerError: another process has been starting the server for too long.
    """
    unit.make()
    try:
        with unit.start_lock:
            yield
    except Timeout:
        raise ServerError(
            f"another process has been starting {unit.name} for {START_TIMEOUT_S:.0f} s; "
            f"look into {unit.supervisor_log}, then run: pglab down"
        ) from None


@contextlib.contextmanager
def room_explained(unit: Unit) -> Iterator[None]:
    """Say so where a server does not start because its disk is full.

    Raises:
        ServerStartError: in place of an OSError for want of room, and of a ServerStartError with
            such words in it; with the free space, the space needed and the remedy.
    """
    try:
        yield
    except (OSError, ServerStartError) as error:
        certain = getattr(error, "errno", None) == errno.ENOSPC
        if not certain and os.strerror(errno.ENOSPC) not in str(error):
            raise
        free_mb = {path: shutil.disk_usage(path).free / 1e6 for path in _places(unit)}
        # A log's last words may be about a disk that was full some time ago.
        if not certain and min(free_mb.values()) > _ROOM_MB:
            raise
        free = " and ".join(f"{free:.0f} MB free at {path}" for path, free in free_mb.items())
        raise ServerStartError(
            f"the disk is full ({free}): {error}\n"
            f"a server needs up to {_ROOM_MB} MB to start; make room there, or set PGLAB_HOME to "
            "a directory on another disk, then try again; what was stored before is kept"
        ) from error


def _places(unit: Unit) -> list[Path]:
    there = next(path for path in (unit.home, *unit.home.parents) if path.exists())
    return [*unit.owned_paths(), there]


def remove_tree(path: Path) -> None:
    """Remove a directory; files that vanish meanwhile are no error."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
    shutil.rmtree(path)
