"""A cache's failures, made to happen: each returns what it counted, and ends within seconds.

They are given a redis-py client and know no server. Each empties or overwrites only the keys of its
own prefix; what it started has ended when it returns, also when it raises.
"""

from pglab.cache.experiments.avalanche import avalanche
from pglab.cache.experiments.hit_ratio import measure_lru, measure_ttl
from pglab.cache.experiments.hot_key import HOT_KEY_POLICIES, hot_key
from pglab.cache.experiments.lock import has_set_lock, token_lock
from pglab.cache.experiments.stampede import stampede, stampede_of_processes

__all__ = [
    "HOT_KEY_POLICIES",
    "avalanche",
    "has_set_lock",
    "hot_key",
    "measure_lru",
    "measure_ttl",
    "stampede",
    "stampede_of_processes",
    "token_lock",
]
