"""Making a backup: pg_dump, and beside it, at the same snapshot, the figures to prove it with."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pglab.backup import catalog
from pglab.backup.errors import BackupError, NoSpaceError
from pglab.backup.folder import UNFINISHED, Backup, backup_name, file_entry, sync_folder
from pglab.backup.manifest import Format, Locale, Manifest, write_manifest
from pglab.backup.programs import Programs, pipe_of, programs_for, started
from pglab.backup.state import DatabaseState, SequenceState, read_state
from pglab.backup.stream_cipher import encrypt
from pglab.load.progress import bar
from pglab.servers.connect import connect_postgres
from pglab.servers.endpoint import PostgresEndpoint

if TYPE_CHECKING:
    import psycopg

    from pglab.encryption import KeyProvider

__all__ = ["create"]

# Of what a table takes on disk, a compressed dump takes a fifth to a third in the lessons' data;
# twice that is asked for.
_SHARE_OF_TABLES: Final = 0.6
_LEAST_ROOM_BYTES: Final = 8_000_000
_ZSTD_SINCE: Final = 16


def create(
    endpoint: PostgresEndpoint,
    database: str,
    folder: Path,
    *,
    format: Format = "directory",  # noqa: A002 - pg_dump's word
    jobs: int = 2,
    keys: KeyProvider | None = None,
    programs: Path | None = None,
    check_space: bool = True,
    progress: bool = False,
) -> Backup:
    """Back up a database while it is in use, into a new folder below ``folder``.

    The dump and the figures are of one snapshot, so that writes go on meanwhile and change
    neither. The folder gets its name when all is in it; a run that is killed leaves nothing that
    could be taken for a backup.

    Args:
        endpoint: the server.
        database: its name there.
        folder: where backups are kept; made if it is missing.
        format: ``directory`` dumps several tables at a time; ``custom`` is one file.
        jobs: connections that dump at a time (``directory`` only), and that compute the figures.
        keys: encrypt the dump under the current one. Always a ``custom`` dump: it passes through
            a pipe, and nothing is on the disk unencrypted, not even for a moment.
        programs: folder of pg_dump; the server's own when omitted.
        check_space: refuse to begin where the disk has hardly room.
        progress: show a bar.

    Raises:
        ProgramVersionError: pg_dump is older than the server.
        NoSpaceError: there is not room enough, before or in the middle.
        ProgramKilledError: a signal ended pg_dump.
        BackupError: pg_dump failed otherwise.
    """
    began = datetime.now(UTC)
    form: Format = "custom" if keys is not None else format
    connect = partial(connect_postgres, endpoint, database, application_name="pglab backup")
    with connect() as looking:
        used = programs_for(
            endpoint, server_major=looking.info.server_version // 10_000, folder=programs
        )
        tables = catalog.tables(looking)
    name = backup_name(database, began)
    with _new_folder(folder, name) as scratch, connect() as holder:
        if check_space:
            _check_space(folder, sum(table.size for table in tables))
        snapshot, facts = _hold_snapshot(holder, tables)
        rows = sum(max(0, table.rows) for table in tables)
        with bar(rows, f"dumping {database}", wanted=progress) as shown:
            state = _dump(
                endpoint, database, scratch,
                form=form, jobs=jobs, keys=keys, programs=used, snapshot=snapshot, name=name,
                state=partial(read_state, connect, snapshot=snapshot, jobs=jobs),
                on_rows=shown.update,
            )  # fmt: skip
        with connect() as after:
            later = catalog.sequence_values(after)
        files = {
            path.relative_to(scratch).as_posix(): file_entry(path)
            for path in sorted(scratch.rglob("*"))
            if path.is_file()
        }
        manifest = Manifest(
            name=name,
            format=form,
            started_at=began,
            finished_at=datetime.now(UTC),
            program_version=used.version,
            compression=_compression(used),
            key_id=keys.current_key_id if keys else None,
            files=files,
            state=msgspec.structs.replace(state, sequences=_bounds(state, later)),
            **facts,
        )
        write_manifest(scratch, manifest)
    return Backup(folder / name, manifest)


@contextmanager
def _new_folder(folder: Path, name: str) -> Iterator[Path]:
    """Give a folder that has the backup's name only when the block ended well."""
    scratch = folder / f"{UNFINISHED}{name}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(mode=0o700)
        yield scratch
        sync_folder(scratch)
        scratch.rename(folder / name)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise NoSpaceError(
                f"no room left at {folder} ({error.strerror}); what was written is thrown away: "
                "make room, then try again"
            ) from error
        raise
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _check_space(folder: Path, table_bytes: int) -> None:
    needs = int(table_bytes * _SHARE_OF_TABLES) + _LEAST_ROOM_BYTES
    free = shutil.disk_usage(folder).free
    if free < needs:
        raise NoSpaceError(
            f"{free / 1e6:,.0f} MB are free at {folder}, and a dump of {table_bytes / 1e6:,.0f} MB "
            f"of tables may need {needs / 1e6:,.0f} MB; make room, name another folder, or pass "
            "check_space=False (--no-space-check)"
        )


