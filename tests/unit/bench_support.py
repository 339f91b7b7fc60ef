"""Results of runs that never were: seeded, and with every field filled."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pglab.bench.histogram import Histogram
from pglab.bench.results import (
    CaseResult,
    PlanRecord,
    Result,
    Round,
    SizeResult,
    VariantResult,
)

ROOT = Path(__file__).parents[2]
SIZES = (10_000, 31_600, 100_000, 316_000, 1_000_000)
HOSTILE = "<script>alert('é')</script> & | `x` \"q\""

ENVIRONMENT: dict[str, Any] = {
    "machine": {
        "cpu": "AMD EPYC 7B13",
        "architecture": "x86_64",
        "cores": 2,
        "memory_bytes": 24_696_061_952,
        "system": "Linux",
        "release": "6.1.0-18-amd64",
        "clock": "clock_gettime(CLOCK_MONOTONIC), resolution 1e-09 s",
        "clock_cost_ns": 41.3,
        "load_average": [0.1, 0.2, 0.3],
    },
    "python": {
        "version": "3.11.2",
        "psycopg": "3.3.9",
        "libpq": "17.6",
        "sqlalchemy": "2.1.9",
        "redis": "8.1.0",
    },
    "postgres": {
        "version": "PostgreSQL 17.10 on x86_64-pc-linux-gnu",
        "source": "embedded",
        "connection": "unix socket",
        "settings": {"shared_buffers": "1GB", "fsync": "on", "jit": "off"},
    },
    "redis": {"version": "9.1.2", "server": "valkey", "settings": {"maxmemory": "0"}},
    "pglab": {"version": "0.1.0", "commit": "0123456789ab"},
}
OPTIONS: dict[str, Any] = {"rounds": 10, "seed": 1, "placement": "one-core", "quick": False}


def one_round(
    rng: np.random.Generator, number: int, place: int, median_us: float, operations: int, rows: int
) -> Round:
    ns = np.maximum(rng.lognormal(np.log(median_us * 1_000), 0.2, operations), 1).astype(np.int64)
    return Round(
        number=number,
        place=place,
        seconds=float(ns.sum() * 1.02 / 1e9),
        median_us=float(np.median(ns) / 1_000),
        rows=rows * operations,
        latencies=Histogram.of(ns),
    )


def variant(
    name: str,
    median_us: float,
    *,
    seed: int = 0,
    rounds: int = 10,
    operations: int = 400,
    noise: float = 0.01,
    rows: int = 1,
    **more: Any,
) -> VariantResult:
    """A variant whose rounds scatter by ``noise`` (a share) around a median."""
    rng = np.random.default_rng([seed, *name.encode()])
    made = tuple(
        one_round(rng, number, 1, float(median_us * np.exp(rng.normal(0, noise))), operations, rows)
        for number in range(1, rounds + 1)
    )
    more = {"theory": "", "about": f"about {name}", "warm_up_operations": 500, **more}
    return VariantResult(name=name, rounds=made, **more)


def plan(*nodes: str, buffers: float, claim: str = "") -> PlanRecord:
    return PlanRecord(claim, nodes, buffers, generic=4_000, custom=5)


def case(
    sizes: Mapping[int, Sequence[VariantResult]], *, picture: str = "growth", **more: Any
) -> CaseResult:
    first = next(iter(sizes.values()))[0].name
    fields = {"name": "chat-page", "question": "What does an index do for a chat's page?"}
    fields |= {"unit": "page", "group": "indexes", "baseline": first, **more}
    made = tuple(
        SizeResult(size, tuple(each), "client and servers on core 1", ("1 checkpoint(s)",))
        for size, each in sizes.items()
    )
    return CaseResult(picture=picture, sizes=made, **fields)


def growth_case(sizes: Sequence[int] = SIZES, seed: int = 0, **more: Any) -> CaseResult:
    """Unindexed grows as n, indexed hardly."""
    scan = plan("Sort", "  Seq Scan on messages", buffers=31_759, claim="messages read by Seq Scan")
    read = plan("Index Scan Backward using by_chat on messages", buffers=54)
    return case(
        {
            size: [
                variant("no index", size * 0.12, seed=seed + size, theory="O(n)", plan=scan),
                variant("index", 90 + size**0.2, seed=seed + size, theory="O(log n)", plan=read),
            ]
            for size in sizes
        },
        expected="≥ 450 times faster at 1 M messages (shared/reference/benchmarking.md)",
        **more,
    )


def bars_case(medians: Mapping[str, float], size: int = 100_000, **more: Any) -> CaseResult:
    """One size, a variant for each median in µs."""
    found = {"picture": "bars", "name": "inbox", "question": "Which inbox is the fastest?", **more}
    seed = found.pop("seed", 0)
    noise = found.pop("noise", 0.01)
    made = [variant(name, us, seed=seed, noise=noise) for name, us in medians.items()]
    return case({size: made}, **found)


def hit_ratio_case() -> CaseResult:
    made = [variant("PostgreSQL", 5_200, operations=200)]
    for name, hits in (("1 s", 0.42), ("10 s", 0.81), ("60 s", 0.955), ("600 s", 0.962)):
        mixed = 200 * hits + 5_400 * (1 - hits)
        made.append(variant(f"TTL {name}", mixed, operations=200, measures={"hit_ratio": hits}))
    return case(
        {100_000: made}, picture="hit_ratio", name="inbox-ttl", question="How long may it be kept?"
    )


def rate_case() -> CaseResult:
    made = [
        variant(name, 1e6 / rate * 5_000, operations=3, rows=5_000)
        for name, rate in (("executemany", 67_000), ("COPY text", 187_000), ("COPY", 273_000))
    ]
    return case(
        {100_000: made}, picture="rate", rows="rows", name="loading", question="Which way is fast?"
    )


def result(*cases: CaseResult, **more: Any) -> Result:
    fields: dict[str, Any] = {
        "created_at": "2026-11-24T08:00:00+00:00",
        "environment": copy.deepcopy(ENVIRONMENT),
        "options": copy.deepcopy(OPTIONS),
        **more,
    }
    return Result(cases=cases or (growth_case(),), **fields)
