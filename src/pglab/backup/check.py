"""Looking at a backup without restoring it: are all files whole, and do they open?"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pglab.backup.errors import DamagedBackupError
from pglab.backup.folder import Backup
from pglab.backup.programs import Programs
from pglab.backup.stream_cipher import decrypted
from pglab.load.progress import bar

if TYPE_CHECKING:
    from pglab.encryption import KeyProvider

__all__ = ["Checked", "check"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup whose files are whole.

    Attributes:
        files: how many.
        bytes: their size.
        decrypted: whether the dump was decrypted to its end.
        entries: how many things pg_restore lists in it; None where it was not asked.
    """

    files: int
    bytes: int
    decrypted: bool
    entries: int | None


def check(
    backup: Backup,
    *,
    keys: KeyProvider | None = None,
    programs: Programs | None = None,
    progress: bool = False,
) -> Checked:
    """Read every file of a backup; decrypt it to its end, and list it, where that can be done.

    What this cannot prove is that it restores: only ``restore`` does.

    Args:
        backup: which.
        keys: for an encrypted one; without, only the ciphertext's checksum is compared.
        programs: to list the content of one that is not encrypted.
        progress: show a bar.

    Raises:
        TruncatedBackupError, DamagedBackupError: a file is not the one that was written.
        WrongKeyError: the keys do not open it.
    """
    manifest = backup.manifest
    with bar(manifest.bytes, f"reading {backup.name}", wanted=progress) as shown:
        shown.unit = "B"
        backup.check_files(shown.update)
    entries = None
    if manifest.key_id is not None and keys is not None:
        with backup.dump.open("rb") as source:
            for _ in decrypted(source, keys=keys, context=manifest.name.encode()):
                pass
    elif manifest.key_id is None and programs is not None:
        entries = len(_listed(backup, programs))
    return Checked(
        len(manifest.files), manifest.bytes, manifest.key_id is not None and keys is not None,
        entries,
    )  # fmt: skip


def _listed(backup: Backup, programs: Programs) -> list[str]:
    done = subprocess.run(
        [programs.path("pg_restore"), "--list", backup.dump],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise DamagedBackupError(
            f"pg_restore cannot read {backup.name}: {done.stderr.strip()}; use another backup"
        )
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]
