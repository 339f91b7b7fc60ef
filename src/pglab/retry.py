"""Run a transaction again when PostgreSQL says that another try may succeed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import psycopg

__all__ = ["RETRYABLE", "in_transaction"]

T = TypeVar("T")

RETRYABLE: Final = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: nobody erred, two transactions met."""


def in_transaction(
    connection: psycopg.Connection[Any],
    work: Callable[[psycopg.Connection[Any]], T],
    *,
    attempts: int = 5,
    first_wait_s: float = 0.02,
    longest_wait_s: float = 1.0,
    on_retry: Callable[[str, float], object] | None = None,
) -> T:
    """Run ``work(connection)`` in a transaction of its own, and again after 40001 or 40P01.

    The whole of it is run again, what it read included: what it read is out of date. So it must do
    nothing but speak to the database. The waits double, and each is drawn at random below its
    bound, lest two that met meet again ("full jitter": Brooker, AWS Architecture Blog, 2015).

    Args:
        connection: with no transaction open; its isolation level is used.
        work: called with the connection, once for each attempt; what it returns is returned.
        attempts: tries in all; then the last error is raised.
        first_wait_s: bound of the wait before the second attempt.
        longest_wait_s: bound of any wait.
        on_retry: told the SQLSTATE and the seconds before each wait.

    Raises:
        ValueError: a transaction is open: one cannot repeat a part of it; or no attempt is allowed.
        psycopg.Error: another error, at once; or one of the two, after the last attempt.
    """
    import psycopg

    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        raise ValueError(
            "a transaction is open on this connection, and only a whole one can be run again; "
            "commit it first, or begin it in work()"
        )
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; at least 1 is needed")
    for failures in range(attempts):
        try:
            with connection.transaction():
                return work(connection)
        except psycopg.Error as error:
            if error.sqlstate not in RETRYABLE or failures + 1 == attempts:
                raise
            bound = min(longest_wait_s, first_wait_s * 2**failures)
            wait_s = random.uniform(0, bound)  # noqa: S311 (a wait, no secret)
            if on_retry is not None:
                on_retry(error.sqlstate, wait_s)
            time.sleep(wait_s)
    raise AssertionError("unreachable: the last attempt returns or raises")
