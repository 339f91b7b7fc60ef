"""Tables of results, and the sentences that say what was found."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pytest
from unit import bench_support as made
from wcwidth import wcswidth

from pglab.bench import findings, pictures, tables
from pglab.bench.grid import Grid
from pglab.bench.words import article, digits, duration, machine_name, plural, short_count


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.00"), (0.0123, "0.0123"), (1, "1.00"), (1.234, "1.23"), (9.999, "10.0"),
     (12.34, "12.3"), (99.96, "100"), (612.4, "612"), (12_345.6, "12,346"), (-1.5, "-1.50")],
)  # fmt: skip
def test_digits(value, shown):
    assert digits(value) == shown


@pytest.mark.parametrize(
    ("us", "shown"),
    [(0.0456, "45.6 ns"), (0.99949, "999 ns"), (0.9999, "1.00 µs"), (106.04, "106 µs"),
     (999.6, "1.00 ms"), (5_161, "5.16 ms"), (360_000, "360 ms"), (999_700, "1.00 s"),
     (12_345_678, "12.3 s"), (None, "–")],
)  # fmt: skip
def test_durations_have_the_unit_that_suits(us, shown):
    assert duration(us) == shown


def test_counts_and_plurals():
    assert [short_count(each) for each in (12, 999, 31_600, 1_000_000, 999_900)] == [
        "12", "999", "31.6 k", "1 M", "1 M",
    ]  # fmt: skip
    assert [plural(each) for each in ("look-up", "query", "box", "day")] == [
        "look-ups", "queries", "boxes", "days",
    ]  # fmt: skip


def test_articles():
    assert [article(each) for each in ("look-up", "inbox", "")] == ["a look-up", "an inbox", "a "]


def test_the_table_has_the_rate_that_the_picture_has():
    slow = made.one_round(np.random.default_rng(0), 11, 1, 1e6, 3, 5_000)
    case = made.rate_case()
    variant = case.at().variant("COPY")
    variant = dataclasses.replace(variant, rounds=(*variant.rounds, slow))
    case = dataclasses.replace(
        case, sizes=(dataclasses.replace(case.at(), variants=(variant,)),), baseline="COPY"
    )
    rate = short_count(1e6 / findings.middle(variant, "time a row").value)
    assert rate != short_count(variant.rows_per_second)
    assert f"{rate} " in tables.case_grid(case).text()
    shown = [text.get_text() for text in pictures.draw(case).axes[0].texts]
    assert f"{rate} rows/s, baseline" in shown


def test_a_machine_has_a_name_even_if_nothing_is_known():
    assert machine_name(made.ENVIRONMENT) == "AMD EPYC 7B13, 2 cores, 23 GiB, Linux"
    assert machine_name({}) == machine_name({"machine": {}}) == "a machine that is not named"
    assert machine_name({"machine": {"cpu": None, "cores": 4}}) == "4 cores"


def title(medians, **more):
    return findings.finding(made.bars_case(medians, **more))


def test_a_finding_is_the_largest_factor():
    found = title({"scan": 100_000, "index": 163, "hash": 250})
    assert found.startswith("100,000 messages: index is 6")
    assert "times as fast as scan (" in found


def test_a_small_difference_is_told_in_per_cent():
    assert "b is 9" in (found := title({"a": 110, "b": 100}))
    assert " % faster than a (" in found


def test_slower_is_told_when_nothing_is_faster():
    assert ": b is " in (found := title({"a": 100, "b": 200}))
    assert "times as slow as a (" in found
    found = title({"a": 100, "b": 300, "c": 200})
    assert "nothing is faster; b is " in found


def test_nothing_is_faster_only_if_that_is_known():
    case = made.bars_case({"a": 100, "b": 300})
    noisy = made.variant("c", 100, noise=0.5)
    (at,) = case.sizes
    at = dataclasses.replace(at, variants=(*at.variants, noisy))
    found = findings.finding(dataclasses.replace(case, sizes=(at,)))
    assert ": b is " in found
    assert "nothing" not in found


def test_no_difference_and_noise_are_findings():
    assert "no difference that this run can show" in title({"a": 100, "b": 100})
    assert "no difference to a that this run can show" in title({"a": 100, "b": 100, "c": 100})
    assert "too noisy to tell b from a (ratio " in title({"a": 100, "b": 101}, noise=0.4)
    found = title({"a": 100, "b": 101, "c": 99}, noise=0.4)
    assert "too noisy to tell any variant from a" in found


def test_a_finding_holds_its_own_interval():
    case = made.bars_case({"scan": 100_000, "index": 163})
    ratio = findings.compared(case, case.at(), "index")
    assert ratio == case.ratio("index")
    assert f"({digits(ratio.low)} to {digits(ratio.high)})" in findings.finding(case)


def test_nothing_is_claimed_without_rounds_sizes_or_baseline():
    alone = made.case({1_000: [made.variant("x", 10)]})
    assert "nothing to compare x with" in findings.finding(alone)
    once = made.case({1_000: [made.variant(name, 10, rounds=1) for name in "xy"]})
    assert "nothing to compare x with" in findings.finding(once)
    assert any("one round only" in note for note in findings.notes(once))
    assert "no size was finished" in findings.finding(dataclasses.replace(alone, sizes=()))
    lost = dataclasses.replace(alone, baseline="gone")
    assert "nothing to compare x with" in findings.finding(lost)
    for case in (alone, once, lost, dataclasses.replace(alone, sizes=())):
        result = made.result(case)
        assert case.name in tables.text(result)
        assert tables.html(result)
        assert tables.markdown(result)
        assert len(tables.frame([case])) == sum(len(at.variants) for at in case.sizes)


def test_a_cache_is_compared_by_means_and_says_so():
    """With 42 % hits the median is a miss's; with 81 % it is a hit's: neither is the cache's."""
    case = made.hit_ratio_case()
    assert "on average" in findings.finding(case)
    assert any("mean" in note for note in findings.notes(case))
    found = findings.compared(case, case.at(), "TTL 1 s")
    means = [case.at().variant(name).latencies.mean / 1_000 for name in ("PostgreSQL", "TTL 1 s")]
    by_hand = means[0] / means[1]
    assert found.value == pytest.approx(by_hand, rel=0.02)


