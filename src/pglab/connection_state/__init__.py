"""Whether an instance is connected: live in Redis while somebody vouches for it, and a backup.

    states = ConnectionStates(redis, connection, ttl_s=30)
    states.report(instance_id, "open", at=event_time)   # the process that holds the connection
    states.beat()                                       # … and again every 10 s, for all it has
    states.read(instance_id)                            # Known(state='open', stale=False, …)
    with states.watch() as watcher:                     # who wants to hear of changes
        watcher.next(timeout_s=5)                       # Change(kind='changed', state='close', …)

What Redis holds has an expiry, and only beats put it off: if the process that holds the connection
dies, its word is gone ``ttl_s`` later. A read then gives what PostgreSQL last knew, marked as
stale, and so it does while Redis is away. PostgreSQL is written when a state changes, never by a
beat.

Nothing is rebuilt from PostgreSQL: a backup cannot know whether a connection is still there. After
Redis has lost everything, the next beat of each process puts its own instances back, as they are.
"""

from pglab.connection_state.states import STATES, ConnectionStates, Known, State
from pglab.connection_state.watch import Change, Watcher, expiry_events

__all__ = [
    "STATES",
    "Change",
    "ConnectionStates",
    "Known",
    "State",
    "Watcher",
    "expiry_events",
]
