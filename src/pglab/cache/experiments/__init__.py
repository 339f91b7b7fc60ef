"""A cache under load: each experiment returns what it counted, and ends within seconds.

They are given a redis-py client and know no server. Each empties or overwrites only the keys of its
own prefix; what it started has ended when it returns, also when it raises.
"""

from pglab.cache.experiments.hit_ratio import measure_lru, measure_ttl
from pglab.cache.experiments.stampede import stampede_of_processes

__all__ = ["measure_lru", "measure_ttl", "stampede_of_processes"]
