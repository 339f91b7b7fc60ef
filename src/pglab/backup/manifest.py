"""A backup's manifest: what was dumped, when, by which program, and what every file must be.

History of the format: version 1, the first.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from pglab.backup.errors import NotABackupError
from pglab.backup.state import DatabaseState
from pglab.whole_file import write_whole

__all__ = ["MANIFEST", "VERSION", "FileEntry", "Manifest", "read_manifest", "write_manifest"]

MANIFEST: Final = "manifest.json"
VERSION: Final = 1

Format = Literal["directory", "custom"]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the dump, as it lies there (encrypted, if it is).

    Attributes:
        bytes: its size.
        sha256: of its content.
    """

    bytes: int
    sha256: str


class Locale(msgspec.Struct, frozen=True, kw_only=True):
    """What CREATE DATABASE must be told, so that strings sort and compare as before.

    Attributes:
        encoding: such as ``UTF8``.
        provider: ``libc``, ``icu`` or ``builtin``.
        locale: of that provider; None for libc.
        collate: LC_COLLATE.
        ctype: LC_CTYPE.
    """

    encoding: str
    provider: str
    locale: str | None
    collate: str
    ctype: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a backup without reading its dump.

    Attributes:
        version: of this format.
        name: of the backup: its folder's, unless somebody renamed it.
        database: the name that it had.
        format: of the dump, as pg_dump names it.
        started_at: when the dump began.
        snapshot_at: the moment whose state it holds: what was committed later is not in it.
        snapshot_lsn: the place in the WAL at that moment.
        finished_at: when all was written.
        server_version: PostgreSQL's, such as ``17.10``.
        program_version: pg_dump's.
        compression: as pg_dump was told.
        database_bytes: size of the database on its server, indexes and all.
        key_id: of the key that wraps the data key; None if the dump is not encrypted.
        locale: of the database.
        files: by path within the backup's folder.
        state: what a restored database must hold.
    """

    version: int = VERSION
    name: str
    database: str
    format: Format
    started_at: datetime
    snapshot_at: datetime
    snapshot_lsn: str
    finished_at: datetime
    server_version: str
    program_version: str
    compression: str
    database_bytes: int
    key_id: str | None
    locale: Locale
    files: dict[str, FileEntry]
    state: DatabaseState

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.bytes for entry in self.files.values())

    @property
    def server_major(self) -> int:
        """Major version of the server that was dumped."""
        return int(self.server_version.partition(".")[0])

    @property
    def seconds(self) -> float:
        """How long the backup took."""
        return (self.finished_at - self.started_at).total_seconds()


class _Version(msgspec.Struct):
    version: int


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a backup's folder, whole.

    Raises:
        OSError: it cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_whole(folder / MANIFEST, text + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a backup's folder.

    Raises:
        NotABackupError: there is none, it is cut short, or a newer program wrote it.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NotABackupError(
            f"{folder} is no backup: its {MANIFEST} cannot be read ({error.strerror}); name the "
            "folder of one: pglab backup list shows them"
        ) from None
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version == VERSION:
            return msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise NotABackupError(
            f"{path} is damaged or cut short: {error}; use another backup"
        ) from None
    raise NotABackupError(
        f"{path} is of version {version}, and this program reads {VERSION}; update pglab"
    )
