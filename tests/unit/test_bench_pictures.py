"""Pictures: what their titles claim, and that nobody's label lies upon another's."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text
from unit import bench_support as made

from pglab.bench import change_picture, pictures
from pglab.bench.compare import compare
from pglab.bench.labels import spread
from pglab.errors import BenchError

LONG = "an expression index on data->>'status' with a name that goes on and on"


def several(count, spread_=1.0, noise=0.02):
    """A growth case of many variants, the indexed ones as near to one another as it gets."""
    names = ("no index", "jsonb_ops", "jsonb_path_ops", "expression", "partial", LONG)[:count]
    return made.case(
        {
            size: [
                made.variant(
                    name,
                    size * 0.1 if place == 0 else 100 * spread_**place,
                    seed=size,
                    noise=noise,
                    theory="O(n)" if place == 0 else "O(log n)",
                )
                for place, name in enumerate(names)
            ]
            for size in made.SIZES
        }
    )


def clients_case():
    variants = [
        made.variant(
            f"{name}, {clients} client{'s' * (clients > 1)}",
            us / min(clients, 4),
            measures={"clients": clients},
        )
        for name, us in (("PostgreSQL", 60), ("Redis", 40))
        for clients in (1, 2, 4, 8)
    ]
    return made.case({100_000: variants}, picture="bars", name="load", unit="look-up")


def changed():
    a = made.result(made.growth_case((10_000, 31_600)))
    return change_picture.changes(compare(a, made.result(made.growth_case((10_000,)))).rows)


SHOWN = {
    "growth": lambda: pictures.draw(made.growth_case()),
    "growth of two sizes": lambda: pictures.draw(made.growth_case((10_000, 31_600))),
    "growth of many sizes": lambda: pictures.draw(made.growth_case(range(10_000, 60_000, 5_000))),
    "growth, 3 variants": lambda: pictures.draw(several(3)),
    "growth, 5 variants": lambda: pictures.draw(several(5)),
    "growth, 5 variants apart": lambda: pictures.draw(several(5, 2.0)),
    "growth of one size": lambda: pictures.draw(made.growth_case((10_000,))),
    "bars of two": lambda: pictures.draw(made.bars_case({"a": 100, "b": 100.3})),
    "bars, noisy": lambda: pictures.draw(made.bars_case({"a": 100, "b": 101}, noise=0.3)),
    "bars of five": lambda: pictures.draw(
        made.bars_case({"DISTINCT ON": 361e3, "window": 402e3, "LATERAL": 9e3, "x": 5e3, LONG: 1})
    ),
    "hit ratio": lambda: pictures.draw(made.hit_ratio_case()),
    "rate": lambda: pictures.draw(made.rate_case()),
    "throughput": lambda: pictures.draw(clients_case()),
    "distributions": lambda: pictures.distributions(several(5)),
    "distributions of few": lambda: pictures.distributions(made.rate_case()),
    "over a reference": lambda: pictures.learner_over_reference(
        made.growth_case((2_000, 6_000, 20_000, 60_000)), made.growth_case(), machine="AMD, 2 cores"
    ),
    "one size over a reference": lambda: pictures.learner_over_reference(
        made.growth_case((10_000,)), made.growth_case(), machine="AMD, 2 cores"
    ),
    "changes": changed,
}  # fmt: skip


@cache
def shown(name):
    return SHOWN[name]()


@pytest.mark.parametrize("name", SHOWN)
def test_no_text_lies_upon_another_and_all_are_inside(name):
    figure = shown(name)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and _in_view(text, figure)
    ]
    assert len(boxes) > 5
    for text, box in boxes:
        # A tick's label may stand half outside of its axes, and by a hair outside of the figure.
        assert box.x0 > -3, text
        assert box.y0 > -3, text
        assert box.x1 < width + 3, text
        assert box.y1 < height + 3, text
    for (text, box), (other, beside) in combinations(boxes, 2):
        assert not _overlap(box, beside), f"{text!r} lies upon {other!r}"


def _in_view(text, figure):
    """Leave out labels of ticks beyond the axes' limits, which exist and are not drawn."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for minor in (False, True):
                ticks = axis.get_minor_ticks() if minor else axis.get_major_ticks()
                for tick in ticks:
                    if text in (tick.label1, tick.label2):
                        place = tick.get_loc()
                        return low <= place <= high and text.get_visible()
    return True


