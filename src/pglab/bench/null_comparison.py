"""A variant against itself: what comes out must be no difference.

    python -m pglab.bench.null_comparison --runs 100 --placement one-core

Each run is one that a user could make: twins, connections and server processes of its own, a
warm-up, interleaved rounds. What differs between two processes that do the same, the place of
their memory above all, is therefore part of what the intervals must hold.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.ground import Ground
from pglab.bench.operations import Query
from pglab.bench.options import Options
from pglab.bench.placement import check_mode
from pglab.bench.progress import Progress
from pglab.bench.run_servers import Servers
from pglab.bench.size_run import SizeRun
from pglab.bench.statistics import Ratio, paired_ratio, width
from pglab.errors import BenchError, PglabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pglab.bench.results import SizeResult

__all__ = ["CASES", "NullComparison", "null_comparison"]

_LOOK_UP: Final = "SELECT id, chat_id, sent_at, body FROM messages WHERE id = %(id)s"
_VARIANTS: Final = tuple(
    Variant(
        name,
        Query(_LOOK_UP),
        setup=("ALTER TABLE messages ADD CONSTRAINT messages_pkey PRIMARY KEY (id)",),
        claim=Claim(index="messages_pkey"),
        theory="O(log n)",
    )
    for name in ("once", "the same again")
)
CASES: Final = (
    Case(
        name="null-comparison",
        question="Does the harness find a difference where there is none?",
        variants=_VARIANTS,
        twins={"messages": "SELECT id, chat_id, sent_at, body FROM messages ORDER BY id"},
        parameters=Draw("SELECT id FROM messages ORDER BY id"),
        group="floors",
        picture="bars",
        expected="no difference: the interval holds 1 in at least 94 of 100 runs",
    ),
)
_HOLDING: Final = 0.94
_WIDTHS: Final = {"one-core": 0.025, "unpinned": 0.20}
_SIZE: Final = 10_000
SHORT: Final = Options(rounds=15, round_seconds=0.05, warm_up_seconds=0.3)
"""Enough operations in a round for a steady median, and short enough for a hundred runs."""


@dataclass(frozen=True)
class NullComparison:
    """What came of comparing a variant with itself, again and again.

    Attributes:
        asked: how many runs were asked for.
        ratios: of each run that finished; 1 is the truth.
        rounds: in each run.
        placement: ``one-core``, ``two-cores``, ``unpinned`` or ``auto``.
        where: in words on which cores client and server ran.
        notes: what else happened on the machine, each once.
    """

    asked: int
    ratios: tuple[Ratio, ...]
    rounds: int
    placement: str
    where: str = ""
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        """How many runs finished."""
        return len(self.ratios)

    @property
    def holding(self) -> int:
        """How many intervals hold 1."""
        return sum(each.low <= 1 <= each.high for each in self.ratios)

    @property
    def widths(self) -> list[float]:
        """The intervals' relative widths, the narrowest first."""
        return sorted(width(each) for each in self.ratios)

    @property
    def median_width(self) -> float:
        """The median of the widths: 0.02 if the upper end is 2 % above the lower."""
        return statistics.median(self.widths)

    @property
    def widest(self) -> float:
        """The largest width."""
        return self.widths[-1]

    @property
    def passed(self) -> bool:
        """Tell whether 94 of 100 intervals hold 1, and the median width is within its limit."""
        limit = _WIDTHS.get(self.placement)
        return (
            self.runs == self.asked
            and self.holding >= _HOLDING * self.runs
            and (limit is None or self.median_width <= limit)
        )

    def text(self) -> str:
        """Return the finding in a few lines."""
        limit = _WIDTHS.get(self.placement)
        promised = f" (promised: {limit:.1%} at most)" if limit is not None else ""
        farthest = max(self.ratios, key=lambda each: abs(np.log(each.value))).value
        held = (
            f"{self.holding} of {self.runs} intervals hold 1.0 "
            f"(promised: {_HOLDING:.0%} at least); {self.rounds} rounds a run"
        )
        wide = (
            f"width of the interval: median {self.median_width:.1%}{promised}, "
            f"widest {self.widest:.1%}; the ratio farthest from 1 is {farthest:.3f}"
        )
        where = (
            self.where
            if self.where.startswith(self.placement)
            else (f"{self.placement}: {self.where}")
        )
        lines = [held, wide, where, *self.notes]
        if self.runs < self.asked:
            lines.append(f"NOT passed: it ended after {self.runs} of {self.asked} runs.")
        else:
            lines.append("Passed." if self.passed else "NOT passed.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            **asdict(self),
            "runs": self.runs,
            "holding": self.holding,
            "median_width": self.median_width,
            "widest": self.widest,
            "passed": self.passed,
        }


