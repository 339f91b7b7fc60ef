"""Reading several keys at once: one MGET, and one question for what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pglab.cache.entries import MARKER_BYTES, Codec, PoisonedError, new_token
from pglab.cache.shelf import AwayError
from pglab.errors import ConfigError

if TYPE_CHECKING:
    from pglab.cache.guard import Guard
    from pglab.cache.keys import KeySpace
    from pglab.cache.loading import Loading
    from pglab.cache.metrics import Step
    from pglab.cache.refresh import Refreshing
    from pglab.cache.shelf import Shelf

__all__ = ["Batch"]

K = TypeVar("K")
V = TypeVar("V")


class _Tell(Protocol):
    def __call__(
        self,
        step: Step,
        name: str,
        seconds: float | None = None,
        detail: str = "",
        times: int = 1,
    ) -> None: ...


class Batch(Generic[K, V]):
    """Reads several keys; waits for nobody else's load, and stores what nobody else is loading.

    Args:
        load_many: answers for several keys; None: there is no such question.
        keys: names the entries.
        shelf: of the entries.
        guard: says whether to ask Redis.
        codec: of the values.
        loading: makes entries.
        refreshing: sees to stale ones.
        tell: is told of each step.
    """

    def __init__(
        self,
        load_many: Callable[[list[K]], Mapping[K, V | None]] | None,
        *,
        keys: KeySpace,
        shelf: Shelf,
        guard: Guard,
        codec: Codec[V],
        loading: Loading[K, V],
        refreshing: Refreshing[K, V],
        tell: _Tell,
    ) -> None:
        self._load_many = load_many
        self._name: Any = keys.name
        self._shelf = shelf
        self._guard = guard
        self._codec = codec
        self._loading = loading
        self._refreshing = refreshing
        self._tell = tell

    def get(self, keys: Iterable[K]) -> dict[K, V | None]:
        """Return the values, in the order of the keys.

        Raises:
            ConfigError: a key cannot be a key, or there is no ``load_many``.
            Exception: what the loader raised.
        """
        if self._load_many is None:
            raise ConfigError("get_many needs load_many=; give it to CacheAside, or use get")
        names: dict[K, str] = {key: self._name(key) for key in keys}
        if not names:
            return {}
        found: dict[K, V | None] = {}
        trusted = self._guard.trusted
        if trusted:
            try:
                answers = self._shelf.ask("", "MGET", *names.values())
                if type(answers) is not list or len(answers) != len(names):
                    raise self._shelf.failed("", TypeError(f"MGET was answered {answers!r:.40}"))
            except (AwayError, PoisonedError):
                trusted = False
            else:
                for (key, name), raw in zip(names.items(), answers, strict=True):
                    self._take(key, name, raw, found)
        missing = {key: name for key, name in names.items() if key not in found}
        if missing:
            if not trusted:
                self._guard.keep_recovering()
            self._tell("miss" if trusted else "fallthrough", "", times=len(missing))
            found.update(self._load_missing(missing, store=trusted))
        return {key: found[key] for key in names}

    def _take(self, key: K, name: str, raw: Any, found: dict[K, V | None]) -> None:
        if type(raw) is not bytes or len(raw) <= MARKER_BYTES:
            return
        try:
            entry = self._codec.decode(raw, name)
        except PoisonedError as error:
            self._loading.poisoned(name, error)
            return
        found[key] = self._refreshing.value(key, name, raw, entry)

    def _load_missing(self, missing: dict[K, str], *, store: bool) -> dict[K, V | None]:
        assert self._load_many is not None  # noqa: S101 - get_many looked
        tokens = {key: new_token() for key in missing}
        held: dict[K, str] = {}
        if store:
            try:
                answers = self._shelf.ask_all(
                    [
                        self._shelf.lease_command(name, tokens[key], self._loading.lease_ms)
                        for key, name in missing.items()
                    ]
                )
            except AwayError as error:
                answers = []
                self._shelf.unanswered(error, list(missing.values()))
            except PoisonedError:
                answers = []
            held = {
                key: name
                for (key, name), answer in zip(missing.items(), answers, strict=False)
                if answer is None or answer == tokens[key]
            }
        began = time.perf_counter()
        try:
            loaded = self._load_many(list(missing))
        except BaseException as error:
            self._tell("load_error", "", time.perf_counter() - began, type(error).__name__)
            for key, name in held.items():
                self._shelf.release(name, tokens[key])
            raise
        took = time.perf_counter() - began
        self._tell("load", "", took, f"{len(missing)} keys")
        values = {key: loaded.get(key) for key in missing}
        self._store_many(
            {key: (name, tokens[key], values[key]) for key, name in held.items()}, took
        )
        return values

    def _store_many(self, held: dict[K, tuple[str, bytes, V | None]], took_s: float) -> None:
        entries = []
        for name, token, value in held.values():
            entry = (
                self._loading.entry(name, token, value, took_s)
                if took_s <= self._loading.policy.lease_s
                else None
            )
            if entry is None:
                self._shelf.release(name, token)
            else:
                entries.append((name, token, *entry))
        try:
            stored = self._shelf.store_all(entries)
        except (AwayError, PoisonedError):
            stored = [False] * len(entries)
        for (name, token, *_), done in zip(entries, stored, strict=True):
            self._tell("store" if done else "refused", name)
            if not done:  # a full Redis, for one, keeps the lease, and others would wait for it
                self._shelf.release(name, token)
