"""A rotation that is killed, wherever it stands, loses nothing and is taken up again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from encryption_support import AFTER, ONLY_NEW, credentials, fill

from pglab.encryption import load_session, remaining, rotate

pytestmark = pytest.mark.server

COUNT = 60

# Kills itself when it has unwrapped so many keys: in mid-batch, with rows read and locked, or when
# the UPDATE was sent and not committed.
KILLED = """
import os, signal, sys
import psycopg
from encryption_support import AFTER, NEW, OLD
from pglab.encryption import LocalKeys, rotate

class Fatal(LocalKeys):
    left = int(sys.argv[1])

    def wrap(self, *given):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().wrap(*given)

with psycopg.connect(os.environ["TEST_URL"]) as connection:
    print("connected", flush=True)
    rotate(connection, Fatal({"new": NEW, "old": OLD}), batch=int(sys.argv[2]), pause_s=0.005)
"""


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        fill(connection, COUNT)
        yield connection


def start(url: str, die_after: int, batch: int) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(die_after), str(batch)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TEST_URL": url, "PYTHONPATH": paths},
    )


def assert_nothing_lost(connection: psycopg.Connection[Any]) -> None:
    assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (COUNT,)
    for number in range(1, COUNT + 1):
        assert load_session(connection, UUID(int=number), AFTER) == credentials(number)


def test_killed_in_mid_batch_again_and_again(
    database: str, connection: psycopg.Connection[Any]
) -> None:
    left = [COUNT]
    while left[-1]:
        with start(database, die_after=25, batch=10) as child:
            child.communicate(timeout=60)
        left.append(remaining(connection, "old"))
        assert_nothing_lost(connection)
        assert child.returncode == (0 if left[-1] == 0 else -signal.SIGKILL)
    # 25 were wrapped, so two batches of ten were committed and the third was undone.
    assert left == [60, 40, 20, 0]
    assert rotate(connection, AFTER).rotated == 0
    assert load_session(connection, UUID(int=COUNT), ONLY_NEW) == credentials(COUNT)


def test_killed_from_outside_at_any_moment(
    database: str, connection: psycopg.Connection[Any]
) -> None:
    moments = random.Random(5)
    for _ in range(4):
        with start(database, die_after=10**6, batch=2) as child:
            assert child.stdout
            assert child.stdout.readline() == "connected\n"
            time.sleep(moments.uniform(0, 0.1))
            child.kill()
        assert child.returncode in {-signal.SIGKILL, 0}
        assert_nothing_lost(connection)
    report = rotate(connection, AFTER, batch=7)
    assert (report.remaining, remaining(connection, "old")) == (0, 0)
    for number in range(1, COUNT + 1):
        assert load_session(connection, UUID(int=number), ONLY_NEW) == credentials(number)
