"""Keys in a file that only its owner can read: made, extended and backed up without a window."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pglab.encryption import private_file
from pglab.encryption.errors import KeyFileError, KeyMaterialError, UnknownKeyError
from pglab.encryption.key_material import (
    check_keys,
    generate_key,
    key_from_text,
    key_to_text,
)
from pglab.encryption.keys import LocalKeys
from pglab.encryption.layout import check_key_id

__all__ = ["FileKeys"]

_VERSION: Final = 1


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
        content = _Content.read(self.path)
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
        private_file.write_new(target, _Content(key_id, {key_id: generate_key()}).to_bytes())
        return cls(target)

    def add(self, key_id: str, *, make_current: bool = True) -> FileKeys:
        """Add a new key to the file; return the keys as they are then.

        Where several programs read copies of the file, add with ``make_current=False``, hand the
        file to all of them, and only then ``use`` the key: none meets a key that it lacks.

        Raises:
            KeyMaterialError: there is a key of this id, or the id cannot be one.
            KeyFileError: the file cannot be read or written.
        """
        with private_file.exclusive(self.path):
            content = _Content.read(self.path)
            if check_key_id(key_id) in content.keys:
                raise KeyMaterialError(
                    f"{self.path} has a key {key_id!r} already, and data may need it; choose "
                    "another id"
                )
            current = key_id if make_current else content.current
            private_file.replace(
                self.path, _Content(current, {**content.keys, key_id: generate_key()}).to_bytes()
            )
        return type(self)(self.path)

    def use(self, key_id: str) -> FileKeys:
        """Make another key of the file the current one; return the keys as they are then.

        Raises:
            UnknownKeyError: the file has no such key.
            KeyFileError: the file cannot be read or written.
        """
        with private_file.exclusive(self.path):
            content = _known(_Content.read(self.path), key_id, self.path)
            private_file.replace(self.path, _Content(key_id, content.keys).to_bytes())
        return type(self)(self.path)

    def remove(self, key_id: str) -> FileKeys:
        """Remove a key for ever; return the keys as they are then.

        What it still wraps is lost with it, in every backup of the database, too. See first that
        ``remaining(connection, key_id, column=…)`` is 0 for every column
        that was encrypted with it.

        Raises:
            UnknownKeyError: the file has no such key.
            KeyFileError: it is the current one; or the file cannot be read or written.
        """
        with private_file.exclusive(self.path):
            content = _known(_Content.read(self.path), key_id, self.path)
            if key_id == content.current:
                raise KeyFileError(
                    f"key {key_id!r} is the current one of {self.path}; use() another first, and "
                    "rotate what this one wrapped"
                )
            kept = {name: key for name, key in content.keys.items() if name != key_id}
            private_file.replace(self.path, _Content(content.current, kept).to_bytes())
        return type(self)(self.path)

    def backup(self, path: str | os.PathLike[str]) -> FileKeys:
        """Copy the file, read the copy back and return its keys.

        Keep the copy where the database's backups are not: who has both needs nothing else.

        Raises:
            KeyFileError: the copy's file exists, cannot be written, or differs when read.
        """
        target = Path(path)
        content = _Content.read(self.path)
        private_file.write_new(target, content.to_bytes())
        if _Content.read(target) != content:
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
    def read(cls, path: Path) -> _Content:
        content = _json_object(private_file.read(path))
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
    if check_key_id(key_id) not in content.keys:
        raise UnknownKeyError(
            f"{path} has no key {key_id!r}, only {', '.join(content.keys)}; add() it first"
        )
    return content
