"""Writing and reading the state: Redis first, PostgreSQL as the backup."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import UUID

from psycopg.rows import tuple_row
from redis.exceptions import RedisError

from pglab.cache.keys import KeySpace
from pglab.cache.wire import Wire
from pglab.connection_state.watch import Watcher
from pglab.errors import ConfigError

if TYPE_CHECKING:
    import psycopg
    from redis import Redis

__all__ = ["STATES", "ConnectionStates", "Known", "State"]

State = Literal["close", "connecting", "open", "refused"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""In the order of the type ``connection_state`` of PostgreSQL, which breaks ties."""

# The later event wins, whichever comes last; of two at one millisecond, the later in STATES. So do
# the UPDATE below and pglab.ingestion.
# KEYS: the instance's; ARGV: time in ms, rank, expiry in ms, channel, instance, state.
_REPORT: Final = """
local old = redis.call('HMGET', KEYS[1], 'at', 'rank')
local at, rank = tonumber(old[1] or -1), tonumber(old[2] or -1)
local new_at, new_rank = tonumber(ARGV[1]), tonumber(ARGV[2])
if new_at < at or (new_at == at and new_rank < rank) then return 'outdated' end
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'rank', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if rank == new_rank then return 'kept' end
redis.call('PUBLISH', ARGV[4], ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ARGV[1])
return 'changed'
"""
_SAVE: Final = """
WITH saved AS (
    UPDATE instances SET connection_state = %(state)s::connection_state, state_changed_at = %(at)s
    WHERE id = %(id)s AND (%(at)s, %(state)s::connection_state)
        > (coalesce(state_changed_at, '-infinity'), connection_state)
)
SELECT EXISTS (SELECT FROM instances WHERE id = %(id)s)
"""
_LAST_KNOWN: Final = """
SELECT id, connection_state::text, state_changed_at FROM instances WHERE id = ANY (%s)
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an instance's connection.

    Attributes:
        state: one of ``STATES``.
        at: when the gateway said so; None if it never did.
        stale: nobody vouches for it now: it is what PostgreSQL last knew.
        reason: why it is stale: ``expired`` (no beat came in time, or Redis lost it) or
            ``no answer`` (of Redis); empty if it is not.
    """

    state: State
    at: dt.datetime | None
    stale: bool
    reason: Literal["", "expired", "no answer"] = ""


@dataclass(frozen=True, slots=True)
class _Word:
    """What this process says of an instance; ``at`` in whole milliseconds, as Redis counts."""

    state: State
    at: dt.datetime

    @property
    def order(self) -> tuple[int, int]:
        """The time in milliseconds and the state's rank: the greater of two words counts."""
        return round(self.at.timestamp() * 1e3), STATES.index(self.state)


