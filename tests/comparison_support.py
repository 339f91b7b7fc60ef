"""Engines for the tests of the comparison: where one is missing, the reason decides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pglab.comparison.contract import EngineMissingError
from pglab.comparison.places import Place, find

__all__ = ["here"]


@contextmanager
def here(name: str) -> Iterator[Place]:
    """Yield an engine; skip without it, and fail where CI promises it."""
    try:
        place = find(name)
        with place as found:
            yield found
    except EngineMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI is to have {name} (see .ci/run): {error}")
        pytest.skip(f"lacking: {error}")
