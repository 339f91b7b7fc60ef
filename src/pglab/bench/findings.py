"""What a case has shown, in sentences that claim no more than the intervals do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pglab.bench.cache_findings import break_even_lines
from pglab.bench.statistics import (
    Growth,
    Interval,
    Ratio,
    growth_sentence,
    median_interval,
    paired_ratio,
)
from pglab.bench.verdict import judge, pages_text
from pglab.bench.words import interval, messages
from pglab.errors import BenchError

if TYPE_CHECKING:
    # Results show themselves through this module, which only names their types.
    from pglab.bench.results import CaseResult, SizeResult, VariantResult

__all__ = [
    "BASIS",
    "Basis",
    "basis",
    "compared",
    "finding",
    "growths",
    "middle",
    "notes",
    "per_round",
    "ratios",
]

Basis = Literal["median", "mean", "time a row"]
BASIS: Final[dict[Basis, str]] = {
    "median": "median",
    "mean": "mean, because the median of a cache is that of a hit or of a miss alone",
    "time a row": "rows a second",
}
"""What variants are compared by, for a note."""
_WORTH_SAYING: Final = 2


def basis(case: CaseResult) -> Basis:
    """Return what this case's variants are compared by."""
    if case.picture == "hit_ratio":
        return "mean"
    if case.picture == "rate" and case.rows:
        return "time a row"
    return "median"


def per_round(variant: VariantResult, by: Basis) -> dict[int, float]:
    """Return for each round's number what variants are compared by, in µs."""
    if by == "mean":
        return {each.number: each.latencies.mean / 1_000 for each in variant.rounds}
    if by == "time a row":
        return {each.number: each.seconds * 1e6 / each.rows for each in variant.rounds if each.rows}
    return {each.number: each.median_us for each in variant.rounds}


def compared(case: CaseResult, at: SizeResult, variant: str, over: str = "") -> Ratio | None:
    """Return how many times faster a variant is than the baseline, or than ``over``.

    None for the baseline itself, and where there are no two rounds that both finished.
    """
    over = over or case.baseline
    names = {each.name: each for each in at.variants}
    if variant == over or variant not in names or over not in names:
        return None
    by = basis(case)
    slow, fast = per_round(names[over], by), per_round(names[variant], by)
    both = sorted(slow.keys() & fast.keys())
    if len(both) < 2:
        return None
    return paired_ratio([slow[number] for number in both], [fast[number] for number in both])


def ratios(case: CaseResult, at: SizeResult) -> dict[str, Ratio]:
    """Return the ratio of each variant that can be compared with the baseline."""
    found = {each.name: compared(case, at, each.name) for each in at.variants}
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def finding(case: CaseResult, size: int | None = None) -> str:
    """Return what a case has shown at a size (the largest by default), in one sentence.

    Of several variants it is the one with the largest factor that is a finding at all.
    """
    if not case.sizes:
        return f"{case.name}: no size was finished"
    at = case.at(size)
    where = f"{at.size:,} messages" if at.size == 1 else messages(at.size)
    found = ratios(case, at)
    if not found:
        return f"{where}: nothing to compare {_first(case, at)} with"
    judged = {name: judge(ratio) for name, ratio in found.items()}
    for word in ("faster", "slower"):
        names = [name for name, verdict in judged.items() if verdict.word == word]
        if names:
            best = max(names, key=lambda name: found[name].value)
            if word == "slower":
                best = min(names, key=lambda name: found[name].value)
            text = _against(judged[best].text, case.baseline)
            nothing = len(found) > 1 and all(each.word == "slower" for each in judged.values())
            average = "on average " if basis(case) == "mean" else ""
            return f"{where}: {'nothing is faster; ' if nothing else ''}{best} is {average}{text}"
    if all(verdict.word == "too noisy" for verdict in judged.values()):
        least = min(found.values(), key=lambda ratio: ratio.high / ratio.low)
        if len(found) == 1:
            return (
                f"{where}: too noisy to tell {next(iter(found))} from {case.baseline} "
                f"(ratio {interval(least)})"
            )
        return f"{where}: too noisy to tell any variant from {case.baseline}"
    if len(found) == 1:
        name = next(iter(found))
        return f"{where}, {name} and {case.baseline}: {judged[name].text}"
    return f"{where}: no difference to {case.baseline} that this run can show"


