"""Placement on cores: really changed inside the block, and as it was after it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from pglab.bench.placement import check_mode, drawn_cores, is_here, is_postgres, placed
from pglab.errors import BenchError

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot place a process"
)


@pytest.fixture
def server():
    """A process that waits, in place of a backend."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def cores(pid=0):
    return os.sched_getaffinity(pid)


@needs_affinity
def test_one_core_for_both(server):
    mine, theirs = cores(), cores(server)
    with placed("one-core", [server]) as where:
        assert len(cores()) == 1
        assert cores() == cores(server)
        assert where == f"client and servers on core {min(cores())}"
    assert (cores(), cores(server)) == (mine, theirs)


@needs_affinity
def test_two_cores(server):
    if len(cores()) < 2:
        with (
            pytest.raises(BenchError, match="may use one core only"),
            placed("two-cores", [server]),
        ):
            pass
        return
    mine, theirs = cores(), cores(server)
    with placed("two-cores", [server]) as where:
        assert len(cores()) == len(cores(server)) == 1
        assert cores() != cores(server)
        assert where == (
            f"client on core {min(cores())}, servers on core {min(cores(server))}, both kept awake"
        )
    assert (cores(), cores(server)) == (mine, theirs)


@needs_affinity
@pytest.mark.parametrize("mode", ["auto", "one-core"])
def test_it_is_undone_after_an_error(server, mode):
    mine, theirs = cores(), cores(server)
    inside = []

    def fail():
        inside.append(len(cores()))
        raise KeyError

    with pytest.raises(KeyError), placed(mode, [server]):
        fail()
    assert inside == [1]
    assert (cores(), cores(server)) == (mine, theirs)


@needs_affinity
def test_a_server_that_ended_meanwhile_does_not_matter(server):
    mine = cores()
    with placed("one-core", [server]):
        os.kill(server, 9)
        time.sleep(0.05)
    assert cores() == mine


@needs_affinity
def test_a_process_that_is_not_there(server):
    mine, theirs = cores(), cores(server)
    nobody = 2**22 + 1  # above the kernel's largest
    with placed("auto", [server, nobody]) as where:
        assert where.startswith("unpinned, for the servers' processes cannot be placed")
        assert (cores(), cores(server)) == (mine, theirs)
    with pytest.raises(BenchError, match="use --placement unpinned"):
        placed("one-core", [server, nobody]).__enter__()
    assert (cores(), cores(server)) == (mine, theirs)


def test_servers_out_of_reach_are_not_said_to_be_placed():
    before = cores() if hasattr(os, "sched_getaffinity") else None
    with placed("auto", []) as where:
        assert where.startswith("unpinned, for ")
        assert before is None or cores() == before
    with pytest.raises(BenchError, match="--placement one-core: "):
        placed("one-core", []).__enter__()


def test_a_system_that_cannot(server, monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    for mode in ("one-core", "two-cores"):
        with pytest.raises(BenchError) as caught:
            placed(mode, [server]).__enter__()
        assert f"--placement {mode}: {sys.platform} has no way to place a process" in str(
            caught.value
        )
    with placed("auto", [server]) as where:
        assert where.startswith(f"unpinned, for {sys.platform} has no way")


def test_unpinned_changes_nothing(server):
    with placed("unpinned", [server]) as where:
        assert where.startswith("unpinned: ")


@needs_affinity
def test_a_rounds_cores_are_drawn_for_all_variants_alike(server):
    mine, theirs = cores(), cores(server)
    twin = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    rng, seen = np.random.default_rng(22), set()
    try:
        for _ in range(40):
            with drawn_cores([server, twin.pid], rng):
                assert len(cores()) == len(cores(server)) == 1
                assert cores(server) == cores(twin.pid)
                seen.add((*cores(), *cores(server)))
            assert (cores(), cores(server)) == (mine, theirs)
    finally:
        twin.kill()
        twin.communicate()
    # Two cores can be drawn in four ways, and 40 rounds miss one of them once in 25,000 times.
    assert len(seen) >= min(4, len(mine) ** 2)


@needs_affinity
def test_no_cores_are_drawn_if_one_process_cannot_be_placed(server):
    mine, theirs = cores(), cores(server)
    with drawn_cores([server, 2**22 + 1], np.random.default_rng(22)):
        assert (cores(), cores(server)) == (mine, theirs)
    with drawn_cores([], np.random.default_rng(22)):
        assert cores() == mine


def test_a_mode_that_is_none():
    with pytest.raises(BenchError, match="placement 'both' is unknown; use one of auto: "):
        check_mode("both")
    assert check_mode("one-core") == "one-core"


def test_which_processes_are_here():
    assert is_here("anywhere", "/tmp/socket")
    assert is_here("127.0.0.1", None)
    assert not is_here("db.example.org", None)
    assert not is_here(None, None)
    assert not is_postgres(os.getpid())
    assert not is_postgres(2**22 + 1)
