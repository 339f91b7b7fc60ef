"""What pglab remembers of the copies that it made, and writing files as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pglab.whole_file import write_whole

__all__ = ["SCRATCH", "Entry", "Manifest", "hash_of"]

SCRATCH: Final = ".pglab-new-"  # how the name of a file that is being written begins

_NAME = ".pglab.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One copy.

    Attributes:
        original: hash of the original that it was made from, or last compared with.
        copy: its own hash as made; empty for a file that was the learner's from the beginning.
    """

    original: str
    copy: str


class Manifest:
    """The entries of one workspace, by name relative to it; read and written under its lock.

    Attributes:
        problem: a sentence for the learner if the file could not be read; it is made anew.
    """

    def __init__(self, path: Path, entries: dict[str, Entry], problem: str | None = None) -> None:
        self.entries = entries
        self.problem = problem
        self._path = path
        self._written = None if problem else self._text()

    @classmethod
    def read(cls, workspace: Path) -> Manifest:
        """Read the manifest; one that is missing or damaged is empty, and never trusted."""
        path = workspace / _NAME
        try:
            return cls(path, _parse(path.read_bytes()))
        except FileNotFoundError:
            return cls(path, {})
        except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
            return cls(
                path,
                {},
                f"{path} could not be read ({type(error).__name__}: {error}) and is made anew; "
                "each copy that differs from its original now counts as changed by you",
            )

    def write_if_changed(self) -> None:
        """Replace the file unless it says the same already."""
        text = self._text()
        if text != self._written:
            write_whole(self._path, text.encode(), prefix=SCRATCH)
            self._written = text

    def _text(self) -> str:
        files = {
            name: {"original": entry.original, "copy": entry.copy}
            for name, entry in sorted(self.entries.items())
        }
        return json.dumps({"version": _VERSION, "files": files}, indent=1) + "\n"


def _parse(content: bytes) -> dict[str, Entry]:
    manifest = json.loads(content)
    if manifest["version"] != _VERSION:
        raise ValueError(f"version {manifest['version']}")
    return {
        name: Entry(str(entry["original"]), str(entry["copy"]))
        for name, entry in manifest["files"].items()
    }


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
