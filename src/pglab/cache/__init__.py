"""Cache-aside that survives: PostgreSQL is the truth, Redis a copy that may be lost at any time.

    from pglab.cache import CacheAside, KeySpace, invalidating

    sessions = CacheAside(lab.redis, load_session, keys=KeySpace("session", version=1),
                          value_type=Session, ttl_s=300)
    session = sessions.get("shop-lima")          # from Redis, or one load for all who ask
    with invalidating(connection) as outdated:   # a transaction
        connection.execute("UPDATE instances SET settings = … WHERE name = …")
        outdated.add(sessions, "shop-lima")      # removed once it has committed
    sessions.metrics                             # hits, misses, loads, errors, coalesced, …

What it promises about a read that begins after ``invalidate`` returned (:mod:`pglab.cache.history`
has a checker for it):

1. It returned True. The read sees the write or a later one, in every process: an entry loaded
   before is removed, and one that was just being loaded is not stored, for the lease went with it.
   Only a process that cannot reach Redis may share a load that began earlier, and be late by it.
2. It returned False: Redis could not be asked. The same holds through this ``CacheAside``, which
   does not believe Redis until Redis has removed the key. Other processes may read the old value
   until then, at most for ``policy.max_age_s``.
3. The process died between the commit and the invalidation, or with some of them pending; or Redis
   came back with old data (a replica, a snapshot): at most ``policy.max_age_s`` late.

``max_age_s`` is the lease, the TTL and the time for which stale entries are served, added up. Reads
of the loader must see what is committed: a replica that lags, or a snapshot taken earlier, breaks
every promise. Readers never fail because of Redis, and wait for it ``timeout_s`` at most a command.
"""

from pglab.cache.aside import CacheAside
from pglab.cache.commit import Invalidations, invalidating
from pglab.cache.early import refresh_now
from pglab.cache.keys import KeySpace
from pglab.cache.metrics import STEPS, Counts, Event, Step
from pglab.cache.policy import Policy, Protection

__all__ = [
    "STEPS",
    "CacheAside",
    "Counts",
    "Event",
    "Invalidations",
    "KeySpace",
    "Policy",
    "Protection",
    "Step",
    "invalidating",
    "refresh_now",
]
