"""A fire drill: back up, restore beside, prove it, and say how long that took and what is lost.

Nothing is destroyed for it: the copy has a name of its own, and is dropped at the end.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pglab.backup import catalog
from pglab.backup.dump import create
from pglab.backup.folder import Backup
from pglab.backup.manifest import Format
from pglab.backup.restore import Restored, restore
from pglab.servers.connect import connect_postgres
from pglab.servers.endpoint import PostgresEndpoint

if TYPE_CHECKING:
    import psycopg

    from pglab.encryption import KeyProvider

__all__ = ["DrillReport", "drill"]


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found.

    Attributes:
        backup: name of the backup that was restored.
        backup_bytes: its size.
        backup_s: seconds that making it took; None where it was there already.
        restored: how long restoring and verifying took: the recovery time, measured.
        snapshot_at: the moment whose state came back.
        disaster_at: the moment at which the database would have been lost.
        lost_rows: by table, how many rows more the live database had then; below zero, fewer.
    """

    backup: str
    backup_bytes: int
    backup_s: float | None
    restored: Restored
    snapshot_at: datetime
    disaster_at: datetime
    lost_rows: dict[str, int]

    @property
    def recovery_s(self) -> float:
        """Seconds from the disaster until the copy could be used."""
        return self.restored.total_s

    @property
    def lost_s(self) -> float:
        """Seconds of work that are lost: from the snapshot to the disaster."""
        return (self.disaster_at - self.snapshot_at).total_seconds()

    def lines(self) -> list[str]:
        """Return the report, one line a fact."""
        done = self.restored
        lost = {name: count for name, count in self.lost_rows.items() if count}
        rows = ", ".join(f"{count:+,} in {name}" for name, count in lost.items()) or "none"
        made = f", made in {self.backup_s:.1f} s" if self.backup_s is not None else ""
        return [
            f"backup        {self.backup} ({self.backup_bytes / 1e6:.1f} MB{made})",
            (
                f"recovery time {self.recovery_s:.1f} s: restored in {done.restore_s:.1f} s, "
                f"verified in {done.verify_s:.1f} s"
            ),
            f"proven equal  {done.tables} tables, {done.rows:,} rows, by count and SHA-256",
            f"data lost     {self.lost_s:.1f} s of work, from the snapshot to the disaster",
            f"rows lost     {rows}",
        ]


def drill(
    endpoint: PostgresEndpoint,
    database: str,
    folder: Path,
    *,
    backup: Backup | None = None,
    format: Format = "directory",  # noqa: A002 - pg_dump's word
    keys: KeyProvider | None = None,
    jobs: int = 2,
    meanwhile: Callable[[], object] | None = None,
    progress: bool = False,
) -> DrillReport:
    """Pretend that a database is lost, and recover it beside the live one.

    Args:
        endpoint: the server.
        database: what is lost, in thought.
        folder: where backups are kept.
        backup: the one to recover from; a new one is made when omitted.
        format: of a new one.
        keys: for an encrypted backup.
        jobs: connections at a time.
        meanwhile: called between the backup and the disaster: the work of the hours between.
        progress: show bars.

    Raises:
        BackupError: it could not be made or restored: a drill that failed did its work, too.
    """
    made_s = None
    if backup is None:
        began = time.monotonic()
        backup = create(
            endpoint, database, folder, format=format, keys=keys, jobs=jobs, progress=progress
        )
        made_s = time.monotonic() - began
    if meanwhile is not None:
        meanwhile()
    disaster_at = datetime.now(UTC)
    copy = f"pglab_drill_{secrets.token_hex(6)}"
    try:
        restored = restore(backup, endpoint, copy, keys=keys, jobs=jobs, progress=progress)
        with connect_postgres(endpoint, database) as live:
            there = _counts(live)
    finally:
        with suppress(Exception), connect_postgres(endpoint, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)".encode())
    had = {name: table.rows for name, table in backup.manifest.state.tables.items()}
    return DrillReport(
        backup=backup.name,
        backup_bytes=backup.manifest.bytes,
        backup_s=made_s,
        restored=restored,
        snapshot_at=backup.manifest.snapshot_at,
        disaster_at=disaster_at,
        lost_rows={name: count - had.get(name, 0) for name, count in there.items()},
    )


def _counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    counts = {}
    for table in catalog.tables(connection):
        if table.name == catalog.LARGE_OBJECTS:
            query = "SELECT count(*) FROM pg_largeobject_metadata"
        else:
            query = f"SELECT count(*) FROM ONLY {table.name}"  # noqa: S608 - quoted by PostgreSQL
        row = connection.execute(query.encode()).fetchone()
        counts[table.name] = row[0] if row else 0
    return counts
