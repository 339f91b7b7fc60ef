"""The account that servers run as, and programs that this account can reach.

PostgreSQL refuses to run as root, and Colab, Docker and CI are root. There, the servers run as
``nobody``; a virtual environment below ``/root`` (mode 0700) is out of that account's reach, so
that the programs are copied once to a place that is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pglab.errors import NoServerError, ServerStartError

__all__ = [
    "Account",
    "make_private_directory",
    "own",
    "reachable",
    "reachable_copy",
    "server_account",
]

_SHELL_SIGNS = '"$`\\'

# Where root keeps what nobody must be able to enter; the second serves read-only systems.
SHARED_DIRECTORIES = (Path("/var/lib/pglab"), Path("/var/tmp/pglab-root"))  # noqa: S108


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine, by its numbers."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Return the account for servers, or None where they run as whoever we are.

    Raises:
        NoServerError: we are root and there is no ``nobody``, or our uid has no passwd entry
            (PostgreSQL's initdb needs one).
    """
    if os.name != "posix":
        return None
    import pwd

    uid = os.geteuid()
    if uid != 0:
        try:
            pwd.getpwuid(uid)
        except KeyError:
            raise NoServerError(
                f"this process runs as uid {uid}, which has no entry in /etc/passwd, and "
                "PostgreSQL refuses that; add an entry (in Docker: useradd), run as root, "
                "or set DATABASE_URL to a server of your own"
            ) from None
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise NoServerError(
            "PostgreSQL refuses to run as root, and this system has no account 'nobody' to run it "
            "as; add one (useradd nobody), use an ordinary account, or set DATABASE_URL"
        ) from None
    return Account("nobody", entry.pw_uid, entry.pw_gid)


def own(path: Path, account: Account | None) -> None:
    """Give a file or directory to the account; nothing to do where there is none."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def make_private_directory(path: Path, account: Account | None = None) -> Path:
    """Make a 0700 directory, or take one that is there, if it is ours.

    Raises:
        ServerStartError: something else is there, or another user's directory (in ``/tmp``
            anybody may have put it there).
    """
    with contextlib.suppress(FileExistsError):  # a file: the test below has the words for it
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    owners = {os.geteuid(), account.uid} if account else {os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise ServerStartError(
            f"{path} is not a directory of ours (owner uid {found.st_uid}); remove it, "
            "or set PGLAB_HOME to another place"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    own(path, account)
    return path


def reachable(path: Path, account: Account | None) -> bool:
    """Tell whether the account can enter this path's every directory and read the path itself."""
    if account is None:
        return True
    path = path.resolve()
    return all(_may(part, account, stat.S_IXOTH) for part in path.parents) and _may(
        path, account, stat.S_IROTH | stat.S_IXOTH
    )


def _may(path: Path, account: Account, wanted: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    # The bits of the class that applies, moved to where those of "others" stand.
    if found.st_uid == account.uid:
        mode = found.st_mode >> 6
    elif found.st_gid == account.gid:
        mode = found.st_mode >> 3
    else:
        mode = found.st_mode
    return mode & wanted == wanted


def shared_directory() -> Path:
    """Return root's directory that the servers' account can enter, made where it is missing.

    Raises:
        ServerStartError: none of the candidates can be written.
    """
    problems = []
    for candidate in SHARED_DIRECTORIES:
        try:
            candidate.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = candidate.lstat()
            if found.st_uid == 0 and stat.S_ISDIR(found.st_mode):
                candidate.chmod(0o755)
                return candidate
            problems.append(f"{candidate}: not a directory of root's")
        except OSError as error:
            problems.append(f"{candidate}: {error.strerror}")
    raise ServerStartError(
        "no place for the servers' data that their account can reach "
        f"({'; '.join(problems)}); make /var/lib/pglab writable"
    )


def reachable_copy(tree: Path, account: Account | None, *beside: Path) -> Path:
    """Return ``tree``, or a copy of it that the account can execute.

    Args:
        tree: a folder of programs and their libraries.
        account: who must be able to run them.
        beside: sibling folders that the programs expect at the same relative place.

    Raises:
        ServerStartError: there is no place for a copy, or ``tree`` has a path that initdb cannot
            run programs from.
    """
    # initdb runs its sibling through a shell, between double quotes.
    runnable = not set(_SHELL_SIGNS).intersection(str(tree))
    if runnable and reachable(tree, account):
        return tree
    if account is None:
        raise ServerStartError(
            f"PostgreSQL cannot be run from {tree}: one of the signs {' '.join(_SHELL_SIGNS)} "
            "stands in that path; move the project, or its virtual environment, to another folder"
        )
    # The name changes with the content's identity, so that an upgrade makes a new copy.
    identity = f"{tree}:{sum(f.stat().st_size for f in tree.rglob('*') if f.is_file())}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = shared_directory() / "programs" / name
    if not target.is_dir():
        target.parent.mkdir(mode=0o755, exist_ok=True)
        target.parent.chmod(0o755)
        with FileLock(target.with_suffix(".lock"), mode=0o600):
            if not target.is_dir():
                _copy(target, tree, *beside)
    return target / tree.name


def _copy(target: Path, *folders: Path) -> None:
    # It has its name only when it is complete; what a killed copier left is in nobody's way.
    scratch = target.with_suffix(".new")
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir(mode=0o755)
    try:
        for folder in folders:
            shutil.copytree(folder, scratch / folder.name, symlinks=True)
        _open_to_all(scratch)
        scratch.rename(target)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise ServerStartError(
            f"cannot copy the servers' programs to {target}: {error.strerror or error}; "
            "make room or rights there, then try again"
        ) from error


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o555 if path.is_dir() or mode & 0o100 else mode | 0o444)
