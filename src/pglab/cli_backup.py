"""``pglab backup``: thin commands over ``pglab.backup``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pglab.cli_shared import json_option, print_json
from pglab.config import Settings
from pglab.errors import ConfigError

if TYPE_CHECKING:
    from pglab.backup import Backup, Rule
    from pglab.encryption import KeyProvider
    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["backup"]

_FOLDER: Final = Path("backups")

_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=_FOLDER,
    show_default=True,
    help="Where backups are kept.",
)
_keys_option = click.option(
    "--keys",
    "keys_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of keys, as pglab.encryption.FileKeys makes it.",
)
_jobs_option = click.option(
    "--jobs", type=click.IntRange(1), default=2, show_default=True, help="Connections at a time."
)
_progress_option = click.option("--no-progress", is_flag=True, help="Show no bar.")


@click.group()
def backup() -> None:
    """Back up a database, prove the copy, restore it, and drill for the day that it is needed."""


@backup.command(
    epilog="""\b
Examples:
  pglab backup create pglab_schema_small
  pglab backup create evolution --folder /srv/backups --keys keys.json
With DATABASE_URL set, its server is meant, and its database when none is named."""
)
@click.argument("database", required=False)
@_folder_option
@click.option(
    "--format",
    "dump_format",
    type=click.Choice(["directory", "custom"]),
    default="directory",
    show_default=True,
    help="Of the dump; an encrypted one is always custom.",
)
@_keys_option
@_jobs_option
@click.option("--no-space-check", is_flag=True, help="Begin even where there is hardly room.")
@_progress_option
@json_option
def create(
    *,
    database: str | None,
    folder: Path,
    dump_format: str,
    keys_file: Path | None,
    jobs: int,
    no_space_check: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Back up DATABASE while it is in use, with the counts and checksums to prove it later."""
    from pglab import backup as library

    with _server() as endpoint:
        made = library.create(
            endpoint,
            _named(endpoint, database),
            folder,
            format="custom" if dump_format == "custom" else "directory",
            keys=_keys(keys_file),
            jobs=jobs,
            check_space=not no_space_check,
            progress=not no_progress,
        )
    if as_json:
        print_json(_facts(made))
        return
    state = made.manifest.state
    click.echo(
        f"{made.path}: {len(state.tables)} tables, {state.rows:,} rows, "
        f"{made.manifest.bytes / 1e6:,.1f} MB, in {made.manifest.seconds:.1f} s"
    )


@backup.command("list")
@_folder_option
@json_option
def list_(*, folder: Path, as_json: bool) -> None:
    """List the backups of a folder, the oldest first. What is unfinished is no backup."""
    from pglab import backup as library

    found = library.list_backups(folder)
    if as_json:
        print_json([_facts(each) for each in found])
        return
    for each in found:
        manifest = each.manifest
        sealed = f", key {manifest.key_id}" if manifest.key_id else ""
        click.echo(
            f"{each.name}  {manifest.state.rows:>12,} rows {manifest.bytes / 1e6:>9,.1f} MB  "
            f"PostgreSQL {manifest.server_version}, {manifest.format}{sealed}"
        )
    if not found:
        click.echo(f"no backup in {folder}; make one: pglab backup create DATABASE")
    for path in library.unfinished(folder):
        click.secho(f"{path.name}: unfinished, no backup; delete it if nothing runs", fg="yellow")


