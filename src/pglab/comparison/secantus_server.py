"""SecantusDB: an engine from PyPI that speaks MongoDB's protocol and stores with WiredTiger.

It is not MongoDB: the storage engine is the one of MongoDB, what stands above it is not. It runs as
a process of its own, found beside this interpreter, on PATH, or by PGLAB_SECANTUS.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pglab.comparison.contract import EngineMissingError
from pglab.errors import ServerStartError
from pglab.servers.process import free_port, log_tail, spawn
from pglab.servers.scratch_folder import ScratchFolder

__all__ = ["SecantusServer", "server_program"]

_READY_S = 60.0
_POLL_S = 0.02


def server_program() -> Path | None:
    """Return the server, or None."""
    named = os.environ.get("PGLAB_SECANTUS")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    beside = Path(sys.executable).parent
    found = shutil.which("secantusd-py", path=os.pathsep.join([str(beside), os.environ["PATH"]]))
    return Path(found) if found else None


class SecantusServer:
    """One server on a port of 127.0.0.1; it ends, and vanishes, with its maker.

    Raises:
        EngineMissingError: the program is not here.
        ServerStartError: it did not start; the message has its last words.
    """

    def __init__(self) -> None:
        program = server_program()
        if program is None:
            raise EngineMissingError(
                "neither MongoDB nor SecantusDB is here; set PGLAB_MONGODB_URL, "
                "or run: pip install --pre secantusdb"
            )
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None
        self._folder = ScratchFolder()
        self._log = self._folder.path / "log"
        self._port = free_port()
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``pymongo.MongoClient``."""
        return {"host": "127.0.0.1", "port": self._port, "directConnection": True}

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._child is not None and self._child.poll() is None:
            return
        with self._log.open("ab") as log:
            # As our own account: its interpreter may lie where no other can read it.
            self._child = spawn(
                [
                    self._program, "--host", "127.0.0.1", "--port", str(self._port),
                    "--storage-path", self._folder.path / "store", "--cache-size", "256M",
                    "--sync-on-commit", "--log-level", "ERROR",
                ],
                account=None, death_signal=signal.SIGKILL, stdout=log,
            )  # fmt: skip
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    f"SecantusDB did not start; its last words:\n{log_tail(self._log)}"
                )
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        import socket

        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def kill(self) -> None:
        """End it with SIGKILL; it is one process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End it, and remove all that it made."""
        if self._folder.is_ours:
            self.kill()
            self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
