"""Back to a moment: a copy of the whole cluster, the WAL since then, and a server that replays it.

    with ScratchFolder() as place:
        archive = wal_archive(place)
        with scratch_postgres(settings=archiving(archive)) as server:
            base = base_backup(server.endpoint(), place.path / "base")
            verify_base_backup(base, server.programs.bin)
            …                                    # work, then a mistake
            archive_now(connection)
        with recovered(base, archive, Target.time(moment), place=place) as again:
            again.connect(…)

A dump brings back the moment at which it was made; this, any moment since the base backup, for the
whole cluster: roles and all databases. It cannot bring back one table into a server that lives on:
recover beside it, and dump the table out of there.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pglab.backup.errors import DamagedBackupError, RecoveryError
from pglab.backup.programs import programs_for, started
from pglab.config import Secret
from pglab.errors import ConfigError, ServerStartError
from pglab.servers.connect import connect_postgres
from pglab.servers.endpoint import PostgresEndpoint
from pglab.servers.programs import EXE
from pglab.servers.scratch import ScratchFolder, ScratchPostgres

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "Commit",
    "Target",
    "archive_command",
    "archive_now",
    "archiving",
    "base_backup",
    "commits",
    "recovered",
    "verify_base_backup",
    "wal_archive",
]

_POLL_S: Final = 0.02
# The name of a whole segment: timeline, log file and segment, each 8 hexadecimal digits.
_SEGMENT: Final = re.compile(r"[0-9A-F]{24}")
_COMMIT: Final = re.compile(
    r"tx:\s+(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+),.* desc: COMMIT "
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?) \w+(?P<rest>.*)"
)


def wal_archive(place: ScratchFolder, name: str = "archive") -> Path:
    """Make a folder that the servers' account, and nobody else, can archive into."""
    folder = place.path / name
    folder.mkdir(mode=0o700)
    place.own(folder)
    return folder


def archive_command(folder: Path) -> str:
    """Return an ``archive_command`` that copies a finished WAL file safely.

    A copy has its name only when it is complete and on the disk. A file that is there already is
    never overwritten: the same content is a success, since PostgreSQL may ask twice after a crash,
    and other content is a failure, since then two servers archive into one folder.
    """
    inside = shlex.quote(str(folder).replace("%", "%%"))
    final, part = f"{inside}/%f", f"{inside}/.%f.part"
    return (
        f'if test -e {final}; then cmp -s "%p" {final}; '
        f'else cp "%p" {part} && sync {part} && mv {part} {final}; fi'
    )


def archiving(folder: Path, *, timeout_s: int = 60) -> dict[str, str]:
    """Return the settings of a server that archives its WAL.

    Args:
        folder: where to.
        timeout_s: archive an unfinished file after so many seconds, too: the most that is lost
            with the server's disk.
    """
    return {
        "wal_level": "replica",
        "archive_mode": "on",
        "archive_command": archive_command(folder),
        "archive_timeout": f"{timeout_s}s",
    }


def archive_now(connection: psycopg.Connection[Any], *, timeout_s: float = 30.0) -> str:
    """End the current WAL file, and wait until all that it holds is in the archive.

    Args:
        connection: of a superuser, in autocommit mode.
        timeout_s: the longest wait.

    Returns:
        Name of the last file that was archived for this.

    Raises:
        RecoveryError: the archive command fails, or takes longer.
    """
    row = connection.execute(
        "SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1), pg_switch_wal()"
    ).fetchone()
    wanted = str(row[0]) if row else ""
    deadline = time.monotonic() + timeout_s
    while True:
        row = connection.execute(
            "SELECT last_archived_wal, last_failed_wal, failed_count FROM pg_stat_archiver"
        ).fetchone()
        archived, failed, failures = row or (None, None, 0)
        # Of one timeline, names sort as they were written; a .backup file's begins like its WAL's.
        if archived is not None and archived[:24] >= wanted:
            return wanted
        if time.monotonic() > deadline:
            detail = f"; {failures} failures, the last with {failed}" if failed else ""
            raise RecoveryError(
                f"WAL file {wanted} was not archived within {timeout_s:g} s{detail}; look into the "
                "server's log for what the archive_command said"
            )
        time.sleep(_POLL_S)


