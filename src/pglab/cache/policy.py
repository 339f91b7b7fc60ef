"""How long entries live, how large they may be, and who may load: a cache's settings, checked."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from pglab.errors import ConfigError

__all__ = ["Policy", "Protection"]

Protection = Literal["lock", "early", "none"]


@dataclass(frozen=True)
class Policy:
    """A cache's settings; see :class:`pglab.cache.CacheAside` for what each means.

    Raises:
        ConfigError: one of them cannot be used.
    """

    ttl_s: float = 300.0
    jitter: float = 0.1
    negative_ttl_s: float = 30.0
    stale_s: float = 0.0
    max_bytes: int = 1_000_000
    protection: Protection = "lock"
    leases: bool = True
    lease_s: float = 10.0
    beta: float = 1.0
    timeout_s: float = 0.1

    def __post_init__(self) -> None:
        for name in ("ttl_s", "negative_ttl_s", "lease_s", "timeout_s"):
            value = getattr(self, name)
            if not 0.001 <= value <= 1e7:
                raise ConfigError(f"{name} is {value!r}; give seconds, from 0.001 to 10,000,000")
        if not 0 <= self.stale_s <= 1e7:
            raise ConfigError(f"stale_s is {self.stale_s!r}; give seconds, from 0 to 10,000,000")
        if not 0 <= self.jitter < 1:
            raise ConfigError(f"jitter is {self.jitter!r}; give a share of the TTL from 0 to 0.99")
        if not 0 < self.max_bytes <= 512 << 20:
            raise ConfigError(f"max_bytes is {self.max_bytes!r}; Redis holds from 1 to 512 MiB")
        if self.beta <= 0:
            raise ConfigError(f"beta is {self.beta!r}; give a number above 0, such as 1")
        if self.protection not in {"lock", "early", "none"}:
            raise ConfigError(f"protection {self.protection!r} is unknown; lock, early or none")
        if self.protection == "lock" and not self.leases:
            raise ConfigError(
                "protection='lock' is made of leases, and leases are off; say protection='none'"
            )

    @property
    def max_age_s(self) -> float:
        """The oldest that an entry gets which no invalidation reached, seconds since its load.

        The load itself counts: what takes longer than a lease is not stored.
        """
        return self.lease_s + max(self.ttl_s, self.negative_ttl_s) + self.stale_s

    def ttl_ms(self, *, negative: bool) -> int:
        """Draw for how long a new entry is fresh: the TTL, or up to ``jitter`` less.

        Entries that were stored together then do not expire together.
        """
        longest = self.negative_ttl_s if negative else self.ttl_s
        share = 1 - self.jitter * random.random()  # noqa: S311 - no secret depends on it
        return max(1, round(longest * share * 1e3))
