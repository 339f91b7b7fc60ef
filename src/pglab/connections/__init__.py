"""Connections: what a URL says, where the time goes, pools and their end, networks that fail.

    from pglab import connections

    connections.anatomy("postgresql://ana@db.example.org/evolution")  # what libpq makes of it
    connections.connect_steps(lab.endpoint.parameters(tcp=True))      # where the time goes
    connections.many_clients(pool.connection, clients=20, hold_s=0.2) # who waits, who gives up

    with connections.PgBouncer(endpoint, mode="transaction", pool_size=2) as bouncer:
        bouncer.connect("evolution"), bouncer.show("POOLS")
    with connections.Network("127.0.0.1", port, round_trip_s=0.02) as network:
        network.fall_silent(), network.drop_packets(), network.cut()  # network.port leads there
    connections.dead_network(endpoint.parameters(tcp=True)).noticed   # packets vanish: who notices

Not imported by ``import pglab``.
"""

from __future__ import annotations

from pglab.connections.anatomy import Part, anatomy, parse
from pglab.connections.bouncer import PgBouncer, find_pgbouncer
from pglab.connections.dead_network import KEEPALIVES, DeadNetwork, Noticed, dead_network
from pglab.connections.dropping import packets_can_be_dropped
from pglab.connections.network import Network
from pglab.connections.steps import STEPS, Step, connect_steps
from pglab.connections.waiting import SERVED, Wait, many_clients

__all__ = [
    "KEEPALIVES",
    "SERVED",
    "STEPS",
    "DeadNetwork",
    "Network",
    "Noticed",
    "Part",
    "PgBouncer",
    "Step",
    "Wait",
    "anatomy",
    "connect_steps",
    "dead_network",
    "find_pgbouncer",
    "many_clients",
    "packets_can_be_dropped",
    "parse",
]
