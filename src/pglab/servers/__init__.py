"""Where servers come from and how they live: one endpoint type over four sources."""

from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint

__all__ = ["PostgresEndpoint", "RedisEndpoint"]
