"""``python -m pglab.comparison``: run it, print it, and keep it if asked to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pglab.comparison import compare
from pglab.comparison.kept import FOLDER, keep
from pglab.comparison.places import ENGINES
from pglab.errors import PglabError

__all__ = ["main"]


def main() -> None:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m pglab.comparison",
        description="Run one workload on PostgreSQL, MariaDB, SQLite and MongoDB, and judge the "
        "seed document's comparison by it. Nothing that it starts stays.",
    )
    parser.add_argument(
        "--engines", default=",".join(ENGINES), help="which, by commas (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="of what is timed; 0 for none (default: 5)"
    )
    parser.add_argument(
        "--keep", nargs="?", const=FOLDER, type=Path, metavar="FOLDER",
        help="keep the result as a reference (default folder: data/comparison)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")
    arguments = parser.parse_args()
    engines = [name for name in arguments.engines.split(",") if name]
    unknown = sorted(set(engines) - set(ENGINES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(ENGINES)}")

    def say(line: str) -> None:
        if not arguments.quiet:
            print(f"… {line}", file=sys.stderr)

    try:
        found = compare(engines, rounds=arguments.rounds, say=say)
        print(found)
        if arguments.keep is not None:
            path = arguments.keep / f"{found.day}-{'-'.join(sorted(found.notes))}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            keep(found, path)
            print(f"\nkept in {path}")
    except PglabError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
