"""A folder of backups: each its own folder, named after its time, complete or not there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pglab.backup.errors import DamagedBackupError, NotABackupError, TruncatedBackupError
from pglab.backup.manifest import MANIFEST, FileEntry, Manifest, read_manifest

__all__ = ["Backup", "backup_name", "list_backups", "open_backup", "unfinished"]

# While it is being made, and while it is being deleted, a backup has a name that is never listed.
UNFINISHED: Final = ".unfinished-"
_BLOCK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup: a folder, and the manifest in it.

    Attributes:
        path: the folder.
        manifest: what it holds.
    """

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def dump(self) -> Path:
        """What pg_restore reads: a folder or a file."""
        return self.path / ("dump" if self.manifest.format == "directory" else "dump.custom")

    def check_sizes(self) -> None:
        """Look whether every file is there, at its size; nothing is read.

        Raises:
            TruncatedBackupError: one is missing or too short.
            DamagedBackupError: one is too long.
        """
        for name, entry in self.manifest.files.items():
            try:
                size = (self.path / name).stat().st_size
            except OSError as error:
                raise TruncatedBackupError(
                    f"{name} of the backup {self.name} is missing ({error.strerror}); use another "
                    "backup"
                ) from None
            if size < entry.bytes:
                raise TruncatedBackupError(
                    f"{name} of the backup {self.name} is cut short: {size:,} of {entry.bytes:,} "
                    "bytes; use another backup"
                )
            if size > entry.bytes:
                raise DamagedBackupError(
                    f"{name} of the backup {self.name} has {size:,} bytes, and had {entry.bytes:,} "
                    "when it was made; use another backup"
                )

    def check_files(self, on_bytes: Callable[[int], object] | None = None) -> None:
        """Read every file and compare its checksum.

        Args:
            on_bytes: told how many more bytes were read.

        Raises:
            TruncatedBackupError, DamagedBackupError: a file is not the one that was written.
        """
        self.check_sizes()
        for name, entry in self.manifest.files.items():
            if file_entry(self.path / name, on_bytes).sha256 != entry.sha256:
                raise DamagedBackupError(
                    f"{name} of the backup {self.name} was changed: its SHA-256 is not the one "
                    "that was noted when it was made; use another backup"
                )

    def remove(self) -> None:
        """Delete it; it is out of the list before the first file goes.

        Raises:
            OSError: it cannot be deleted.
        """
        doomed = self.path.with_name(f"{UNFINISHED}{self.name}-removed")
        self.path.rename(doomed)
        shutil.rmtree(doomed)


def backup_name(database: str, at: datetime) -> str:
    """Return the name of a backup: its time in UTC, so that names sort by it, and the database."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", database)[:60]
    return f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03}Z-{plain}"


def open_backup(path: Path) -> Backup:
    """Return the backup in a folder, after a look at its manifest.

    Raises:
        NotABackupError: there is none.
    """
    if path.name.startswith(UNFINISHED):
        raise NotABackupError(
            f"{path} was never finished, and is no backup; use another, and delete it"
        )
    return Backup(path, read_manifest(path))


def list_backups(folder: Path) -> list[Backup]:
    """Return the finished backups of a folder, the oldest first."""
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        if not path.name.startswith(UNFINISHED) and (path / MANIFEST).is_file():
            try:
                found.append(Backup(path, read_manifest(path)))
            except NotABackupError:  # damaged: not a backup, and not ours to delete either
                continue
    return sorted(found, key=lambda each: (each.manifest.snapshot_at, each.name))


def unfinished(folder: Path) -> list[Path]:
    """Return what killed runs have left: never a backup, and safe to delete when none runs."""
    return sorted(folder.glob(f"{UNFINISHED}*")) if folder.is_dir() else []


def file_entry(path: Path, on_bytes: Callable[[int], object] | None = None) -> FileEntry:
    """Read a file; return its size and checksum."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return FileEntry(bytes=size, sha256=digest.hexdigest())


def sync_folder(path: Path) -> None:
    """Have a folder's names on the disk, where the system can do so."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
