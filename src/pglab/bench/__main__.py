"""``python -m pglab.bench``: print the numbers of this machine (what ``make bench`` runs)."""

from __future__ import annotations

import argparse

from pglab.bench import foundation, numbers_load


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m pglab.bench", description=__doc__)
    parser.add_argument("--size", default="medium", help="messages to load (default: medium)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to load (default: 3)")
    arguments = parser.parse_args()
    foundation.main()
    print()
    numbers_load.main(size=arguments.size, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
