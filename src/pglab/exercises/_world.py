"""What a scenario acts with: the answer's names, connections, a Redis, threads."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pglab.exercises._behaves import NotYet

if TYPE_CHECKING:
    import psycopg

    from pglab.servers.scratch import ScratchRedis

__all__ = ["Answer", "World"]


class Answer:
    """What the learner's cell defined, by name.

    A name that is missing, and a function that cannot be called so, are told to the learner.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise NotYet(f"Your cell defines no {name}.")
        value = self._names[name]
        return partial(_call, name, value) if callable(value) else value


def _call(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    with suppress(ValueError):  # some callables of C tell nothing
        signature = inspect.signature(function)
        try:
            signature.bind(*arguments, **named)
        except TypeError as error:
            raise NotYet(f"{name} cannot be called as asked for: {error}.") from None
    return function(*arguments, **named)


class World:
    """The servers of one scenario; everything in it ends with it.

    Attributes:
        data: "visible" or "hidden": which data the copy holds.
        limit_s: seconds that the scenario may take.
    """

    def __init__(
        self, database: Mapping[str, str] | None, data: str = "visible", limit_s: float = 5.0
    ) -> None:
        self.data = data
        self.limit_s = limit_s
        self._database = database
        self._connections: list[psycopg.Connection[Any]] = []

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Open a connection to the copy of the data, as psycopg.connect with these options.

        A statement that waits for a lock longer than a quarter of the limit fails with 55P03.
        """
        import psycopg

        if self._database is None:
            raise ValueError("a scenario that connects needs Behaves(…, database=True)")
        wait_ms = int(self.limit_s * 250)
        settings = f"-c TimeZone=UTC -c lock_timeout={wait_ms}"
        parameters = {**self._database, "application_name": "pglab exercise", **options}
        # A setting of the scenario's or the learner's own comes last, and holds.
        given = (self._database.get("options", ""), settings, options.get("options", ""))
        parameters["options"] = " ".join(filter(None, given))
        connection = psycopg.connect(**parameters)
        self._connections.append(connection)
        return connection

    @cached_property
    def redis_server(self) -> ScratchRedis:
        """A Redis of this scenario's own, started now: to be killed, paused and started again."""
        from pglab.servers.scratch import ScratchRedis

        return ScratchRedis()

    def redis(
        self,
        after: Callable[[tuple[Any, ...]], None] | None = None,
        **options: Any,
    ) -> Any:
        """Return a client of ``redis_server``, with options of redis-py; answers are str.

        Args:
            after: is given each command (its words, as sent) once its answer has come, before the
                answer's own code goes on: the moment for somebody else to act.
            options: such as ``socket_timeout``.
        """
        client = self.redis_server.client(**{"decode_responses": True, **options})
        if after is not None:
            client.connection_pool.connection_class = _stepped(
                client.connection_pool.connection_class, after
            )
        return client

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Call all of these at once, each in a thread; return what they return, in order.

        Raises:
            BaseException: the first that one of them raised.
        """
        gate = threading.Barrier(len(calls))

        def enter(call: Callable[[], Any]) -> Any:
            gate.wait(self.limit_s)
            return call()

        with ThreadPoolExecutor(len(calls)) as pool:
            return [running.result() for running in [pool.submit(enter, c) for c in calls]]

    def close(self) -> None:
        """End everything."""
        for connection in self._connections:
            with suppress(Exception):
                connection.close()
        if "redis_server" in self.__dict__:
            self.redis_server.close()


def _stepped(base: type[Any], after: Callable[[tuple[Any, ...]], None]) -> type[Any]:
    """Return a kind of connection that tells of each answer.

    Below the client, because pipelines and transactions send past ``execute_command``.
    """

    class Stepped(base):  # type: ignore[misc]
        _sent: Sequence[tuple[Any, ...]] = ()

        def send_command(self, *words: Any, **options: Any) -> Any:
            self._sent = [*self._sent, words]
            return super().send_command(*words, **options)

        def pack_commands(self, commands: Any) -> Any:
            self._sent = [*self._sent, *commands]
            return super().pack_commands(commands)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            words, *self._sent = self._sent or [()]
            answer = super().read_response(*arguments, **options)
            if words:
                after(words)
            return answer

        def disconnect(self, *arguments: Any, **options: Any) -> Any:
            self._sent = ()
            return super().disconnect(*arguments, **options)

    return Stepped
