"""Cores kept awake: by processes of the lowest priority, which end with the block or with us."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from pglab.bench.awake import kept_awake

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setscheduler"), reason="this system has no idle priority"
)


def spinning(parent: int = 0) -> list[psutil.Process]:
    """Return the children that keep a core awake."""
    return [
        each for each in psutil.Process(parent or None).children() if "SCHED_IDLE" in said(each)
    ]


def said(process: psutil.Process) -> str:
    """Return a process's words; none of one that has ended, such as another test's."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_each_core_has_a_process_that_gives_way_to_everybody() -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    with kept_awake(cores) as awake:
        assert awake
        found = spinning()
        assert sorted(core for each in found for core in each.cpu_affinity()) == cores
        assert {os.sched_getscheduler(each.pid) for each in found} == {os.SCHED_IDLE}
    assert spinning() == []


def test_another_child_that_has_ended_is_no_matter() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        # It has ended, and stays as a zombie until the block waits for it.
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert spinning() == []


def test_it_ends_with_an_error() -> None:
    with pytest.raises(KeyError), kept_awake([min(os.sched_getaffinity(0))]):
        raise KeyError
    assert spinning() == []


def test_it_says_when_a_core_cannot_be_had() -> None:
    with kept_awake([min(os.sched_getaffinity(0)), 100_000]) as awake:
        assert not awake
    assert spinning() == []


def test_it_ends_when_its_parent_is_killed() -> None:
    core = min(os.sched_getaffinity(0))
    text = (
        "import time\nfrom pglab.bench.awake import kept_awake\n"
        f"with kept_awake([{core}]) as awake:\n    print(awake, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"True\n"
        (left,) = spinning(parent.pid)
    finally:
        parent.kill()
        parent.communicate()
    assert psutil.wait_procs([left], timeout=30)[1] == []
