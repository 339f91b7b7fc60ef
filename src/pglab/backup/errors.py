"""What can go wrong with backups, as one tree below ``PglabError``.

BackupError (RuntimeError)
├── BackupProgramError                  pg_dump, pg_restore or another program failed
│   ├── ProgramVersionError             … because it is older than the server, or than the dump
│   └── ProgramKilledError              … because a signal ended it
├── NoSpaceError (OSError)              there is not room enough, before or in the middle
├── DamagedBackupError (ValueError)     the files are not those that were written
│   ├── TruncatedBackupError            … they are cut short, or one is missing
│   └── NotABackupError                 … there is no manifest, or it cannot be read
├── WrongKeyError                       the key is not at hand, or does not open the dump
├── RestoreError                        nothing was restored; no half database is left
│   ├── TargetExistsError               a database of that name exists, and is left alone
│   ├── MissingRolesError               roles that own something are not on the server
│   └── MismatchError                   what was restored is not what was dumped
└── RecoveryError                       a recovery to a point in time did not get there
"""

from __future__ import annotations

from pglab.errors import PglabError

__all__ = [
    "BackupError",
    "BackupProgramError",
    "DamagedBackupError",
    "MismatchError",
    "MissingRolesError",
    "NoSpaceError",
    "NotABackupError",
    "ProgramKilledError",
    "ProgramVersionError",
    "RecoveryError",
    "RestoreError",
    "TargetExistsError",
    "TruncatedBackupError",
    "WrongKeyError",
]


class BackupError(PglabError, RuntimeError):
    """A backup cannot be made, checked, restored or pruned."""


class BackupProgramError(BackupError):
    """A program of PostgreSQL's failed; the message carries its last words."""


class ProgramVersionError(BackupProgramError):
    """The program is older than the server, or the server is older than the dump."""


class ProgramKilledError(BackupProgramError):
    """A signal ended the program; what it had written until then is no backup."""


class NoSpaceError(BackupError, OSError):
    """There is not room enough; nothing half-made is left."""


class DamagedBackupError(BackupError, ValueError):
    """A file is not what was written: its checksum, its tag or its form is another."""


class TruncatedBackupError(DamagedBackupError):
    """A file ends before its end, or is missing."""


class NotABackupError(DamagedBackupError):
    """A folder has no manifest that can be read: it is no backup, or was never finished."""


class WrongKeyError(BackupError):
    """The key is not at hand, or it does not open the dump."""


class RestoreError(BackupError):
    """Nothing was restored; no half-restored database is left under the name asked for."""


class TargetExistsError(RestoreError):
    """A database of this name exists. It is left alone: backups go into new databases."""


class MissingRolesError(RestoreError):
    """The dump names roles that the server does not have; a dump of a database holds no roles."""


class MismatchError(RestoreError):
    """The restored database is not the dumped one.

    Attributes:
        differences: each in words.
    """

    def __init__(self, message: str, *, differences: tuple[str, ...]) -> None:
        super().__init__(message)
        self.differences = differences


class RecoveryError(BackupError):
    """A server did not recover to the point that it was asked for."""
