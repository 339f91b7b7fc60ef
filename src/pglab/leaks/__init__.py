"""Find out who sees a secret: by storing or using one, and looking where others could look.

    from pglab import leaks

    findings = leaks.trial(server.connect, server.read_log, key="a-key-for-show")
    leaks.grid(findings)       # one row a place, one column a way of sending the key

    stores = {"pgcrypto": leaks.Store("vault", lambda connection, secret: …)}
    leaks.who_sees(connection, stores, dump=partial(leaks.plain_dump, lab.server, lab.database))

Nothing here is a judgement: each answer is a search for the very bytes. The secrets are made for
the experiment and end up in logs, which is the point; never give it a real one.
"""

from __future__ import annotations

from pglab.leaks.dumps import plain_dump
from pglab.leaks.finding import Finding, grid
from pglab.leaks.sight import Store, who_sees
from pglab.leaks.trial import PLACES, WAYS, Place, trial

__all__ = [
    "PLACES",
    "WAYS",
    "Finding",
    "Place",
    "Store",
    "grid",
    "plain_dump",
    "trial",
    "who_sees",
]
