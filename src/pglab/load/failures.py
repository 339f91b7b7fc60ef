"""Turn what PostgreSQL says when a load fails into what a learner can do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pglab.errors import DiskFullError, LoadError, PermissionMissingError, PglabError

# Measured at medium on PostgreSQL 17: what a message adds to a database, with everything else's
# share, TOAST and indexes.
BYTES_PER_MESSAGE = 560
BYTES_PER_SEED_MESSAGE = 260


def _megabytes(size: int) -> str:
    return f"{max(1, size // 1_000_000):,} MB"


def _said(error: BaseException) -> str:
    """Return PostgreSQL's message and the place (a COPY names its line), on one line."""
    if not isinstance(error, psycopg.Error) or error.diag.message_primary is None:
        return " ".join(str(error).split())
    place = (error.diag.context or "").splitlines()[-1:]
    return "; ".join([error.diag.message_primary, *(line.partition(": ")[0] for line in place)])


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, psycopg.errors.DiskFull):
        return True
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


@contextmanager
def explained(what: str, size: int) -> Iterator[None]:
    """Raise LoadError or DiskFullError in place of psycopg's errors.

    Args:
        what: what is being done, as in "loading messages".
        size: bytes that it will need in the database, about.
    """
    try:
        yield
    except PglabError:
        raise
    except (psycopg.Error, OSError) as error:
        if _is_disk_full(error):
            raise DiskFullError(
                f"the server's disk is full: {what} needs about {_megabytes(size)} and, while it "
                f"runs, as much again for sorting and the write-ahead log ({_said(error)}); "
                "nothing was kept; free some space or choose a smaller size, then try again"
            ) from error
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise PermissionMissingError(
                f"{what} failed: {_said(error)}; the tables' owner must do it, nothing was kept"
            ) from error
        if isinstance(error, psycopg.OperationalError) and error.sqlstate in {None, "57P01"}:
            raise LoadError(
                f"{what} failed: the connection was lost ({_said(error)}); nothing was kept; "
                "look at the server's log (a full disk can do this), then connect and try again"
            ) from error
        raise LoadError(f"{what} failed: {_said(error)}; nothing was kept") from error
