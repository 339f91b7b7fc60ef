"""Many clients at once, for lessons that show what only happens then: in threads, with an end.

Nothing here waits for ever: a client that does not come back within its time is an error that says
so, and threads that are left over are daemons, which end with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pglab.errors import LabError

__all__ = ["Answer", "longest_s", "together", "traffic", "wait_until"]

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call gave.

    Attributes:
        at_s: when it began, seconds since all began.
        seconds: what it took.
        value: what it returned; None if it raised.
        error: what it raised; None if it returned.
    """

    at_s: float
    seconds: float
    value: Any = None
    error: Exception | None = None


def together(
    clients: int, ask: Callable[[], Any], *, patience_s: float = _PATIENCE_S
) -> list[Answer]:
    """Let many clients, a thread each, ask once and at the same moment; return their answers.

    Args:
        clients: how many.
        ask: what each does.
        patience_s: how long they may take, all together, seconds.

    Raises:
        LabError: some did not come back in time.
    """
    gate = threading.Barrier(clients + 1)
    began: list[float] = []
    answers: list[Answer] = []

    def client() -> None:
        gate.wait(patience_s)
        answers.append(_ask(ask, began[0]))

    threads = _start([client] * clients)
    began.append(time.monotonic())
    gate.wait(patience_s)
    _join(threads, patience_s)
    return sorted(answers, key=lambda answer: answer.at_s)


def traffic(
    asks: Sequence[Callable[[], Any]],
    *,
    seconds: float,
    pause_s: float = 0.001,
    meanwhile: Callable[[], object] | None = None,
    patience_s: float = _PATIENCE_S,
) -> list[Answer]:
    """Let clients ask again and again for a while; return all their answers, in their order.

    Args:
        asks: what each client does; a thread each.
        seconds: for how long; ``meanwhile`` is waited for even if it takes longer.
        pause_s: after each answer, seconds.
        meanwhile: is called once, in this thread, while they ask.
        patience_s: how long the last answers may take, seconds.

    Raises:
        LabError: some did not come back in time.
        Exception: what ``meanwhile`` raised, after the clients have ended.
    """
    stop = threading.Event()
    answers: list[Answer] = []
    began = time.monotonic()

    def client(ask: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            while not stop.is_set():
                answers.append(_ask(ask, began))
                stop.wait(pause_s)

        return run

    threads = _start([client(ask) for ask in asks])
    try:
        if meanwhile is not None:
            meanwhile()
        time.sleep(max(0.0, began + seconds - time.monotonic()))
    finally:
        stop.set()
        _join(threads, patience_s)
    return sorted(answers, key=lambda answer: answer.at_s)


def longest_s(answers: Sequence[Answer]) -> float:
    """Return what the slowest answer took, seconds; 0 of none."""
    return max((answer.seconds for answer in answers), default=0.0)


def wait_until(what: str, true: Callable[[], Any], *, patience_s: float = _PATIENCE_S) -> None:
    """Look every few milliseconds whether something is true, and go on when it is.

    Raises:
        LabError: it did not become true in time.
    """
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise LabError(
                f"within {patience_s:g} s this did not come about: {what}; run the cell again, and "
                "the lesson from its top if that does not help"
            )
        time.sleep(0.002)


def _ask(ask: Callable[[], Any], began: float) -> Answer:
    start = time.monotonic()
    try:
        value = ask()
    except Exception as error:  # noqa: BLE001 - an error is an answer here
        return Answer(start - began, time.monotonic() - start, error=error)
    return Answer(start - began, time.monotonic() - start, value)


def _start(works: Sequence[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, name="pglab crowd", daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def _join(threads: Sequence[threading.Thread], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = sum(thread.is_alive() for thread in threads)
    if left:
        raise LabError(
            f"{left} of {len(threads)} clients did not come back within {patience_s:g} s; restart "
            "the kernel, and run the lesson from its top"
        )
