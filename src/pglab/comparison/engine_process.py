"""An engine's server as one process of ours: started, killed, and gone with all that it made."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pglab.closeable import Closeable
from pglab.errors import ServerStartError
from pglab.servers.process import log_tail, spawn
from pglab.servers.scratch_folder import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pglab.servers.account import Account

__all__ = ["EngineProcess"]

_READY_S = 60.0
_POLL_S = 0.02


class EngineProcess(Closeable):
    """One server in a folder of its own; it ends, and vanishes, with its maker.

    Attributes:
        name: as errors call the engine.

    Raises:
        ServerStartError: it did not start; the message has its last words.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._folder = ScratchFolder()
        self._log = self._folder.path / "log"
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return what the engine's client connects with."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the words that start it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether it can be connected to."""

    def _prepare(self) -> None:
        """Make what it needs before its first start."""

    def _account(self) -> Account | None:
        """Return whom it runs as; None: as this process."""
        return None

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._child is not None and self._child.poll() is None:
            return
        with self._log.open("ab") as log:
            self._child = spawn(
                self._command(), account=self._account(), death_signal=signal.SIGKILL, stdout=log
            )
        deadline = time.monotonic() + _READY_S
        while True:
            # First: what answers at the port of a child that has ended is somebody else's.
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    f"{self.name} did not start; its last words:\n{log_tail(self._log)}"
                )
            if self._answers():
                return
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it with SIGKILL; it is one process, and what it did not store is lost."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End it, and remove all that it made."""
        if self._folder.is_ours:
            self.kill()
            self._folder.close()