def null_comparison(
    runs: int = 100,
    *,
    options: Options | None = None,
    size: int = _SIZE,
    progress: bool = True,
) -> NullComparison:
    """Compare a key look-up with itself, in so many runs, each with a seed of its own.

    Args:
        runs: how many; 100 take some three and a half minutes.
        options: how each is measured; its seed is the first run's. Short rounds when omitted.
        size: messages.
        progress: show a bar.

    Returns:
        What was found. After Ctrl-C it is what was finished until then.

    Raises:
        BenchError: no runs, too few rounds for an interval, or a placement that is not possible.
        ServerError: there is no server.
    """
    if runs < 1:
        raise BenchError(f"runs={runs}; at least 1 is needed, and 100 say more")
    options = options or SHORT
    if options.rounds < 2:
        raise BenchError(f"rounds={options.rounds}; an interval needs at least 2")
    (case,) = CASES
    found: list[SizeResult] = []
    servers = Servers()
    steps = [(case.name, size, len(case.variants))]
    try:
        with (
            Ground.opened(
                servers, size, options.seed, len(case.variants), progress=False
            ) as ground,
            Progress(steps, rounds=runs * options.rounds, wanted=progress) as bar,
        ):
            for seed in range(options.seed, options.seed + runs):
                one = SizeRun(
                    ground, case, replace(options, seed=seed), np.random.default_rng(seed), bar
                )
                with one:
                    one.measure()
                found.append(one.result())
    except KeyboardInterrupt:
        if not found:
            raise
    finally:
        servers.close()
    return _gathered(found, runs, options)


def _gathered(found: Sequence[SizeResult], asked: int, options: Options) -> NullComparison:
    ratios = []
    for each in found:
        once, again = (variant.medians_us for variant in each.variants)
        ratios.append(paired_ratio(again, once))
    return NullComparison(
        asked=asked,
        ratios=tuple(ratios),
        rounds=options.rounds,
        placement=options.placement,
        where=found[0].placement,
        notes=_each_once(note for each in found for note in each.background),
    )


def _each_once(notes: Iterable[str]) -> tuple[str, ...]:
    """Return the first of those that differ in their numbers only."""
    kinds: dict[str, str] = {}
    for note in notes:
        kinds.setdefault(re.sub(r"[\d.,]+", "0", note), note)
    return tuple(kinds.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; the exit status is 1 if it did not come out as promised."""
    parser = argparse.ArgumentParser(
        prog="python -m pglab.bench.null_comparison",
        description="Compare a key look-up with itself; count the intervals that hold 1.0.",
    )
    parser.add_argument("--runs", type=int, default=100, help="(default: 100)")
    parser.add_argument("--rounds", type=int, default=SHORT.rounds, help="in each run")
    parser.add_argument("--round-seconds", type=float, default=SHORT.round_seconds)
    parser.add_argument(
        "--placement", default="one-core", help="one-core (default), two-cores, unpinned, or auto"
    )
    parser.add_argument("--size", type=int, default=_SIZE, help=f"messages (default: {_SIZE:,})")
    parser.add_argument("--seed", type=int, default=SHORT.seed, help="of the first run")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args(arguments)
    try:
        found = null_comparison(
            given.runs,
            options=replace(
                SHORT,
                rounds=given.rounds,
                round_seconds=given.round_seconds,
                placement=check_mode(given.placement),
                seed=given.seed,
            ),
            size=given.size,
        )
    except PglabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(found.to_json(), indent=2) if given.json else found.text())
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
