"""Loading an entry anew while there still is one: behind a stale one, or before its time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from pglab.cache.early import refresh_now
from pglab.cache.entries import PoisonedError, new_token, token_of
from pglab.cache.shelf import AwayError

if TYPE_CHECKING:
    from pglab.cache.entries import Envelope
    from pglab.cache.loading import Loading
    from pglab.cache.metrics import Step
    from pglab.cache.policy import Policy
    from pglab.cache.shelf import Shelf

__all__ = ["Refreshing"]

K = TypeVar("K")
V = TypeVar("V")

_log = logging.getLogger(__name__)


class Refreshing(Generic[K, V]):
    """Serves what there is, and sees to it that it becomes new.

    Args:
        loading: loads and stores.
        shelf: has the lock that lets one process of several refresh.
        policy: the settings.
        tell: is told of each step.
    """

    def __init__(
        self,
        loading: Loading[K, V],
        shelf: Shelf,
        policy: Policy,
        tell: Callable[[Step, str], object],
    ) -> None:
        self._loading = loading
        self._shelf = shelf
        self._policy = policy
        self._tell = tell
        self._lease_ms = max(1, round(policy.lease_s * 1e3))
        self._under_way: set[str] = set()
        # Starts its threads when it is first given work.
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="pglab cache refresh")

    def value(self, key: K, name: str, raw: bytes, entry: Envelope[V]) -> V | None:
        """Return an entry's value, or a newer one; count the read.

        Args:
            key: what was read.
            name: its name in Redis.
            raw: the entry as it stands there.
            entry: what it says.
        """
        now_ms = time.time() * 1e3
        # Without stale_s, Redis is about to remove what is past its time: clocks differ a little.
        if now_ms >= entry.fresh_until_ms and self._policy.stale_s:
            self._tell("stale", name)
            self._behind(key, name, token_of(raw))
            return entry.value
        self._tell("negative" if entry.value is None else "hit", name)
        if (
            self._policy.protection == "early"
            and name not in self._under_way
            and refresh_now(now_ms, entry.fresh_until_ms, entry.load_us, self._policy.beta)
        ):
            return self._before_its_time(key, name, token_of(raw), entry.value)
        return entry.value

    def _before_its_time(self, key: K, name: str, seen: bytes, old: V | None) -> V | None:
        self._under_way.add(name)
        self._tell("early", name)
        try:
            return self._loading.refresh(key, name, seen)
        except Exception:  # noqa: BLE001 - what is there is still good
            _log.debug("refreshing %s failed", name, exc_info=True)
            return old
        finally:
            self._under_way.discard(name)

    def _behind(self, key: K, name: str, seen: bytes) -> None:
        if name in self._under_way:
            return
        self._under_way.add(name)
        try:
            self._executor.submit(self._refresh, key, name, seen)
        except RuntimeError:  # closed, or the interpreter is ending
            self._under_way.discard(name)

    def _refresh(self, key: K, name: str, seen: bytes) -> None:
        # No key's name has an exclamation mark.
        lock, token = f"{name}!refresh", new_token()
        try:
            # Of all processes one; if its thread dies, another may when the lock has expired.
            if self._shelf.lease(lock, token, self._lease_ms) is None:
                try:
                    self._loading.refresh(key, name, seen)
                finally:
                    self._shelf.release(lock, token)
        except (AwayError, PoisonedError):
            return
        except Exception:  # noqa: BLE001 - nobody waits for it here
            # Counted as a load_error; whoever reads after the entry's end meets it again.
            _log.debug("refreshing %s failed", name, exc_info=True)
        finally:
            self._under_way.discard(name)

    def close(self) -> None:
        """Wait for what is under way; begin nothing more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
