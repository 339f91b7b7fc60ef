"""Hearing of changes: Redis's Pub/Sub, and its events of keys that expired."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from uuid import UUID

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from pglab.errors import ServerUnreachableError

if TYPE_CHECKING:
    from redis import Redis

    from pglab.cache.keys import KeySpace

__all__ = ["Change", "Watcher", "expiry_events"]

_PATIENCE_S: Final = 10.0
_AGAIN_S: Final = 0.05
_SLICE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was heard.

    Attributes:
        kind: ``changed``; ``expired`` (nobody vouches for the instance any more); ``gap`` (the
            connection to Redis was lost, and whatever was said meanwhile: read the states again).
        instance_id: whose; None of a gap.
        state: the new one; None of the others.
        at: when the gateway said so; None of the others.
    """

    kind: Literal["changed", "expired", "gap"]
    instance_id: UUID | None = None
    state: str | None = None
    at: dt.datetime | None = None


class Watcher:
    """Hears what is said from the moment that it is entered.

    Pub/Sub keeps nothing: who is away misses what is said, at most once is all that it promises.
    So enter first and read the states then; and read them again after a gap. An expiry is told when
    Redis removes the key, which is when somebody asks for it, or some time
    later: soon with few keys, without a promise with many.
    """

    def __init__(self, redis: Redis, channel: str, keys: KeySpace, *, expiry: bool) -> None:
        database = redis.connection_pool.connection_kwargs.get("db", 0)
        self._channel = channel
        self._expired = f"__keyevent@{database}__:expired"
        self._stem = keys.name("x").removesuffix("x")
        self._channels = [channel, self._expired] if expiry else [channel]
        self._pubsub: Any = redis.pubsub()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        try:
            self._pubsub.subscribe(*self._channels)
            # Without it, a lost connection is tried again in there for many seconds.
            self._pubsub.connection.retry = Retry(NoBackoff(), 0)
            self._wait_until_confirmed()
        except BaseException:
            self._pubsub.close()
            raise
        return self

    def _wait_until_confirmed(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        confirmed = 0
        while confirmed < len(self._channels):
            message = self._pubsub.get_message(timeout=_SLICE_S)
            confirmed += message is not None and message["type"] == "subscribe"
            if time.monotonic() > deadline:
                raise ServerUnreachableError(
                    f"Redis did not confirm {self._channels} within {_PATIENCE_S:g} s; look at its "
                    "log"
                )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pubsub.close()

    def next(self, timeout_s: float) -> Change | None:
        """Return what is heard next; None if nothing is within ``timeout_s`` seconds.

        While Redis is away nothing is; when it is back, a gap is told.
        """
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                message = self._pubsub.get_message(timeout=min(left_s, _SLICE_S))
            except (RedisError, OSError):
                time.sleep(min(left_s, _AGAIN_S))
                continue
            change = None if message is None else self._understood(message)
            if change is not None:
                return change
        return None

    def _understood(self, message: dict[str, Any]) -> Change | None:
        channel, data = _text(message["channel"]), message["data"]
        if message["type"] == "subscribe":  # again: after a new connection
            return Change("gap") if channel == self._channel else None
        if message["type"] != "message":
            return None
        words = _text(data)
        if channel == self._expired:
            if not words.startswith(self._stem):
                return None  # another kind of key
            return Change("expired", UUID(words.removeprefix(self._stem)))
        instance, state, at = words.split(" ")
        return Change(
            "changed", UUID(instance), state, dt.datetime.fromtimestamp(int(at) / 1e3, dt.UTC)
        )


@contextmanager
def expiry_events(redis: Redis) -> Iterator[None]:
    """Let the server tell of keys that expire, until the block ends.

    It is a setting of the whole server (``notify-keyspace-events``), off by default because every
    expiry then costs it a message, whether or not anybody listens.

    Raises:
        redis.exceptions.ResponseError: the server does not let itself be configured.
    """
    name = "notify-keyspace-events"
    before = _text(next(iter(redis.config_get(name).values())) or "")
    flags = before + ("" if "E" in before else "E") + ("" if set(before) & set("xA") else "x")
    redis.config_set(name, flags)
    try:
        yield
    finally:
        redis.config_set(name, before)


def _text(words: bytes | str) -> str:
    return words.decode() if isinstance(words, bytes) else words
