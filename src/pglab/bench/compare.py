"""Two runs of the same cases: what became faster, what slower, what nobody can tell.

Rounds of two runs were not interleaved. Whatever mood the machine was in during one of them (its
clock, its neighbours, the layout of memory) is in all of that run's rounds, and no interval made
from these rounds can see it: resampling each run's rounds by itself says how far the *rounds*
scatter, not how far *runs* would. So the ratios to the baseline are compared as well. A baseline
was measured in turn with its variants, in the same mood, and most of the mood cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pglab.bench.bootstrap import (
    RESAMPLES,
    Floats,
    checked,
    interval,
    log_medians,
    medians_of_log_ratios,
)
from pglab.bench.comparison import Comparison, Row
from pglab.bench.findings import basis, per_round, ratios
from pglab.bench.likeness import unlike
from pglab.bench.results import CaseResult, Result, SizeResult
from pglab.bench.statistics import Ratio
from pglab.bench.verdict import judge
from pglab.errors import ResultError

__all__ = ["Comparison", "Row", "compare"]

_SEED: Final = 0
_CONFIDENCE: Final = 0.95


def compare(a: Result, b: Result, *, force: bool = False) -> Comparison:
    """Compare what two runs found about the same cases, sizes and variants.

    Each run's rounds are resampled by themselves, 10,000 times, and the interval is made as that of
    two variants is (``pglab.bench.bootstrap``); for the ratios to the baseline a run's rounds are
    resampled as pairs. The intervals cannot see the machine's mood between the runs: see above.

    Args:
        a: the older, or the one to be judged by.
        b: the newer.
        force: compare runs of unlike machines or settings all the same, and list the differences.

    Raises:
        ResultError: the runs have nothing in common, or are unlike and ``force`` is not set; every
            difference is listed.
    """
    found = unlike(a, b)
    if found.barring and not force:
        listed = "\n".join(f"  {each}" for each in found.barring)
        raise ResultError(
            f"these runs are unlike, and their times would not show what changed:\n{listed}\n"
            "run both on one machine with the same settings, or insist with --force (force=True) "
            "and read the ratios to the baseline rather than times"
        )
    rows, remarks = _rows(a, b)
    if not rows:
        raise ResultError(
            "these runs have no variant of a case at a common size: "
            f"{_contents(a)} in A, {_contents(b)} in B; run the same case at the same --size"
        )
    return Comparison(a, b, found.barring, (*found.notable, *remarks), tuple(rows))


def _rows(a: Result, b: Result) -> tuple[list[Row], list[str]]:
    left, right = _variants(a), _variants(b)
    rows = [_row(*left[key], *right[key], variant=key[2]) for key in left if key in right]
    remarks = []
    for name, only in (("A", left.keys() - right.keys()), ("B", right.keys() - left.keys())):
        sizes: dict[tuple[str, str], list[int]] = {}
        for case, size, variant in sorted(only):
            sizes.setdefault((case, variant), []).append(size)
        variants: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for (case, variant), found in sizes.items():
            variants.setdefault((case, tuple(found)), []).append(variant)
        remarks += [
            f"only in {name}: {case} ({', '.join(names)}) at "
            f"{' and '.join(f'{size:,}' for size in found)} messages"
            for (case, found), names in variants.items()
        ]
    return rows, remarks


def _variants(result: Result) -> dict[tuple[str, int, str], tuple[CaseResult, SizeResult]]:
    return {
        (case.name, at.size, variant.name): (case, at)
        for case in result.cases
        for at in case.sizes
        for variant in at.variants
    }


def _row(
    case_a: CaseResult, at_a: SizeResult, case_b: CaseResult, at_b: SizeResult, *, variant: str
) -> Row:
    by = basis(case_a)
    first, second = at_a.variant(variant), at_b.variant(variant)
    a, b = per_round(first, by), per_round(second, by)
    change = _change(list(a.values()), list(b.values()))
    ratio_a, ratio_b = (
        ratios(case, at).get(variant) for case, at in ((case_a, at_a), (case_b, at_b))
    )
    moved = None
    if ratio_a and ratio_b and case_a.baseline == case_b.baseline:
        base_a = per_round(at_a.variant(case_a.baseline), by)
        base_b = per_round(at_b.variant(case_b.baseline), by)
        moved = _ratio_change(_pairs(base_a, a), _pairs(base_b, b))
    return Row(
        case=case_a.name,
        size=at_a.size,
        variant=variant,
        a_us=float(np.median(list(a.values()))),
        b_us=float(np.median(list(b.values()))),
        change=change,
        verdict=judge(change).word if change else None,
        ratio_a=ratio_a,
        ratio_b=ratio_b,
        ratio_change=moved,
        ratio_verdict=judge(moved).word if moved else None,
        plan_changed=bool(first.plan and second.plan and first.plan.nodes != second.plan.nodes),
    )


def _change(a: Sequence[float], b: Sequence[float]) -> Ratio | None:
    if min(len(a), len(b)) < 2:
        return None
    above, below = checked(a, "A"), checked(b, "B")
    # Another seed for each: rounds of two runs are no pairs, whatever their numbers.
    logs = log_medians(above, seed=_SEED, resamples=RESAMPLES)
    logs = logs - log_medians(below, seed=_SEED + 1, resamples=RESAMPLES)
    return _ratio(float(np.median(above) / np.median(below)), logs, len(above), len(below))


def _pairs(base: dict[int, float], variant: dict[int, float]) -> tuple[Floats, Floats]:
    both = sorted(base.keys() & variant.keys())
    return checked([base[n] for n in both], "it"), checked([variant[n] for n in both], "it")


def _ratio_change(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> Ratio:
    logs, value = np.zeros(RESAMPLES), 0.0
    for (base, variant), sign, seed in ((b, 1, _SEED + 1), (a, -1, _SEED)):
        median, drawn = medians_of_log_ratios(base, variant, seed=seed, resamples=RESAMPLES)
        logs += sign * drawn
        value += sign * median
    return _ratio(math.exp(value), logs, len(a[0]), len(b[0]))


def _ratio(value: float, logs: Floats, rounds_a: int, rounds_b: int) -> Ratio:
    rounds = min(rounds_a, rounds_b)
    low, high = interval(math.log(value), logs, rounds=rounds, confidence=_CONFIDENCE)
    return Ratio(value, math.exp(low), math.exp(high), _CONFIDENCE, rounds)


def _contents(result: Result) -> str:
    return "; ".join(
        f"{case.name} at {', '.join(f'{at.size:,}' for at in case.sizes)}" for case in result.cases
    ) or "nothing"  # fmt: skip