def base_backup(endpoint: PostgresEndpoint, target: Path, *, programs: Path | None = None) -> Path:
    """Copy a whole running cluster with pg_basebackup, checksums of every file included.

    Args:
        endpoint: the server; its role needs REPLICATION, and pg_hba.conf a line for it.
        target: folder to write; must not exist.
        programs: folder of pg_basebackup; the server's own when omitted.

    Returns:
        The target.

    Raises:
        BackupProgramError: pg_basebackup failed; what it wrote is removed.
        NoSpaceError: there is not room enough.
    """
    with connect_postgres(endpoint) as connection:
        major = connection.info.server_version // 10_000
    found = programs_for(endpoint, server_major=major, folder=programs)
    if target.exists():
        raise ConfigError(f"{target} exists, and a base backup goes into a new folder; name one")
    unfinished = target.with_name(f".unfinished-{target.name}-{secrets.token_hex(4)}")
    arguments: list[str | Path] = [
        "--pgdata", unfinished, "--checkpoint=fast", "--wal-method=stream",
        "--manifest-checksums=SHA256",
    ]  # fmt: skip
    try:
        with started(
            found, "pg_basebackup", arguments, endpoint=endpoint, database="postgres"
        ) as running:
            running.wait()
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return target


def verify_base_backup(base: Path, programs: Path) -> None:
    """Compare every file of a base backup with its checksum, and read the WAL that it needs.

    Args:
        base: the folder that ``base_backup`` returned; a server must not have run from it.
        programs: folder of pg_verifybackup.

    Raises:
        DamagedBackupError: a file is missing, new or changed; the message has the first of them.
    """
    done = subprocess.run(
        [programs / f"pg_verifybackup{EXE}", base], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join(f"  {line}" for line in done.stderr.splitlines()[:6])
        raise DamagedBackupError(
            f"pg_verifybackup refuses {base.name}:\n{said}\nuse another base backup"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a recovery stops.

    Attributes:
        setting: such as ``recovery_target_time``.
        value: for it; empty with the setting ``""``, which is the end of the archive.
        inclusive: whether what happened at that very point is replayed, too.
    """

    setting: str = ""
    value: str = ""
    inclusive: bool = True

    @classmethod
    def time(cls, moment: datetime) -> Self:
        """Stop after the last transaction that committed until then.

        Raises:
            ConfigError: the time has no zone, so that it may be another by hours.
        """
        if moment.tzinfo is None:
            raise ConfigError(f"the time {moment} has no zone, and may be another by hours; add it")
        return cls("recovery_target_time", moment.astimezone(UTC).isoformat(sep=" "))

    @classmethod
    def before(cls, xid: int) -> Self:
        """Stop just before this transaction commits."""
        return cls("recovery_target_xid", str(xid), inclusive=False)

    @classmethod
    def name(cls, name: str) -> Self:
        """Stop at a name that ``pg_create_restore_point`` gave."""
        return cls("recovery_target_name", name)

    def settings(self, archive: Path) -> Mapping[str, str]:
        """Return the settings of a server that recovers up to here from an archive, then opens."""
        inside = shlex.quote(str(archive).replace("%", "%%"))
        chosen = {"restore_command": f'cp {inside}/%f "%p"'}
        if self.setting:
            chosen |= {self.setting: self.value, "recovery_target_action": "promote"}
            # A name is a record of its own: there is no "just before" it.
            if self.setting != "recovery_target_name":
                chosen["recovery_target_inclusive"] = "on" if self.inclusive else "off"
        return chosen


@contextmanager
def recovered(
    base: Path,
    archive: Path,
    target: Target,
    *,
    place: ScratchFolder,
    password: Secret | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ScratchPostgres]:
    """Run a second server that was recovered to a point in time; it ends with the block.

    The base backup itself stays as it is: the server runs on a copy of it.

    Args:
        base: a base backup from before the point.
        archive: the WAL since then.
        target: the point.
        place: what holds the copy; removed with it.
        password: of the superuser in the base backup. Without it, our own account enters.
        settings: further ones of the second server.

    Raises:
        RecoveryError: the point was not reached: it is before the base backup's end, or after the
            archive's; or a file of the archive is missing. The message has the server's words.
    """
    _check_begin(base, target)
    data = place.path / f"recovered-{secrets.token_hex(4)}"
    place.copy(base, data)
    (data / "recovery.signal").touch(mode=0o600)
    place.own(data / "recovery.signal")
    try:
        try:
            server = ScratchPostgres(
                directory=data, password=password,
                # Without a hot standby, nobody can connect before the point is reached.
                settings={
                    "archive_mode": "off", "hot_standby": "off",
                    **(settings or {}), **target.settings(archive),
                },
            )  # fmt: skip
        except ServerStartError as error:
            raise RecoveryError(
                f"recovery to {target.value or 'the end of the archive'} did not get there: "
                f"{_reason(str(error))}"
            ) from error
        with server:
            yield server
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _check_begin(base: Path, target: Target) -> None:
    """Refuse a time before the base backup: PostgreSQL would silently recover to its end."""
    try:
        label = (base / "backup_label").read_text(encoding="utf-8")
    except OSError as error:
        raise RecoveryError(
            f"{base} is no base backup: its backup_label cannot be read ({error.strerror}); name "
            "the folder that pg_basebackup wrote"
        ) from None
    found = re.search(r"START TIME: (\S+ \S+) (?:UTC|GMT)$", label, re.MULTILINE)
    if found is None or target.setting != "recovery_target_time":
        return
    began = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    if datetime.fromisoformat(target.value) < began:
        raise RecoveryError(
            f"{target.value} lies before the base backup, which began at {began:%F %T}+00; take an "
            "older base backup"
        )


def _reason(said: str) -> str:
    if "recovery ended before configured recovery target was reached" in said:
        return (
            "the archive ends before that point, or a file of it is missing; archive what is "
            f"still on the old server's disk, or choose an earlier point\n{said}"
        )
    if "consistent recovery" in said or "before consistent" in said:
        return f"the point lies before the base backup's end; take an older base backup\n{said}"
    return said


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction that the WAL has, as committed.

    Attributes:
        xid: its number.
        lsn: where its commit stands in the WAL.
        at: when it committed, on the server's clock.
        dropped: whether it removed tables or indexes.
    """

    xid: int
    lsn: str
    at: datetime
    dropped: bool


def commits(archive: Path, programs: Path) -> list[Commit]:
    """Read from a WAL archive which transactions committed, and when, in their order.

    Raises:
        DamagedBackupError: the WAL cannot be read.
    """
    names = sorted(path.name for path in archive.iterdir() if _SEGMENT.fullmatch(path.name))
    if not names:
        return []
    done = subprocess.run(
        [
            programs / f"pg_waldump{EXE}", f"--path={archive}", "--rmgr=Transaction",
            names[0], names[-1],
        ],
        capture_output=True, text=True, check=False, env={"TZ": "UTC", "LC_ALL": "C"},
    )  # fmt: skip
    # It ends with an error where the next file would begin, which is no fault.
    if done.returncode != 0 and "could not find a valid record" not in done.stderr:
        lines = [line for line in done.stderr.splitlines() if "invalid record length" not in line]
        if any("error" in line for line in lines) and not done.stdout:
            raise DamagedBackupError(f"pg_waldump cannot read {archive}: {done.stderr.strip()}")
    return [
        Commit(
            int(found["xid"]),
            found["lsn"],
            datetime.fromisoformat(found["time"]).replace(tzinfo=UTC),
            "; rels:" in found["rest"],
        )
        for line in done.stdout.splitlines()
        if (found := _COMMIT.search(line))
    ]