def growths(case: CaseResult, *, since: int = 0) -> dict[str, Growth]:
    """Return the growth of each variant that has two sizes or more, with two rounds at each."""
    found = {}
    for name in case.variants:
        sizes = [
            each.size
            for each in case.sizes
            if each.size >= since and name in {variant.name for variant in each.variants}
        ]
        try:
            if len(sizes) == len([each for each in case.sizes if each.size >= since]):
                found[name] = case.growth(name, since=since)
        except BenchError:
            continue  # too few sizes or rounds for an exponent: the table shows what there is
    return found


def notes(case: CaseResult) -> list[str]:
    """Return what a reader of the numbers should know, each sentence once."""
    found: list[str] = []
    by = basis(case)
    if by != "median":
        found.append(f"Variants are compared by {BASIS[by]}.")
    for name, growth in growths(case).items():
        theory = next(
            (v.theory for at in case.sizes for v in at.variants if v.name == name and v.theory), ""
        )
        found.append(f"{name} {growth_sentence(growth, theory)}.")
    found += [f"{line}." for line in break_even_lines(case)]
    found += _pages_line(case)
    said: dict[str, list[int]] = {}
    for at in case.sizes:
        for sentence in _said(case, at):
            said.setdefault(sentence, []).append(at.size)
    for sentence, sizes in said.items():
        everywhere = len(sizes) == len(case.sizes)
        where = "" if everywhere else f"{' and '.join(f'{size:,}' for size in sizes)} messages: "
        found.append(f"{where}{sentence}.")
    return found


def _pages_line(case: CaseResult) -> list[str]:
    """Return how many times fewer pages than the baseline the best variant touches: no clock."""
    if not case.sizes:
        return []
    at = case.at()
    names = {each.name for each in at.variants}
    if case.baseline not in names:
        return []
    fewer = {name: case.buffer_ratio(name) for name in names - {case.baseline}}
    known = {name: ratio for name, ratio in sorted(fewer.items()) if ratio}
    if not known or max(known.values()) < _WORTH_SAYING:
        return []
    best = max(known, key=lambda name: known[name])
    text = pages_text(known[best])
    return [f"At {messages(at.size)} {best} touches {text} than {case.baseline}."]


def _said(case: CaseResult, at: SizeResult) -> list[str]:
    found = []
    for name, ratio in ratios(case, at).items():
        verdict = judge(ratio)
        if verdict.word == "too noisy":
            found.append(f"{name}: {verdict.text}")
    own: dict[str, list[str]] = {}
    for variant in at.variants:
        said = [each.rstrip(".") for each in variant.notes]
        if not variant.stable and not said:
            said = ["its times still moved when the warm-up ended"]
        if len(variant.rounds) < 2:
            said.append("one round only, so that nothing can be compared")
        for each in said:
            own.setdefault(each, []).append(variant.name)
    for each, names in own.items():
        everyone = len(names) == len(at.variants) > 1
        found.append(f"{'every variant' if everyone else ', '.join(names)}: {each}")
    found += at.background
    if at.placement:
        found.append(f"placement: {at.placement}")
    return found


def middle(variant: VariantResult, by: Basis = "median") -> Interval:
    """Return the median over rounds of what variants are compared by, with its interval, in µs.

    One round has no interval: its ends are the value itself.
    """
    values = list(per_round(variant, by).values())
    if len(values) < 2:
        return Interval(values[0], values[0], values[0])
    return median_interval(values)


def _first(case: CaseResult, at: SizeResult) -> str:
    names = [each.name for each in at.variants]
    return case.baseline if case.baseline in names else names[0] if names else "the baseline"


def _against(text: str, baseline: str) -> str:
    """Say "612 times as fast (590 to 640)" as "612 times as fast as no index (590 to 640)"."""
    head, bracket, tail = text.partition(" (")
    word = "as" if " as " in head else "than"
    return f"{head} {word} {baseline}{bracket}{tail}"
