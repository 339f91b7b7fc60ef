"""Servers that are there to be broken, for lessons and tests of what happens then."""

from __future__ import annotations

from pglab.servers.scratch_address import ScratchPrograms
from pglab.servers.scratch_folder import ScratchFolder
from pglab.servers.scratch_postgres import ScratchPostgres
from pglab.servers.scratch_redis import ScratchRedis

__all__ = [
    "ScratchFolder",
    "ScratchPostgres",
    "ScratchPrograms",
    "ScratchRedis",
    "scratch_postgres",
]

# What reads well after ``with``.
scratch_postgres = ScratchPostgres
