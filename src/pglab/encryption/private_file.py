"""Files that only their owner can read: checked when opened, whole at any moment when written."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from pglab.encryption.errors import KeyFileError

__all__ = ["exclusive", "read", "replace", "write_new"]

_LARGEST_BYTES: Final = 1_000_000  # thousands of keys; a regular file gives it in one read
_LOCK_WAIT_S: Final = 10.0


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep others from changing the file meanwhile: two adding at once would lose a key.

    Raises:
        KeyFileError: another process holds it for long, or the folder cannot be used.
    """
    lock = FileLock(f"{path}.lock", mode=0o600)
    try:
        lock.acquire(timeout=_LOCK_WAIT_S)
    except Timeout:
        raise KeyFileError(
            f"{path}.lock is held by another process for more than {_LOCK_WAIT_S:g} s; see who is "
            "changing the keys"
        ) from None
    except OSError as error:
        raise _failed("write", path, error) from error
    try:
        yield
    finally:
        lock.release()


def read(path: Path) -> bytes:
    """Return what a file holds that is its owner's only.

    Raises:
        KeyFileError: it is missing, a symbolic link, no regular file, another user's, or its mode
            lets others in.
    """
    # Non-blocking, since a FIFO would wait for a writer; a symbolic link is not followed.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeyFileError(
                f"{path} is a symbolic link, whose target others may choose; give the file itself"
            ) from None
        raise _failed("read", path, error) from error
    try:
        # Of the opened file: the name could be given to another in between.
        _check_permissions(os.fstat(descriptor), path)
        return os.read(descriptor, _LARGEST_BYTES)
    finally:
        os.close(descriptor)


def _check_permissions(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is no regular file; make one with FileKeys.create()")
    if status.st_uid != os.geteuid():
        raise KeyFileError(
            f"{path} belongs to user {status.st_uid}, and this process runs as "
            f"{os.geteuid()}; who owns a file can change it: have a file of your own"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(
            f"{path} has mode {mode:04o}, which lets others in; run chmod 600, and make new keys "
            "if anybody may have read these"
        )


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet.

    Raises:
        KeyFileError: it exists, or cannot be written.
    """
    temporary = _temporary(path, content)
    try:
        # A link, not a rename: it fails where a file is, and never replaces it.
        os.link(temporary, path)
    except FileExistsError:
        raise KeyFileError(
            f"{path} exists, and may hold keys that data still need; choose another name"
        ) from None
    except OSError as error:
        raise _failed("write", path, error) from error
    finally:
        temporary.unlink()
    _sync_folder(path)


def replace(path: Path, content: bytes) -> None:
    """Replace a file: whoever reads, and whenever the power goes, it is the old or the new.

    Raises:
        KeyFileError: it cannot be written.
    """
    temporary = _temporary(path, content)
    try:
        temporary.replace(path)
    except OSError as error:
        temporary.unlink()
        raise _failed("write", path, error) from error
    _sync_folder(path)


def _temporary(path: Path, content: bytes) -> Path:
    """Write a file of mode 0600 beside ``path``, and have it on the disk."""
    try:
        # mkstemp creates with 0600 whatever the umask: the keys are never there to read.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _failed("write", path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        temporary.unlink()
        raise _failed("write", path, error) from error
    return temporary


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(verb: str, path: Path, error: OSError) -> KeyFileError:
    return KeyFileError(
        f"{path} cannot be {'read' if verb == 'read' else 'written'}: {error.strerror}; see that "
        "the folder exists and that you may use it"
    )