def test_loads_are_compared_by_rows_a_second():
    """One operation stores ten times the rows and takes ten times as long: no difference."""
    made_ = [
        made.variant("one", 100, rows=10, operations=50),
        made.variant("ten", 1_000, rows=100, operations=50),
    ]
    case = made.case({1_000: made_}, picture="rate", rows="rows")
    assert findings.compared(case, case.at(), "ten").value == pytest.approx(1, rel=0.05)
    assert case.ratio("ten").value == pytest.approx(0.1, rel=0.05)


def test_notes_name_what_is_unstable_placed_and_noted():
    unstable = made.variant("b", 50, stable=False, notes=("it was stopped",))
    silent = made.variant("c", 50, stable=False)
    notes = findings.notes(made.case({1_000: [made.variant("a", 100), unstable, silent]}))
    assert "b: it was stopped." in notes
    assert "c: its times still moved when the warm-up ended." in notes
    assert "placement: client and servers on core 1." in notes
    assert "1 checkpoint(s)." in notes


def test_a_note_of_several_variants_is_told_once():
    unstable = [made.variant(name, 50, stable=False) for name in ("b", "c")]
    moved = "its times still moved when the warm-up ended."
    notes = findings.notes(made.case({1_000: [made.variant("a", 100), *unstable]}))
    assert f"b, c: {moved}" in notes
    assert f"every variant: {moved}" in findings.notes(made.case({1_000: unstable}))


def test_a_note_of_some_sizes_names_them_and_one_of_all_does_not():
    case = made.growth_case((10_000, 100_000))
    first, second = case.sizes
    case = dataclasses.replace(
        case, sizes=(dataclasses.replace(first, background=("autovacuum",)), second)
    )
    notes = findings.notes(case)
    assert "10,000 messages: autovacuum." in notes
    assert "100,000 messages: 1 checkpoint(s)." in notes
    assert "placement: client and servers on core 1." in notes
    assert any(note.startswith("no index grows as size^1.0") for note in notes)


def test_the_frame_has_a_row_for_each_variant_and_numbers_that_agree():
    case = made.growth_case()
    frame = tables.frame([case, made.rate_case()])
    assert len(frame) == 2 * 5 + 3
    row = frame[(frame["size"] == 1_000_000) & (frame["variant"] == "index")].iloc[0]
    ratio = case.ratio("index")
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (
        ratio.value, ratio.low, ratio.high,
    )  # fmt: skip
    assert row["verdict"] == "faster"
    assert row["buffers"] == 54
    assert row["plan"] == "Index Scan Backward using by_chat on messages"
    assert row["p99_us"] == case.at().variant("index").percentiles_us["p99"]
    assert frame["p99_9_us"].isna().all()
    assert str(frame["p99_9_us"].dtype) == "float64"
    assert frame[frame["case"] == "loading"]["rows_per_s"].iloc[2] == pytest.approx(273e3, rel=0.2)


