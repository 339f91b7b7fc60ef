"""Clients for the loads' tests, in a module that other processes can import."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import psutil
import psycopg


@contextmanager
def waits(number: int, seconds: float = 0.001):
    yield lambda i: time.sleep(seconds) or number + 1


@contextmanager
def computes(number: int):
    yield lambda i: sum(range(3_000)) and 1


@contextmanager
def meets(number: int, folder: Path, clients: int):
    """The first operation returns only when all clients are in it."""

    def once(i: int) -> int:
        (folder / str(number)).touch()
        until = time.monotonic() + 60
        while len(list(folder.iterdir())) < clients:
            assert time.monotonic() < until, "the others never came"
            time.sleep(0.001)
        return 1

    yield once


class UnportableError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")  # what pickle does with it fails: two arguments are needed


@contextmanager
def fails(number: int, kind: type[Exception] = ValueError, arguments: tuple = ("boom",)):
    def once(i: int) -> int:
        time.sleep(0.001)
        if number == 1 and i == 20:
            raise kind(*arguments)
        return 1

    yield once


@contextmanager
def fails_strangely(number: int):
    """Raises an error of a module that nobody else can import."""
    module = sys.modules["only_here"] = ModuleType("only_here")
    module.StrangeError = type("StrangeError", (Exception,), {"__module__": "only_here"})
    yield lambda i: throw(module.StrangeError("boom"))


@contextmanager
def fails_unsendably(number: int):
    """Raises an error that carries what cannot be pickled."""
    error = ValueError("boom")
    error.held = threading.Lock()
    yield lambda i: throw(error)


def throw(error: Exception) -> int:
    raise error


@contextmanager
def fails_to_open(number: int):
    if number == 1:
        raise ConnectionRefusedError("nobody listens")
    yield lambda i: 1


@contextmanager
def fails_to_close(number: int):
    yield lambda i: time.sleep(0.001) or 1
    if number == 1:
        raise OSError("cannot close")


@contextmanager
def fails_twice(number: int):
    def once(i: int) -> int:
        raise ValueError("the operation's")

    try:
        yield once
    finally:
        raise OSError("while closing what is broken")


@contextmanager
def dies(number: int):
    yield lambda i: os._exit(3) if number == 1 and i == 5 else time.sleep(0.001) or 1


@contextmanager
def hangs(number: int, every: bool = False, at: int = 3, seconds: float = 1_000.0):
    def once(i: int) -> int:
        time.sleep(seconds if i == at and (every or number == 0) else 0.001)
        return 1

    yield once


@contextmanager
def tells_what_is_seen(number: int, secret: str):
    """Rows: 1 if the garbage collector is on, 100 if the secret is in the command line."""

    def once(i: int) -> int:
        time.sleep(0.001)
        return gc.isenabled() + 100 * (secret in " ".join(psutil.Process().cmdline()))

    yield once


@contextmanager
def asks(number: int, conninfo: str, query: str, opened: Callable[[int], object] | None = None):
    """A connection of its own for each client; ``opened`` is told the backend's process."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if opened is not None:
            opened(connection.info.backend_pid)
        yield lambda i: len(connection.execute(query.encode()).fetchall())
