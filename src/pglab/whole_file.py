"""Writing a file as a whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes, *, prefix: str = ".part-") -> None:
    """Write a file as a whole: who looks sees the old one or the new one, even after a crash.

    Not by the library's temporary files: those are for their owner only, and these are shared.

    Args:
        path: of the file; its folder is there.
        content: all of it.
        prefix: what the scratch file's name begins with; one that a crash leaves is known by it.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    scratch = path.with_name(f"{prefix}{secrets.token_hex(8)}")
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
