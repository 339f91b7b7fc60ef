"""A learner's first quarter of an hour, in a real browser: ``pglab lab``, lesson 00, Ctrl-C."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lessons import browser
from playwright.sync_api import Locator, Page

from pglab.config import Settings
from pglab.servers import lifecycle
from pglab.servers.home import remove_tree

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.slow]

LESSON = "00-start-here.ipynb"

_ERROR = '[data-mime-type="application/vnd.jupyter.error"]'
_STDERR = '[data-mime-type="application/vnd.jupyter.stderr"]'
# [7]: when it has run, [*]: while it runs, [ ]: before. What is scrolled away has textContent only.
_PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)"
_ALL_RUN = f"() => {_PROMPTS}.every(p => /^\\[\\d+\\]:$/.test(p))"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Give the lab a home of its own, and leave nothing of it."""
    home = tmp_path / "home"
    yield home
    for unit in lifecycle.units(Settings(home=home)):
        lifecycle.stop(unit)
        for path in unit.owned_paths():
            remove_tree(path)


def test_a_learner_opens_runs_changes_saves_and_leaves(tmp_path: Path, home: Path) -> None:
    program = browser.find_chromium()  # before anything is started
    checkout = browser.clone(tmp_path / "a learner's cópia")
    original = checkout / "notebooks" / LESSON
    mine = checkout / "workspace" / LESSON
    committed = original.read_bytes()

    with browser.running_lab(
        ["-m", "pglab", "lab", "--no-browser"],
        cwd=checkout,
        said=tmp_path / "said.txt",
        PGLAB_HOME=str(home),
        PYTHONPATH=str(checkout / "src"),
    ) as lab:
        as_made = mine.read_bytes()
        with browser.open_page(lab.address, program) as (page, asked):
            opens_on_the_first_lesson(page)
            assert mine.read_bytes() == as_made, "looking at a lesson has changed it"
            everything_runs(page)
            a_changed_cell_has_a_new_result(page)
            statements_are_no_formulas(page)
            page.keyboard.press("Control+s")
            eventually(lambda: "6 * 7" in mine.read_text(encoding="utf-8"), "the edit is saved")
            assert {url.split("/")[2] for url in asked} == {lab.address.split("/")[2]}
        processes = lab.processes(home)
        assert_nothing_secret_in_argv(lab, home)
        assert_the_kernel_is_ours(processes)
        assert lab.interrupt() == 0
        assert browser.alive(processes) == []
        printed = lab.said.read_text()
        assert "Traceback" not in printed
        assert "[W " not in printed

    cells = code_cells(mine)
    assert [c["execution_count"] for c in cells] != [None] * len(cells)
    assert "42" in json.dumps(next(c["outputs"] for c in cells if "6 * 7" in "".join(c["source"])))
    assert original.read_bytes() == committed
    assert browser.git("status", "--porcelain", cwd=checkout) == ""
    assert browser.git("rev-list", "--count", "HEAD", cwd=checkout) == "1\n"


def opens_on_the_first_lesson(page: Page) -> None:
    page.locator(".jp-NotebookPanel h1", has_text="Start here").wait_for()
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.keyboard.press("Control+s")
    page.locator(".jp-mod-dirty").wait_for(state="detached")
    browser.picture(page, "1-opened")
    assert page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []
    assert set(page.evaluate(_PROMPTS)) == {"[ ]:"}
    assert page.locator(".jp-OutputArea-output").count() == 0


def everything_runs(page: Page) -> None:
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(f"() => ({_ALL_RUN})() || document.querySelector('{_ERROR}')")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.set_viewport_size({"width": 1280, "height": 7000})  # the whole lesson in one picture
    page.locator(".jp-Notebook .jp-WindowedPanel-outer").evaluate("panel => panel.scrollTop = 0")
    page.wait_for_timeout(1000)
    browser.picture(page, "2-run")
    assert page.locator(_ERROR).all_text_contents() == []
    assert page.locator(_STDERR).all_text_contents() == []
    assert page.evaluate(_PROMPTS) == [f"[{n}]:" for n in range(1, code_count(page) + 1)]
    tables = page.locator(".jp-OutputArea-output table")
    assert tables.count() >= 5
    assert all(table.is_visible() for table in tables.all())
    pictures = page.locator(".jp-RenderedImage img")
    assert pictures.count() >= 1
    assert pictures.first.evaluate("img => img.complete && img.naturalWidth") > 300
    page.set_viewport_size({"width": 1280, "height": 900})


def a_changed_cell_has_a_new_result(page: Page) -> None:
    cells = page.locator(".jp-CodeCell")
    is_sql = [text.startswith("%%sql") for text in cells.locator(".cm-content").all_text_contents()]
    cell = cells.nth(is_sql.index(True))
    before = cell.locator(".jp-InputPrompt").text_content()
    result(cell).wait_for()
    assert "42" not in result(cell).inner_text().split()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("%%sql\nSELECT 6 * 7 AS answer")
    page.keyboard.press("Shift+Enter")
    result(cell).get_by_text("42", exact=True).wait_for()
    assert cell.locator(".jp-InputPrompt").text_content() != before
    browser.picture(page, "3-changed")


def statements_are_no_formulas(page: Page) -> None:
    cell = page.locator(".jp-CodeCell").last
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(
        "from IPython.display import HTML, display\n"
        "from pglab.notebook import table\n"
        'display(table([{"sql": "a = $1 AND b = $2"}]), HTML("<p>once $x$ is a formula</p>"))'
    )
    page.keyboard.press("Control+Enter")
    cell.locator("mjx-container").wait_for()  # formulas are set, and only what is one
    assert cell.locator("mjx-container").count() == 1
    assert result(cell).locator("td").inner_text() == "a = $1 AND b = $2"


def result(cell: Locator) -> Locator:
    return cell.locator(".jp-OutputArea-output table").first


def code_count(page: Page) -> int:
    return page.locator(".jp-CodeCell").count()


def code_cells(path: Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_bytes())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def assert_nothing_secret_in_argv(lab: browser.RunningLab, home: Path) -> None:
    units = lifecycle.units(Settings(home=home))
    assert {unit.kind for unit in units} == {"postgres", "redis"}
    secrets = [unit.password().reveal() for unit in units] + [lab.token]
    commands = browser.all_commands()
    assert any("pglab" in command for command in commands)
    assert [c for c in commands if any(secret in c for secret in secrets)] == []


def assert_the_kernel_is_ours(processes: list[psutil.Process]) -> None:
    commands = [p.cmdline() for p in processes]
    kernels = [command for command in commands if "ipykernel_launcher" in command]
    assert [command[0] for command in kernels] == [sys.executable]
