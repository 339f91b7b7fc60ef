"""Making one socket's packets vanish, as a pulled cable does, without being root.

Linux lets a program attach a filter to a socket of its own; TCP asks it about every packet that
arrives, before anything else is done with it. One that accepts nothing therefore drops data and
acknowledgements alike: the other side hears nothing, and its kernel begins to retransmit.
(socket(7), SO_ATTACH_FILTER; the kernel's documentation, "Linux Socket Filtering aka BPF".)
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from typing import Any, Final, Protocol

from pglab.errors import ServerError

__all__ = [
    "Droppable",
    "check_that_packets_can_be_dropped",
    "drop_arriving",
    "let_arrive",
    "packets_can_be_dropped",
]

# Neither is among the constants of Python's module; these are Linux's on all but two of its
# architectures (SPARC and PA-RISC, which PostgreSQL's wheels are not made for).
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_RETURN_CONSTANT: Final = 0x06  # BPF_RET | BPF_K: accept so many bytes of the packet


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("constant", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


class Droppable(Protocol):
    """A socket, or what asyncio gives out in its place."""

    def setsockopt(self, *words: Any) -> None:
        """Set an option, as a socket does."""
        ...


def packets_can_be_dropped() -> bool:
    """Tell whether this system lets a program drop the packets of its own sockets."""
    return sys.platform == "linux"


def check_that_packets_can_be_dropped() -> None:
    """Raise an error that names the remedy if they cannot.

    Raises:
        ServerError: this system is not Linux.
    """
    if not packets_can_be_dropped():
        raise ServerError(
            f"packets can be dropped on Linux only, and this is {sys.platform}; run it in WSL 2, "
            "Codespaces or a container"
        )


def drop_arriving(sock: Droppable) -> None:
    """Let nothing more arrive at a socket: neither data nor acknowledgements.

    Raises:
        ServerError: this system is not Linux.
    """
    check_that_packets_can_be_dropped()
    nothing = _Instruction(_RETURN_CONSTANT, 0, 0, 0)
    program = _Program(1, ctypes.pointer(nothing))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))


def let_arrive(sock: Droppable) -> None:
    """Take the filter away again, if there is one; what was sent meanwhile is retransmitted."""
    if not packets_can_be_dropped():
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # it has none
            raise