def _hold_snapshot(
    holder: psycopg.Connection[Any], tables: list[catalog.Table]
) -> tuple[str, dict[str, Any]]:
    """Begin a transaction that keeps a snapshot until its connection ends."""
    from psycopg import IsolationLevel

    holder.isolation_level = IsolationLevel.REPEATABLE_READ
    names = ", ".join(table.name for table in tables if table.name != catalog.LARGE_OBJECTS)
    # Locked before the snapshot is taken: TRUNCATE and ALTER TABLE obey no snapshot, and would
    # empty or change a table between our look and pg_dump's.
    if names:
        holder.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE".encode())
    row = holder.execute("""
        SELECT pg_export_snapshot(), clock_timestamp(), pg_current_wal_lsn()::text,
               current_setting('server_version'), pg_database_size(d.oid),
               d.datname, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
               CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' ELSE 'builtin' END,
               to_jsonb(d) ->> CASE WHEN current_setting('server_version_num')::int >= 170000
                                    THEN 'datlocale' ELSE 'daticulocale' END
        FROM pg_database AS d WHERE d.datname = current_database()""").fetchone()
    assert row is not None  # noqa: S101 - we are connected to it
    snapshot, at, lsn, version, size, name, encoding, collate, ctype, provider, locale = row
    return snapshot, {
        "database": name,
        "snapshot_at": at.astimezone(UTC),
        "snapshot_lsn": lsn,
        "server_version": version.partition(" ")[0],
        "database_bytes": size,
        "locale": Locale(
            encoding=encoding, provider=provider, locale=locale, collate=collate, ctype=ctype
        ),
    }


def _dump(
    endpoint: PostgresEndpoint,
    database: str,
    scratch: Path,
    *,
    form: Format,
    jobs: int,
    keys: KeyProvider | None,
    programs: Programs,
    snapshot: str,
    name: str,
    state: Callable[..., DatabaseState],
    on_rows: Callable[[int], object],
) -> DatabaseState:
    """Run pg_dump, and read the figures while it runs."""
    failed = Event()

    def count(rows: int) -> None:
        if failed.is_set():
            raise BackupError("pg_dump failed; reading the figures was given up")
        on_rows(rows)

    arguments = [
        f"--format={form}", f"--snapshot={snapshot}", f"--compress={_compression(programs)}",
    ]  # fmt: skip
    if keys is None:
        target = scratch / ("dump" if form == "directory" else "dump.custom")
        arguments.append(f"--file={target}")
        if form == "directory":
            arguments.append(f"--jobs={jobs}")
    with ThreadPoolExecutor(1) as pool, started(
        programs, "pg_dump", arguments, endpoint=endpoint, database=database,
        stdout=subprocess.PIPE if keys is not None else subprocess.DEVNULL,
    ) as running:  # fmt: skip
        reading = pool.submit(state, on_rows=count)
        try:
            if keys is not None:
                with (scratch / "dump.custom").open("xb") as sink:
                    encrypt(pipe_of(running.child.stdout), sink, keys=keys, context=name.encode())
                    sink.flush()
                    os.fsync(sink.fileno())
            running.wait(on_poll=lambda: _raise_early(reading))
            return reading.result()
        except BaseException:
            failed.set()
            raise


def _raise_early(reading: Future[DatabaseState]) -> None:
    if reading.done() and (error := reading.exception()) is not None:
        raise error


def _compression(programs: Programs) -> str:
    # gzip, the default, costs three times the processor time for a larger dump.
    return "zstd:1" if programs.major >= _ZSTD_SINCE else "gzip:1"


def _bounds(state: DatabaseState, later: dict[str, int]) -> dict[str, SequenceState]:
    return {
        name: SequenceState(first=each.first, last=later.get(name, each.first))
        for name, each in state.sequences.items()
    }
