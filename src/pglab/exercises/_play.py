"""The process that an answer in Python runs in: play a scenario, and leave a report.

It is started for one scenario, and killed when its time is over. That keeps accidents (an endless
loop, ``sys.exit``, a name that is overwritten) away from the learner's kernel; it is no prison.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import io
import json
import linecache
import os
import select
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

__all__ = ["CELL", "REPORT", "Job", "Report", "alone", "nurse"]

CELL: Final = "your cell"
"""The file name of the learner's code, in tracebacks."""
REPORT: Final = "report.json"
"""Where the report is left, in the job's directory."""
_IDLE_S: Final = 300
_PR_SET_PDEATHSIG: Final = 1  # from <sys/prctl.h>
_MOST_PRINTED: Final = 2_000
_MOST_MEMORY: Final = 4 << 30


@dataclass(frozen=True)
class Job:
    """What to play.

    Attributes:
        module, scenario: where the scenario is defined.
        path: where modules are found.
        source: the learner's cell.
        first_line: the number of its first line in the editor.
        data: which data the copy holds.
        limit_s: seconds that it may take.
        database: libpq's parameters for the copy.
        directory: for temporary files; whoever started us removes it.
    """

    module: str
    scenario: str
    path: list[str]
    source: str
    first_line: int
    data: str
    limit_s: float
    database: dict[str, str] | None = None
    directory: str = ""


@dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        kind: ``passed``; ``not yet``; ``raised`` (by the answer); ``asked`` (it called input);
            ``left`` (it called sys.exit); ``too slow``; ``stumbled`` (the scenario failed over
            what it was given); ``cannot`` (a server failed).
        message: the words that go with it.
        seen: shown as it is: lines of the learner's code, an error, values.
        printed: the first of what the answer printed.
    """

    kind: str
    message: str = ""
    seen: str = ""
    printed: str = ""


class _InputAskedError(BaseException):
    """The answer waits for somebody who types."""


def nurse() -> None:
    """Play each job that comes, in a fork of this process, which has imported what they need."""
    _import_ahead()
    me = os.getpid()
    answers = os.dup(1)
    _be_silent()
    while select.select([sys.stdin], [], [], _IDLE_S)[0] and (order := sys.stdin.buffer.readline()):
        child = os.fork()
        if child == 0:
            os.setsid()  # a group of its own: os.kill(0, …) must not reach further
            _die_with(me)
            _play(order)
        _, status = os.waitpid(child, 0)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


def _import_ahead() -> None:
    for name in ("psycopg", "pglab.exercises", "pglab.servers.scratch", "redis"):
        with suppress(ImportError):
            importlib.import_module(name)


def alone() -> None:
    """Play one job, without a fork."""
    order = sys.stdin.buffer.readline()
    _be_silent()
    _play(order)


def _be_silent() -> None:
    # Whatever the answer (or a program that it starts) writes to these goes nowhere.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _play(order: bytes) -> NoReturn:
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        job = Job(**json.loads(order))
        sys.path[:] = job.path
        os.chdir(job.directory)
        _Stage(job).play()
    finally:
        os._exit(1)


class _Stage:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._printed = _Capped()
        self._reporting = threading.Lock()

    def play(self) -> NoReturn:
        job = self._job
        tempfile.tempdir = job.directory
        sys.stdout = sys.stderr = self._printed
        builtins.input = _nobody_types
        lines = ["\n"] * (job.first_line - 1) + job.source.splitlines(keepends=True)
        linecache.cache[CELL] = (len(job.source), None, lines, CELL)
        try:
            _limit(job.limit_s)
            from pglab.exercises._world import World

            scenario = getattr(importlib.import_module(job.module), job.scenario)
            world = World(job.database, job.data, job.limit_s)
        except Exception as error:  # noqa: BLE001 - the exercise's fault: it must be told
            self._report(Report("cannot", f"{type(error).__name__}: {error}"))
            os._exit(0)
        watch = threading.Timer(job.limit_s, self._stop)
        watch.daemon = True
        watch.start()
        ours = dict(vars(builtins))
        report = self._outcome(scenario, world)
        vars(builtins).update(ours)  # an answer may have put something else under such a name
        watch.cancel()
        with suppress(Exception):
            world.close()
        self._report(report)
        os._exit(0)  # threads that the answer left running are nobody's concern any more

    def _outcome(self, scenario: Any, world: Any) -> Report:
        from pglab.exercises._behaves import NotYet
        from pglab.exercises._world import Answer

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                text = "\n" * (self._job.first_line - 1) + self._job.source
                code = compile(text, CELL, "exec", dont_inherit=True)
            names: dict[str, Any] = {"__name__": "answer"}
            exec(code, names)  # noqa: S102 - running it is what this process is for
            scenario(Answer(names), world)
        except NotYet as fault:
            return Report("not yet", fault.message, fault.seen)
        except _InputAskedError as error:
            return Report("asked", seen=_places(_frames(error)))
        except SystemExit as error:
            return Report("left", seen=_places(_frames(error)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must be told
            return _failed(error)
        return Report("passed")

    def _stop(self) -> None:
        """Report that the time is over, and where the answer is; end the process."""
        me = threading.get_ident()
        main_thread = threading.main_thread().ident
        frames = sys._current_frames()  # noqa: SLF001 - documented, for just this
        found = [frames.get(main_thread or 0), *(f for i, f in frames.items() if i != me)]
        places = next(filter(None, (_places(_up(frame)) for frame in found)), "")
        self._report(Report("too slow", seen=places))
        os._exit(0)

    def _report(self, report: Report) -> None:
        with self._reporting:  # whoever is second has nothing to add
            path = Path(self._job.directory, REPORT)
            if not path.exists():
                content = {**asdict(report), "printed": self._printed.text}
                path.write_text(json.dumps(content), encoding="utf-8")


class _Capped(io.TextIOBase):
    """Keeps the beginning of what is printed: an endless loop that prints must not eat memory."""

    encoding = "utf-8"
    text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.text) < _MOST_PRINTED:
            self.text += text[: _MOST_PRINTED - len(self.text)]
        return len(text)


def _nobody_types(prompt: object = "") -> NoReturn:  # noqa: ARG001 - as input() is called
    raise _InputAskedError


def _failed(error: BaseException) -> Report:
    import psycopg

    from pglab.errors import PglabError

    frames = list(_frames(error))
    name = type(error).__name__
    said = f"{name}: {error}" if str(error) else name
    places = _places(frames)
    if places:
        return Report("raised", said, f"{places}\n{said}"[:4_000])
    if isinstance(error, (PglabError, psycopg.OperationalError, OSError)):
        return Report("cannot", said)
    return Report("stumbled", said)


def _frames(error: BaseException) -> Iterable[tuple[FrameType, int]]:
    return traceback.walk_tb(error.__traceback__)


def _up(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_stack(frame))[::-1] if frame is not None else []


def _places(frames: Iterable[tuple[FrameType, int]]) -> str:
    """Return the lines of the learner's cell among these, the innermost last."""
    numbers = [number for frame, number in frames if frame.f_code.co_filename == CELL]
    kept = numbers if len(numbers) <= 4 else [numbers[0], *numbers[-3:]]
    return "\n".join(f"line {n}: {linecache.getline(CELL, n).strip()}" for n in kept)


def _limit(seconds: float) -> None:
    """Let the system end what nothing else ends: code that never lets another thread run."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such module
        import resource

        for what, most in ((resource.RLIMIT_CPU, int(seconds) + 10), *_memory(resource)):
            _, hard = resource.getrlimit(what)
            resource.setrlimit(what, (most, hard))


def _memory(resource: Any) -> list[tuple[int, int]]:
    return [(resource.RLIMIT_AS, _MOST_MEMORY)] if sys.platform == "linux" else []
