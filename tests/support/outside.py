"""Kernels under other circumstances: another account, environment or mounts."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pglab
from pglab.servers.account import Account, reachable
from pglab.servers.home import remove_tree

TIMEOUT_S = 60

SOURCE = Path(pglab.__file__).parent.parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
IS_ROOT = os.geteuid() == 0

# A kernel's code goes where {body} stands; what it returns, or the error, comes back as JSON.
_KERNEL = """
import json, os, sys, traceback

def main():
{body}

try:
    result = dict(value=main())
except BaseException as error:
    result = dict(
        error=type(error).__name__, message=str(error), chain=traceback.format_exc(),
        expected=any(base.__name__ == "PglabError" for base in type(error).__mro__),
    )
print("\\n" + json.dumps(result, default=str))
"""

# One lesson's life, with both servers: made, written to, reset, closed.
CYCLE = """
import pglab
with pglab.open("basics", size="empty") as lab:
    with lab.connection() as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS n")
    lab.redis.set(lab.key("mine"), 1)
    lab.reset()
    with lab.connection() as connection:
        mine = connection.execute("SELECT to_regclass('mine')").fetchone()[0]
        messages = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
    return [messages, mine, lab.redis.exists(lab.key("mine")), lab.server.source]
"""
CYCLE_RAN = [0, None, 0, "embedded"]


@dataclass(frozen=True)
class Outcome:
    """What a kernel's code came to."""

    value: Any
    error: str | None
    message: str
    chain: str
    expected: bool

    def refused(self, error: str) -> str:
        """Return the message; fail unless the code ended with this error of pglab's."""
        assert self.error == error, f"{self.error}: {self.value} {self.chain}"
        assert self.expected
        return self.message


@dataclass
class Outside:
    """One home, and kernels that use it.

    Attributes:
        home: what PGLAB_HOME says; None leaves it unset.
        account: who runs the kernels; None for ourselves.
        python: the interpreter.
        mounts: shell lines run as root in a mount namespace of the kernel's own.
    """

    home: Path | None
    account: Account | None = None
    python: str = sys.executable
    variables: dict[str, str | None] = field(default_factory=dict)
    mounts: str = ""

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Return the environment of a kernel; None unsets a variable."""
        wanted: dict[str, str | None] = {
            **{n: v for n, v in os.environ.items() if not n.startswith(("PG", "XDG_"))},
            "PGLAB_HOME": str(self.home) if self.home else None,
            # Whatever happens to the test, its servers end by themselves.
            "PGLAB_IDLE_MINUTES": "2",
            **self.variables,
            **changes,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def command(self, code: str) -> list[str]:
        """Return the kernel's command line."""
        argv = [self.python, "-P", "-c", code]
        if self.account is not None:
            numbers = [f"--reuid={self.account.uid}", f"--regid={self.account.gid}"]
            argv = ["setpriv", *numbers, "--clear-groups", *argv]
        if self.mounts:
            shell = ["/bin/sh", "-ec", f'{self.mounts}\nexec "$@"', "sh"]
            argv = ["unshare", "--mount", "--propagation", "private", *shell, *argv]
        return argv

    def start(self, body: str, **variables: str | None) -> subprocess.Popen[str]:
        """Start a kernel that runs ``body``."""
        code = _KERNEL.format(body="\n".join(f"    {line}" for line in body.splitlines()))
        return subprocess.Popen(
            self.command(code), env=self.environment(**variables), cwd="/", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, body: str, **variables: str | None) -> Outcome:
        """Run ``body`` in a kernel and return what it came to."""
        return finish(self.start(body, **variables))

    def clear(self) -> None:
        """Stop every server of the home, then remove it and what belongs to it."""
        for home in filter(None, [self.home]):
            stop_servers(home)
            for path in (*leftovers(home), home):
                if path.is_dir():
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)
            if home.parent.name.startswith("pglab-") and home.parent.parent == Path("/var/tmp"):
                with contextlib.suppress(OSError):  # others' homes are in it
                    home.parent.rmdir()


