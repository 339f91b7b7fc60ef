"""Keys in a file that only its owner can read: made, extended and backed up without a window."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pglab.encryption.errors import KeyFileError, KeyMaterialError, UnknownKeyError
from pglab.encryption.keys import LocalKeys, check_keys, generate_key, key_from_text, key_to_text
from pglab.encryption.layout import check_key_id

__all__ = ["FileKeys"]

_VERSION: Final = 1
_LARGEST_BYTES: Final = 1_000_000  # thousands of keys; a regular file gives it in one read
_LOCK_WAIT_S: Final = 10.0


class FileKeys(LocalKeys):
    """Keys from a file of mode 0600 (or 0400) that belongs to this process's user.

    The file is JSON: ``{"version": 1, "current": "2026-11", "keys": {"2026-11": "base64"}}``. Its
    permissions are checked on the opened file, so that it cannot be exchanged in between. The
    object is what the file held when it was read; ``add`` and ``remove`` return a new one.

    Args:
        path: the file; ``FileKeys.create`` makes one.

    Raises:
        KeyFileError: it is missing, a symbolic link or no regular file, belongs to somebody else,
            or its mode lets the group or others in.
        KeyMaterialError: its content is no list of keys.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path)
        content = _read(self.path)
        super().__init__(content.keys, current=content.current)

    @classmethod
    def create(cls, path: str | os.PathLike[str], key_id: str) -> FileKeys:
        """Make a file with one new key; all of it appears at once, with mode 0600.

        Raises:
            KeyFileError: the file exists, which may hold keys that data still need; or it cannot
                be written.
            KeyMaterialError: the id cannot be one.
        """
        target = Path(path)
        check_key_id(key_id)
        _write_new(target, _Content(key_id, {key_id: generate_key()}))
        return cls(target)

    def add(self, key_id: str, *, make_current: bool = True) -> FileKeys:
        """Add a new key to the file; return the keys as they are then.

        Where several programs read copies of the file, add with ``make_current=False``, hand the
        file to all of them, and only then ``use`` the key: none meets a key that it lacks.

        Raises:
            KeyMaterialError: there is a key of this id, or the id cannot be one.
            KeyFileError: the file cannot be read or written.
        """
        with _exclusive(self.path):
            content = _read(self.path)
            if check_key_id(key_id) in content.keys:
                raise KeyMaterialError(
                    f"{self.path} has a key {key_id!r} already, and data may need it; choose "
                    "another id"
                )
            current = key_id if make_current else content.current
            _replace(self.path, _Content(current, {**content.keys, key_id: generate_key()}))
        return type(self)(self.path)

    def use(self, key_id: str) -> FileKeys:
        """Make another key of the file the current one; return the keys as they are then.

        Raises:
            UnknownKeyError: the file has no such key.
            KeyFileError: the file cannot be read or written.
        """
        with _exclusive(self.path):
            content = _known(_read(self.path), key_id, self.path)
            _replace(self.path, _Content(key_id, content.keys))
        return type(self)(self.path)

    def remove(self, key_id: str) -> FileKeys:
        """Remove a key for ever; return the keys as they are then.

        What it still wraps is lost with it, in every backup of the database, too. See first that
        ``remaining(connection, key_id)`` is 0.

        Raises:
            UnknownKeyError: the file has no such key.
            KeyFileError: it is the current one; or the file cannot be read or written.
        """
        with _exclusive(self.path):
            content = _known(_read(self.path), key_id, self.path)
            if key_id == content.current:
                raise KeyFileError(
                    f"key {key_id!r} is the current one of {self.path}; use() another first, and "
                    "rotate what this one wrapped"
                )
            kept = {name: key for name, key in content.keys.items() if name != key_id}
            _replace(self.path, _Content(content.current, kept))
        return type(self)(self.path)

    def backup(self, path: str | os.PathLike[str]) -> FileKeys:
        """Copy the file, read the copy back and return its keys.

        Keep the copy where the database's backups are not: who has both needs nothing else.

        Raises:
            KeyFileError: the copy's file exists, cannot be written, or differs when read.
        """
        target = Path(path)
        content = _read(self.path)
        _write_new(target, content)
        if _read(target) != content:
            raise KeyFileError(f"{target} reads otherwise than what was written; try another disk")
        return type(self)(target)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file holds."""

    current: str
    keys: dict[str, bytes] = field(repr=False)

    def to_bytes(self) -> bytes:
        keys = {key_id: key_to_text(key) for key_id, key in self.keys.items()}
        content = {"version": _VERSION, "current": self.current, "keys": keys}
        return json.dumps(content, indent=2).encode("ascii") + b"\n"

    @classmethod
    def parse(cls, text: bytes, path: Path) -> _Content:
        content = _json_object(text)
        keys = content.get("keys") if content else None
        current = content.get("current") if content else None
        if content is None or content.get("version") != _VERSION or not isinstance(keys, dict):
            raise KeyMaterialError(
                f"{path} is not a file of keys of version {_VERSION}; make one with "
                "FileKeys.create(), or restore it from its backup"
            )
        parsed = {}
        for number, (key_id, key) in enumerate(keys.items(), start=1):
            what = f"entry {number} of {path}"
            parsed[check_key_id(key_id)] = key_from_text(str(key), what=what)
        check_keys(parsed)
        if not isinstance(current, str) or current not in parsed:
            raise KeyMaterialError(
                f"{path} names a current key that it does not hold; restore it from its backup"
            )
        return cls(current, parsed)


def _json_object(text: bytes) -> dict[str, Any] | None:
    """Return the object, or None. No error is passed on: a JSONDecodeError carries the text."""
    try:
        content = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; of two equal names, json would silently keep the last."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


def _known(content: _Content, key_id: str, path: Path) -> _Content:
    if key_id not in content.keys:
        raise UnknownKeyError(
            f"{path} has no key {key_id!r}, only {', '.join(content.keys)}; add() it first"
        )
    return content


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Keep others from changing the file meanwhile: two adding at once would lose a key."""
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


def _read(path: Path) -> _Content:
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
        _check_permissions(os.fstat(descriptor), path)
        text = os.read(descriptor, _LARGEST_BYTES)
    finally:
        os.close(descriptor)
    return _Content.parse(text, path)


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


def _write_new(path: Path, content: _Content) -> None:
    """Write a file that must not exist yet."""
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


def _replace(path: Path, content: _Content) -> None:
    """Replace a file: whoever reads, and whenever the power goes, it is the old or the new."""
    temporary = _temporary(path, content)
    try:
        temporary.replace(path)
    except OSError as error:
        temporary.unlink()
        raise _failed("write", path, error) from error
    _sync_folder(path)


def _temporary(path: Path, content: _Content) -> Path:
    """Write a file of mode 0600 beside ``path``, and have it on the disk."""
    try:
        # mkstemp creates with 0600 whatever the umask: the keys are never there to read.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _failed("write", path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.to_bytes())
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
