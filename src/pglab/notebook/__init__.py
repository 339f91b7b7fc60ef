"""``%%sql``, ``%%explain``, ``%%exercise``, how results are shown, and the diagram of a schema.

``pglab.open`` calls ``activate``; ``%load_ext pglab`` calls ``load_ipython_extension``. Importing
this package loads neither IPython nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglab.notebook.diagram import Diagram, er_diagram
from pglab.notebook.tables import side_by_side, table

if TYPE_CHECKING:
    from pglab.notebook.magic import SqlMagics
    from pglab.notebook.session import HasConnection

__all__ = ["Diagram", "activate", "er_diagram", "load_ipython_extension", "side_by_side", "table"]


def activate(lab: HasConnection) -> bool:
    """Make ``%%sql`` run on this lab; return False where no IPython shell is running."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    if shell is None:
        return False
    load_ipython_extension(shell).use(lab)
    return True


def load_ipython_extension(shell: Any) -> SqlMagics:
    """Register ``%%sql`` and its companions with an IPython shell, once; return its magics."""
    from pglab.notebook.exercise_magic import ExerciseMagics
    from pglab.notebook.explain_magic import ExplainMagics
    from pglab.notebook.magic import SqlMagics

    registered = shell.magics_manager.registry.get(SqlMagics.__name__)
    if isinstance(registered, SqlMagics):
        return registered
    magics = SqlMagics(shell)
    shell.register_magics(magics, ExplainMagics(shell, magics), ExerciseMagics(shell))
    return magics
