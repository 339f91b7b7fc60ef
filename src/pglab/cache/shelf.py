"""What is done to one key in Redis: read, lease, store under a lease, remove.

A lease is taken with ``SET key token NX GET PX``: it is granted where nothing stands; otherwise the
answer is what stands. It lies under the entry's own key, so that an invalidation, a plain UNLINK,
takes it away with the entry. Whoever loaded under it then may not store what he read before: the
script finds another token, or none. (R. Nishtala et al.: Scaling Memcache at Facebook. NSDI 2013,
section 3.2.1, leases.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pglab.cache.entries import PASS, TOKEN_BYTES, PoisonedError

if TYPE_CHECKING:
    from pglab.cache.guard import Guard
    from pglab.cache.metrics import Step
    from pglab.cache.wire import Wire

__all__ = ["AwayError", "Shelf"]

# KEYS: key; ARGV: token, what to store, milliseconds.
_STORE: Final = f"""
if redis.call('GETRANGE', KEYS[1], 0, {TOKEN_BYTES - 1}) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
# KEYS: key; ARGV: token.
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_SHA: Final = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (_STORE, _RELEASE)
}


class AwayError(Exception):
    """Redis did not answer or refused; it was counted already."""


class Shelf:
    """Commands to Redis, with failures counted and told to the guard.

    Args:
        wire: asks.
        guard: is told whether an answer came.
        tell: is told of ``error``, with the key and words.
    """

    def __init__(self, wire: Wire, guard: Guard, tell: Callable[[Step, str, str], object]) -> None:
        self._wire = wire
        self._guard = guard
        self._tell = tell

    def failed(self, name: str, error: BaseException) -> AwayError:
        """Count what went wrong; return what to raise.

        Raises:
            PoisonedError: instead, if something else than a string stands under the key.
        """
        if isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE"):
            raise PoisonedError("it is not a string") from error
        self._tell("error", name, f"{type(error).__name__}: {error}")
        if not isinstance(error, OutOfMemoryError):  # one that is full still answers reads
            self._guard.failed(error)
        return AwayError(str(error))

    def ask(self, name: str, *command: bytes | str | int) -> Any:
        """Return the answer to a command.

        Raises:
            AwayError: there is none.
            PoisonedError: something else than a string stands under the key.
        """
        try:
            reply = self._wire.ask(*command)
        # Whatever a server's rubbish makes of a client must not reach a reader.
        except Exception as error:
            raise self.failed(name, error) from error
        if self._guard.shaken:
            self._guard.succeeded()
        return reply

    def ask_all(self, commands: Sequence[tuple[bytes | str | int, ...]]) -> list[Any]:
        """Return the answers to several; a refusal is an answer, and was counted.

        Raises:
            AwayError: there is none.
        """
        if not commands:
            return []
        try:
            replies = self._wire.ask_all(commands)
        except Exception as error:
            raise self.failed("", error) from error
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                self._tell("error", str(command[1]), f"{type(reply).__name__}: {reply}")
        return replies

    def _script(self, script: str, name: str, *arguments: bytes | str | int) -> bool:
        try:
            reply = self._wire.ask("EVALSHA", _SHA[script], 1, name, *arguments)
        except NoScriptError:
            try:
                reply = self._wire.ask("EVAL", script, 1, name, *arguments)
            except Exception as error:
                raise self.failed(name, error) from error
        except Exception as error:
            raise self.failed(name, error) from error
        return bool(reply == 1)

    def lease(self, name: str, token: bytes, lease_ms: int) -> bytes | None:
        """Take the lease if nothing stands under the key; otherwise return what stands.

        Returns:
            None: this token holds the lease.

        Raises:
            AwayError, PoisonedError: as :meth:`ask`.
        """
        try:
            found = self.ask(name, *self.lease_command(name, token, lease_ms))
        except AwayError as error:
            self.unanswered(error, [name])
            raise
        if found is None or found == token:  # the latter: asked again after a lost connection
            return None
        if type(found) is not bytes:
            raise self.failed(name, TypeError(f"an answer of type {type(found).__name__}"))
        return found

    def unanswered(self, error: AwayError, names: Sequence[str]) -> None:
        """Have keys removed once Redis answers again, if it may take leases for them yet.

        What it was asked while it slept it does when it wakes; others would wait for a load that
        nobody does.
        """
        if isinstance(error.__cause__, RedisTimeoutError | TimeoutError):
            self._guard.remember(names)

    @staticmethod
    def lease_command(name: str, token: bytes, lease_ms: int) -> tuple[bytes | str | int, ...]:
        """Return the command that :meth:`lease` sends."""
        return ("SET", name, token, "NX", "GET", "PX", lease_ms)

    def store(self, name: str, token: bytes, value: bytes, ttl_ms: int) -> bool:
        """Store if the lease, or the entry, of this token still stands; return whether it did.

        Raises:
            AwayError: Redis did not answer, or is full.
        """
        try:
            return self._script(_STORE, name, token, value, ttl_ms)
        except PoisonedError:
            return False

    def store_all(self, entries: Sequence[tuple[str, bytes, bytes, int]]) -> list[bool]:
        """Store several, each as :meth:`store`; return which were."""
        if len(entries) == 1:  # what refuses a single command is raised, and not among the answers
            return [self.store(*entries[0])]
        commands = [
            ("EVALSHA", _SHA[_STORE], 1, name, token, value, ttl_ms)
            for name, token, value, ttl_ms in entries
        ]
        replies = self.ask_all(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = self.ask_all([("EVAL", _STORE, *command[2:]) for command in commands])
        return [reply == 1 for reply in replies]

    def pass_by(self, name: str, token: bytes, milliseconds: int) -> None:
        """Leave a marker instead of a lease: who waits, and who comes, loads for himself."""
        self.store(name, token, token + PASS, milliseconds)

    def release(self, name: str, token: bytes) -> None:
        """Give a lease back; somebody else's is left alone."""
        try:
            self._script(_RELEASE, name, token)
        except (AwayError, PoisonedError):
            return  # it expires

    def remove(self, names: Sequence[str]) -> int:
        """Remove keys; return how many there were.

        Raises:
            AwayError: Redis did not answer, or nonsense.
        """
        removed = self.ask(names[0], "UNLINK", *names)
        if type(removed) is not int:
            raise self.failed(names[0], TypeError(f"UNLINK was answered {removed!r:.40}"))
        return removed
