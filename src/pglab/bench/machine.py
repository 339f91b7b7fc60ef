"""What a result must carry so that it can be judged elsewhere: machine, versions, settings."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import pq

if TYPE_CHECKING:
    from pglab.bench.run_servers import Servers

__all__ = ["background", "background_notes", "clock_cost_ns", "describe", "describe_machine"]

_SETTINGS: Final = (
    "shared_buffers", "work_mem", "maintenance_work_mem", "effective_cache_size",
    "random_page_cost", "seq_page_cost", "cpu_tuple_cost", "effective_io_concurrency", "fsync",
    "synchronous_commit", "full_page_writes", "wal_level", "wal_compression", "max_wal_size",
    "checkpoint_timeout", "autovacuum", "jit", "plan_cache_mode", "huge_pages", "io_method",
    "max_parallel_workers_per_gather", "default_statistics_target", "track_io_timing",
    "shared_preload_libraries", "data_checksums", "block_size",
)  # fmt: skip


def describe(servers: Servers, connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return all that is known about where a run takes place; nothing in it is secret.

    Args:
        servers: that it uses.
        connection: a measured one, whose session's settings count.
    """
    import pglab

    rows = connection.execute(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name",
        [list(_SETTINGS)],
    ).fetchall()
    version = connection.execute("SELECT version()").fetchone()
    return {
        "machine": describe_machine(),
        "python": {
            "version": platform.python_version(),
            "psycopg": psycopg.__version__,
            "psycopg_implementation": pq.__impl__,
            "libpq": pq.version_pretty(pq.version()),
            **_versions("sqlalchemy", "redis", "hiredis"),
        },
        "postgres": {
            "version": version[0] if version else "",
            "source": servers.postgres.source,
            "connection": "unix socket" if servers.postgres.socket_directory else "TCP",
            "settings": dict(rows),
        },
        "redis": _redis(servers) if servers.redis_used else None,
        "pglab": {"version": pglab.__version__, "commit": _commit()},
    }


def describe_machine() -> dict[str, Any]:
    """Return what a result says of the machine: nothing secret, no host name, no path."""
    import psutil

    clock = time.get_clock_info("perf_counter")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": cores,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.system(),
        "release": platform.release(),
        "clock": f"{clock.implementation}, resolution {clock.resolution:.0e} s",
        "clock_cost_ns": round(clock_cost_ns(), 1),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    elif sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def clock_cost_ns(readings: int = 20_000) -> float:
    """Return what one reading of the clock takes, in ns; every operation pays for two."""
    clock = time.perf_counter_ns
    began = clock()
    for _ in range(readings):
        clock()
    return (clock() - began) / readings


def _versions(*names: str) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # hiredis is an extra of redis-py
            continue
    return found


def _redis(servers: Servers) -> dict[str, Any]:
    with servers.redis(decode_responses=True) as client:
        info = client.info("server")
        config = client.config_get("maxmemory*") if servers.redis_endpoint.managed else {}
    return {
        "version": info.get("valkey_version") or info.get("redis_version", ""),
        "server": info.get("server_name", "redis"),
        "source": servers.redis_endpoint.source,
        "connection": "unix socket" if servers.redis_endpoint.socket else "TCP",
        "settings": dict(sorted(config.items())),
    }


@cache
def _commit() -> str | None:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip() if asked.returncode == 0 else None


def background(connection: psycopg.Connection[Any]) -> dict[str, float]:
    """Return counters of what else happens on the server, to be compared after the run."""
    version = connection.info.server_version
    checkpoints = (
        "SELECT num_timed + num_requested, buffers_written FROM pg_stat_checkpointer"
        if version >= 170000
        else "SELECT checkpoints_timed + checkpoints_req, buffers_checkpoint FROM pg_stat_bgwriter"
    )
    row = connection.execute(checkpoints).fetchone() or (0, 0)
    others = connection.execute(
        "SELECT count(*) FILTER (WHERE backend_type = 'autovacuum worker'), "
        "count(*) FILTER (WHERE backend_type = 'client backend' AND state = 'active' "
        "AND application_name NOT IN ('pglab bench', 'pgbench') AND pid <> pg_backend_pid()), "
        "count(DISTINCT datname) FILTER (WHERE application_name = 'pglab bench') "
        "FROM pg_stat_activity"
    ).fetchone() or (0, 0, 0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "checkpoints": float(row[0]),
        "checkpoint_buffers": float(row[1]),
        "autovacuum": float(others[0]),
        "active": float(others[1]),
        "benches": float(others[2]),
        "load": load,
    }


def background_notes(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, ...]:
    """Return in words what happened between two calls of ``background``."""
    notes = []
    if checkpoints := after["checkpoints"] - before["checkpoints"]:
        pages = after["checkpoint_buffers"] - before["checkpoint_buffers"]
        notes.append(f"{checkpoints:.0f} checkpoint(s) wrote {pages:,.0f} pages meanwhile")
    if workers := max(before["autovacuum"], after["autovacuum"]):
        notes.append(f"{workers:.0f} autovacuum worker(s) at work, on other tables")
    if active := max(before["active"], after["active"]):
        notes.append(f"{active:.0f} other client(s) of the server at work")
    if max(before["benches"], after["benches"]) > 2:
        notes.append("another benchmark ran on the same server: do not trust these numbers")
    cores = os.cpu_count() or 1
    if before["load"] > 0.75 * cores:
        notes.append(f"the machine was busy before: load {before['load']:.1f} on {cores} cores")
    return tuple(notes)
