"""A process of readers for :func:`stampede_of_processes`: it is told what to do on its input.

If whoever started it dies, its input ends, and so does it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from redis import Redis

from pglab.cache.aside import CacheAside
from pglab.cache.experiments.readers import Loads, read_together
from pglab.cache.keys import KeySpace

__all__: list[str] = []


def main() -> None:
    """Wait for the order and for the word to begin; print the loads and waits as JSON."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())

    def load(key: str) -> dict[str, str]:
        time.sleep(order["load_s"])
        return {"key": key}

    loads = Loads(load)
    with (
        Redis(**order["redis"]) as redis,
        CacheAside[str, Any](
            redis,
            loads,
            keys=KeySpace(order["protection"], prefix=order["prefix"]),
            value_type=Any,
            protection=order["protection"],
            timeout_s=order["timeout_s"],
        ) as cache,
    ):
        print("ready", flush=True)
        if sys.stdin.readline():
            waits = read_together(order["threads"], lambda: cache.get("hot"))
            print(json.dumps({"spans": loads.spans, "waits_s": waits}), flush=True)


if __name__ == "__main__":
    main()
