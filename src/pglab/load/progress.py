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
    """Return a bar of ``total`` rows; silent if unwanted, or where stderr is a file.

    In a terminal it is text on stderr. In a notebook it is a widget, because what is written to
    stderr there leaves a red stripe, which looks like an error.
    """
    look: dict[str, Any] = {"total": total, "desc": label, "unit": " rows", "unit_scale": True}
    if wanted and _in_notebook():
        from tqdm.notebook import tqdm as notebook_tqdm

        widget: tqdm[Any] = notebook_tqdm(**look, leave=False)
        return widget
    return tqdm(**look, leave=False, disable=not (wanted and sys.stderr.isatty()), file=sys.stderr)
