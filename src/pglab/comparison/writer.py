"""A gateway's worker as a process of its own: it stores events, and says which are committed.

One event is one transaction of two writes: the message, and the instance's count of messages. The
first line of standard input says what to do, as JSON; after each commit its number is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import IO, Any, Literal, TextIO

from pglab.comparison.contract import Engine, Refused, Session
from pglab.comparison.workload import BUSY, Chat, chat_of, event
from pglab.servers.process import clean_environment

__all__ = ["Task", "main", "store", "working"]

Task = Literal["until killed", "half", "timed"]

_WARM_UP = 10  # events before the clock begins


def store(session: Session, number: int, chat: Chat) -> None:
    """Store one event: both writes or none, where the engine can."""
    session.begin()
    try:
        session.insert("messages", event(number, chat))
        session.add(chat.instance)
        session.commit()
    except Refused:
        session.rollback()
        raise


def _busy(session: Session, order: dict[str, Any], say: TextIO) -> None:
    for number in count(order["first"]):
        store(session, number, Chat(*order["chat"]))
        say.write(f"{number}\n")
        say.flush()


def _half(session: Session, order: dict[str, Any], say: TextIO, hear: TextIO) -> None:
    session.begin()
    session.insert("messages", event(order["first"], Chat(*order["chat"])))
    say.write("half\n")
    say.flush()
    hear.readline()  # for ever: we are killed here, or the server is


def _timed(session: Session, order: dict[str, Any], say: TextIO, hear: TextIO) -> None:
    chat = Chat(*order["chat"])
    for number in range(order["first"] - _WARM_UP, order["first"]):
        with suppress(Refused):
            store(session, number, chat)
    say.write("ready\n")
    say.flush()
    hear.readline()
    stored = refused = 0
    began = time.perf_counter()
    for number in range(order["first"], order["first"] + order["count"]):
        for _ in range(order["tries"]):
            try:
                store(session, number, chat)
            except Refused:
                refused += 1
            else:
                stored += 1
                break
    seconds = time.perf_counter() - began
    say.write(json.dumps({"stored": stored, "refused": refused, "seconds": seconds}) + "\n")
    say.flush()


def main(hear: TextIO = sys.stdin, say: TextIO = sys.stdout) -> None:
    """Do what the first line asks for."""
    from pglab.comparison.addresses import engine_at

    order = json.loads(hear.readline())
    session = engine_at(order["engine"], order["address"]).connect(order["setup"], patient=True)
    task: Task = order["task"]
    try:
        if task == "half":
            _half(session, order, say, hear)
        elif task == "timed":
            _timed(session, order, say, hear)
        else:
            _busy(session, order, say)
    except Refused as error:  # the server was killed: that is what this is for
        say.write(f"end {error}\n")
        say.flush()


@contextmanager
def working(
    engine: Engine, setup: str, task: Task, *, instance: str = BUSY, **details: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a worker, and see to it that it ends.

    Args:
        engine: where it stores.
        setup: how.
        task: what it does.
        instance: whose events.
        details: ``first`` (number of its first event); for ``"timed"`` also ``count`` and
            ``tries``.
    """
    order = {
        "engine": engine.name, "address": engine.address(), "setup": setup, "task": task,
        "chat": chat_of(instance), **details,
    }  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "pglab.comparison.writer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=clean_environment(),
    )  # fmt: skip
    try:
        pipe = _pipe(child.stdin)
        pipe.write(json.dumps(order) + "\n")
        pipe.flush()
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 - a pipe was asked for
    return stream


if __name__ == "__main__":
    main()