def _overlap(one, other, slack=1.0):
    return (
        min(one.x1, other.x1) - max(one.x0, other.x0) > slack
        and min(one.y1, other.y1) - max(one.y0, other.y0) > slack
    )


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_is_about_as_large_as_a_notebook_wants_and_has_an_alt_text(name):
    figure = shown(name)
    width, height = figure.get_size_inches()
    assert width == 8
    assert 2.5 <= height <= 4.7
    assert len(figure.alt) > 20
    assert figure._suptitle.get_text().replace("\n", " ").replace("\xa0", " ") in figure.alt
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_right_picture_is_chosen():
    def heading(case):
        return pictures.draw(case).axes[0].get_xlabel()

    assert heading(made.growth_case()) == "messages in the table"
    assert heading(made.growth_case((10_000,))).startswith("median of a page at 10,000 messages")
    assert heading(made.bars_case({"a": 1, "b": 2})).startswith("median of a page at 100,000")
    assert heading(made.hit_ratio_case()) == "hit ratio of the cache"
    assert heading(made.rate_case()).startswith("rows a second at 100,000 messages")
    assert heading(clients_case()) == "clients at once"
    unheard = dataclasses.replace(made.bars_case({"a": 1, "b": 2}), picture="hit_ratio")
    assert heading(unheard).startswith("median of a page")


def test_growth_draws_each_median_with_its_interval_and_the_fitted_line():
    case = made.growth_case()
    figure = pictures.draw(case)
    (axes,) = figure.axes
    points, fits = axes.lines[0], [line for line in axes.lines if len(line.get_xdata()) == 2]
    medians = [np.median(at.variant("no index").medians_us) for at in case.sizes]
    assert np.allclose(points.get_ydata(), medians)
    assert tuple(points.get_xdata()) == made.SIZES
    growth = case.growth("no index")
    assert np.allclose(fits[0].get_ydata(), [growth.at(10_000), growth.at(1_000_000)])
    texts = " ".join(text.get_text() for text in axes.texts)
    assert f"slope {growth.exponent:.2f} ({growth.low:.2f} to {growth.high:.2f})" in texts
    assert "O(n) predicts 1.00" in texts
    assert "O(log n) predicts 0.09" in texts
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_variants_differ_in_more_than_colour():
    figure = pictures.draw(several(5))
    points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 5]
    fits = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len({line.get_marker() for line in points if line.get_marker() != "_"}) == 5
    assert len({str(line._unscaled_dash_pattern) for line in fits}) == 5


def test_the_slope_of_a_level_line_is_no_minus_zero():
    texts = [text.get_text() for text in pictures.draw(several(5, noise=0.001)).axes[0].texts]
    assert any("slope 0.00" in text for text in texts)
    assert not any("-0.00" in text for text in texts)


def test_titles_state_what_was_found_and_no_more():
    assert "times as fast as no index (" in pictures.draw(made.growth_case()).alt
    same = pictures.draw(made.bars_case({"a": 100, "b": 100})).alt
    assert "no difference that this run can show" in same
    assert "too noisy" in pictures.draw(made.bars_case({"a": 100, "b": 101}, noise=0.4)).alt
    tail = pictures.distributions(made.growth_case()).alt
    assert "in this run 99 % took at most" in tail
    assert "99.9 %" not in tail
    few = pictures.distributions(made.rate_case()).alt
    assert "in this run 50 % took at most" in few


def test_throughput_compares_the_most_clients_of_two():
    alt = pictures.draw(clients_case()).alt
    assert alt.startswith("100,000 messages: 8 clients of Redis do 1.")
    assert "times the look-ups a second of PostgreSQL (" in alt


def test_throughput_of_one_compares_clients_and_confesses_no_gain():
    variants = [
        made.variant(f"x, {clients} clients", 60, measures={"clients": clients})
        for clients in (1, 4)
    ]
    alt = pictures.throughput(made.case({1_000: variants})).alt
    assert "no difference that this run can show between 4 clients of x and 1 (" in alt


def test_distributions_end_where_ten_latencies_are_left():
    case = made.case({1_000: [made.variant("x", 10, rounds=10, operations=100)]})
    line = pictures.distributions(case).axes[0].lines[0]
    assert line.get_xdata()[-1] == pytest.approx(2)  # two nines: 990 of 1,000
    assert line.get_ydata()[-1] == pytest.approx(
        case.at().variant("x").latencies.percentile(99) / 1_000
    )


