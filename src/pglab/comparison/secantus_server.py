"""SecantusDB: an engine from PyPI that speaks MongoDB's protocol and stores with WiredTiger.

It is not MongoDB: the storage engine is the one of MongoDB, what stands above it is not. It runs as
a process of its own, found beside this interpreter, on PATH, or by PGLAB_SECANTUS.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pglab.comparison.contract import EngineMissingError
from pglab.comparison.engine_process import EngineProcess
from pglab.servers.process import free_port

__all__ = ["SecantusServer", "server_program"]


def server_program() -> Path | None:
    """Return the server, or None."""
    named = os.environ.get("PGLAB_SECANTUS")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    beside = Path(sys.executable).parent
    found = shutil.which("secantusd-py", path=os.pathsep.join([str(beside), os.environ["PATH"]]))
    return Path(found) if found else None


class SecantusServer(EngineProcess):
    """One server on a port of 127.0.0.1; it ends, and vanishes, with its maker.

    It runs as our own account: its interpreter may lie where no other can read it.

    Raises:
        EngineMissingError: the program is not here.
        ServerStartError: it did not start; the message has its last words.
    """

    name = "SecantusDB"

    def __init__(self) -> None:
        program = server_program()
        if program is None:
            raise EngineMissingError(
                "neither MongoDB nor SecantusDB is here; set PGLAB_MONGODB_URL, "
                "or run: pip install --pre secantusdb"
            )
        self._program = program
        self._port = free_port()
        super().__init__()

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``pymongo.MongoClient``."""
        return {"host": "127.0.0.1", "port": self._port, "directConnection": True}

    def _command(self) -> Sequence[str | Path]:
        return [
            self._program, "--host", "127.0.0.1", "--port", str(self._port),
            "--storage-path", self._folder.path / "store", "--cache-size", "256M",
            "--sync-on-commit", "--log-level", "ERROR",
        ]  # fmt: skip

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
