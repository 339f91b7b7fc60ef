"""Restoring a backup into a new database, which has its name only when it is proven equal."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pglab.backup.errors import (
    BackupProgramError,
    MismatchError,
    MissingRolesError,
    NoSpaceError,
    ProgramVersionError,
    RestoreError,
    TargetExistsError,
)
from pglab.backup.folder import Backup
from pglab.backup.manifest import Manifest
from pglab.backup.programs import Programs, pipe_of, programs_for, started
from pglab.backup.state import DatabaseState, differences, read_state
from pglab.backup.stream_cipher import decrypted
from pglab.errors import ServerUnreachableError
from pglab.load.progress import bar
from pglab.servers.connect import connect_postgres
from pglab.servers.endpoint import PostgresEndpoint

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from pglab.encryption import KeyProvider

__all__ = ["Restored", "compare_database", "restore"]

_LEAST_ROOM_BYTES: Final = 16 * 2**20  # a WAL file: without room for one, the server stops
_SERVER_BACK_S: Final = 20.0
_LONGEST_NAME: Final = 40


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored database that was proven equal to the dumped one.

    Attributes:
        database: its name.
        rows: how many it holds.
        tables: how many.
        restore_s: seconds for pg_restore.
        verify_s: seconds for counts, checksums and structure.
        total_s: seconds from the call until the database could be used.
    """

    database: str
    rows: int
    tables: int
    restore_s: float
    verify_s: float
    total_s: float


def restore(
    backup: Backup,
    endpoint: PostgresEndpoint,
    database: str,
    *,
    keys: KeyProvider | None = None,
    jobs: int = 2,
    owners: bool = True,
    programs: Path | None = None,
    check_files: bool = True,
    progress: bool = False,
) -> Restored:
    """Restore a backup into a new database, verify every table, then give it its name.

    Until then it has another name, and whatever goes wrong, that one is dropped: no half-restored
    database is ever found under the name asked for.

    Args:
        backup: which.
        endpoint: the server to restore on; of the dumped one's version or later.
        database: name of the new database; must not exist.
        keys: for an encrypted backup.
        jobs: connections at a time, for pg_restore (not for an encrypted dump: that is a stream)
            and for verifying.
        owners: give everything its owner and grants back; without, all belongs to our role.
        programs: folder of pg_restore; the server's own when omitted.
        check_files: read all files first, and compare their checksums.
        progress: show a bar.

    Raises:
        TruncatedBackupError, DamagedBackupError: the files are not those that were written.
        WrongKeyError: the dump is encrypted, and the key is not at hand or another.
        TargetExistsError: there is a database of this name.
        MissingRolesError: roles are missing on the server.
        ProgramVersionError: the server or pg_restore is older than the dump.
        NoSpaceError: the server's disk is full, or would be.
        MismatchError: what was restored is not what was dumped.
        BackupProgramError: pg_restore failed otherwise.
    """
    began = time.monotonic()
    manifest = backup.manifest
    if check_files:
        with bar(manifest.bytes, f"reading {backup.name}", wanted=progress) as shown:
            shown.unit = "B"
            backup.check_files(shown.update)
    else:
        backup.check_sizes()
    if manifest.key_id is not None:
        _check_key(backup, keys)
    with connect_postgres(endpoint, autocommit=True, application_name="pglab backup") as admin:
        used = _check_server(admin, endpoint, manifest, programs)
        _check_target(admin, database)
        if owners:
            _check_roles(admin, manifest)
        data = _data_directory(admin)
        _check_space(admin, data, manifest.database_bytes)
        with _unfinished_database(admin, endpoint, database, manifest, data) as name:
            since = time.monotonic()
            _run(backup, endpoint, name, used, keys=keys, jobs=jobs, owners=owners,
                 progress=progress)  # fmt: skip
            restored = time.monotonic()
            found = compare_database(backup, endpoint, name, jobs=jobs, progress=progress)
            verified = time.monotonic()
    return Restored(
        database=database,
        rows=found.rows,
        tables=len(found.tables),
        restore_s=restored - since,
        verify_s=verified - restored,
        total_s=time.monotonic() - began,
    )


