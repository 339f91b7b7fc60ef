"""Removing everything that pglab stored for this environment, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pglab import databases
from pglab.config import Settings
from pglab.errors import ServerUnreachableError
from pglab.servers import lifecycle
from pglab.servers.connect import connect_postgres
from pglab.servers.home import Unit, home_of, remove_tree

__all__ = ["Doomed", "plan", "purge"]


@dataclass(frozen=True, slots=True)
class Doomed:
    """What a purge would delete.

    Attributes:
        units: servers of this environment, with their data.
        directories: what goes with them.
        databases: on the learner's own server, those that pglab made for this learner.
    """

    units: tuple[Unit, ...]
    directories: tuple[Path, ...]
    databases: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return one line for each thing."""
        return [
            *(f"directory {path} ({_megabytes(path)} MB)" for path in self.directories),
            *(f"database {name} on your server" for name in self.databases),
        ]


def plan(settings: Settings) -> Doomed:
    """Return what a purge would delete; nothing is changed."""
    units = tuple(lifecycle.units(settings))
    directories = [path for unit in units for path in unit.owned_paths()]
    home = home_of(settings)
    if home.is_dir():
        directories.append(home)
    return Doomed(units, tuple(directories), tuple(_external_databases(settings)))


def purge(settings: Settings, doomed: Doomed) -> None:
    """Delete what the plan names.

    Raises:
        ServerError: a server does not end.
        OSError: something cannot be deleted.
    """
    for unit in doomed.units:
        lifecycle.stop(unit)
        if unit.source == "containers":
            from pglab.servers.engine import remove_volume

            remove_volume(unit)
    if doomed.databases:
        endpoint, running = lifecycle.ensure_postgres(settings)
        with connect_postgres(endpoint, autocommit=True) as admin:
            for name in doomed.databases:
                databases.drop(admin, name)
        running.release()
    for directory in doomed.directories:
        if directory.exists():
            remove_tree(directory)


def _external_databases(settings: Settings) -> list[str]:
    if settings.database_url is None or settings.backend not in {None, "url"}:
        return []
    from pglab.lab import scope_of

    try:
        endpoint, running = lifecycle.ensure_postgres(settings)
        with connect_postgres(endpoint, autocommit=True) as admin:
            mine = f"{databases.PREFIX}{scope_of(settings, endpoint)}_"
            running.release()
            return databases.made_by_us(admin, mine)
    except ServerUnreachableError:
        return []


def _megabytes(path: Path) -> int:
    return round(sum(f.lstat().st_size for f in path.rglob("*") if f.is_file()) / 1e6)
