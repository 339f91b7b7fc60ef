"""A queue in Redis: a stream, one group of consumers, and a second stream for what was given up."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from redis.exceptions import ResponseError

from pglab.errors import ConfigError, PglabError
from pglab.queues import scripts
from pglab.queues.message import DeadLetter, Message, as_json

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["QueueFullError", "StreamQueue", "StreamState"]


class QueueFullError(PglabError, RuntimeError):
    """The queue holds as many messages as it may; nothing was published."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """How many messages are where.

    Attributes:
        waiting: published, and not handed out yet.
        pending: handed out, and not acknowledged yet.
        dead: given up.
        trimmed: lost, because the queue was full; since it was made.
    """

    waiting: int
    pending: int
    dead: int
    trimmed: int


class StreamQueue:
    """A queue that delivers at least once, as long as Redis keeps what it was told.

    What is handed out stays pending until it is acknowledged. If its consumer dies or is silent for
    ``idle_s``, whoever receives next gets it again; after ``max_attempts`` deliveries it becomes a
    dead letter. What is acknowledged is deleted, so that the stream's length is what is left to do.

    What is lost, and when:

    - Redis forgets: all of it, if it keeps nothing on disk; up to a second's messages with
      ``appendfsync everysec``; and what a replica had not received when it became the primary.
    - The queue is full and trims: the oldest messages, *also those that a consumer is working on*;
      :attr:`StreamState.trimmed` counts them. With ``when_full="refuse"`` nothing is lost:
      publishing raises.

    What is delivered twice: a message whose consumer took longer than ``idle_s``, or died after its
    work and before :meth:`acknowledge`. Messages are handed out in their order, but several
    consumers do not finish in it, and what is delivered again comes late.

    Args:
        redis: a redis-py client; its ``socket_timeout`` must exceed ``block_s`` of a receiver.
        name: of the queue; names its keys.
        consumer: who receives; two at a time must not share a name. By default one is made up.
        max_length: messages at most.
        when_full: ``trim`` the oldest, or ``refuse`` the new one.
        idle_s: after which a pending message is handed to another, seconds; longer than any work.
        max_attempts: deliveries of a message at most.
        remember_s: for how long an idempotency key is known, seconds.
        prefix: of the keys.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        redis: Redis,
        name: str,
        *,
        consumer: str = "",
        max_length: int = 100_000,
        when_full: Literal["trim", "refuse"] = "trim",
        idle_s: float = 30.0,
        max_attempts: int = 5,
        remember_s: float = 86_400.0,
        prefix: str = "",
    ) -> None:
        if min(max_length, max_attempts) < 1 or min(idle_s, remember_s) < 0.001:
            raise ConfigError(
                f"max_length={max_length}, max_attempts={max_attempts}, idle_s={idle_s}, "
                f"remember_s={remember_s}; give 1 or more of the first two, 0.001 s of the others"
            )
        if when_full not in {"trim", "refuse"}:
            raise ConfigError(f"when_full is {when_full!r}; give trim or refuse")
        # The braces keep a queue's keys on one node of a cluster, as scripts need them.
        stem = f"{prefix}:{{queue:{name}}}" if prefix else f"{{queue:{name}}}"
        self.name = name
        self.consumer = consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.stream, self._dead, self._counters = stem, f"{stem}:dead", f"{stem}:counters"
        self._note = f"{stem}:key:"
        self._group = "workers"
        self._redis = redis
        self._max_length, self._when_full = max_length, when_full
        self._idle_ms, self._max_attempts = round(idle_s * 1e3), max_attempts
        self._remember_ms = round(remember_s * 1e3)

    def publish(self, body: Mapping[str, Any], *, key: str = "") -> str:
        """Put a message into the queue; return its id.

        Args:
            body: what JSON can hold.
            key: the idempotency key: within ``remember_s`` the same key is one message, and its id
                is returned again, even if it has been dealt with meanwhile.

        Raises:
            QueueFullError: there is no room, and ``when_full`` is ``refuse``.
            ConfigError: the body is no JSON.
            redis.exceptions.RedisError: no answer: it may or may not be in the queue. Publish it
                again with the same key.
        """
        answer = self._redis.eval(
            scripts.PUBLISH, 3, self.stream, self._note + key, self._counters,
            as_json(body), key, str(self._remember_ms), str(self._max_length), self._when_full,
            self._group,
        )  # fmt: skip
        if answer is None:
            raise QueueFullError(
                f"queue {self.name!r} holds {self._max_length:,} messages, which is all it may; "
                "publish later, or start more consumers"
            )
        return _text(answer)

    def receive(self, count: int = 1, *, block_s: float = 0.0) -> list[Message]:
        """Return messages: first those whose consumers are silent, then new ones.

        Args:
            count: at most.
            block_s: for how long to wait for the first, seconds; 0: not at all. Who falls silent
                meanwhile is noticed by the next call.

        Raises:
            redis.exceptions.RedisError: no answer.
        """
        messages = self._reclaim(count)
        if len(messages) < count:
            # Whoever has something already need not wait for more.
            block_ms = max(1, round(block_s * 1e3)) if block_s > 0 and not messages else None
            answer = self._in_group(
                lambda: self._redis.xreadgroup(
                    self._group, self.consumer, {self.stream: ">"}, count=count - len(messages),
                    block=block_ms,
                )
            )  # fmt: skip
            for entries in _of_streams(answer):
                messages += [_message(entry, fields, 1) for entry, fields in entries]
        return messages

    def _reclaim(self, count: int) -> list[Message]:
        messages: list[Message] = []
        cursor = "0-0"
        while True:
            answer = self._in_group(
                lambda start=cursor: self._redis.xautoclaim(
                    self.stream, self._group, self.consumer, self._idle_ms, start,
                    count=count - len(messages),
                )
            )  # fmt: skip
            cursor, claimed = _text(answer[0]), answer[1]
            for entry, fields in claimed:
                attempts = self._attempts(entry)
                if not attempts:  # its slow owner has acknowledged it just now
                    continue
                message = _message(entry, fields, attempts)
                if attempts > self._max_attempts:
                    self._bury(message, attempts - 1, f"no answer to {attempts - 1} deliveries")
                else:
                    messages.append(message)
            if cursor == "0-0" or len(messages) >= count:
                return messages

    def _attempts(self, entry: bytes | str) -> int:
        """Return how often an entry was delivered; 0 if it is not pending any more."""
        found: Any = self._redis.xpending_range(self.stream, self._group, entry, entry, 1)
        return int(found[0]["times_delivered"]) if found else 0

    def acknowledge(self, message: Message) -> bool:
        """Say that a message has been dealt with; return whether it was still pending.

        False: another consumer dealt with it, because we were silent for too long; or it was
        trimmed.
        """
        return bool(self._redis.eval(scripts.ACKNOWLEDGE, 1, self.stream, self._group, message.id))

    def reject(self, message: Message, reason: str) -> Literal["again", "dead"]:
        """Say that a message could not be dealt with.

        Returns:
            ``again``: it stays pending, and is handed out after ``idle_s``; ``dead``: that was its
            last attempt, and it is a dead letter now.
        """
        if message.attempts < self._max_attempts:
            return "again"
        self._bury(message, message.attempts, reason)
        return "dead"

    def keep(self, message: Message) -> bool:
        """Say that we still work on a message, and need another ``idle_s``.

        Returns:
            False: it is not ours any more.
        """
        return bool(
            self._redis.eval(scripts.KEEP, 1, self.stream, self._group, message.id, self.consumer)
        )

    def _bury(self, message: Message, attempts: int, reason: str) -> None:
        self._redis.eval(
            scripts.BURY, 2, self.stream, self._dead, self._group, message.id, str(attempts), reason
        )

    def dead_letters(self, count: int = 100) -> list[DeadLetter]:
        """Return what was given up, the oldest first."""
        found: Any = self._redis.xrange(self._dead, count=count)
        letters = []
        for entry, raw in found:
            fields = _fields(raw)
            letters.append(
                DeadLetter(
                    _text(entry), json.loads(fields["body"]), fields["key"],
                    int(fields["attempts"]), fields["reason"],
                )
            )  # fmt: skip
        return letters

    def revive(self, letter: DeadLetter) -> bool:
        """Put a dead letter back, at the queue's end, with all its attempts before it.

        Returns:
            False: somebody else did.
        """
        return bool(self._redis.eval(scripts.REVIVE, 2, self.stream, self._dead, letter.id))

    def state(self) -> StreamState:
        """Return how many messages are where."""
        length, dead, trimmed, found = self._in_group(self._look)
        pending = int(found["pending"])
        return StreamState(length - pending, pending, dead, int(trimmed or 0))

    def _look(self) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=True)  # all at one moment
        pipeline.xlen(self.stream)
        pipeline.xlen(self._dead)
        pipeline.hget(self._counters, "trimmed")
        pipeline.xpending(self.stream, self._group)
        return list(pipeline.execute())

    def leave(self) -> int:
        """Say that we receive no more; return how many consumers the group has forgotten.

        Redis remembers each consumer's name for ever. Forgotten are we, and whoever has asked for
        nothing in ten times ``idle_s``, as after a kill; each only if it holds no message. One that
        asks again later is known again.
        """
        return int(
            self._redis.eval(
                scripts.LEAVE, 1, self.stream, self._group, self.consumer, str(10 * self._idle_ms)
            )
        )

    def delete(self) -> None:
        """Remove the queue and all that is in it, except notes of keys, which expire."""
        self._redis.unlink(self.stream, self._dead, self._counters)

    def _in_group(self, ask: Any) -> Any:
        """Return an answer; make the group first if there is none, as after Redis lost it."""
        try:
            return ask()
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        try:
            # From the beginning: what was published before there was a group counts, too.
            self._redis.xgroup_create(self.stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another consumer was faster
                raise
        return ask()


def _message(entry: bytes | str, raw: Any, attempts: int) -> Message:
    fields = _fields(raw)
    return Message(_text(entry), json.loads(fields["body"]), fields["key"], attempts)


def _of_streams(answer: Any) -> list[Any]:
    """Return the entries of each stream: redis-py gives a list, or under RESP3 a dict."""
    if not answer:
        return []
    if isinstance(answer, dict):
        return [entries for lists in answer.values() for entries in lists]
    return [entries for _, entries in answer]


def _fields(raw: Any) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in raw.items()}


def _text(words: Any) -> str:
    return words.decode() if isinstance(words, bytes) else str(words)
