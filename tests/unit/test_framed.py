"""What notebooks show as HTML: dollar signs stay dollar signs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from pglab.framed import framed
from pglab.notebook.tables import table

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_a_frame_is_left_alone_by_mathjax_2_and_3() -> None:
    assert framed("<b>$1 $2</b>", "kind") == (
        '<div class="kind tex2jax_ignore mathjax_ignore"><b>$1 $2</b></div>'
    )


def test_a_table_is_framed() -> None:
    html = table([{"sql": "a = $1 AND b = $2"}])._repr_html_()
    assert html.partition("</style>")[2].startswith(framed("").removesuffix("</div>"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_no_statement_of_a_lesson_can_be_taken_for_a_formula(lesson: Path) -> None:
    shown = [
        output.data["text/html"]
        for cell in nbformat.read(lesson, as_version=4).cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    assert [html for html in shown if html.count("$") > 1 and "mathjax_ignore" not in html] == []
