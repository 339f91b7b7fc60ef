"""Learn PostgreSQL and Redis by running, measuring and breaking real servers.

    import pglab
    lab = pglab.open("indexes")

Importing pglab does no I/O and loads no heavy library: names below are fetched when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from pglab.errors import PglabError
    from pglab.ingestion import IngestReport, ingest
    from pglab.lab import Lab
    from pglab.lab import open_lab as open

__all__ = ["IngestReport", "Lab", "PglabError", "__version__", "ingest", "open"]

__version__ = "0.1.0"

_HOMES = {
    "IngestReport": ("pglab.ingestion", "IngestReport"),
    "Lab": ("pglab.lab", "Lab"),
    "PglabError": ("pglab.errors", "PglabError"),
    "ingest": ("pglab.ingestion", "ingest"),
    "open": ("pglab.lab", "open_lab"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pglab' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Switch on ``%%sql`` (what ``%load_ext pglab`` calls)."""
    from pglab import notebook

    notebook.load_ipython_extension(shell)
