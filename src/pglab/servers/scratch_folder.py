"""A private directory for servers that are there to be broken: it ends with its maker.

A guard, a small shell, waits for the end of a pipe that only the maker holds open. However the
maker ends, the guard then ends what still works in the directory, and removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pglab.closeable import Closeable
from pglab.errors import NoServerError
from pglab.servers import account as accounts
from pglab.servers.home import remove_tree, socket_directory
from pglab.servers.process import clean_environment

__all__ = ["ScratchFolder"]

# $1 is the directory; $2, $3 … are the folders that servers may work in. Somebody's shell may stand
# there, too, which is not ours to end. The kernel has told the servers already that their maker is
# dead (see process.spawn); what ignores that is killed.
_GUARD = """
read -r word && [ "$word" = done ] && exit
directory=$1; shift
working() {
    for place; do
        for process in /proc/[0-9]*; do
            [ "$(readlink "$process/cwd" 2>/dev/null)" = "$place" ] || continue
            program=$(readlink "$process/exe")
            case ${program##*/} in
                postgres*|redis-server*|valkey-server*|mariadbd*|mysqld*)
                    echo "${process#/proc/}" ;;
            esac
        done
    done
}
for _ in 1 2 3 4 5 6; do
    [ -z "$(working "$@")" ] && break
    sleep 0.5
done
for _ in 1 2 3 4 5 6; do
    left=$(working "$@")
    [ -z "$left" ] && break
    kill -KILL $left 2>/dev/null
    sleep 0.1
done
rm -rf -- "$directory"
"""


class ScratchFolder(Closeable):
    """A directory with a short name that the servers' account can enter, removed at the end.

    Use it as a context manager, also for what must outlive one server, such as a base backup that
    a second server is to run from. As root it belongs to the servers' account; what root itself
    writes into it is root's, until ``own`` gives it to that account.

    Args:
        workplaces: further folders whose processes belong to this one and end with it.

    Raises:
        NoServerError: the system is Windows, where none of this exists.
        ServerStartError: no temporary directory can be written.
    """

    def __init__(self, workplaces: Iterable[Path] = ()) -> None:
        if os.name != "posix":
            raise NoServerError(
                "scratch servers need unix sockets and signals, which this system lacks; "
                "run the lesson on Linux or macOS, or in WSL"
            )
        self.account = accounts.server_account()
        self.path = socket_directory(self.account)
        self._maker = os.getpid()
        places = [self.path, self.path / "data", *workplaces]
        read_end, self._alive = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [
                    "/bin/sh",
                    "-c",
                    _GUARD,
                    "pglab-scratch",
                    self.path,
                    *map(os.path.realpath, places),
                ],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=clean_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is not meant for it
            )
        finally:
            os.close(read_end)

    @property
    def is_ours(self) -> bool:
        """Tell whether it is there and this process made it."""
        return self._alive >= 0 and os.getpid() == self._maker

    def own(self, path: Path) -> None:
        """Give a file, or a directory with all that is in it, to the servers' account."""
        if self.account is not None:
            for found in (path, *path.rglob("*")) if path.is_dir() else (path,):
                accounts.own(found, self.account)

    def copy(self, tree: Path, target: Path) -> None:
        """Copy a directory to ``target``, for the servers' account and nobody else."""
        shutil.copytree(tree, target, symlinks=True)
        target.chmod(0o700)
        self.own(target)

    def write(self, path: Path, content: bytes | str) -> None:
        """Write a 0600 file that belongs to the servers' account."""
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        self.own(path)

    def close(self) -> None:
        """Remove it; doing so twice is harmless, and so is it in a forked child."""
        if not self.is_ours:
            return
        remove_tree(self.path)
        os.write(self._alive, b"done\n")
        os.close(self._alive)
        self._alive = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(10)
