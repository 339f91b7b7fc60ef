"""``python -m pglab.bench``: all that is promised, measured on this machine (``make bench``)."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from pglab.backup import cost as backup_cost
from pglab.bench import cache_cost, foundation, numbers_load
from pglab.bench.cases import shipped
from pglab.bench.fidelity import fidelity
from pglab.bench.files import save
from pglab.bench.options import Options
from pglab.bench.report import html_page
from pglab.bench.runner import run
from pglab.bench.tls_cost import tls_cost
from pglab.dataset import SIZES
from pglab.monitor import cost as monitor_cost


def main() -> None:
    """Measure, print, and keep the results and a page of them."""
    parser = argparse.ArgumentParser(prog="python -m pglab.bench", description=__doc__)
    parser.add_argument("--size", default="medium", choices=SIZES, help="default: medium")
    parser.add_argument("--rounds", type=int, default=15, help="of each variant (default: 15)")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="a folder")
    arguments = parser.parse_args()
    foundation.main()
    print()
    numbers_load.main(size=arguments.size, rounds=3)
    print()
    print(fidelity().text())
    print()
    print(tls_cost())
    print()
    cache_cost.main(["--size", arguments.size])
    print()
    backup_cost.main(["--size", arguments.size])
    print()
    monitor_cost.main([])
    print()
    stem = arguments.output / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    result = run(
        shipped(),
        largest=SIZES[arguments.size],
        options=Options(rounds=arguments.rounds),
        on_case=lambda found: save(found, stem.with_suffix(".json")),
    )
    save(result, stem.with_suffix(".json"))
    print(result)
    stem.with_suffix(".html").write_text(html_page([result]), encoding="utf-8")
    print(f"\nkept in {stem}.json, and as a page in {stem}.html")


if __name__ == "__main__":
    main()
