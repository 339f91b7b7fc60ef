"""Queues in Redis, in PostgreSQL, and from one to the other; and what each may lose.

    queue = StreamQueue(redis, "webhooks")          # a stream with a consumer group
    queue.publish({"event": "messages.upsert"}, key="3EB0-1")
    for message in queue.receive(block_s=1):
        deliver(message.body)
        queue.acknowledge(message)

Which, when:

- ``TableQueue``: the message stands or falls with a transaction of the same PostgreSQL, or losing
  one matters. A claim is a row lock, or a time-out.
- ``StreamQueue``: many messages that may be lost with Redis. It has one group, and deletes what
  that has acknowledged: give each kind of consumer a queue of its own.
- ``Outbox``: the message must go to Redis (or anywhere else), and must agree with a transaction.
  Once it is in the stream, it is as safe as Redis is.

All deliver at least once: whoever was killed after his work and before saying so has it done again
by another. Exactly once is what the *effects* can be, where the consumer notes the message in the
transaction of its effects (:func:`first_time`), or works in the transaction of the claim
(:meth:`TableQueue.working`).
"""

from pglab.queues.message import DeadLetter, Message
from pglab.queues.outbox import Outbox, Relay
from pglab.queues.stream import QueueFullError, StreamQueue, StreamState
from pglab.queues.table import TableQueue, TableState
from pglab.queues.tables import create_tables, first_time

__all__ = [
    "DeadLetter",
    "Message",
    "Outbox",
    "QueueFullError",
    "Relay",
    "StreamQueue",
    "StreamState",
    "TableQueue",
    "TableState",
    "create_tables",
    "first_time",
]
