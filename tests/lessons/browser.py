"""What the tests of ``pglab lab`` share: a checkout of one's own, a running lab, a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, sync_playwright

from pglab.config import Settings
from pglab.servers import lifecycle

CHECKOUT = Path(__file__).parents[2]
PICTURES = CHECKOUT / "artifacts" / "browser"

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/\S*token=\S+")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
# A browser that does nothing but what the test tells it.
_QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def git(*words: str, cwd: Path) -> str:
    """Run git without anybody's configuration; return what it printed."""
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
        cwd=cwd, env={**os.environ, **alone}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def clone(target: Path) -> Path:
    """Make a repository of what a commit of everything here would hold, and return it.

    What is on disk counts, so that a test run before a commit tests what will be committed.
    """
    if (CHECKOUT / ".git").exists():
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT)
        files = [CHECKOUT / name for name in names.split("\0") if name]
    else:  # an unpacked archive
        parts = ["src", "notebooks", "data", ".gitignore", "pyproject.toml"]
        files = [p for part in parts for p in [CHECKOUT / part, *(CHECKOUT / part).rglob("*")]]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            copy = target / file.relative_to(CHECKOUT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    git("init", "--quiet", cwd=target)
    git("add", "--all", cwd=target)
    git("commit", "--quiet", "--message=as on disk", cwd=target)
    return target


@dataclass(slots=True)
class RunningLab:
    """A JupyterLab that answers.

    Attributes:
        address: its URL, token and all.
        said: file with everything that it printed.
    """

    process: psutil.Popen
    address: str
    said: Path

    @property
    def token(self) -> str:
        """Return what the address lets its reader in with."""
        return self.address.rpartition("token=")[2]

    def processes(self, *homes: Path) -> list[psutil.Process]:
        """Return it, its kernels, and the servers of these homes with their supervisors."""
        roots = [psutil.Process(self.process.pid)]
        for home in homes:
            for unit in lifecycle.units(Settings(home=home)):
                state = unit.read_state() or {}
                pids = [state[name] for name in ("pid", "supervisor_pid") if state.get(name)]
                roots += [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        return [p for root in roots for p in [root, *root.children(recursive=True)]]

    def interrupt(self, how: signal.Signals = signal.SIGINT) -> int:
        """Press Ctrl-C once; return the exit status."""
        self.process.send_signal(how)
        return self.process.wait(60)


@contextmanager
def running_lab(
    words: Sequence[str], *, cwd: Path, said: Path, **environment: str
) -> Iterator[RunningLab]:
    """Start this environment's Python with these words; wait until it prints an address."""
    # Another JupyterLab, a browser or an SSH session around the tests decides nothing.
    mine = {n: v for n, v in os.environ.items() if not n.startswith(("JUPYTER", "SSH_"))}
    with said.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, *words], cwd=cwd, env={**mine, **environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (found := _ADDRESS.search(said.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(
                    f"no address from {words} (status {process.poll()}):\n{said.read_text()}"
                )
            time.sleep(0.1)
        yield RunningLab(process, found[0], said)
    finally:
        if process.poll() is None:  # the test failed; the servers follow when it ends
            process.terminate()
            process.wait(60)


def alive(processes: Sequence[psutil.Process], *, timeout_s: float = 30) -> list[str]:
    """Return the commands of those that have not ended in time."""
    _, left = psutil.wait_procs(processes, timeout=timeout_s)
    return [" ".join(p.cmdline()) or p.name() for p in left if p.status() != psutil.STATUS_ZOMBIE]


def all_commands() -> list[str]:
    """Return the command lines of everything on this machine, as any account can see them."""
    processes = psutil.process_iter(["cmdline"])
    return [" ".join(process.info["cmdline"] or []) for process in processes]


def find_chromium() -> str:
    """Return a Chromium's path; skip the test if there is none, or fail it where CI runs."""
    named = os.environ.get("PGLAB_TEST_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else _CHROMIUM)), None)
    if found is None:
        lacking = (
            f"no {named or 'Chromium'} on this machine; install one (apt-get install chromium), "
            "or name one in PGLAB_TEST_CHROMIUM"
        )
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(lacking)
        pytest.skip(lacking)
    return found


@contextmanager
def open_page(address: str, program: str) -> Iterator[tuple[Page, list[str]]]:
    """Open an address in a headless Chromium; yield the page, and every address it asks for."""
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        # Shown with a failure: what looks like a lesson's fault may be the network's.
        page.on("requestfailed", lambda request: print(request.url, "failed:", request.failure))
        try:
            page.goto(address)
            yield page, asked
        except BaseException:
            picture(page, "failure")
            raise
        finally:
            browser.close()


def picture(page: Page, name: str) -> None:
    """Keep a screenshot, which CI stores with the run."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
