"""Asking Redis quickly, and never for longer than agreed.

redis-py's connections do the talking: sign-in, TLS, packing and parsing. What its client adds to
each command (a pool's locks, retries with growing pauses, telemetry) costs as much as the round
trip to a server on the same machine, and is replaced by a stack of free connections and one rule:
a connection that has died since it was last used is replaced once, at once.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError
from redis.retry import Retry

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Wire"]

# Of redis-py's own pool: bookkeeping that means nothing to a connection outside it.
_OF_THE_POOL: Final = ("maint_notifications", "orig_", "himport_registry", "event_dispatcher")


class Wire:
    """Connections of our own to the server of a redis-py client.

    Args:
        client: says where the server is and how one signs in; it is not used otherwise.
        timeout_s: of connecting, of sending and of each reply, seconds.
    """

    def __init__(self, client: Redis, timeout_s: float) -> None:
        pool = client.connection_pool
        self._class: Any = pool.connection_class
        options = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if not name.startswith(_OF_THE_POOL)
        }
        options.update(
            socket_timeout=timeout_s,
            decode_responses=False,
            protocol=2,  # without messages that nobody asked for
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        if not issubclass(self._class, UnixDomainSocketConnection):
            options["socket_connect_timeout"] = timeout_s
        self._options = options
        self._free: deque[Any] = deque()
        self._pid = os.getpid()

    def ask(self, *command: bytes | str | int) -> Any:
        """Return the server's answer to one command.

        Raises:
            redis.exceptions.ResponseError: the server refuses it.
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError: no answer.
        """
        return self.ask_all((command,))[0]

    def ask_all(self, commands: Any) -> list[Any]:
        """Return the answers to several commands in one round trip; refusals are among them.

        Raises:
            redis.exceptions.ResponseError: there is one command only, and the server refuses it.
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError: no answer.
        """
        if self._pid != os.getpid():  # after a fork the sockets are the parent's
            self._free, self._pid = deque(), os.getpid()
        try:
            connection, used = self._free.pop(), True
        except IndexError:
            connection, used = self._class(**self._options), False
        try:
            return self._exchange(connection, commands)
        except LostError:
            if not used:
                raise
            # The server was restarted, most likely: the others are dead, too.
            self.close()
            return self._exchange(self._class(**self._options), commands)

    def _exchange(self, connection: Any, commands: Any) -> list[Any]:
        whole = False
        try:
            if len(commands) == 1:
                connection.send_command(*commands[0])
                try:
                    replies = [connection.read_response()]
                except ResponseError:
                    whole = True
                    raise
            else:
                connection.send_packed_command(connection.pack_commands(commands))
                replies = []
                for _ in commands:
                    try:
                        replies.append(connection.read_response())
                    except ResponseError as refusal:
                        replies.append(refusal)
            whole = True
        finally:
            # Interrupted in the middle, the next answer would be that to an old question.
            if whole:
                self._free.append(connection)
            else:
                connection.disconnect()
        return replies

    def close(self) -> None:
        """Close the connections that are not in use; the next command opens a new one."""
        while True:
            try:
                connection = self._free.pop()
            except IndexError:
                return
            connection.disconnect()
