"""The tree of errors: as drawn at the top of its module, so it is."""

from __future__ import annotations

import builtins
import re

import pytest

from pglab import errors

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and value.__module__ == errors.__name__
}


def drawn():
    """Read the drawing: each class with its parent and the built-in one it also derives from."""
    tree = {}
    ancestors = []
    for line in errors.__doc__.splitlines():
        found = re.match(
            r"    ((?:│   |    )*)(?:[├└]── )?(\w+Error)(?: \((\w+)\))?(?:\s{2,}|$)", line
        )
        if found is None:
            continue
        level = (len(found[1]) // 4 + 1) if "── " in line else 0
        ancestors[level:] = [found[2]]
        tree[found[2]] = (ancestors[level - 1] if level else "Exception", found[3])
    return tree


def test_every_class_is_drawn_and_every_drawn_one_exists():
    assert set(drawn()) == set(CLASSES)
    assert sorted(errors.__all__) == sorted(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_has_the_bases_that_are_drawn(name):
    parent, builtin = drawn()[name]
    expected = [parent] if builtin is None else [parent, builtin]
    assert [base.__name__ for base in CLASSES[name].__bases__] == expected
    assert builtin is None or issubclass(getattr(builtins, builtin), Exception)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_says_when_and_carries_one_message(name):
    kind = CLASSES[name]
    assert kind.__doc__ not in {None, *(base.__doc__ for base in kind.__bases__)}
    error = kind("a fact, 7; a remedy", **({"field": "x"} if name == "IngestError" else {}))
    assert str(error) == "a fact, 7; a remedy"
    assert isinstance(error, errors.PglabError)
    assert error.exit_code in {1, 2}
