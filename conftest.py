"""What every test and every notebook runs in: servers of their own, nothing of the learner's.

All workers of one run share one lab, as kernels do, so that they also prove that they can. It is
made before the first test, ended and deleted after the last.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

# A skip for this reason is a fact about the machine that .ci/run cannot mend.
_ENGINE_CANNOT_START = "no container engine can start here"


def pytest_configure(config: pytest.Config) -> None:
    """Point pglab at a new home, before any test module is imported."""
    if hasattr(signal, "SIGHUP"):  # under nohup, what tests start would ignore it, too
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist inherits the environment
    for name in [n for n in os.environ if n.startswith("PG") and not n.startswith("PGLAB_TEST_")]:
        del os.environ[name]
    os.environ.pop("DATABASE_URL", None)
    os.environ.pop("REDIS_URL", None)
    os.environ["PGLAB_HOME"] = str(Path(tempfile.mkdtemp(prefix="pglab-tests-")) / "lab")
    # Should this run be killed, its servers end by themselves.
    os.environ["PGLAB_IDLE_MINUTES"] = "5"
    # To a learner, an exercise that cannot be checked is a calm word; here it is a fault.
    os.environ["PGLAB_EXERCISES_STRICT"] = "1"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers and delete their data."""
    home = os.environ.get("PGLAB_HOME", "")
    if hasattr(config, "workerinput") or "pglab-tests-" not in home:
        return
    from pglab.config import Settings
    from pglab.purge import plan, purge

    settings = Settings.from_environment()
    purge(settings, plan(settings))
    shutil.rmtree(Path(home).parent, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # noqa: ARG001
    """Make a skip a failure in CI, where everything that a test needs must be."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if _ENGINE_CANNOT_START not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped, which CI does not accept: {reason}"
    return report
