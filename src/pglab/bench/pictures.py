"""Pictures of a case, each with a title that states what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from pglab.bench.canvas import (
    GREY,
    Picture,
    Style,
    dots,
    log_us,
    new,
    sizes_on,
    style,
)
from pglab.bench.findings import compared, finding, growths, middle
from pglab.bench.labels import Label, label_right, wrapped
from pglab.bench.load_pictures import distributions, hit_ratio, rate
from pglab.bench.statistics import Growth, Interval, expected_exponent
from pglab.bench.throughput_picture import throughput
from pglab.bench.verdict import judge
from pglab.bench.words import article, duration, interval, messages

if TYPE_CHECKING:
    # Results show themselves through this module, which only names their types.
    from pglab.bench.results import CaseResult, VariantResult

__all__ = [
    "bars",
    "distributions",
    "draw",
    "growth",
    "hit_ratio",
    "learner_over_reference",
    "rate",
    "throughput",
]


def draw(case: CaseResult) -> Picture:
    """Draw the picture that shows a case best: what ``case.picture`` names.

    Growth needs two sizes; with one, medians are drawn as dots. A notebook shows what is returned;
    ``savefig`` writes it to a file.

    Raises:
        BenchError: no size was finished.
    """
    variants = case.at().variants
    if case.picture == "hit_ratio" and any("hit_ratio" in each.measures for each in variants):
        return hit_ratio(case)
    if len({each.measures.get("clients", 1) for each in variants}) > 1:
        return throughput(case)
    if case.picture == "rate":
        return rate(case)
    if case.picture == "growth" and len(case.sizes) > 1:
        return growth(case)
    return bars(case)


def growth(case: CaseResult) -> Picture:
    """Draw latency over table size on log axes, with intervals and the fitted lines.

    At each line's end stand its slope with its interval and the slope that theory predicts over
    the same sizes; a slope of 1 is "ten times the rows, ten times the time".

    Raises:
        BenchError: no size was finished.
    """
    figure, axes = new(finding(case))
    labels = []
    for place, name in enumerate(case.variants):
        labels.append(_line(axes, case, name, style(place)))
    _growth_axes(axes, [case])
    label_right(axes, labels)
    return figure


def learner_over_reference(
    case: CaseResult, reference: CaseResult, *, machine: str = "another machine"
) -> Picture:
    """Draw a learner's curve over that of a reference run, which is grey.

    Args:
        case: the learner's.
        reference: the same case, as another machine found it.
        machine: where the reference comes from: ``words.machine_name(reference.environment)``.

    Raises:
        BenchError: one of them has no finished size.
    """
    figure, axes = new(f"Here, {finding(case)}")
    figure.alt += f". Reference run, {finding(reference)}"
    axes.set_title(
        f"Grey: {machine}; {finding(reference)}", fontsize=9, color=GREY, loc="left", wrap=True,
        parse_math=False,
    )  # fmt: skip
    labels = []
    for name in reference.variants:
        places = case.variants
        like = style(places.index(name)) if name in places else style(5)
        grey = Style(GREY, like.marker, like.line)
        label = _line(axes, reference, name, grey, thin=True)
        labels.append(Label(label.y, wrapped(f"{name}, reference"), GREY, x=label.x))
    for place, name in enumerate(case.variants):
        labels.append(_line(axes, case, name, style(place)))
    _growth_axes(axes, [reference, case])
    label_right(axes, labels)
    return figure


def bars(case: CaseResult, size: int | None = None) -> Picture:
    """Draw medians at one size (the largest by default) as dots on a log axis, with intervals.

    Raises:
        BenchError: this size was not run.
    """
    at = case.at(size)
    count = len(at.variants)
    figure, axes = new(finding(case, size), size=(8, min(1.5 + 0.6 * max(count, 2), 9)))
    labels, values = [], []
    for row, variant in enumerate(at.variants):
        found = middle(variant)
        values += [found.low, found.high]
        own = style(0 if variant.name == case.baseline else 1)
        dots(axes, [row], [found], own, swapped=True)
        labels.append(Label(row, _beside(case, size, variant, found), own.colour))
    axes.set_yticks(range(count), [wrapped(each.name) for each in at.variants], parse_math=False)
    axes.set_ylim(count - 0.5, -0.5)
    log_us(axes.xaxis, values)
    axes.set_xlabel(
        f"median of {article(case.unit)} at {messages(at.size)} (log scale, bars: 95 % intervals)",
        fontsize=10, parse_math=False,
    )  # fmt: skip
    label_right(axes, labels)
    return figure


def _line(axes: Axes, case: CaseResult, name: str, own: Style, *, thin: bool = False) -> Label:
    """Draw a variant's points and fitted line; return the label for its end."""
    found = {
        at.size: middle(each) for at in case.sizes for each in at.variants if each.name == name
    }
    sizes = sorted(found)
    fit = growths(case).get(name)
    medians = [found[size] for size in sizes]
    dots(axes, sizes, medians, own, size=4.5 if thin else 6.5, joined=fit is None)
    end = medians[-1].value
    if fit:
        ends = [sizes[0], sizes[-1]]
        axes.plot(
            ends, [fit.at(size) for size in ends], color=own.colour, linestyle=own.line,
            linewidth=1 if thin else 1.8, zorder=1 if thin else 2,
        )  # fmt: skip
        end = fit.at(sizes[-1])
    text = wrapped(name) if fit is None else f"{wrapped(name)}\n{_slope(case, name, fit)}"
    return Label(end, text, own.colour, x=sizes[-1])


def _slope(case: CaseResult, name: str, fit: Growth) -> str:
    text = f"slope {_slope_text(fit.exponent)} ({_slope_text(fit.low)} to {_slope_text(fit.high)})"
    theory = next(
        (each.theory for at in case.sizes for each in at.variants if each.name == name), ""
    )
    if theory:
        expected = expected_exponent(theory, [size for size, _ in fit.points])
        text += f"\n{theory} predicts {_slope_text(expected)}"
    return text


def _slope_text(slope: float) -> str:
    return f"{round(slope, 2) + 0.0:.2f}"  # + 0.0: there is no minus zero


def _growth_axes(axes: Axes, cases: list[CaseResult]) -> None:
    every = [middle(each) for case in cases for at in case.sizes for each in at.variants]
    log_us(axes.yaxis, [end for each in every for end in (each.low, each.high)])
    sizes_on(axes, sorted({at.size for case in cases for at in case.sizes}))
    axes.set_ylabel(
        f"median of {article(cases[-1].unit)}\n(log scale, bars: 95 % intervals)",
        fontsize=10, parse_math=False,
    )  # fmt: skip


def _beside(case: CaseResult, size: int | None, variant: VariantResult, found: Interval) -> str:
    ratio = compared(case, case.at(size), variant.name)
    if variant.name == case.baseline:
        return f"{duration(found.value)}, baseline"
    if ratio is None:
        return duration(found.value)
    verdict = judge(ratio)
    if verdict.word == "too noisy":
        return f"{duration(found.value)}, too noisy to tell\n(ratio {interval(ratio)})"
    if verdict.word == "no difference":
        return f"{duration(found.value)}, no difference\n(ratio {interval(ratio)})"
    head, _, tail = verdict.text.partition(" (")
    return f"{duration(found.value)}, {head}\n({tail}"
