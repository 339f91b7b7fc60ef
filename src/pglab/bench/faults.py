"""What an error means for a run: its end, or the fault of one case."""

from __future__ import annotations

import psycopg

from pglab.errors import (
    BenchError,
    BenchStoppedError,
    DiskFullError,
    PglabError,
    ServerUnreachableError,
)
from pglab.servers.connect import is_lost

__all__ = ["as_raised", "end_of_run", "one_line", "told"]


def as_raised(error: Exception, kept: object | None) -> PglabError:
    """Return what a run raises for an error that ended it: itself if it is a ``BenchError``.

    Args:
        error: what went wrong.
        kept: a result with what was finished, for the error's ``result``; None if nothing was.
    """
    found = end_of_run(error) or error
    if isinstance(found, BenchError):
        found.result = kept
        return found
    if kept is None and isinstance(found, PglabError):
        return found
    more = "; the finished rounds are kept" if kept is not None else ""
    stopped = BenchStoppedError(f"{told(found)}{more}", result=kept)
    stopped.__cause__ = error
    return stopped


def told(error: Exception) -> str:
    """Return what to say of an error; one that is not ours needs its name to be understood."""
    if isinstance(error, PglabError):
        return str(error)
    return f"{type(error).__name__}: {one_line(error)}"


def end_of_run(error: BaseException) -> ServerUnreachableError | DiskFullError | None:
    """Return why no case can go on; None if the error is one case's, or one operation's, own.

    Looks at the causes, too: an operation's error is raised as another one that names it.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ServerUnreachableError | DiskFullError):
            return seen
        # SQLAlchemy has the driver's error in ``orig``, which is its cause as well.
        if isinstance(seen, psycopg.errors.DiskFull):
            return DiskFullError(
                f"the disk of the PostgreSQL server is full ({one_line(seen)}); choose a smaller "
                "--size, or make room"
            )
        # A statement that took too long, or was cancelled, is an OperationalError as well.
        if isinstance(seen, psycopg.OperationalError) and is_lost(seen):
            return _gone("PostgreSQL", seen)
        if isinstance(seen, ConnectionError) or _is_redis(seen):
            return _gone("Redis" if _is_redis(seen) else "a server", seen)
        seen = seen.__cause__
    return None


def _gone(who: str, error: BaseException) -> ServerUnreachableError:
    return ServerUnreachableError(
        f"{who} is gone ({one_line(error)}); run: pglab status, then again"
    )


def _is_redis(error: BaseException) -> bool:
    import sys

    redis = sys.modules.get("redis")  # where nobody has loaded it, nobody has raised its errors
    return redis is not None and isinstance(error, redis.ConnectionError)


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    return " ".join(str(error).split())