class ConnectionStates:
    """The states of all instances, and this process's word for its own.

    Threads may share it for reading, and one may beat meanwhile: a psycopg connection lets one
    command through at a time.

    Args:
        redis: says where the server is; connections of our own are used, without retries.
        connection: to a database with the lessons' table ``instances``. What is saved is committed,
            unless a transaction is open already: that one stays the caller's.
        ttl_s: for how long a word counts, seconds; beat three times as often.
        timeout_s: of each answer of Redis, seconds.
        prefix: of the keys in Redis and of the channel.

    Raises:
        ConfigError: ``ttl_s`` or ``timeout_s`` is below 0.001, or the prefix is none.
    """

    def __init__(
        self,
        redis: Redis,
        connection: psycopg.Connection[Any],
        *,
        ttl_s: float = 30.0,
        timeout_s: float = 0.25,
        prefix: str = "",
    ) -> None:
        for name, value in (("ttl_s", ttl_s), ("timeout_s", timeout_s)):
            if not 0.001 <= value <= 1e7:
                raise ConfigError(f"{name} is {value!r}; give seconds, from 0.001 to 10,000,000")
        self._keys = KeySpace("connection", prefix=prefix)
        self.channel = f"{prefix}:connection-changes" if prefix else "connection-changes"
        self._redis = redis  # for watching
        self._connection = connection
        self._ttl_ms = round(ttl_s * 1e3)
        self._wire = Wire(redis, timeout_s)
        self._own: dict[UUID, _Word] = {}
        self._saved: dict[UUID, _Word] = {}  # … which PostgreSQL has
        self._lock = threading.Lock()

    # The process that holds the connections

    def report(self, instance_id: UUID | str, state: State, *, at: dt.datetime) -> bool:
        """Say what became of an instance's connection, and vouch for it from now on.

        Redis is told first, for somebody is waiting for it; then PostgreSQL. Whichever cannot be
        told is told by the next :meth:`beat`.

        Args:
            instance_id: a row of ``instances``.
            state: one of ``STATES``.
            at: when the gateway said so, with a time zone; an event that is older than what is
                known changes nothing.

        Returns:
            Whether Redis has it, or something newer.

        Raises:
            ConfigError: the state or the time is none, or there is no such instance.
            psycopg.Error: PostgreSQL could not be told.
        """
        instance = UUID(str(instance_id))
        if state not in STATES:
            raise ConfigError(f"state is {state!r}; give one of {', '.join(STATES)}")
        if at.tzinfo is None:
            raise ConfigError(f"at is {at.isoformat()}, without a time zone; give it one")
        # Redis and PostgreSQL must not disagree about which of two events is the later.
        at = at.astimezone(dt.UTC).replace(microsecond=at.microsecond // 1000 * 1000)
        word = _Word(state, at)
        with self._lock:
            known = self._own.get(instance, word)
            self._own[instance] = max(known, word, key=lambda each: each.order)
        told = self._tell_redis([instance])
        self._save(instance)
        return told is not None

    def beat(self) -> int:
        """Vouch for all instances of this process again; tell whoever could not be told before.

        Returns:
            For how many Redis took the word: 0 while it is away. An instance that another process
            has reported about since is not one of ours any more.

        Raises:
            psycopg.Error: PostgreSQL could not be told of a change.
        """
        with self._lock:
            instances = list(self._own)
        told = self._tell_redis(instances)
        for instance in instances:
            self._save(instance)
        return len([answer for answer in told or () if answer != b"outdated"])

    def release(self, instance_id: UUID | str) -> None:
        """Vouch for an instance no more; its word expires."""
        instance = UUID(str(instance_id))
        with self._lock:
            self._own.pop(instance, None)
            self._saved.pop(instance, None)

    def _tell_redis(self, instances: list[UUID]) -> list[bytes] | None:
        with self._lock:
            said = {each: self._own[each] for each in instances if each in self._own}
        if not said:
            return []
        answers = self._ask_all([self._reporting(*each) for each in said.items()])
        if answers is None:
            return None
        with self._lock:
            for (instance, word), answer in zip(said.items(), answers, strict=True):
                if answer == b"outdated" and self._own.get(instance) == word:
                    del self._own[instance]  # another process has it now
                    self._saved.pop(instance, None)
        return answers

    def _reporting(self, instance: UUID, word: _Word) -> tuple[bytes | str | int, ...]:
        at_ms, rank = word.order
        return (
            *("EVAL", _REPORT, 1, self._keys.name(instance)),
            *(at_ms, rank, self._ttl_ms, self.channel, str(instance), word.state),
        )

    def _ask_all(self, commands: list[tuple[bytes | str | int, ...]]) -> list[Any] | None:
        """Return Redis's answers; None if it does not answer, or refuses one."""
        try:
            answers = self._wire.ask_all(commands)
        except (RedisError, OSError):
            return None
        return None if any(isinstance(answer, Exception) for answer in answers) else answers

    def _save(self, instance: UUID) -> None:
        with self._lock:
            word = self._own.get(instance)
            if word is None or self._saved.get(instance) == word:
                return
        with self._connection.transaction(), self._connection.cursor(row_factory=tuple_row) as cur:
            row = cur.execute(
                _SAVE, {"id": instance, "state": word.state, "at": word.at}
            ).fetchone()
        if row is None or not row[0]:
            self._disown(instance)
            raise ConfigError(
                f"there is no instance {instance}; nothing was saved: insert it into instances "
                "first"
            )
        with self._lock:
            self._saved[instance] = word

    def _disown(self, instance: UUID) -> None:
        self.release(instance)
        self._ask_all([("UNLINK", self._keys.name(instance))])  # it expires otherwise

    # Whoever wants to know

    def read(self, instance_id: UUID | str) -> Known | None:
        """Return what is known of an instance; None if there is no such instance."""
        instance = UUID(str(instance_id))
        return self.read_many([instance]).get(instance)

    def read_many(self, instance_ids: Iterable[UUID | str]) -> dict[UUID, Known]:
        """Return what is known of several, with one question to each server at most.

        Instances that do not exist are left out. PostgreSQL is asked for those that Redis does not
        have, and for no others.

        Raises:
            psycopg.Error: PostgreSQL could not be asked.
        """
        instances = list(dict.fromkeys(UUID(str(given)) for given in instance_ids))
        if not instances:
            return {}
        live = self._ask_all(
            [("HMGET", self._keys.name(instance), "at", "rank") for instance in instances]
        )
        reason: Literal["expired", "no answer"] = "expired" if live is not None else "no answer"
        found: dict[UUID, Known | None] = dict.fromkeys(instances)
        for instance, (at, rank) in zip(instances, live or (), strict=live is not None):
            if at is not None:
                moment = dt.datetime.fromtimestamp(int(at) / 1e3, dt.UTC)
                found[instance] = Known(STATES[int(rank)], moment, stale=False)
        missing = [instance for instance, known in found.items() if known is None]
        if missing:
            with (
                self._connection.transaction(),
                self._connection.cursor(row_factory=tuple_row) as cur,
            ):
                for instance, state, at in cur.execute(_LAST_KNOWN, (missing,)):
                    found[instance] = Known(state, at, stale=True, reason=reason)
        return {instance: known for instance, known in found.items() if known is not None}

    def watch(self, *, expiry: bool = False) -> Watcher:
        """Return what hears of changes, to be entered with ``with``.

        Args:
            expiry: hear of words that expired, too; the server must send such events, see
                :func:`pglab.connection_state.expiry_events`.
        """
        return Watcher(self._redis, self.channel, self._keys, expiry=expiry)

    def close(self) -> None:
        """Close the connections to Redis; the words of this process expire."""
        self._wire.close()