def test_text_lines_up_for_wide_letters():
    case = made.bars_case({"日本語": 100, "plain": 50})
    lines = tables.case_grid(case).text().splitlines()
    table = [line for line in lines[1:] if not line.startswith("·")]
    column = {wcswidth(line[: line.index("µs")]) for line in table if "µs" in line}
    assert len(column) == 1


class Cells(HTMLParser):
    """Collects what stands in each cell, and every tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_hostile_names_stay_text():
    case = made.bars_case({made.HOSTILE: 100, "b": 50}, name=made.HOSTILE, question=made.HOSTILE)
    result = made.result(case, stopped=made.HOSTILE)
    html = Cells(tables.html(result))
    assert "script" not in html.tags
    assert made.HOSTILE in html.texts
    markdown = tables.markdown(result)
    assert "<script" not in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("| &lt;script"))
    assert row.replace("\\|", "").count("|") == 6
    assert "\x1b" not in tables.text(made.result(made.bars_case({"a\x1b[2J": 1, "b\nc": 1})))


def test_results_show_themselves_through_the_tables():
    result = made.result(made.growth_case((10_000, 31_600)), stopped="Ctrl-C")
    assert str(result) == tables.text(result)
    assert str(result).startswith("Stopped: Ctrl-C")
    assert result._repr_html_() == tables.html(result)
    assert result.frame().equals(tables.frame(result.cases))
    assert "Stopped: Ctrl-C" in tables.markdown(result)
    assert tables.text(dataclasses.replace(result, cases=(), stopped="")) == (
        "This run has no results"
    )


def test_every_html_table_has_a_caption_and_scopes():
    html = Cells(tables.html(made.result(made.growth_case(), made.hit_ratio_case())))
    assert html.tags.count("table") == html.tags.count("caption") == 2
    grid = Grid("c", ("a", "b"), (("x", "1"),), frozenset({1}))
    assert '<th scope="row" align="left">x</th>' in grid.html()
    assert '<th scope="col" class="n" align="right">b</th>' in grid.html()


def test_a_cached_case_tells_from_which_hit_rate_on_it_pays():
    case = made.bars_case({"PostgreSQL": 100.0, "Redis hit": 50.0, "Redis miss": 200.0})
    (line,) = [each for each in findings.notes(case) if "hit rate" in each]
    # 50 h + 200 (1 - h) < 100 from h = 2/3 on; the rounds scatter a little.
    share = float(line.split("hit rate of ")[1].split(" %")[0])
    assert 60 < share < 73
    assert "a miss" in line
    assert line in tables.text(made.result(case))


def test_a_case_without_a_cache_tells_of_no_hit_rate():
    assert not [each for each in findings.notes(made.growth_case()) if "hit rate" in each]


@pytest.mark.parametrize(("buffers", "said"), [(5.0, True), (900.0, False)])
def test_pages_are_told_where_a_variant_touches_far_fewer(buffers: float, said: bool):
    case = made.growth_case()
    first, *others = case.sizes[-1].variants
    largest = dataclasses.replace(
        case.sizes[-1],
        variants=(
            dataclasses.replace(first, plan=made.plan("Seq Scan", buffers=1_000)),
            *(dataclasses.replace(v, plan=made.plan("Index", buffers=buffers)) for v in others),
        ),
    )
    case = dataclasses.replace(case, sizes=(*case.sizes[:-1], largest))
    told = [each for each in findings.notes(case) if "times fewer pages" in each]
    assert bool(told) == said
    assert not said or "200 times fewer pages than" in told[0]


def test_what_writes_cost_besides_time_has_columns():
    case = made.rate_case()
    at = case.sizes[0]
    measured = dataclasses.replace(at.variants[0], measures={"wal_bytes_per_row": 993.4})
    at = dataclasses.replace(at, variants=(measured, *at.variants[1:]))
    shown = tables.case_grid(dataclasses.replace(case, sizes=(at,))).text()
    assert "WAL B/row" in shown
    assert "993" in shown
    assert "WAL" not in tables.case_grid(case).text()
