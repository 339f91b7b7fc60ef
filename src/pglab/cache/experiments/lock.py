"""A lock made of "is it there?" and "put it there", which two clients hold at once; and a real one.

Both are stepped: two clients, one after the other, in the order that makes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["has_set_lock", "token_lock"]

_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_Step = tuple[str, str, Callable[[], Any], Callable[[Any], None]]


def has_set_lock(redis: Redis, name: str = "lock:has-set") -> list[dict[str, Any]]:
    """Take a lock with EXISTS and SET by two clients in turns; return each step.

    Args:
        redis: any client; both take theirs through it, for Redis does not care whose it is.
        name: the lock's key; it is removed before and after.

    Returns:
        ``client``, ``command``, ``answer``, ``holders`` (who believes to hold it, after the step).
    """
    holders: set[str] = set()

    def nothing(_: Any) -> None:
        return

    def take(client: str) -> Callable[[Any], None]:
        return lambda _: holders.add(client)

    steps: list[_Step] = [
        ("A", f"EXISTS {name}", lambda: redis.exists(name), nothing),
        ("B", f"EXISTS {name}", lambda: redis.exists(name), nothing),
        ("A", f"SET {name} A", lambda: redis.set(name, "A"), take("A")),
        ("B", f"SET {name} B", lambda: redis.set(name, "B"), take("B")),
        ("A", f"DEL {name}", lambda: redis.delete(name), lambda _: holders.discard("A")),
        ("C", f"EXISTS {name}", lambda: redis.exists(name), nothing),
        ("C", f"SET {name} C", lambda: redis.set(name, "C"), take("C")),
    ]
    return _walk(redis, name, steps, holders)


def token_lock(redis: Redis, name: str = "lock:token") -> list[dict[str, Any]]:
    """Take a lock with SET NX PX and give it back by script, with the same two clients.

    Args:
        redis: any client.
        name: the lock's key; it is removed before and after.

    Returns:
        As :func:`has_set_lock`.
    """
    holders: set[str] = set()

    def take(client: str) -> _Step:
        def took(answer: Any) -> None:
            if answer:
                holders.add(client)

        command = f"SET {name} token-{client} NX PX 10000"
        return client, command, lambda: redis.set(name, f"token-{client}", nx=True, px=10_000), took

    def release(client: str, token: str) -> _Step:
        def released(answer: Any) -> None:
            if answer:
                holders.discard(client)

        command = f"release {name} if it is {token}"
        return client, command, lambda: redis.eval(_RELEASE, 1, name, token), released

    steps = [take("A"), take("B"), release("B", "token-B"), release("A", "token-A"), take("B")]
    return _walk(redis, name, steps, holders)


def _walk(
    redis: Redis, name: str, steps: Sequence[_Step], holders: set[str]
) -> list[dict[str, Any]]:
    redis.delete(name)
    rows = []
    try:
        for client, command, send, note in steps:
            answer = send()
            note(answer)
            rows.append(
                {
                    "client": client,
                    "command": command,
                    "answer": answer,
                    "holders": " and ".join(sorted(holders)) or "nobody",
                }
            )
    finally:
        redis.delete(name)
    return rows
