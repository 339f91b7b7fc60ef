"""A progress bar that is quiet where nobody watches."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def _in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs us, without importing IPython."""
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and running.__class__.__name__ == "ZMQInteractiveShell"


def bar(total: int, label: str, *, wanted: bool) -> tqdm[Any]:
    """Return a bar of ``total`` rows on stderr; silent if unwanted or if stderr is a file."""
    return tqdm(
        total=total,
        desc=label,
        unit=" rows",
        unit_scale=True,
        leave=False,
        # A notebook shows stderr though it is no terminal; plain text needs no widget there.
        disable=not wanted or not (sys.stderr.isatty() or _in_notebook()),
        file=sys.stderr,
    )
