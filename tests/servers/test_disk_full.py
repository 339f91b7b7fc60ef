"""A full disk: a clear error; and when there is room again, the same call works, nothing lost.

The disk is a small one in memory, filled with ballast.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time

import psycopg
import pytest
from support.outside import IS_ROOT, TIMEOUT_S, Outside, open_directory, stop_servers

import pglab
from pglab import databases
from pglab.errors import DiskFullError, ServerUnreachableError

pytestmark = pytest.mark.server


class Disk:
    """A small disk with a home on it."""

    def __init__(self, root):
        self.root = root
        self.kernels = Outside(root / "lab")
        self._ballast = root / "ballast"

    def fill(self, leave_mb=0.0):
        """Take all the room but so much."""
        free = os.statvfs(self.root).f_bavail * os.statvfs(self.root).f_frsize
        take = int(free - leave_mb * 1e6)
        with self._ballast.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), max(take, 1))

    def fill_to_the_brim(self):
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def make_room(self):
        self._ballast.unlink()


def small_disk(size_mb):
    @contextlib.contextmanager
    def mounted():
        if not IS_ROOT:
            pytest.skip("lacking: root, who alone may mount a small disk")
        with open_directory() as place:
            mounting = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", place],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if mounting.returncode != 0:
                pytest.skip(f"lacking: the right to mount: {mounting.stderr}")
            disk = Disk(place)
            try:
                yield disk
            finally:
                try:
                    disk.kernels.clear()
                finally:
                    unmount(place)

    return mounted()


def unmount(place):
    # What has only just ended may hold a file for a moment longer.
    for _ in range(50):
        done = subprocess.run(["umount", place], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "--lazy", place], check=True)


OPEN = """
import pglab
with pglab.open("basics", size="empty") as lab, lab.connection() as connection:
    return connection.execute("SELECT count(*) FROM messages").fetchone()[0]
"""


@pytest.mark.parametrize("leave_mb", [20.0, 0.0], ids=["too small for a cluster", "nothing left"])
def test_a_full_disk_at_the_first_start(leave_mb):
    with small_disk(200) as disk:
        disk.fill(leave_mb)
        if not leave_mb:
            disk.fill_to_the_brim()
        message = disk.kernels.run(OPEN).refused("ServerStartError")
        assert "the disk is full" in message
        assert re.search(r"\d+ MB free at /", message)
        assert "needs up to 120 MB" in message
        assert "make room there, or set PGLAB_HOME" in message
        assert list(disk.root.rglob("data-*")) == [], "half a cluster stays"
        disk.make_room()
        done = disk.kernels.run(OPEN)
        assert done.value == 0, done.chain


@pytest.fixture
def used(monkeypatch):
    """A lab on a small disk, with committed rows in it."""
    with small_disk(250) as disk:
        monkeypatch.setenv("PGLAB_HOME", str(disk.kernels.home))
        monkeypatch.setenv("PGLAB_IDLE_MINUTES", "2")
        with pglab.open("basics", size="empty") as lab:
            with lab.connection() as connection:
                connection.execute("CREATE TABLE mine AS SELECT generate_series(1, 100) AS n")
            yield disk, lab


def patiently(ask):
    """Return what ``ask`` returns; a full disk may have sent the server into recovery."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except (psycopg.OperationalError, ServerUnreachableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def names(lab):
    """Return the names of the server's databases."""

    def ask():
        with psycopg.connect(lab.server.url(reveal=True)) as admin:
            return [row[0] for row in admin.execute("SELECT datname FROM pg_database")]

    return patiently(ask)


def kept(lab):
    """Return the committed rows."""

    def ask():
        with lab.connection() as connection:
            return connection.execute("SELECT count(*), max(n) FROM mine").fetchone()

    return patiently(ask)


def test_a_full_disk_during_a_big_insert(used):
    disk, lab = used
    disk.fill(leave_mb=40)
    with pytest.raises(psycopg.OperationalError), lab.connection() as connection:
        # Several times the room: PostgreSQL refuses the row, or, where it is the log that has no
        # room, ends and recovers.
        connection.execute("INSERT INTO mine SELECT n FROM generate_series(1001, 4000000) n")
    disk.make_room()
    assert kept(lab) == (100, 100)
    with lab.connection() as connection:
        connection.execute("INSERT INTO mine SELECT generate_series(101, 200)")
    assert kept(lab) == (200, 200)


def test_a_full_disk_during_a_reset(used):
    disk, lab = used
    # Its first half, dropping, gives back the room that the copy needs: here it has been done.
    with psycopg.connect(lab.server.url(reveal=True), autocommit=True) as admin:
        databases.drop(admin, lab.database)
    disk.fill(leave_mb=2)
    with pytest.raises(DiskFullError) as caught:
        lab.reset()
    assert "the disk of the PostgreSQL server is full" in str(caught.value)
    assert "make room there, then try again" in str(caught.value)
    disk.make_room()
    lab.reset()
    with lab.connection() as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_a_full_disk_while_another_lesson_is_made(used):
    disk, lab = used
    disk.fill(leave_mb=2)
    with pytest.raises(DiskFullError):
        pglab.open("indexes", size="empty")
    assert [name for name in names(lab) if "building" in name or "indexes" in name] == []
    assert kept(lab) == (100, 100)
    disk.make_room()
    with pglab.open("indexes", size="empty") as other, other.connection() as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    assert kept(lab) == (100, 100)


def test_a_full_disk_while_conversations_are_loaded(used):
    disk, lab = used
    disk.fill(leave_mb=45)
    with pytest.raises(DiskFullError) as caught:
        pglab.open("load", size="small", progress=False)
    assert "full" in str(caught.value)
    assert "try again" in str(caught.value)
    # No room for WAL, and PostgreSQL stops on purpose: it recovers when there is room again.
    disk.make_room()
    assert kept(lab) == (100, 100)
    with (
        pglab.open("load", size="small", progress=False) as other,
        other.connection() as connection,
    ):
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (50_000,)
    assert [name for name in names(lab) if "building" in name] == []


def test_a_full_disk_at_a_later_start(used):
    disk, lab = used
    lab.close()
    stop_servers(disk.kernels.home)
    disk.fill_to_the_brim()
    message = disk.kernels.run(OPEN).refused("ServerStartError")
    assert "the disk is full" in message
    assert "what was stored before is kept" in message
    disk.make_room()
    done = disk.kernels.run(OPEN.replace("messages", "mine"))
    assert done.value == 100, done.chain
