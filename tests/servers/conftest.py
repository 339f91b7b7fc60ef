"""Fixtures of the servers' suites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tools.docker_engine import Engine, EngineUnavailableError, running_engine


@pytest.fixture(scope="module")
def container_engine() -> Iterator[Engine]:
    """Yield the machine's container engine, or one that is started for this file.

    For a file, because only one can run on a machine, and another worker may be waiting for it.
    """
    try:
        with running_engine() as engine:
            yield engine
    except EngineUnavailableError as error:
        # Only what cannot be mended counts as a reason in CI (see the conftest.py at the top).
        verdict = "no container engine can start here" if error.proven else "no container engine"
        pytest.skip(f"{verdict}: {error}")