def test_a_reference_is_grey_and_named():
    figure = pictures.learner_over_reference(
        made.growth_case((10_000, 31_600)), made.growth_case(), machine="AMD EPYC, 2 cores"
    )
    (axes,) = figure.axes
    assert "AMD EPYC, 2 cores" in axes.get_title(loc="left")
    texts = [text.get_text() for text in axes.texts]
    assert "no index, reference" in texts
    assert any(text.startswith("no index\nslope") for text in texts)
    assert "Reference run, 1,000,000 messages: index is" in figure.alt


def test_a_label_stands_at_the_height_of_what_it_names():
    case = made.bars_case({"first": 100, "second": 50, "third": 25})
    figure = pictures.draw(case)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    heights = [
        axes.transAxes.transform(text.get_position())[1] for text in axes.texts if text.get_text()
    ]
    shown = [text.get_text() for text in axes.texts if text.get_text()]
    rows = [axes.transData.transform((100, row))[1] for row in range(3)]
    assert np.allclose(sorted(heights), sorted(rows), atol=2)
    (baseline,) = (h for h, text in zip(heights, shown, strict=True) if "baseline" in text)
    assert baseline == pytest.approx(rows[0], abs=2)
    (third,) = (
        h
        for h, text in zip(heights, shown, strict=True)
        if "times" in text and text.startswith("2")
    )
    assert third == pytest.approx(rows[2], abs=2)


def test_one_round_and_one_variant_can_be_drawn():
    once = made.case({size: [made.variant("x", 10, rounds=1)] for size in (1_000, 2_000)})
    assert pictures.draw(once)._repr_png_()
    assert pictures.bars(once, 1_000)._repr_png_()
    with pytest.raises(BenchError, match="was not run at 5 messages"):
        pictures.bars(once, 5)
    with pytest.raises(BenchError, match="has no finished size"):
        pictures.draw(dataclasses.replace(once, sizes=()))


def test_a_size_that_lacks_a_variant_is_drawn_without_it():
    case = made.growth_case((10_000, 31_600, 100_000))
    cut = dataclasses.replace(case.sizes[2], variants=case.sizes[2].variants[:1])
    figure = pictures.draw(dataclasses.replace(case, sizes=(*case.sizes[:2], cut)))
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "no index\nslope" in texts
    assert "index" in texts
    assert "nothing to compare no index with" in figure.alt


def test_names_are_no_mathematics():
    figure = pictures.draw(made.bars_case({"$x$ and $\\frac{1}{2}$": 100, "a_b^c $": 50}))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["$x$ and $\\frac{1}{2}$", "a_b^c $"]
    figures = (figure, pictures.distributions(made.bars_case({"$a$": 100, "$b$": 50})))
    dollars = [t for each in figures for t in each.findobj(Text) if "$" in t.get_text()]
    assert len(dollars) >= 6
    assert not any(text.get_parse_math() for text in dollars)


def test_the_same_result_gives_the_same_file():
    one, other = (pictures.draw(made.growth_case()).data("svg") for _ in range(2))
    assert one == other


def test_pictures_touch_no_state_of_pyplot():
    code = (
        "import json, sys; sys.path.insert(0, 'tests')\n"
        "from unit import bench_support as made\n"
        "from pglab.bench import pictures\n"
        "pictures.draw(made.growth_case())._repr_png_()\n"
        "print(json.dumps('matplotlib.pyplot' in sys.modules))"
    )
    root = str(made.ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is False


@pytest.mark.parametrize("seed", range(20))
def test_spread_keeps_labels_apart_in_order_and_inside(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 8))
    wanted = sorted(rng.uniform(-0.1, 1.1, count).tolist())
    heights = rng.uniform(0.01, 1.0 / count, count).tolist()
    found = spread(wanted, heights)
    low = [centre - height / 2 for centre, height in zip(found, heights, strict=True)]
    high = [centre + height / 2 for centre, height in zip(found, heights, strict=True)]
    assert all(b >= a - 1e-9 for a, b in zip(high, low[1:], strict=False))
    assert low[0] >= -1e-9
    assert high[-1] <= 1 + 1e-9


def test_spread_leaves_alone_what_does_not_collide():
    assert spread([0.2, 0.5, 0.8], [0.1, 0.1, 0.1]) == pytest.approx([0.2, 0.5, 0.8])
    assert spread([0.5, 0.5], [0.1, 0.1]) == pytest.approx([0.45, 0.55])
