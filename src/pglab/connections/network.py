"""A network between a client and a server on one machine: far away, silent, or torn.

A proxy on the loopback interface passes bytes on, each after half of a round trip. It can do what
networks do to those who rely on them:

* fall silent, as a proxy, a load balancer or a NAT does that has forgotten a connection: it passes
  nothing on, but its kernel acknowledges what is sent, so that TCP's own keepalives and
  ``tcp_user_timeout`` see nothing wrong;
* drop packets, as a pulled cable does: nothing is acknowledged any more (Linux only);
* cut its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from pglab.closeable import Closeable
from pglab.connections.dropping import (
    Droppable,
    check_that_packets_can_be_dropped,
    drop_arriving,
    let_arrive,
)
from pglab.errors import ServerStartError

__all__ = ["Network"]

_CHUNK: Final = 65_536
_READY_S: Final = 10.0


class Network(Closeable):
    """A way to a server; as a context manager it ends with the block.

    Args:
        host: where the server answers; an address of this machine.
        port: its TCP port.
        round_trip_s: seconds that a byte takes there and back.

    Attributes:
        host: where clients connect to: 127.0.0.1.
        port: the way's own port.
        round_trip_s: may be changed at any time.
        bytes_sent: from clients to the server so far.
        bytes_received: from the server to clients so far.

    Raises:
        ServerStartError: it cannot listen on 127.0.0.1.
    """

    host: Final = "127.0.0.1"

    def __init__(self, host: str, port: int, *, round_trip_s: float = 0.0) -> None:
        self.round_trip_s = round_trip_s
        self.port = 0
        self.bytes_sent = self.bytes_received = 0
        self._target = (host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._ending = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._trouble: list[OSError] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pglab-network", daemon=True)
        self._thread.start()
        self._ready.wait(_READY_S)
        if not self.port:
            raise ServerStartError(f"no way can be opened on 127.0.0.1: {self._trouble}")

    def fall_silent(self) -> None:
        """Pass nothing on any more; connections stay open."""
        self._tell(self._open.clear)

    def drop_packets(self) -> None:
        """Let packets vanish: of every connection in both directions, and of new ones.

        Raises:
            ServerError: this system is not Linux.
        """
        check_that_packets_can_be_dropped()
        done = threading.Event()
        self._tell(self._open.clear)
        self._tell(lambda: self._drop(done))
        done.wait(_READY_S)

    def recover(self) -> None:
        """Pass on what was held or was sent in vain, and what comes."""
        self._tell(self._let_arrive)
        self._tell(self._open.set)

    def cut(self) -> None:
        """Close every connection at once; new ones are let through."""
        self._tell(self._abort)

    def close(self) -> None:
        """End it; clients lose their connections. Doing so twice is harmless."""
        if self._thread.is_alive():
            self._tell(self._ending.set)
            self._thread.join(_READY_S)

    def _tell(self, what: Callable[[], None]) -> None:
        """Have something done in the thread; once it has ended there is nothing to do."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what)

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except OSError as error:
            self._trouble.append(error)
        finally:
            self._ready.set()

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open.set()
        self._server = server = await asyncio.start_server(self._serve, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ending.wait()
        # A socket that is closed goes on dropping, and its other side would wait for it.
        self._let_arrive()
        server.close()
        self._open.set()
        self._abort()
        # Each hears of its end; a task that asyncio.run cancels would complain aloud.
        if self._serving:
            await asyncio.wait(self._serving, timeout=_READY_S)

    def _sockets(self) -> list[Droppable]:
        """Return the sockets of every connection, and those that listen."""
        listening = list(self._server.sockets) if self._server is not None else []
        return [*listening, *(each.get_extra_info("socket") for each in self._writers)]

    def _drop(self, done: threading.Event) -> None:
        for each in self._sockets():
            drop_arriving(each)
        done.set()

    def _let_arrive(self) -> None:
        for each in self._sockets():
            let_arrive(each)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            # Whichever side ends first, the other one is told.
            done, pending = await asyncio.wait(
                {
                    asyncio.create_task(self._pass_on(reader, back, sent=True)),
                    asyncio.create_task(self._pass_on(there, writer, sent=False)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in pending:
                task.cancel()
            await asyncio.gather(*done, *pending, return_exceptions=True)
        finally:
            self._writers -= {writer, back}
            for each in (writer, back):
                each.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sent: bool
    ) -> None:
        """Pass bytes on in their order, each chunk half a round trip after it came."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(under_way, writer))
        try:
            while chunk := await reader.read(_CHUNK):
                if sent:
                    self.bytes_sent += len(chunk)
                else:
                    self.bytes_received += len(chunk)
                under_way.put_nowait((time.monotonic() + self.round_trip_s / 2, chunk))
            under_way.put_nowait((time.monotonic() + self.round_trip_s / 2, b""))
            await delivering
        except OSError:
            return
        finally:
            delivering.cancel()

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._open.wait()
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()
