r"""Back up a PostgreSQL database, prove the copy, keep the right ones, and come back from them.

    from pglab import backup

    made = backup.create(lab.server, lab.database, Path("backups"))       # pg_dump, and figures
    backup.check(made)                                                    # files whole? they open?
    backup.restore(made, lab.server, "evolution_again")                   # new database, proven
    backup.prune(backup.list_backups(Path("backups")), backup.KeepFor(7), dry_run=True)
    print(*backup.drill(lab.server, lab.database, Path("backups")).lines(), sep="\n")

A backup is a folder with a dump and a manifest: counts, checksums and structure of the very
snapshot that was dumped. Restoring makes a new database, compares all of that, and only then gives
it its name. ``pglab.backup.point_in_time`` has base backups, WAL archives and recovery to a second.

Not imported by ``import pglab``. Roles and passwords, other databases, and whatever lies in Redis
are not in a dump of a database, and so not in a backup.
"""

from __future__ import annotations

from pglab.backup.check import Checked, check
from pglab.backup.drill import DrillReport, drill
from pglab.backup.dump import create
from pglab.backup.errors import (
    BackupError,
    BackupProgramError,
    DamagedBackupError,
    MismatchError,
    MissingRolesError,
    NoSpaceError,
    NotABackupError,
    ProgramKilledError,
    ProgramVersionError,
    RecoveryError,
    RestoreError,
    TargetExistsError,
    TruncatedBackupError,
    WrongKeyError,
)
from pglab.backup.folder import Backup, list_backups, open_backup, unfinished
from pglab.backup.manifest import Manifest
from pglab.backup.restore import Restored, compare_database, restore
from pglab.backup.retention import GrandfatherFatherSon, KeepFor, Pruned, Rule, decide, prune
from pglab.backup.state import DatabaseState, TableState, differences, read_state

__all__ = [
    "Backup",
    "BackupError",
    "BackupProgramError",
    "Checked",
    "DamagedBackupError",
    "DatabaseState",
    "DrillReport",
    "GrandfatherFatherSon",
    "KeepFor",
    "Manifest",
    "MismatchError",
    "MissingRolesError",
    "NoSpaceError",
    "NotABackupError",
    "ProgramKilledError",
    "ProgramVersionError",
    "Pruned",
    "RecoveryError",
    "RestoreError",
    "Restored",
    "Rule",
    "TableState",
    "TargetExistsError",
    "TruncatedBackupError",
    "WrongKeyError",
    "check",
    "compare_database",
    "create",
    "decide",
    "differences",
    "drill",
    "list_backups",
    "open_backup",
    "prune",
    "read_state",
    "restore",
    "unfinished",
]