@backup.command()
@click.argument("name", default="latest")
@click.option("--against", metavar="DATABASE", help="Compare this live database with it, too.")
@_folder_option
@_keys_option
@_progress_option
@json_option
def verify(
    *,
    name: str,
    against: str | None,
    folder: Path,
    keys_file: Path | None,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Read all files of the backup NAME (or the latest) and compare their checksums.

    With keys, an encrypted one is decrypted to its end. Whether it restores, a drill proves.
    """
    from pglab import backup as library

    chosen = _chosen(folder, name)
    checked = library.check(chosen, keys=_keys(keys_file), progress=not no_progress)
    if against is not None:
        with _server() as endpoint:
            library.compare_database(chosen, endpoint, against, progress=not no_progress)
    if as_json:
        print_json({"name": chosen.name, **asdict(checked), "equal_to": against})
        return
    opened = ", decrypted to its end" if checked.decrypted else ""
    equal = f"; database {against} is equal to it" if against else ""
    click.echo(
        f"{chosen.name} is whole: {checked.files} files, {checked.bytes / 1e6:,.1f} MB"
        f"{opened}{equal}"
    )


@backup.command()
@click.argument("name")
@click.argument("database")
@_folder_option
@_keys_option
@_jobs_option
@click.option("--no-owners", is_flag=True, help="Let all belong to the connecting role.")
@_progress_option
@json_option
def restore(
    *,
    name: str,
    database: str,
    folder: Path,
    keys_file: Path | None,
    jobs: int,
    no_owners: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Restore the backup NAME (or latest) into the new DATABASE, and prove it equal.

    A database that exists is never touched, and one that is not equal never gets the name.
    """
    from pglab import backup as library

    with _server() as endpoint:
        done = library.restore(
            _chosen(folder, name),
            endpoint,
            database,
            keys=_keys(keys_file),
            jobs=jobs,
            owners=not no_owners,
            progress=not no_progress,
        )
    if as_json:
        print_json(asdict(done))
        return
    click.echo(
        f"{done.database}: {done.tables} tables, {done.rows:,} rows, proven equal; restored in "
        f"{done.restore_s:.1f} s, verified in {done.verify_s:.1f} s"
    )


@backup.command()
@_folder_option
@click.option("--days", type=int, help="Keep all of the last so many days.  [default: 7]")
@click.option(
    "--gfs",
    metavar="D,W,M",
    help="Instead: keep the newest of so many days, weeks and months, such as 7,4,12.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def prune(
    *, folder: Path, days: int | None, gfs: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Delete the backups that a rule does not keep; never the newest that is whole."""
    from pglab import backup as library

    rule = _rule(days, gfs)
    found = library.list_backups(folder)
    planned = library.prune(found, rule, dry_run=True)
    doomed = [each for each in planned if each.reason is None]
    if as_json and not (dry_run or yes):
        raise ConfigError("--json asks no questions; add --dry-run or --yes")
    if not as_json:
        for each in planned:
            reason = each.reason or "goes"
            problem = f" ({each.problem})" if each.problem else ""
            click.secho(
                f"{each.backup.name}  {reason}{problem}", fg=None if each.reason else "yellow"
            )
    if doomed and not dry_run:
        if not yes:
            click.confirm(f"delete {len(doomed)} of {len(planned)} backups?", abort=True)
        planned = library.prune(found, rule)
    if as_json:
        print_json([
            {"name": each.backup.name, "keeps": each.reason, "problem": each.problem}
            for each in planned
        ])  # fmt: skip
    elif not dry_run:
        click.echo(f"deleted {len(doomed)}, kept {len(planned) - len(doomed)}")


@backup.command()
@click.argument("database", required=False)
@_folder_option
@click.option("--from", "name", help="Recover from this backup (or latest) instead of a new one.")
@_keys_option
@_jobs_option
@_progress_option
@json_option
def drill(
    *,
    database: str | None,
    folder: Path,
    name: str | None,
    keys_file: Path | None,
    jobs: int,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Recover DATABASE beside the live one; say how long that takes, and what would be lost.

    The copy is dropped at the end. Nothing happens to the live database.
    """
    from pglab import backup as library

    with _server() as endpoint:
        report = library.drill(
            endpoint,
            _named(endpoint, database),
            folder,
            backup=_chosen(folder, name) if name else None,
            keys=_keys(keys_file),
            jobs=jobs,
            progress=not no_progress,
        )
    if as_json:
        print_json({**asdict(report), "recovery_s": report.recovery_s, "lost_s": report.lost_s})
        return
    for line in report.lines():
        click.echo(line)


@contextmanager
def _server() -> Iterator[PostgresEndpoint]:
    from pglab.servers.lifecycle import ensure_postgres

    endpoint, running = ensure_postgres(Settings.from_environment())
    try:
        yield endpoint
    finally:
        running.release()


def _named(endpoint: PostgresEndpoint, database: str | None) -> str:
    """Return the database that is meant, after a look whether it is there.

    Raises:
        ConfigError: it is not, or none is named; the message lists those that are.
    """
    from pglab.servers.connect import connect_postgres

    if database is None and not endpoint.managed:
        return endpoint.maintenance_database
    with connect_postgres(endpoint) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname"
        ).fetchall()
    names = [row[0] for row in rows]
    if database in names and database is not None:
        return database
    what = "name a database" if database is None else f"there is no database {database!r}"
    raise ConfigError(f"{what}; the server has {', '.join(names)}")


def _chosen(folder: Path, name: str) -> Backup:
    from pglab import backup as library

    if name != "latest":
        return library.open_backup(folder / name)
    found = library.list_backups(folder)
    if not found:
        raise library.NotABackupError(
            f"there is no backup in {folder}; make one: pglab backup create DATABASE"
        )
    return found[-1]


def _keys(path: Path | None) -> KeyProvider | None:
    if path is None:
        return None
    from pglab.encryption import FileKeys

    return FileKeys(path)


def _rule(days: int | None, gfs: str | None) -> Rule:
    from pglab import backup as library

    if gfs is None:
        return library.KeepFor(7 if days is None else days)
    if days is not None:
        raise ConfigError("--days and --gfs are two rules; give one")
    try:
        daily, weekly, monthly = (int(part) for part in gfs.split(","))
    except ValueError:
        raise ConfigError(f"--gfs {gfs!r} is not three numbers, such as 7,4,12") from None
    return library.GrandfatherFatherSon(daily, weekly, monthly)


def _facts(made: Backup) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "name": made.name,
        "path": str(made.path),
        "database": manifest.database,
        "snapshot_at": manifest.snapshot_at.isoformat(),
        "seconds": manifest.seconds,
        "format": manifest.format,
        "key_id": manifest.key_id,
        "server_version": manifest.server_version,
        "bytes": manifest.bytes,
        "tables": len(manifest.state.tables),
        "rows": manifest.state.rows,
    }
