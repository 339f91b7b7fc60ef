"""A server to lose data on: a lesson's database under the seed document's name, and a terminal.

    evolution = Practice(lab)
    evolution.sh("pg_dump -U postgres -d evolution -F c -f backup.dump")
    evolution.close()

The lab's own server is only read. Everything is gone with ``close``, or with this process.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pglab.backup.dump import create
from pglab.backup.point_in_time import Target, archiving, recovered, wal_archive
from pglab.backup.restore import restore
from pglab.closeable import Closeable
from pglab.servers.connect import connect_postgres
from pglab.servers.scratch import ScratchFolder, ScratchPostgres

if TYPE_CHECKING:
    import psycopg

    from pglab.lab import Lab
    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["Practice"]

_LONGEST_S: Final = 120

# No commits but the learner's own: what a recovery loses can be counted. And nothing here outlives
# its process, so that there is nothing to save from a power cut.
_QUIET: Final = {"autovacuum": "off", "fsync": "off"}


class Practice(Closeable):
    """A PostgreSQL server with one database, ``evolution``, which holds the lab's schema public.

    What ``%%sql`` runs on, after ``pglab.notebook.activate(practice)``.

    Args:
        lab: whose database is copied.
        database: the copy's name.

    Attributes:
        name: for messages of ``%%sql``.
        generation: of its data; there is only one.
        database: the copy's name.
        place: the folder that everything lies in.
        work: where commands are typed, below ``place``.
        archive: where its WAL goes after ``begin_archiving``, below ``place``.
        server: the server.
    """

    def __init__(self, lab: Lab, database: str = "evolution") -> None:
        self.name = f"{lab.name} practice"
        self.generation = 0
        self.database = database
        self.place = ScratchFolder()
        try:
            self.work = self.place.path / "work"
            self.work.mkdir(mode=0o700)
            self.archive = wal_archive(self.place)
            self.server = ScratchPostgres(
                tcp=True,
                settings={**_QUIET, "wal_level": "minimal", "max_wal_senders": "0"},
            )
        except BaseException:
            self.place.close()
            raise
        try:
            with tempfile.TemporaryDirectory() as folder:
                made = create(lab.server, lab.database, Path(folder), check_space=False)
                restore(made, self.endpoint, database, owners=False)
            with self.connection(autocommit=True) as connection:
                # The seed's tables hold the same conversations again: twice the time for nothing.
                connection.execute("DROP SCHEMA IF EXISTS seed CASCADE")
                connection.execute("ANALYZE")
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> PostgresEndpoint:
        """Where the server answers."""
        return self.server.endpoint()

    def connection(
        self, *, autocommit: bool = False, application_name: str | None = None, **options: Any
    ) -> psycopg.Connection[Any]:
        """Open a new connection to the database."""
        return connect_postgres(
            self.endpoint,
            options.pop("dbname", self.database),
            autocommit=autocommit,
            application_name=application_name or "pglab practice",
            **options,
        )

    def sh(self, command: str, *, show: int = 12) -> int:
        """Type a command into a terminal, and print what it says.

        PostgreSQL's programs are on the PATH, and find this server whichever host they are told:
        ``PGHOSTADDR`` overrules the name. The password is in a file.

        Args:
            command: for a shell, in a working folder of its own.
            show: lines of output to print at most.

        Returns:
            Its exit status, so that a cell can keep it.
        """
        environment = self.server.environment()
        environment |= {
            "PATH": f"{self.server.programs.bin}:{environment.get('PATH', '/usr/bin:/bin')}",
            "PGHOST": "localhost",
            "PGHOSTADDR": "127.0.0.1",
            "PGDATABASE": self.database,
            "LC_ALL": "C",
            "TZ": "UTC",
        }
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", command],
            cwd=self.work, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LONGEST_S, check=False,
        )  # fmt: skip
        said = self._without_paths(done.stdout.decode(errors="replace"))
        lines = said.splitlines()
        for line in lines[:show]:
            print(line)
        if len(lines) > show:
            print(f"… and {len(lines) - show} lines more")
        print(f"[exit status {done.returncode}]")
        return done.returncode

    def begin_archiving(self) -> None:
        """Restart the server with settings that archive its WAL: they need a restart."""
        self.server.settings = {**_QUIET, **archiving(self.archive)}
        self.server.restart()

    def recovered(self, base: str, target: Target) -> AbstractContextManager[ScratchPostgres]:
        """Return a second server, recovered from a base backup in ``work`` and the archive.

        Raises:
            RecoveryError: the point was not reached.
        """
        return recovered(self.work / base, self.archive, target, place=self.place, settings=_QUIET)

    def _without_paths(self, text: str) -> str:
        # Where this machine keeps its scratch files is nobody's business, and never the same.
        for path, word in ((self.work, "."), (self.place.path, "..")):
            text = text.replace(str(path), word)
        return text.replace(str(self.server.socket_directory), "(socket)")

    def close(self) -> None:
        """End the server and remove everything; doing so twice is harmless."""
        self.server.close()
        self.place.close()

    def __repr__(self) -> str:
        state = "running" if self.server.running else "stopped"
        return f"<Practice server, database {self.database!r}, {state}>"
