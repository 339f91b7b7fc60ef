"""The frame around everything that a notebook shows as HTML."""

from __future__ import annotations

__all__ = ["framed"]

# JupyterLab sets what lies between two dollar signs as a formula, also in tables, and SQL is full
# of them: "a = $1 AND b = $2", jsonpath, dollar quotes. The first class is MathJax 2's, the second
# MathJax 3's (docs.mathjax.org, "ignoreHtmlClass").
_AS_IT_IS = "tex2jax_ignore mathjax_ignore"


def framed(html: str, kind: str = "pglab") -> str:
    """Return HTML in a frame in which dollar signs are dollar signs.

    Args:
        html: what to show.
        kind: the class that style sheets know the frame by.
    """
    return f'<div class="{kind} {_AS_IT_IS}">{html}</div>'
