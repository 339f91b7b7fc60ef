"""Cache-aside: Redis is asked first, the loader answers what Redis cannot, and Redis is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pglab.cache.batch import Batch
from pglab.cache.entries import MARKER_BYTES, Codec, PoisonedError
from pglab.cache.guard import Guard
from pglab.cache.keys import KeySpace
from pglab.cache.loading import Loading
from pglab.cache.metrics import Counts, Event, Metrics, Step
from pglab.cache.policy import Policy, Protection
from pglab.cache.refresh import Refreshing
from pglab.cache.shelf import AwayError, Shelf
from pglab.cache.wire import Wire
from pglab.closeable import Closeable
from pglab.errors import ConfigError

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["CacheAside"]

K = TypeVar("K")
V = TypeVar("V")

_log = logging.getLogger(__name__)


class CacheAside(Closeable, Generic[K, V]):
    """Reads through Redis, and never fails because of it.

    A read is answered by a fresh entry, or by one load. What it promises about writes is said in
    :mod:`pglab.cache`. Threads may share one; a process that forks should make its own afterwards.
    A loader must not read the key that it is loading.

    Args:
        redis: a redis-py client; says where the server is. Connections of our own are used, with
            ``timeout_s`` and without retries. Redis 7 or Valkey.
        loader: returns the value of a key from the source of truth, None if there is no such
            object. It must see what was committed before it was called, and be safe to call from
            several threads.
        keys: names the entries.
        value_type: what entries are decoded into; must fit what the loader returns.
        load_many: the same for several keys in one question, for :meth:`get_many`; keys that it
            leaves out do not exist.
        ttl_s: for how long an entry is fresh at most, seconds.
        jitter: up to this share of the TTL is taken off by chance, 0 to 0.99.
        negative_ttl_s: the TTL of what does not exist, seconds.
        stale_s: for how much longer an entry is served while one thread refreshes it, seconds; 0:
            not at all.
        max_bytes: larger entries are served and not stored.
        protection: of the loader against many who miss at once. ``lock``: one loads, the others
            wait; ``early``: by chance somebody loads before the time (XFetch), nobody waits;
            ``none``: everybody loads.
        leases: False stores whatever was loaded, even if it was invalidated meanwhile: only for
            showing what goes wrong then.
        lease_s: what a load takes at most, seconds. After it, another may load.
        beta: of XFetch; more refreshes earlier.
        timeout_s: of each answer of Redis, seconds.
        failures: of Redis in a row after which it is not asked any more.
        reset_s: after which it is tried again, seconds.
        serialization: of the values, ``json`` or ``msgpack``.
        enc_hook: for types that msgspec does not know.
        dec_hook: its inverse.
        max_pending: invalidations to remember while Redis is away.
        on_event: is told of each step, in the thread that takes it; should be quick.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        redis: Redis,
        loader: Callable[[K], V | None],
        *,
        keys: KeySpace,
        value_type: Any,
        load_many: Callable[[list[K]], Mapping[K, V | None]] | None = None,
        ttl_s: float = 300.0,
        jitter: float = 0.1,
        negative_ttl_s: float = 30.0,
        stale_s: float = 0.0,
        max_bytes: int = 1_000_000,
        protection: Protection = "lock",
        leases: bool = True,
        lease_s: float = 10.0,
        beta: float = 1.0,
        timeout_s: float = 0.1,
        failures: int = 5,
        reset_s: float = 1.0,
        serialization: Literal["json", "msgpack"] = "json",
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[type, Any], Any] | None = None,
        max_pending: int = 100_000,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self.policy = Policy(
            ttl_s=ttl_s, jitter=jitter, negative_ttl_s=negative_ttl_s, stale_s=stale_s,
            max_bytes=max_bytes, protection=protection, leases=leases, lease_s=lease_s, beta=beta,
            timeout_s=timeout_s,
        )  # fmt: skip
        if failures < 1 or reset_s <= 0:
            raise ConfigError(
                f"failures={failures!r}, reset_s={reset_s!r}; give 1 or more, above 0"
            )
        self.keys = keys
        self._name: Any = keys.name
        self._on_event = on_event
        self._metrics = Metrics()
        self._codec: Codec[V] = Codec(
            value_type, serialization, enc_hook=enc_hook, dec_hook=dec_hook
        )
        self._wire = Wire(redis, timeout_s)
        self._guard = Guard(
            self._deliver, failures=failures, reset_s=reset_s, horizon_s=self.policy.max_age_s,
            most=max_pending, told=self._guard_tells,
        )  # fmt: skip
        self._shelf = Shelf(self._wire, self._guard, self._shelf_tells)
        self._loading: Loading[K, V] = Loading(
            loader, self._shelf, self._codec, self.policy, self._tell
        )
        self._early = protection == "early"
        self._refreshing: Refreshing[K, V] = Refreshing(
            self._loading, self._shelf, self.policy, self._tell
        )
        self._batch: Batch[K, V] = Batch(
            load_many, keys=keys, shelf=self._shelf, guard=self._guard, codec=self._codec,
            loading=self._loading, refreshing=self._refreshing, tell=self._tell,
        )  # fmt: skip

    # Reading

    def get(self, key: K) -> V | None:
        """Return the value of a key, None if there is no such object.

        Whatever Redis does, only the loader's errors get out; readers who share a load get the
        very same object, or error.

        Raises:
            ConfigError: the key cannot be a key.
            Exception: what the loader raised.
        """
        name = self._name(key)
        guard = self._guard
        if not guard.trusted:
            return self._fall_through(key, name)
        try:
            raw = self._wire.ask("GET", name)
        except Exception as error:  # noqa: BLE001 - whatever Redis does to a client
            return self._unanswered(key, name, error)
        if guard.shaken:
            guard.succeeded()
        if type(raw) is bytes and len(raw) > MARKER_BYTES:
            try:
                entry = self._codec.decode(raw, name)
            except PoisonedError as error:
                self._loading.poisoned(name, error)
            else:
                if self._early or time.time() * 1e3 >= entry.fresh_until_ms:
                    return self._refreshing.value(key, name, raw, entry)
                if entry.value is None:
                    self._tell("negative", name)
                    return None
                self._metrics.hits += 1
                if self._on_event is not None:
                    self._emit("hit", name)
                return entry.value
        elif raw is not None and type(raw) is not bytes:
            return self._unanswered(key, name, TypeError(f"an answer of {type(raw).__name__}"))
        self._tell("miss", name)
        return self._loading.missed(key, name)

    def _unanswered(self, key: K, name: str, error: Exception) -> V | None:
        try:
            self._shelf.failed(name, error)
        except PoisonedError as poison:
            self._loading.poisoned(name, poison)
            self._tell("miss", name)
            return self._loading.missed(key, name)
        return self._fall_through(key, name)

    def _fall_through(self, key: K, name: str) -> V | None:
        self._guard.keep_recovering()
        self._tell("fallthrough", name)
        return self._loading.direct(key, name, name)

    def get_many(self, keys: Iterable[K]) -> dict[K, V | None]:
        """Return several values: one MGET, and one question of ``load_many`` for what is missing.

        It waits for nobody else's load, and stores what nobody else is loading.

        Raises:
            ConfigError: a key cannot be a key, or there is no ``load_many``.
            Exception: what the loader raised.
        """
        return self._batch.get(keys)

    # Writing

    def invalidate(self, *keys: K) -> bool:
        """Remove keys, after the change of what they stand for was committed.

        Returns:
            True: acknowledged by Redis; whoever reads from now on, anywhere, sees the change.
            False: Redis could not be asked. The keys are remembered, this cache does not believe
            Redis until it has removed them, and other processes may read what was there for at most
            ``policy.max_age_s``.

        Raises:
            ConfigError: a key cannot be a key; none was removed.
        """
        names = [self._name(key) for key in keys]
        if not names:
            return True
        applied = False
        try:
            if self._guard.state == "closed":
                self._shelf.remove(names)
                applied = True
        except (AwayError, PoisonedError):
            pass
        finally:  # even if it was interrupted
            if not applied:
                self._guard.remember(names)
            for name in names:
                self._loading.flights.detach(name)
        self._tell("invalidate" if applied else "pending", names[0], times=len(names))
        return applied

    # Looking on

    @property
    def metrics(self) -> Counts:
        """The counters as they are now."""
        return self._metrics.counts(pending=self._guard.pending, breaker=self._guard.state)

    def reset_metrics(self) -> None:
        """Begin to count at 0."""
        self._metrics.reset()

    def recover(self) -> bool:
        """Try at once whether Redis is well and deliver what is pending; return whether it is."""
        return self._guard.trusted or self._guard.recover_once()

    def close(self) -> None:
        """End the threads and the connections; what is still pending is forgotten."""
        self._guard.close()
        self._refreshing.close()
        self._wire.close()

    def __repr__(self) -> str:
        return f"<CacheAside {self.keys.kind!r} v{self.keys.version}, {self.policy.protection}>"

    def _deliver(self, names: list[str]) -> None:
        if names:
            removed = self._wire.ask("UNLINK", *names)
            if type(removed) is not int:
                raise TypeError(f"UNLINK was answered {removed!r:.40}")
        elif self._wire.ask("PING") != b"PONG":
            raise TypeError("PING was not answered PONG")

    def _tell(
        self,
        step: Step,
        name: str,
        seconds: float | None = None,
        detail: str = "",
        times: int = 1,
    ) -> None:
        if step == "hit":
            self._metrics.hits += 1
        else:
            self._metrics.count(step, times)
        if self._on_event is not None:
            self._emit(step, name, seconds, detail)

    def _emit(self, step: Step, name: str, seconds: float | None = None, detail: str = "") -> None:
        try:
            self._on_event(Event(step, name, seconds, detail))  # type: ignore[misc]
        except Exception:  # noqa: BLE001 - the hook's own trouble, and told
            _log.exception("on_event failed at %s; the read goes on", step)

    def _shelf_tells(self, step: Step, name: str, detail: str) -> None:
        self._tell(step, name, None, detail)

    def _guard_tells(self, step: Any, times: int, detail: str) -> None:
        self._tell(step, "", None, detail, times)