def finish(kernel: subprocess.Popen[str]) -> Outcome:
    """Wait for a kernel and return what its code came to."""
    try:
        said, complaints = kernel.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        kernel.kill()
        kernel.communicate()
        raise
    assert said.strip(), f"the kernel ended with {kernel.returncode} and said: {complaints}"
    result: Mapping[str, Any] = json.loads(said.splitlines()[-1])
    return Outcome(
        result.get("value"),
        result.get("error"),
        result.get("message", ""),
        result.get("chain", ""),
        result.get("expected", False),
    )


def supervisors(home: Path) -> list[int]:
    """Return the processes that own the servers of a home."""
    found = []
    for path in home.glob("*/supervisor.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            if b"pglab.servers.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def stop_servers(home: Path) -> None:
    """End the supervisors of a home, whoever they run as, and wait until they are gone."""
    pids = supervisors(home) if home.is_dir() else []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    # A server without room for its last checkpoint is given 30 s before it is ended at once.
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, f"supervisors {pids} do not end"
        time.sleep(0.02)


def leftovers(home: Path) -> list[Path]:
    """Return directories of a home's servers that lie outside it (where we are root)."""
    from pglab.servers.account import server_account
    from pglab.servers.home import Unit

    if server_account() is None:
        return []
    units = [Unit(home, "postgres", "embedded"), Unit(home, "redis", "embedded")]
    return [path for unit in units for path in unit.owned_paths()]


def _quick() -> str | None:
    # In memory where there is such a place: these tests make many clusters.
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK) else None


@contextlib.contextmanager
def open_directory(account: Account | None = None, base: str | None = None) -> Iterator[Path]:
    """Make a directory with a short path that every account can enter; remove it afterwards."""
    path = Path(tempfile.mkdtemp(prefix="pglab-test-", dir=base or _quick()))
    path.chmod(0o755)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    try:
        yield path
    finally:
        remove_tree(path)


def account(name: str) -> Account:
    """Return an account of this machine by its name."""
    entry = pwd.getpwnam(name)
    return Account(name, entry.pw_uid, entry.pw_gid)


def need_mounts() -> None:
    """Skip the test, with the reason, where this process may not mount."""
    probe = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if probe.returncode != 0:
        pytest.skip(f"lacking: the right to mount (root with CAP_SYS_ADMIN): {probe.stderr}")


def ordinary(name: str, home: Path | None) -> Outside:
    """Return kernels of an ordinary account: the named one as root, otherwise our own."""
    if not IS_ROOT:
        return Outside(home)
    who = account(name)
    needed = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), SOURCE.resolve()]
    far = [path for path in needed if not reachable(path, who)]
    if not far:
        return Outside(home, who)
    # Below /root, say. In a mount namespace of its own the account sees them at the same place,
    # below empty directories that it can enter.
    need_mounts()
    lines = ["mount -t tmpfs tmpfs /mnt"]
    for n, path in enumerate(far):
        lines.append(f"mkdir /mnt/{n}; mount --bind {shlex.quote(str(path))} /mnt/{n}")
    closed = {next(p for p in (*reversed(path.parents), path) if not reachable(p, who))
              for path in far}  # fmt: skip
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(path))}" for path in closed]
    for n, path in enumerate(far):
        place = shlex.quote(str(path))
        lines.append(f"mkdir -p {place}; mount --bind /mnt/{n} {place}")
    return Outside(home, who, mounts="\n".join([*lines, "umount -R /mnt"]))


def programs_directory() -> Path:
    """Return where root keeps copies of programs for the servers' account."""
    from pglab.servers.account import shared_directory

    return shared_directory() / "programs"


def copy_package(name: str, target: Path) -> None:
    """Copy an installed package, and the libraries beside it, into a folder."""
    for folder in (name, f"{name}.libs"):
        if (SITE_PACKAGES / folder).is_dir():
            shutil.copytree(SITE_PACKAGES / folder, target / folder, symlinks=True)
