"""Where a lab keeps its servers' state: one home an environment, one unit in it a server.

A home belongs to a virtual environment, so that every kernel and command of one checkout agree on
it, whatever their working directory, and two checkouts never meet. Below it:

    postgres-embedded/      a unit: the server's kind and source
        start.lock          held by whoever is starting it
        supervisor.lock     held by its supervisor for as long as that lives
        state.json          where it answers
        secret              its password
        leases/             one locked file for each process that uses it
        supervisor.log, server.log
        data-17/            its data, by major version

Everything is 0700 or 0600. As root the data belong to the servers' account, which could not enter
a home of root's: they lie beside the home, in ``<home>.<unit>``, or under ``/var/lib/pglab``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
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
        return [path for path in paths if path.exists()]

    def read_state(self) -> dict[str, Any] | None:
        """Return where the server was last said to answer, or None; it may be gone since."""
        try:
            state = json.loads((self.path / "state.json").read_bytes())
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state as a whole: a reader sees the old one or the new one."""
        write_private(self.path / "state.json", json.dumps(state, indent=1) + "\n")

    def clear_state(self) -> None:
        """Forget where the server answered, but not which port it had."""
        state = self.read_state()
        if state is not None:
            self.write_state({"last_port": state.get("port") or state.get("last_port")})

    def password(self) -> Secret:
        """Return the server's password, made at random the first time."""
        path = self.path / "secret"
        try:
            return Secret(path.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            value = secrets.token_urlsafe(24)
            write_private(path, value + "\n")
            return Secret(value)

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
        while True:
            path = directory / f"{os.getpid()}-{secrets.token_hex(4)}.lock"
            self._lock = FileLock(path, mode=0o600, thread_local=False)
            with contextlib.suppress(Timeout):  # the supervisor was just looking whether it is stale
                self._lock.acquire(timeout=0)
                if path.exists():
                    self._path = path
                    return
                self._lock.release()

    def release(self) -> None:
        """Give the lease back; doing so twice is harmless."""
        self._path.unlink(missing_ok=True)
        self._lock.release()


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file as a whole, through a temporary name beside it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def socket_directory(account: accounts.Account | None) -> Path:
    """Make a new private directory whose sockets' paths are short enough (about 100 bytes).

    Raises:
        ServerStartError: no temporary directory can be written.
    """
    problems = []
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108
        # ".s.PGSQL.65535.lock" and our own name come on top.
        if len(os.fsencode(base)) > 60 or not accounts.reachable(Path(base), account):
            problems.append(f"{base} is too long, or closed to the servers' account")
            continue
        try:
            path = Path(tempfile.mkdtemp(prefix="pglab-", dir=base))
        except OSError as error:
            problems.append(f"{base}: {error.strerror}")
            continue
        accounts.own(path, account)
        return path
    raise ServerStartError(f"no directory for a socket: {'; '.join(problems)}; make /tmp writable")


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


def remove_tree(path: Path) -> None:
    """Remove a directory; files that vanish meanwhile are no error."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
    shutil.rmtree(path)
