"""Invalidate when a transaction has committed, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pglab.errors import ConfigError

if TYPE_CHECKING:
    import psycopg

    from pglab.cache.aside import CacheAside

__all__ = ["Invalidations", "invalidating"]


class Invalidations:
    """Keys that a transaction makes outdated.

    Attributes:
        applied: after the commit, whether every cache's Redis has acknowledged (None before it).
    """

    def __init__(self) -> None:
        self.applied: bool | None = None
        self._keys: dict[int, tuple[CacheAside[Any, Any], list[Any]]] = {}

    def add(self, cache: CacheAside[Any, Any], *keys: Any) -> None:
        """Note keys of a cache.

        Raises:
            ConfigError: a key cannot be a key.
        """
        for key in keys:
            cache.keys.name(key)  # while the transaction can still be given up
        self._keys.setdefault(id(cache), (cache, []))[1].extend(keys)

    def apply(self) -> bool:
        """Invalidate them all; return whether it was acknowledged."""
        # Each must be tried, whatever the others say.
        answers = [cache.invalidate(*keys) for cache, keys in self._keys.values()]
        self.applied = all(answers)
        return self.applied


@contextmanager
def invalidating(connection: psycopg.Connection[Any]) -> Iterator[Invalidations]:
    """Run a transaction, and invalidate the keys that were added to it once it has committed.

        with invalidating(connection) as outdated:
            connection.execute("UPDATE …")
            outdated.add(sessions, name)

    After a rollback nothing is invalidated. If the connection is lost, nobody knows whether it
    committed, and the keys are invalidated: that is never wrong.

    Raises:
        ConfigError: the connection is in a transaction already, whose end would come later.
    """
    from psycopg.pq import TransactionStatus

    status = connection.info.transaction_status
    if status != TransactionStatus.IDLE:
        raise ConfigError(
            f"the connection is in a transaction already ({status.name}), and invalidating() must "
            "come after the commit; commit first, or open the connection with autocommit=True"
        )
    outdated = Invalidations()
    try:
        with connection.transaction():
            yield outdated
    except BaseException:
        if connection.broken or connection.closed:
            outdated.apply()
        raise
    outdated.apply()
