"""What a miss leads to: one load, by whoever holds the lease, and the value shared with the others.

A lease in Redis says which process loads; within a process its token says which thread. Whoever
finds another's token waits for that one load, and only for it: the lease was still valid when he
came, so that nothing was invalidated since the load began, and he may have its value.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from redis.exceptions import OutOfMemoryError

from pglab.cache.entries import MARKER_BYTES, PASS, TOKEN_BYTES, Codec, PoisonedError, new_token
from pglab.cache.flights import AbandonedError, Flights
from pglab.cache.shelf import AwayError, Shelf

if TYPE_CHECKING:
    from pglab.cache.metrics import Step
    from pglab.cache.policy import Policy

__all__ = ["Loading"]

K = TypeVar("K")
V = TypeVar("V")

# A waiting process asks every 6 ms on average, and not in step with the others.
_POLL_S: Final = (0.003, 0.009)
# Longer than a poll: whoever waited for a load that failed loads at once, all of them at a time.
_PASS_AFTER_ERROR_MS: Final = 100
_PASS_OVERSIZE_MS: Final = 2_000


class Loading(Generic[K, V]):
    """Loads, stores, and lets others share.

    Args:
        loader: returns a key's value, or None if there is no such object.
        shelf: of the entries.
        codec: of the values.
        policy: the settings.
        tell: is told of each step: step, key's name, seconds, words.
    """

    def __init__(
        self,
        loader: Callable[[K], V | None],
        shelf: Shelf,
        codec: Codec[V],
        policy: Policy,
        tell: Callable[[Step, str, float | None, str], object],
    ) -> None:
        self._loader = loader
        self._shelf = shelf
        self._codec = codec
        self.policy = policy
        self._tell = tell
        self.lease_ms = max(1, round(policy.lease_s * 1e3))
        self.flights: Flights[V | None] = Flights()

    # Without Redis

    def direct(self, key: K, name: str, flight: str | bytes) -> V | None:
        """Load without Redis; threads that ask for the same meanwhile share it.

        Args:
            key: what to load.
            name: its name in Redis.
            flight: what the threads have in common.
        """
        if self.policy.protection != "lock":
            return self.load(key, name)[0]
        try:
            value, shared = self.flights.share(
                flight, lambda: self.load(key, name)[0], wait_s=self.policy.lease_s
            )
        except (AbandonedError, TimeoutError):
            return self._after_waiting_in_vain(key, name)
        if shared:
            self._tell("coalesced", name, None, "")
        return value

    def _after_waiting_in_vain(self, key: K, name: str) -> V | None:
        return self.load(key, name)[0]

    def load(self, key: K, name: str) -> tuple[V | None, float]:
        """Ask the loader; return the value, and the seconds that it took."""
        began = time.perf_counter()
        try:
            value = self._loader(key)
        except BaseException as error:
            self._tell("load_error", name, time.perf_counter() - began, type(error).__name__)
            raise
        took = time.perf_counter() - began
        self._tell("load", name, took, "")
        return value, took

    # With Redis

    def missed(self, key: K, name: str) -> V | None:
        """Return the value of a key that Redis did not have."""
        if self.policy.protection != "lock":
            return self._unprotected(key, name)
        token = new_token()
        flight, _ = self.flights.join(token)
        owned: list[tuple[str | bytes, Future[V | None]]] = [(token, flight)]
        try:
            value = self._race(key, name, token, owned)
        except BaseException as error:
            for held, waited_for in owned:
                self.flights.land(held, waited_for, error=error)
            raise
        for held, waited_for in owned:
            self.flights.land(held, waited_for, value=value)
        return value

    def _race(self, key: K, name: str, token: bytes, owned: list[Any]) -> V | None:
        deadline = time.monotonic() + self.policy.lease_s
        waited = False
        while True:
            try:
                found = self._shelf.lease(name, token, self.lease_ms)
                if found is not None and len(found) > MARKER_BYTES:
                    value = self._codec.decode(found, name).value
                    if waited:
                        self._tell("coalesced", name, None, "")
                    return value
            except AwayError:
                return self.direct(key, name, name)
            except PoisonedError as error:
                self.poisoned(name, error)
                if time.monotonic() > deadline:
                    return self.direct(key, name, name)
                continue
            if found is None:
                return self._lead(key, name, token)
            if len(found) != TOKEN_BYTES or time.monotonic() > deadline:
                # Who shares this load saw the same marker: no invalidation came between.
                return self.direct(key, name, found + PASS)
            if not any(held == found for held, _ in owned):
                flight, first = self.flights.join(found)
                if first:  # another process's: this thread asks on behalf of those in this one
                    owned.append((found, flight))
                else:
                    return self._wait(key, name, flight)
            waited = True
            time.sleep(random.uniform(*_POLL_S))  # noqa: S311 - no secret depends on it

    def _wait(self, key: K, name: str, flight: Future[V | None]) -> V | None:
        try:
            value = flight.result(self.policy.lease_s)
        except (AbandonedError, TimeoutError):
            return self._after_waiting_in_vain(key, name)
        finally:
            self._tell("coalesced", name, None, "")
        return value

    def poisoned(self, name: str, error: PoisonedError) -> None:
        """Count a wrong entry and remove it."""
        self._tell("poisoned", name, None, str(error))
        try:
            self._shelf.remove([name])
        except (AwayError, PoisonedError):
            return  # whoever finds it next tries again

    def _lead(self, key: K, name: str, token: bytes) -> V | None:
        try:
            value, took = self.load(key, name)
        except BaseException:
            self._let_pass(name, token, _PASS_AFTER_ERROR_MS)
            raise
        self.store(name, token, value, took)
        return value

    def _let_pass(self, name: str, token: bytes, milliseconds: int) -> None:
        try:
            self._shelf.pass_by(name, token, milliseconds)
        except AwayError:
            return  # the lease expires

    def _unprotected(self, key: K, name: str) -> V | None:
        if not self.policy.leases:
            value, took = self.load(key, name)
            self.store(name, None, value, took)
            return value
        token = new_token()
        try:
            found = self._shelf.lease(name, token, self.lease_ms)
            if found is not None and len(found) > MARKER_BYTES:  # somebody stored it just now
                return self._codec.decode(found, name).value
        except AwayError:
            return self.load(key, name)[0]
        except PoisonedError as error:
            self.poisoned(name, error)
            return self.load(key, name)[0]
        if found is None:
            return self._lead(key, name, token)
        return self.load(key, name)[0]

    def store(
        self,
        name: str,
        seen: bytes | None,
        value: V | None,
        took_s: float,
    ) -> bool:
        """Store what was loaded, unless it was invalidated meanwhile; return whether it is stored.

        Args:
            name: the key's, in Redis.
            seen: the token of the lease, or of the entry that is to be replaced; None: store
                whatever happened meanwhile (for showing what goes wrong then).
            value: the value.
            took_s: what loading it took, seconds.
        """
        if took_s > self.policy.lease_s:  # older than an unseen invalidation may make it
            self._tell("refused", name, None, "the load outlasted its lease")
            return False
        entry = self.entry(name, seen or new_token(), value, took_s)
        try:
            if entry is None:
                if seen is not None:
                    self._shelf.pass_by(name, seen, _PASS_OVERSIZE_MS)
                return False
            raw, ttl_ms = entry
            if seen is None:
                self._shelf.ask(name, "SET", name, raw, "PX", ttl_ms)
                stored = True
            else:
                stored = self._shelf.store(name, seen, raw, ttl_ms)
        except AwayError as error:
            if seen is not None and isinstance(error.__cause__, OutOfMemoryError):
                self._shelf.release(name, seen)  # or others wait for it until it expires
            return False
        except PoisonedError:
            return False
        self._tell("store" if stored else "refused", name, None, "")
        return stored

    def entry(
        self, name: str, token: bytes, value: V | None, took_s: float
    ) -> tuple[bytes, int] | None:
        """Return an entry and for how many milliseconds Redis is to keep it; None: not at all."""
        ttl_ms = self.policy.ttl_ms(negative=value is None)
        try:
            raw = self._codec.encode(
                token,
                name,
                value,
                stored_ms=time.time_ns() // 1_000_000,
                ttl_ms=ttl_ms,
                load_us=round(took_s * 1e6),
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._tell("oversize", name, None, f"{type(error).__name__}: {error}")
            return None
        if len(raw) > self.policy.max_bytes:
            self._tell("oversize", name, None, f"{len(raw):,} of {self.policy.max_bytes:,} bytes")
            return None
        return raw, ttl_ms + round(self.policy.stale_s * 1e3)

    def refresh(self, key: K, name: str, seen: bytes) -> V | None:
        """Load a key anew and replace the entry of that token, unless it is gone meanwhile."""
        value, took = self.load(key, name)
        self.store(name, seen, value, took)
        return value