def compare_database(
    backup: Backup,
    endpoint: PostgresEndpoint,
    database: str,
    *,
    jobs: int = 2,
    progress: bool = False,
) -> DatabaseState:
    """Count and checksum a database, and compare it with what was dumped.

    Returns:
        What the database holds.

    Raises:
        MismatchError: it is not the same; the message has the first differences.
    """
    manifest = backup.manifest
    with bar(manifest.state.rows, f"verifying {database}", wanted=progress) as shown:
        connect = partial(connect_postgres, endpoint, database, application_name="pglab backup")
        found = read_state(connect, jobs=jobs, on_rows=shown.update)
    with connect() as connection:
        same_major = connection.info.server_version // 10_000 == manifest.server_major
    said = differences(manifest.state, found, definitions=same_major)
    if said:
        first = "\n".join(f"  {each}" for each in said[:6])
        more = f"\n  and {len(said) - 6} more" if len(said) > 6 else ""
        raise MismatchError(
            f"the database {database!r} is not what {backup.name} holds:\n{first}{more}\n"
            "do not use it as a copy; restore another backup",
            differences=said,
        )
    return found


def _check_key(backup: Backup, keys: KeyProvider | None) -> None:
    """Decrypt the first chunk: a wrong key is found before anything is made."""
    from pglab.backup.errors import WrongKeyError

    if keys is None:
        raise WrongKeyError(
            f"{backup.name} is encrypted under key {backup.manifest.key_id!r}; give the keys "
            "(--keys FILE)"
        )
    with backup.dump.open("rb") as source:
        next(decrypted(source, keys=keys, context=backup.manifest.name.encode()))


def _check_server(
    admin: psycopg.Connection[Any],
    endpoint: PostgresEndpoint,
    manifest: Manifest,
    folder: Path | None,
) -> Programs:
    major = admin.info.server_version // 10_000
    if major < manifest.server_major:
        raise ProgramVersionError(
            f"the dump is of PostgreSQL {manifest.server_version}, and this server is {major}; a "
            "dump cannot be relied on to load into an older server: restore on "
            f"{manifest.server_major} or later"
        )
    used = programs_for(endpoint, server_major=major, folder=folder)
    if used.major < int(manifest.program_version.partition(".")[0]):
        raise ProgramVersionError(
            f"pg_dump {manifest.program_version} wrote the dump, and pg_restore here is "
            f"{used.version}, which may not read it; install the newer client programs"
        )
    return used


def _check_target(admin: psycopg.Connection[Any], database: str) -> None:
    if len(database.encode()) > 63 or not database:
        raise RestoreError(f"{database!r} cannot be a database's name; use 1 to 63 bytes")
    if admin.execute("SELECT FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
        return
    raise TargetExistsError(
        f"a database {database!r} exists, and is left alone; restore into a new name, look at it, "
        "and only then rename or drop the old one yourself"
    )


def _check_roles(admin: psycopg.Connection[Any], manifest: Manifest) -> None:
    there = {row[0] for row in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
    missing = {name: can for name, can in manifest.state.roles.items() if name not in there}
    if missing:
        from psycopg import sql

        statements = "; ".join(
            f"CREATE ROLE {sql.Identifier(name).as_string(admin)} {can}"
            for name, can in missing.items()
        )
        raise MissingRolesError(
            f"the server lacks {len(missing)} of the dump's roles, which a dump of a database does "
            f"not hold; create them ({statements}), or restore without owners "
            "(owners=False, --no-owners)"
        )


def _data_directory(admin: psycopg.Connection[Any]) -> Path | None:
    """Return where a server on this machine has its data; another's disk cannot be seen."""
    import psycopg

    # A socket is a proof that the server is on this machine; a path of the same name is none.
    if not str(admin.info.host).startswith("/"):
        return None
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        row = admin.execute("SELECT current_setting('data_directory')").fetchone()
        return Path(row[0]) if row else None
    return None


def _check_space(admin: psycopg.Connection[Any], data: Path | None, size: int) -> None:
    if data is None:
        return
    row = admin.execute("SELECT pg_size_bytes(current_setting('max_wal_size'))").fetchone()
    # What is loaded is written to the WAL, too, which keeps at most so much of it.
    needs = size + min(size, row[0] if row else size)
    free = _free(data)
    if free is not None and free < needs:
        raise NoSpaceError(
            f"{free / 1e6:,.0f} MB are free for the server's data at {data}, and the restored "
            f"database with its WAL may need {needs / 1e6:,.0f} MB; make room there, then try again"
        )


def _free(data: Path) -> int | None:
    try:
        return shutil.disk_usage(data).free
    except OSError:
        return None


@contextlib.contextmanager
def _unfinished_database(
    admin: psycopg.Connection[Any],
    endpoint: PostgresEndpoint,
    database: str,
    manifest: Manifest,
    data: Path | None,
) -> Iterator[str]:
    """Make an empty database, and rename it when the block ended well; else drop it."""
    import psycopg
    from psycopg import sql

    short = database.encode()[:_LONGEST_NAME].decode(errors="ignore")
    name = f"{short}_unverified_{secrets.token_hex(4)}"
    try:
        admin.execute(_create_statement(name, manifest))
        yield name
        admin.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(name), sql.Identifier(database)
            )
        )
    except BaseException as error:
        free = _free(data) if data is not None else None
        if not _dropped(endpoint, name):
            error.add_note(f"the server did not drop {name!r}, which is incomplete; drop it")
        if isinstance(error, psycopg.errors.DuplicateDatabase):
            raise TargetExistsError(
                f"a database {database!r} was made meanwhile, and is left alone; what was restored "
                "is dropped: choose another name"
            ) from error
        # A server without room for its WAL stops, and then nobody says why.
        starved = isinstance(error, BackupProgramError | psycopg.OperationalError) and (
            free is not None and free < _LEAST_ROOM_BYTES
        )
        if isinstance(error, psycopg.errors.DiskFull) or starved:
            raise NoSpaceError(
                f"the server's disk is full ({error}); what was restored is thrown away: make room "
                "there, then try again"
            ) from error
        raise


