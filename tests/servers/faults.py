"""Homes and processes that a test may break, and that are gone after it, whatever happened."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pglab.config import Settings
from pglab.lab import Lab
from pglab.servers import lifecycle
from pglab.servers.home import Kind, Unit, remove_tree

PATIENCE_S = 60.0  # bounds a wait that goes wrong; a machine under load needs much of it


# What works for a server, whatever its command line says.
_PROGRAMS = {"postgres", "initdb", "sh", "valkey-server"}


def wait_until(what: str, happens: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """Wait until ``happens`` returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := happens()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.02)
    return found


class Kernel:
    """A Python process of a learner's, which says things line by line."""

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        # A session of its own, as a notebook's kernel has.
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._lines: queue.Queue[str] = queue.Queue()
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("(end)")

    def hears(self, start: str) -> str:
        """Return the rest of the next line that begins so; fail at the process's end."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = "(end)"
            assert line != "(end)", f"it never said {start!r}, but:\n" + "\n".join(self._said)
            self._said.append(line)
            if line.startswith(start):
                return line.removeprefix(start).strip()

    def go(self) -> None:
        """Let it pass its next ``input()``."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self) -> int:
        """Return its exit status."""
        return self.process.wait(PATIENCE_S)

    def everything(self) -> str:
        """Return all that it said, once it has ended."""
        self.ends()
        self._reader.join(PATIENCE_S)
        while not self._lines.empty():
            self._said.append(self._lines.get())
        return "\n".join(self._said)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self._reader.join(PATIENCE_S)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


class Home:
    """A lab's home that one test has to itself."""

    def __init__(self, path: Path, **variables: str) -> None:
        self.path = path
        # Should the test run be killed, its servers end by themselves.
        self.variables = {"PGLAB_HOME": str(path), "PGLAB_IDLE_MINUTES": "2", **variables}
        self.kernels: list[Kernel] = []
        self.labs: list[Lab] = []
        self.sockets: set[Path] = set()
        self.lesson = "faults"

    def settings(self, **variables: str) -> Settings:
        return Settings.from_environment({**self.variables, **variables})

    def unit(self, kind: Kind = "postgres") -> Unit:
        return Unit(self.path, kind, "embedded")

    def open(self, lesson: str | None = None, **variables: str) -> Lab:
        """Open a lesson, schema only, in this process; the test's own one when omitted."""
        lab = Lab(lesson or self.lesson, "empty", self.settings(**variables), progress=False)
        self.labs.append(lab)
        self.note_sockets()
        return lab

    def kernel(self, code: str, **variables: str) -> Kernel:
        """Start a process that finds this home in its environment; LESSON is the test's own."""
        kernel = Kernel(code.replace("LESSON", self.lesson), {**self.variables, **variables})
        self.kernels.append(kernel)
        return kernel

    def note_sockets(self) -> None:
        """Remember where sockets are, so that what is left over can be found."""
        for kind in ("postgres", "redis"):
            last = self.unit(kind).last_sockets()
            if last is not None:
                self.sockets.add(last)

    def supervisor(self, kind: Kind = "postgres") -> int:
        return int(self.unit(kind).supervisor_pid.read_text())

    def server(self, kind: Kind = "postgres") -> int:
        pid = (self.unit(kind).read_state() or {}).get("pid")
        assert isinstance(pid, int), "no server is running"
        return pid

    def processes(self) -> list[psutil.Process]:
        """Return the living processes that have to do with this home, the test's own apart."""
        mine = {os.getpid(), *(kernel.pid for kernel in self.kernels)}
        return [p for p in psutil.process_iter() if p.pid not in mine and self._concerns(p)]

    def _concerns(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            command = "\0".join(process.cmdline())
            said = [command, process.cwd()]
            if process.name() in _PROGRAMS or "pglab.servers.supervisor" in command:
                said += [file.path for file in process.open_files()]  # logs, above all
            return any(str(place) in text for place in (self.path, *self.sockets) for text in said)
        except psutil.Error:
            return False

    def named(self, name: str) -> list[psutil.Process]:
        """Return those of this home's processes whose program has this name."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if [Path(part).name for part in process.cmdline()[:1]] == [name]:
                    found.append(process)
        return found

    def stop(self) -> list[Kind]:
        """Stop both servers; return which were running."""
        for lab in self.labs:
            lab.close()
        return [unit.kind for unit in lifecycle.units(self.settings()) if lifecycle.stop(unit)]

    def assert_nothing_left(self) -> None:
        """Check that no process of this home and no socket directory of its remains."""
        wait_until("every process ends", lambda: not self.processes())
        assert [path for path in self.sockets if path.exists()] == []
        assert list(self.path.parent.rglob("*.new-*")) == []

    def rest(self) -> None:
        """End all that runs here, in good order."""
        self.note_sockets()
        for kernel in self.kernels:
            kernel.close()
        for lab in self.labs:
            with contextlib.suppress(Exception):
                lab.close()
        self.kernels.clear()
        self.labs.clear()
        for process in self.processes():  # what a test left suspended
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
        self.stop()

    def close(self) -> None:
        """End all that runs here, somehow, and remove the home."""
        try:
            self.rest()
        finally:
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            for path in (*self.sockets, self.path.parent):
                if path.exists():
                    remove_tree(path)


@contextlib.contextmanager
def a_home(*, new: bool = False, **variables: str) -> Iterator[Home]:
    """Give a home in a directory of its own; remove both afterwards.

    Args:
        new: with nothing in it; otherwise it has a cluster already, which saves initdb's time.
        variables: of the environment that its processes get.
    """
    home = Home(_directory() / "lab", **variables)
    try:
        if not new:
            copy_home(_pattern(), home.path)
        yield home
    finally:
        home.close()


class Homes:
    """Gives one home to many tests, one after another, as long as none of them fails.

    Each finds its servers stopped, no log, and a lesson of its own. What the tests before did to
    the home is part of the test.
    """

    def __init__(self, **variables: str) -> None:
        self._variables = variables
        self._stack = contextlib.ExitStack()
        self._home: Home | None = None
        self._given = 0

    @contextlib.contextmanager
    def give(self, request: pytest.FixtureRequest) -> Iterator[Home]:
        """Give the home to the test that asks for it."""
        if self._home is None:
            self._home = self._stack.enter_context(a_home(**self._variables))
        home, failed = self._home, request.session.testsfailed
        self._given += 1
        home.lesson = f"faults{self._given}"
        try:
            yield home
            home.rest()
            home.assert_nothing_left()
            for log in home.path.glob("*/*.log"):
                log.unlink()
        except BaseException:
            self._home = None
            raise
        if request.session.testsfailed > failed:
            self._home = None

    def close(self) -> None:
        self._stack.close()


def copy_home(source: Path, target: Path) -> None:
    """Copy a home, and what lies beside it where the servers have an account of their own."""
    for path in (source, *source.parent.glob(f"{source.name}.*")):
        copy = target.parent / path.name.replace(source.name, target.name, 1)
        subprocess.run(["cp", "-a", path, copy], check=True)


def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="pglab-faults-"))
    directory.chmod(0o755)  # the servers' account can come here
    return directory


@functools.cache
def _pattern() -> Path:
    import atexit

    home = Home(_directory() / "lab")
    atexit.register(shutil.rmtree, home.path.parent, ignore_errors=True)
    home.open().drop()
    home.stop()
    return home.path
