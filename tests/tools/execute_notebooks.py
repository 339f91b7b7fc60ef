"""Execute the lessons from the top and keep their outputs: what ``make notebooks`` runs.

    python -m tests.tools.execute_notebooks [NN …]

It uses servers of its own, with the data made beforehand, so that the outputs are those of a
learner whose lab is ready, and writes a notebook only when every cell of it ran as announced.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

# Of the machine that happened to execute, not of the lesson.
_LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}

_WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Execute one notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata = NotebookNode({"kernelspec": _KERNEL, "language_info": _LANGUAGE})
    _merge_streams(notebook)
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    path.write_text(text, encoding="utf-8")


def _merge_streams(notebook: NotebookNode) -> None:
    # How a stream is cut into pieces is chance, and would make a difference where there is none.
    for cell in notebook.cells:
        merged: list[NotebookNode] = []
        for output in cell.get("outputs", []):
            # A progress bar is gone when its work is done; the page would keep it at 0 %.
            if _WIDGET in output.get("data", {}):
                continue
            last = merged[-1] if merged else None
            same = last is not None and output.output_type == "stream" == last.output_type
            if same and output.name == last.name:
                last.text += output.text
            else:
                merged.append(output)
        if "outputs" in cell:
            cell.outputs = merged


def main(wanted: list[str]) -> None:
    """Execute the lessons whose names begin with one of ``wanted``, or all."""
    paths = [
        path
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        if not wanted or path.name.startswith(tuple(wanted))
    ]
    if not paths:
        sys.exit(f"no lesson begins with {' or '.join(wanted)}")
    os.environ.setdefault("PGLAB_IDLE_MINUTES", "5")
    # Warnings of libraries are for developers; a lesson's own warnings come through PostgreSQL.
    with tempfile.TemporaryDirectory(prefix="pglab-notebooks-") as folder:
        os.environ["PGLAB_HOME"] = str(Path(folder) / "lab")
        from pglab.config import Settings
        from pglab.lab import Lab
        from pglab.purge import plan, purge

        settings = Settings.from_environment()
        try:
            Lab("warm_up", "small", settings).drop()
            for path in paths:
                began = time.monotonic()
                execute(path)
                print(f"{path.name}: {time.monotonic() - began:.0f} s", flush=True)
        finally:
            purge(settings, plan(settings))


if __name__ == "__main__":
    main(sys.argv[1:])