def _create_statement(name: str, manifest: Manifest) -> sql.Composed:
    from psycopg import sql

    locale = manifest.locale
    options = {"ENCODING": locale.encoding, "LOCALE_PROVIDER": locale.provider}
    options |= {"LC_COLLATE": locale.collate, "LC_CTYPE": locale.ctype}
    if locale.locale is not None:
        options["BUILTIN_LOCALE" if locale.provider == "builtin" else "ICU_LOCALE"] = locale.locale
    return sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(
        sql.Identifier(name),
        sql.SQL(" ").join(
            sql.SQL("{} {}").format(sql.SQL(option), sql.Literal(value))
            for option, value in options.items()
        ),
    )


def _dropped(endpoint: PostgresEndpoint, name: str) -> bool:
    """Drop the database; wait for a server that crashed over it, and is just recovering."""
    import psycopg
    from psycopg import sql

    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    deadline = time.monotonic() + _SERVER_BACK_S
    while True:
        try:
            with connect_postgres(endpoint, autocommit=True) as admin:
                admin.execute(statement)
        except (psycopg.OperationalError, ServerUnreachableError) as error:
            # Nothing listens: it is not recovering, but gone.
            if "refused" in str(error) or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        except psycopg.Error:
            return False
        else:
            return True


def _run(
    backup: Backup,
    endpoint: PostgresEndpoint,
    database: str,
    programs: Programs,
    *,
    keys: KeyProvider | None,
    jobs: int,
    owners: bool,
    progress: bool,
) -> None:
    arguments: list[str | Path] = ["--exit-on-error", "--verbose"]
    if not owners:
        arguments += ["--no-owner", "--no-privileges"]
    if keys is None or backup.manifest.key_id is None:
        arguments += [f"--jobs={jobs}", backup.dump]
        with (
            started(
                programs, "pg_restore", arguments, endpoint=endpoint, database=database
            ) as running,
            bar(0, f"restoring {database}", wanted=progress) as shown,
        ):
            shown.unit = " items"
            # What pg_restore says of each thing that it makes is all that tells how far it is.
            running.wait(lambda: shown.update(running.words().count("\n") - shown.n))
        return
    arguments += ["--format=custom"]
    with started(
        programs, "pg_restore", arguments, endpoint=endpoint, database=database,
        stdin=subprocess.PIPE,
    ) as running, backup.dump.open("rb") as source, bar(
        backup.manifest.bytes, f"restoring {database}", wanted=progress
    ) as shown:  # fmt: skip
        pipe = pipe_of(running.child.stdin)
        try:
            for piece in decrypted(source, keys=keys, context=backup.manifest.name.encode()):
                pipe.write(piece)
                shown.update(len(piece))
            pipe.close()
        except BrokenPipeError:  # it ended early: its last words say why
            pass
        running.wait()
