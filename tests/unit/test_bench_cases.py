"""The cases that pglab ships: what each of them says about itself, and how they are found."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from pglab.bench.case import DEFAULT_SIZES
from pglab.bench.cases import GROUPS, find, shipped
from pglab.bench.operations import Query, positional
from pglab.bench.statistics import THEORY
from pglab.errors import BenchError

CASES = shipped()
VARIANTS = [
    pytest.param(case, variant, id=f"{case.name}-{variant.name}")
    for case in CASES
    for variant in case.variants
]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_variant = pytest.mark.parametrize(("case", "variant"), VARIANTS)


def names(cases):
    return [case.name for case in cases]


def test_each_name_is_one_case_and_no_group():
    assert len(set(names(CASES))) == len(CASES) > 0
    assert not set(names(CASES)) & {*GROUPS, "all"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_module_holds_its_own_group(group):
    cases = import_module(f"pglab.bench.cases.{group}").CASES
    assert cases, f"{group} ships nothing"
    assert {case.group for case in cases} == {group}


@every_case
def test_a_question_is_one_and_its_answer_is_expected(case):
    assert re.fullmatch(r"[A-Z][^.?!]*\?", case.question), case.question
    assert case.expected.strip(), f"{case.name} does not say what should be seen"


@every_case
def test_sizes_rise(case):
    assert list(case.sizes) == sorted(set(case.sizes))


@every_case
def test_a_picture_of_growth_has_sizes_to_grow_over(case):
    if case.picture == "growth":
        assert len(case.sizes) >= 4, f"an exponent over {case.sizes} says little"
        assert set(case.sizes) <= set(DEFAULT_SIZES), "or each size is loaded for this case alone"


@every_variant
def test_theory_is_known(case, variant):
    assert variant.theory in {"", *THEORY}


@every_variant
def test_a_plan_is_claimed_wherever_a_table_is_read(case, variant):
    operation = variant.operation
    # An INSERT has no plan worth a claim; a function of one's own may send no SQL at all.
    if isinstance(operation, Query) and re.search(r"\bFROM\b", operation.sql):
        assert variant.claim is not None, "name the plan that the variant stands for"
        assert str(variant.claim) != "any plan"


@every_variant
def test_an_index_that_is_claimed_is_made_by_the_set_up(case, variant):
    claim = variant.claim
    if claim is not None and claim.index and claim.relation in {*case.twins, *variant.twins}:
        assert re.search(rf"\b{claim.index}\b", " ".join(variant.setup))


@every_variant
def test_what_is_read_is_a_twin(case, variant):
    claim = variant.claim
    if claim is not None and variant.setup:
        assert claim.relation in {*case.twins, *variant.twins}


@every_case
def test_all_variants_find_their_parameters(case):
    asked = [
        name
        for variant in case.variants
        if isinstance(variant.operation, Query)
        for name in positional(variant.operation.sql)[1]
    ]
    if asked:
        assert case.parameters is not None
    for name in filter(None, asked):
        assert re.search(rf"\b{name}\b", case.parameters.query)


def test_all_is_everything_in_the_order_of_the_groups():
    assert find(["all"]) == CASES
    assert list(dict.fromkeys(case.group for case in CASES)) == list(GROUPS)


def test_a_case_is_found_by_its_name():
    assert names(find(["chat-page"])) == ["chat-page"]


def test_a_group_is_found_by_its_name():
    assert find(["inbox"]) == tuple(case for case in CASES if case.group == "inbox")
    assert len(find(["inbox"])) > 1, "inbox names a group; one of its cases is named otherwise"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("status-*", ["status-common", "status-rare"]),
        ("unrea?", ["unread"]),
        ("*-page", ["chat-page"]),
    ],
)
def test_stars_and_question_marks_stand_for_letters(pattern, found):
    assert set(found) <= set(names(find([pattern])))


def test_a_case_that_is_named_twice_comes_once_and_in_the_common_order():
    found = names(find(["unread", "chat-page", "indexes", "unr*"]))
    assert found == [case.name for case in CASES if case.group == "indexes"]
    assert names(find(["unread", "chat-page"])) == ["chat-page", "unread"]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("chat-pag", "chat-page"),
        ("whatsappid", "whatsapp-id"),
        ("unreed", "unread"),
        ("indices", "indexes"),
        ("write", "writes"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(wrong, meant):
    with pytest.raises(BenchError, match=rf"no case or group '{wrong}'; did you mean .*\b{meant}"):
        find([wrong])


@pytest.mark.parametrize("wrong", ["zzzzzz", "Chat-Page", "", "xyz*"])
def test_a_name_that_is_near_nothing_is_told_where_the_names_are(wrong):
    with pytest.raises(BenchError, match="there is no case or group"):
        find(["chat-page", wrong])
    with pytest.raises(BenchError, match=r"pglab bench list|did you mean"):
        find([wrong])
