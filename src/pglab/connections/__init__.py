"""Connections: what a URL says, where the time goes, pools and their end, networks that fail.

    from pglab import connections

    connections.anatomy("postgresql://ana@db.example.org/evolution")  # what libpq makes of it
    connections.connect_steps(lab.endpoint.parameters(tcp=True))      # where the time goes
    connections.many_clients(pool.connection, clients=20, hold_s=0.2) # who waits, who gives up

    with connections.PgBouncer(endpoint, mode="transaction", pool_size=2) as bouncer:
        bouncer.connect("evolution"), bouncer.show("POOLS")
    with connections.Network("127.0.0.1", port, round_trip_s=0.02) as network:
        network.fall_silent(), network.cut()                          # network.port leads there

Not imported by ``import pglab``.
"""

from __future__ import annotations

from pglab.connections.anatomy import Part, anatomy, parse
from pglab.connections.bouncer import PgBouncer, find_pgbouncer
from pglab.connections.network import Network
from pglab.connections.steps import STEPS, Step, connect_steps
from pglab.connections.waiting import SERVED, Wait, many_clients

__all__ = [
    "SERVED",
    "STEPS",
    "Network",
    "Part",
    "PgBouncer",
    "Step",
    "Wait",
    "anatomy",
    "connect_steps",
    "find_pgbouncer",
    "many_clients",
    "parse",
]
