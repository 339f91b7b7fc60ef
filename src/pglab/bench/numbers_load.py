"""Measure the load against INSERT … SELECT of the same rows into the same schema.

Rounds are interleaved in one run with a checkpoint before each, so that a change of the machine's
mood reaches both sides. The memory is that of the loading process, measured in a child of its own.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from pglab import schema
from pglab.config import Settings
from pglab.dataset import TABLES, Dataset
from pglab.load import load
from pglab.load.binary import encode
from pglab.servers import lifecycle

_PEAK_SCRIPT = "from pglab.bench import numbers_load; numbers_load.peak()"
_KIB = 1024


def main(size: str | int = "medium", rounds: int = 3, url: str | None = None) -> None:
    """Print seconds, rows per second, the ratio and the peak memory.

    Args:
        size: of the dataset.
        rounds: of both sides, interleaved.
        url: a superuser on a PostgreSQL server; by default the lab's own.
    """
    with _server(url) as server:
        seconds = _rounds(server, size, rounds)
        peak_megabytes = _peak_megabytes(server, size)
    seconds["generation, one core"] = [_generation_seconds(size)]

    messages = Dataset(size).message_count
    print(f"{messages:,} messages, {rounds} rounds, medians; all keys and indexes at the end")
    print(f"{'':<24}{'seconds':>9}{'rows/s':>12}   rounds")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        each = " ".join(f"{value:.1f}" for value in taken)
        print(f"{name:<24}{median:>9.2f}{messages / median:>12,.0f}   {each}")
    ratios = [a / b for a, b in zip(seconds["load"], seconds["INSERT … SELECT"], strict=True)]
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"load / INSERT … SELECT: {statistics.median(ratios):.2f} ({each}); at most 1.25")
    print(f"peak memory of the loading process: {peak_megabytes:,.0f} MB; at most 300 MB")


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    endpoint, running = lifecycle.ensure_postgres(Settings.from_environment())
    try:
        yield endpoint.url(reveal=True)
    finally:
        running.release()


@contextmanager
def _scratch_database(url: str) -> Iterator[str]:
    name = f"pglab_numbers_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield psycopg.conninfo.make_conninfo(url, dbname=name)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _rounds(url: str, size: str | int, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"load": [], "… its copy": [], "INSERT … SELECT": []}
    with _scratch_database(url) as database, psycopg.connect(database, autocommit=True) as there:
        schema.create(there)
        load(there, Dataset(size), progress=False)
        there.execute("CREATE SCHEMA source")
        for table in TABLES:
            copy = sql.SQL("CREATE TABLE source.{0} AS TABLE public.{0}")
            there.execute(copy.format(sql.Identifier(table)))
        there.execute("VACUUM ANALYZE")
        for _ in range(rounds):
            _empty(there)
            report = load(there, Dataset(size), progress=False)
            seconds["load"].append(report.seconds)
            seconds["… its copy"].append(report.copy_seconds)
            _empty(there)
            seconds["INSERT … SELECT"].append(_insert_select(there))
    return seconds


def _empty(connection: psycopg.Connection[Any]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, TABLES))
    connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
    connection.execute("CHECKPOINT")


def _insert_select(connection: psycopg.Connection[Any]) -> float:
    started = time.perf_counter()
    with connection.transaction():
        for table in TABLES:
            copy = sql.SQL("INSERT INTO {0} SELECT * FROM source.{0}")
            connection.execute(copy.format(sql.Identifier(table)))
        names = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        connection.execute(sql.SQL("ANALYZE {}").format(names))
    return time.perf_counter() - started


def _generation_seconds(size: str | int) -> float:
    started = time.perf_counter()
    for batch in Dataset(size).batches("messages"):
        encode(batch)
    return time.perf_counter() - started


def _peak_megabytes(url: str, size: str | int) -> float:
    # In the environment and not in argv: the URL holds a password.
    environment = os.environ | {"PGLAB_NUMBERS_URL": url, "PGLAB_NUMBERS_SIZE": str(size)}
    child = subprocess.run(
        [sys.executable, "-c", _PEAK_SCRIPT],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(child.stdout)


def peak() -> None:
    """Load once, in a process that does nothing else, and print its peak memory in MB."""
    size: str | int = os.environ["PGLAB_NUMBERS_SIZE"]
    size = int(size) if str(size).isdigit() else size
    url = os.environ["PGLAB_NUMBERS_URL"]
    with _scratch_database(url) as database, psycopg.connect(database) as connection:
        schema.create(connection)
        load(connection, Dataset(size), progress=False)
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    print(peak_rss * (1 if sys.platform == "darwin" else _KIB) / 1e6)
