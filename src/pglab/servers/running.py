"""Whether a unit's server answers, what is wrong if it does not, and who is connected to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pglab.errors import ServerUnreachableError
from pglab.servers.connect import connect_postgres, connect_redis, is_full
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint
from pglab.servers.redis import WrongPasswordError, ping

if TYPE_CHECKING:
    from redis import Redis

    from pglab.servers.home import Unit

__all__ = ["Answer", "clients", "postgres_endpoint", "probe", "redis_endpoint"]

_ANSWER_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking a server whether it is there.

    Attributes:
        endpoint: where it answers; None if it does not.
        trouble: what is wrong with a server that is there and yet no use, with the remedy;
            None for one that is not there, or not yet.
    """

    endpoint: PostgresEndpoint | RedisEndpoint | None = None
    trouble: str | None = None


def probe(unit: Unit) -> Answer:
    """Ask the server that the unit's state names; in a bounded time, whatever is there now."""
    state = unit.read_state()
    if not state or "port" not in state or not is_supervisor(state.get("supervisor_pid")):
        # Without a supervisor a server is just ending, and a container is left for ever: the next
        # start waits for the one and replaces the other.
        return Answer()
    if not unit.has_password():
        return Answer(
            trouble=f"its password, {unit.secret}, is lost; run: pglab down, and open the lesson "
            "again: the server gets a new one, and all data stay"
        )
    try:
        ask = _probe_postgres if unit.kind == "postgres" else _probe_redis
        return ask(unit, state)
    except (KeyError, TypeError, ValueError):  # nothing that we wrote
        return Answer()


def _probe_postgres(unit: Unit, state: dict[str, Any]) -> Answer:
    endpoint = postgres_endpoint(unit, state)
    try:
        connect_postgres(
            endpoint, application_name="pglab: is it up?", timeout_s=_ANSWER_TIMEOUT_S
        ).close()
    except ServerUnreachableError as error:
        said = str(error)
        if "timeout expired" in said:
            return Answer(trouble=_silent(state))
        if "password authentication failed" in said:
            return Answer(trouble=_refuses(unit))
        if is_full(error):
            return Answer(
                trouble="it has no connection left; close some, for example by restarting the "
                "kernels of other lessons"
            )
        return Answer()
    return Answer(endpoint)


def _probe_redis(unit: Unit, state: dict[str, Any]) -> Answer:
    endpoint = redis_endpoint(unit, state)
    try:
        if endpoint.socket:
            ping(Path(endpoint.socket), endpoint.password.reveal(), timeout_s=_ANSWER_TIMEOUT_S)
        else:
            _ping_by_tcp(endpoint)
    except TimeoutError:
        return Answer(trouble=_silent(state))
    except WrongPasswordError:
        return Answer(trouble=_refuses(unit))
    except OSError:
        return Answer()
    return Answer(endpoint)


def _ping_by_tcp(endpoint: RedisEndpoint) -> None:
    import redis

    try:
        with _impatient_client(endpoint) as client:
            client.ping()
    except redis.AuthenticationError as error:
        raise WrongPasswordError from error
    except redis.TimeoutError as error:
        raise TimeoutError from error
    except redis.RedisError as error:
        raise ConnectionError from error


def _impatient_client(endpoint: RedisEndpoint) -> Redis:
    """Return a client of one connection that tries once; redis-py alone would try four times."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return connect_redis(
        endpoint,
        socket_timeout=_ANSWER_TIMEOUT_S,
        socket_connect_timeout=_ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )


def _silent(state: dict[str, Any]) -> str:
    process = f" (process {state['pid']})" if state.get("pid") else ""
    return (
        f"it has said nothing for {_ANSWER_TIMEOUT_S} s{process}: the machine is too busy, or the "
        "process is stopped; wait, or run: pglab down"
    )


def _refuses(unit: Unit) -> str:
    return (
        f"it refuses the password in {unit.secret}; run: pglab down, remove that file, and open "
        "the lesson again: the server gets a new one, and all data stay"
    )


def is_supervisor(pid: object) -> bool:
    """Tell whether this process is a supervisor, and lives."""
    if not isinstance(pid, int):
        return False
    if Path("/proc/self/cmdline").exists():
        try:  # a zombie, which a container's process 1 may never reap, has no command line
            return b"pglab.servers.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    return True


def clients(unit: Unit) -> int:
    """Count the connections to the server, ours apart: somebody's psql holds no lease.

    A server that cannot be asked has none, for nobody can be using it.
    """
    state = unit.read_state()
    if not state or "port" not in state:
        return 0
    if unit.kind == "postgres":
        return _postgres_clients(postgres_endpoint(unit, state))
    return _redis_clients(redis_endpoint(unit, state))


def _postgres_clients(endpoint: PostgresEndpoint) -> int:
    import psycopg

    try:
        with connect_postgres(endpoint, timeout_s=_ANSWER_TIMEOUT_S) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND backend_type IN ('client backend', 'walsender')"
            ).fetchone()
    except ServerUnreachableError as error:
        return int(is_full(error))
    except psycopg.OperationalError:
        return 0
    return int(row[0]) if row else 0


def _redis_clients(endpoint: RedisEndpoint) -> int:
    import redis

    try:
        with _impatient_client(endpoint) as client:
            mine = str(client.client_id())
            return sum(str(found["id"]) != mine for found in client.client_list())
    except (redis.RedisError, OSError):
        return 0


def postgres_endpoint(unit: Unit, state: dict[str, Any]) -> PostgresEndpoint:
    """Return the endpoint that a unit's state describes."""
    return PostgresEndpoint(
        source=unit.source,
        host=state["host"],
        port=state["port"],
        user=state.get("user", "postgres"),
        password=unit.password(),
        socket_directory=state.get("socket_directory"),
        programs=Path(state["programs"]) if state.get("programs") else None,
    )


def redis_endpoint(unit: Unit, state: dict[str, Any]) -> RedisEndpoint:
    """Return the endpoint that a unit's state describes."""
    return RedisEndpoint(
        source=unit.source,
        host=state["host"],
        port=state["port"],
        password=unit.password(),
        socket=state.get("socket"),
    )
