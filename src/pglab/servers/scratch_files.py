"""The files that configure a scratch server, in its data directory."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path

from pglab.servers.scratch_folder import ScratchFolder

__all__ = ["write_hba", "write_settings"]

_MAP = "pglab_scratch"
_OWN_FILE = "pglab.conf"


def write_settings(folder: ScratchFolder, data: Path, settings: Mapping[str, str]) -> None:
    """Write the settings to a file of their own, which postgresql.conf includes last."""
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
    folder.write(data / _OWN_FILE, "".join(lines))
    main = data / "postgresql.conf"
    text = main.read_text()
    if f"include '{_OWN_FILE}'" not in text:
        folder.write(main, f"{text.rstrip()}\ninclude '{_OWN_FILE}'\n")


def write_hba(folder: ScratchFolder, data: Path, lines: Sequence[str], *, peer: str | None) -> None:
    """Replace pg_hba.conf.

    Args:
        folder: whose account is to own the file.
        data: the data directory.
        lines: of the file.
        peer: a role that our account of the operating system may enter as, through the socket.
    """
    kept = [line for line in lines if f"map={_MAP}" not in line]
    if peer is not None:
        kept.insert(0, f"local all {peer} peer map={_MAP}")
        name = pwd.getpwuid(os.geteuid()).pw_name
        folder.write(data / "pg_ident.conf", f"{_MAP} {name} {peer}\n")
    folder.write(data / "pg_hba.conf", "\n".join([*kept, ""]))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
