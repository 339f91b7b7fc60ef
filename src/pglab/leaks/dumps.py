"""What somebody holds who got hold of a dump."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pglab.backup.programs import programs_for, started
from pglab.servers.connect import connect_postgres

if TYPE_CHECKING:
    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["plain_dump"]


def plain_dump(endpoint: PostgresEndpoint, database: str, table: str) -> str:
    """Return one table as pg_dump writes it in plain text.

    Args:
        endpoint: the server.
        database: where the table is.
        table: its name; a schema may stand before it.

    Raises:
        BackupError: there is no pg_dump, or it failed.
    """
    with connect_postgres(endpoint, database) as connection:
        major = connection.info.server_version // 10_000
    programs = programs_for(endpoint, server_major=major)
    arguments = ["--format=plain", "--no-owner", f"--table={table}"]
    with started(
        programs, "pg_dump", arguments,
        endpoint=endpoint, database=database, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        text = running.child.communicate()[0].decode()
        running.wait()
    return text
