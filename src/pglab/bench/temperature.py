"""First look-ups: with warm caches, without PostgreSQL's, and without the kernel's either.

Two caches lie between a look-up and the disk. PostgreSQL's, ``shared_buffers``, is emptied of a
relation by ``pg_buffercache_evict`` (PostgreSQL 17; the same effect as a restart, for this relation
alone and without ending anybody's session). The kernel's page cache is emptied of the relation's
files by ``posix_fadvise(POSIX_FADV_DONTNEED)``, which needs no superuser of the machine, only leave
to read the files. What a hypervisor or a disk keeps beyond that nobody here can empty.
"""

from __future__ import annotations

import errno
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pglab.bench.faults import one_line
from pglab.errors import BenchError

if TYPE_CHECKING:
    from pglab.bench.ground import Ground, Place
    from pglab.bench.operations import Operation, Parameters

__all__ = ["FirstLookUps", "empty_kernel", "empty_postgres", "first_look_ups", "resident_share"]

_SAMPLES: Final = 5
_PAGE: Final = 4_096
_PROBES: Final = 64


@dataclass(frozen=True)
class FirstLookUps:
    """Medians of first operations on new connections, in µs; None where a cache stayed full.

    Attributes:
        warm: both caches full.
        without_postgres: ``shared_buffers`` emptied of the variant's relations.
        without_both: the kernel's cache as well.
        notes: why something is None, or only partly so.
    """

    warm: float
    without_postgres: float | None
    without_both: float | None
    notes: tuple[str, ...]

    def measures(self) -> Mapping[str, float]:
        """Return what was found, by name."""
        named = {
            "first_warm_us": self.warm,
            "first_without_postgres_cache_us": self.without_postgres,
            "first_without_both_caches_us": self.without_both,
        }
        return {name: value for name, value in named.items() if value is not None}


def first_look_ups(
    ground: Ground, place: Place, operation: Operation, parameters: Sequence[Parameters]
) -> FirstLookUps:
    """Time a variant's first operation on a new connection, five times for each state of caches.

    Args:
        ground: of the size.
        place: the variant's.
        operation: what is timed.
        parameters: each sample takes another set, from the end, where rounds seldom come.
    """
    notes: list[str] = []
    warm = _first(ground, place, operation, parameters, None)
    without_postgres = without_both = None
    with ground.connect(place.schema) as helper:
        try:
            helper.execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache SCHEMA public")
            empty_postgres(helper, place.schema)
        except psycopg.Error as error:
            notes.append(
                "PostgreSQL's cache could not be emptied, which takes PostgreSQL 17 and a "
                f"superuser: {one_line(error)}"
            )
            return FirstLookUps(warm, None, None, tuple(notes))
        without_postgres = _first(
            ground, place, operation, parameters, lambda: empty_postgres(helper, place.schema)
        )
        try:
            files = relation_files(helper, place.schema)
            helper.execute("CHECKPOINT")

            def empty_both() -> None:
                empty_postgres(helper, place.schema)
                empty_kernel(files)

            without_both = _first(ground, place, operation, parameters, empty_both)
            empty_both()
            share = resident_share(files)
            if share is None:
                notes.append("whether the kernel's cache was emptied cannot be seen here")
            elif share > 0.05:
                notes.append(f"the kernel kept {share:.0%} of the files' pages all the same")
        except (OSError, psycopg.Error, BenchError) as error:
            notes.append(f"the kernel's cache could not be emptied: {error}")
            without_both = None
    return FirstLookUps(warm, without_postgres, without_both, tuple(notes))


def _first(
    ground: Ground,
    place: Place,
    operation: Operation,
    parameters: Sequence[Parameters],
    before: Any,
) -> float:
    taken = []
    for sample in range(_SAMPLES):
        given = parameters[-1 - sample % len(parameters)] if parameters else ()
        if before is not None:
            before()
        with ExitStack() as stack:
            connection = stack.enter_context(ground.connect(place.schema))
            fresh = replace(place, connection=connection, _stack=ExitStack())
            stack.callback(fresh.release)
            opened = operation.open(fresh, [given])
            if opened.after is not None:
                stack.callback(opened.after)
            began = time.perf_counter_ns()
            opened.once(0)
            taken.append((time.perf_counter_ns() - began) / 1e3)
    return statistics.median(taken)


_RELATIONS: Final = """
SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = %(schema)s::regnamespace
UNION SELECT t.oid FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid
WHERE c.relnamespace = %(schema)s::regnamespace
UNION SELECT i.indexrelid FROM pg_class AS c JOIN pg_index AS i ON i.indrelid = c.reltoastrelid
WHERE c.relnamespace = %(schema)s::regnamespace
"""

_BUFFERS: Final = f"""
SELECT count({{what}}) FROM pg_buffercache
WHERE relfilenode IN (SELECT pg_relation_filenode(oid) FROM ({_RELATIONS}) AS r)
  AND reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 (both parts are ours)


def empty_postgres(connection: psycopg.Connection[Any], schema: str) -> int:
    """Empty ``shared_buffers`` of a schema's relations; return how many pages are left in it.

    Raises:
        psycopg.Error: the server is older than 17, or the role is no superuser.
    """
    given = {"schema": schema}
    connection.execute(_BUFFERS.format(what="pg_buffercache_evict(bufferid)").encode(), given)
    row = connection.execute(_BUFFERS.format(what="*").encode(), given).fetchone()
    return int(row[0]) if row else 0


def relation_files(connection: psycopg.Connection[Any], schema: str) -> list[Path]:
    """Return the files of a schema's relations, where they can be read from here.

    Raises:
        BenchError: they cannot.
    """
    row = connection.execute("SHOW data_directory").fetchone()
    folder = Path(row[0] if row else "")
    paths = connection.execute(
        f"SELECT pg_relation_filepath(oid) FROM ({_RELATIONS}) AS r".encode(),  # noqa: S608 (ours)
        {"schema": schema},
    ).fetchall()
    files = [
        file
        for (path,) in paths
        if path is not None
        # A relation is cut into files of a gigabyte: 16384, 16384.1 …
        for file in (folder / path, *sorted((folder / path).parent.glob(f"{Path(path).name}.*")))
    ]
    if not files or not all(os.access(file, os.R_OK) for file in files):
        raise BenchError("the server's files cannot be read from here")
    return files


def empty_kernel(files: Sequence[Path]) -> None:
    """Ask the kernel to forget what it has of these files.

    Raises:
        BenchError: this system has no such request.
        OSError: a file cannot be read.
    """
    if not hasattr(os, "posix_fadvise"):
        raise BenchError("this system has no posix_fadvise; Linux has")
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # only what is on the disk can be forgotten
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def resident_share(files: Sequence[Path]) -> float | None:
    """Return which share of some of the files' pages the kernel has in memory; None if unknown.

    By reading with RWF_NOWAIT, which fails for a page that would have to come from the disk.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    there = asked = 0
    for file in files:
        pages = file.stat().st_size // _PAGE
        descriptor = os.open(file, os.O_RDONLY)
        try:
            # Lest a look at one page make the kernel read the pages behind it.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            for page in range(0, pages, max(1, pages // _PROBES)):
                asked += 1
                try:
                    os.preadv(descriptor, [bytearray(_PAGE)], page * _PAGE, os.RWF_NOWAIT)
                    there += 1
                except OSError as error:
                    if error.errno == errno.EOPNOTSUPP:
                        return None
        finally:
            os.close(descriptor)
    return there / asked if asked else 0.0
