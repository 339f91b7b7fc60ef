"""Clients that are processes: an interpreter each, so that none waits for another one's Python.

They are "spawned": a forked child would share libpq's connections and a notebook's threads with its
parent. What they should do goes to them through a pipe, so that no password gets into a command
line. A child whose pipe breaks ends itself: whoever kills the parent leaves none behind.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NamedTuple

from pglab.bench.crew import Factory, Gate, Plan, Run, Said, be_client, no_collection
from pglab.errors import BenchError

__all__ = ["Processes", "pickled"]

_ANSWER_SECONDS: Final = 2.0  # within which a process hands over what it has
_GUARD: Final = 'a script has to start a load below if __name__ == "__main__":'
_clock = time.perf_counter_ns  # of the machine, not of a process: one start fits all


class Processes:
    """Clients of an interpreter each.

    Raises:
        BenchError: what they should do cannot be sent to them.
    """

    def __init__(self, factory: Factory, plan: Plan[Any], clients: int) -> None:
        self._work = pickled(factory, plan)
        self._count = clients
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: dict[int, Connection] = {}
        self._opened: set[int] = set()

    def begin(self) -> None:
        """Start the processes."""
        context = multiprocessing.get_context("spawn")
        for number in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work_in_process,
                args=(number, self._work, theirs),
                name=f"pglab-client-{number}",
                daemon=True,
            )
            self._processes.append(process)
            self._pipes[number] = ours
            with theirs, _interrupts_held():
                _start(process)

    def go(self, start_ns: int) -> None:
        """Tell them all when to start."""
        self._tell("go", start_ns)

    def hear(self, seconds: float) -> list[Said]:
        """Return what was said, waiting for it no longer than this."""
        numbers = {id(pipe): number for number, pipe in self._pipes.items()}
        heard: list[Said] = []
        for pipe in wait(list(self._pipes.values()), max(0.0, seconds)):
            number = numbers[id(pipe)]
            try:
                heard.append(_unpacked(self._pipes[number].recv()))
                self._opened.add(number)
            except (EOFError, OSError):
                heard.append(self._gone(number))
        return heard

    def _gone(self, number: int) -> Said:
        self._pipes.pop(number).close()
        process = self._processes[number]
        process.join(_ANSWER_SECONDS)
        error = ChildProcessError(f"exit code {process.exitcode}")
        doing = "ended without a word"
        if number not in self._opened:
            doing = f"ended before it was open ({_GUARD})"
        return Said(number, "failed", (doing, error), _clock())

    def stop(self) -> None:
        """Tell them to end with the operation that each is at."""
        self._tell("stop")

    def cut(self, number: int) -> Any:
        """Return what a client has measured that is still at work.

        Raises:
            BenchError: it does not answer.
        """
        self._tell("cut", to=number)
        pipe = self._pipes.get(number)
        with suppress(EOFError, OSError):
            while pipe is not None and pipe.poll(_ANSWER_SECONDS):
                said: Said = pipe.recv()
                if said.what in {"cut", "done"}:
                    return said.value
        raise BenchError(
            f"the process of client {number} hangs and does not answer; use mode='threads'"
        )

    def _tell(self, *words: object, to: int | None = None) -> None:
        for number, pipe in self._pipes.items():
            if to in {None, number}:
                with suppress(OSError):  # it has gone, which hear() will find
                    pipe.send(words)

    def end(self, patience_seconds: float) -> None:
        """Wait a moment for them, and kill those that are still there."""
        self.stop()
        until = time.monotonic() + patience_seconds
        started = [process for process in self._processes if process.pid is not None]
        try:
            for process in started:
                process.join(max(0.0, until - time.monotonic()))
        finally:  # a second Ctrl-C comes here at once
            for process in started:
                process.kill()
            for process in started:
                process.join()
                process.close()
            for pipe in self._pipes.values():
                pipe.close()


def _start(process: multiprocessing.process.BaseProcess) -> None:
    try:
        process.start()
    except RuntimeError as error:
        # A new process imports the main script anew, and has come to this line of it.
        raise BenchError(f"a client tried to start the load that it is of; {_GUARD}") from error


def pickled(factory: Factory, plan: Plan[Any]) -> bytes:
    """Return what a new process needs to work.

    Raises:
        BenchError: it cannot be pickled, or a new process could not find the function.
    """
    remedy = (
        "write it as a function at the top of a module (a file that can be imported), with "
        "functools.partial for its arguments, or use mode='threads'"
    )
    try:
        data = pickle.dumps((factory, plan))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BenchError(f"the factory cannot be sent to another process; {remedy}") from error
    main = sys.modules["__main__"]
    found = getattr(main, "__spec__", None) or getattr(main, "__file__", None)
    if b"__main__" in data and not found:
        raise BenchError(
            f"the factory was defined in a notebook, which another process cannot import; {remedy}"
        )
    return data


def _work_in_process(number: int, sent: bytes, pipe: Connection) -> None:
    """Be a client: what a new process does. Ctrl-C is held back from its birth on."""
    gate, lock = Gate(), threading.Lock()

    def tell(said: Said) -> None:
        if said.what == "failed":
            doing, error = said.value
            said = said._replace(value=(doing, _packed(error)))
        with lock:
            pipe.send(said)

    try:
        factory, plan = pickle.loads(sent)  # noqa: S301 (our own parent sent it)
        run = plan(number)
    except Exception as error:  # noqa: BLE001 (whoever started the load raises it)
        tell(Said(number, "failed", ("could not be opened", error), _clock()))
        return
    listener = threading.Thread(target=_listen, args=(number, pipe, gate, run, tell), daemon=True)
    listener.start()
    with no_collection():
        be_client(number, factory, run, gate, tell)


def _listen(
    number: int, pipe: Connection, gate: Gate, run: Run[Any], tell: Callable[[Said], object]
) -> None:
    try:
        while True:
            match pipe.recv():
                case ("go", start_ns):
                    gate.go(start_ns)
                case ("stop",):
                    gate.end()
                case ("cut",):
                    tell(Said(number, "cut", run.result(), _clock()))
    except (EOFError, OSError):
        os._exit(1)  # whoever started the load is gone


class _Packed(NamedTuple):
    """An error on its way: pickled, if that can be done, and in words."""

    pickled: bytes | None
    words: str
    traceback: str


def _packed(error: BaseException) -> _Packed:
    words = f"{type(error).__name__}: {error}"
    story = "".join(traceback.format_exception(error))
    try:
        return _Packed(pickle.dumps(error), words, story)
    except Exception:  # noqa: BLE001 (an error may refuse in any way)
        return _Packed(None, words, story)


def _unpacked(said: Said) -> Said:
    """Return what was said; an error is a stand-in if its class is not to be had here."""
    if said.what != "failed":
        return said
    doing, packed = said.value
    error: BaseException = RuntimeError(packed.words)
    if packed.pickled is not None:
        with suppress(Exception):
            error = pickle.loads(packed.pickled)  # noqa: S301 (our own child sent it)
    error.add_note(f"in the process of client {said.number}:\n{packed.traceback}")
    return said._replace(value=(doing, error))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a process be born with Ctrl-C held back: its parent hears it, and ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started with the first process otherwise, after which it lets go of Ctrl-C.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
