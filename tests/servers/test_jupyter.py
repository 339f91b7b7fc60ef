"""JupyterLab as ``pglab lab`` runs it: for this account alone, and gone when it should be."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient
from lessons import browser

from pglab import jupyter
from pglab.errors import ConfigError, WorkspaceError

RUN = """
import os, sys
from pathlib import Path
from pglab import jupyter
folder, port, *words = sys.argv[1:]
opening = "OPEN" in os.environ
sys.exit(jupyter.run(Path(folder), browser=opening, port=int(port) or None, arguments=words))
"""
# A terminal of its own, as a learner has: Jupyter then asks "are you sure?" by itself.
IN_A_TERMINAL = f"""
import fcntl, os, termios
os.setsid()
terminal = os.open(os.environ["TERMINAL"], os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.dup2(terminal, 0)
{RUN}"""

Start = Callable[..., AbstractContextManager[browser.RunningLab]]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Return what starts JupyterLab on a new folder that holds the first lesson."""

    def start(
        *words: str, port: int = 0, script: str = RUN, visited: bool = False, **environment: str
    ) -> AbstractContextManager[browser.RunningLab]:
        base = tmp_path_factory.mktemp("lab")
        mine = base / "mis cópias"
        mine.mkdir()
        (mine / jupyter.FIRST_LESSON).write_text("{}")
        if visited:
            (mine / ".layout").mkdir()
            (mine / ".layout" / "default-37a8.jupyterlab-workspace").write_text("{}")
        return browser.running_lab(
            ["-c", script, str(mine), str(port), *words],
            cwd=base,
            said=base / "said.txt",
            PGLAB_HOME=str(base / "home"),
            **environment,
        )

    return start


@pytest.fixture(scope="module")
def lab(start: Start) -> Iterator[browser.RunningLab]:
    """Give a JupyterLab with a kernel, for tests that leave it running."""
    with start() as lab:
        start_kernel(lab)
        yield lab


def ask(address: str, token: str | None, path: str, data: object = None) -> tuple[int, Any]:
    """Ask JupyterLab's own interface; return the status and what it answered."""
    base = address.partition("/lab")[0]
    body = None if data is None else json.dumps(data).encode()
    headers = {} if token is None else {"Authorization": f"token {token}"}
    request = urllib.request.Request(f"{base}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def start_kernel(lab: browser.RunningLab) -> psutil.Process:
    """Start a kernel, wait until it has finished starting, and return its process."""
    status, kernel = ask(lab.address, lab.token, "/api/kernels", {"name": "python3"})
    assert status == 201
    runtime = lab.said.parent / "home" / "jupyter" / "runtime"
    client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel['id']}.json"))
    client.load_connection_file()
    client.start_channels()
    client.kernel_info(reply=True, timeout=60)
    client.stop_channels()
    return next(p for p in lab.processes() if "ipykernel_launcher" in p.cmdline())


def test_it_answers_with_the_token_and_only_with_it(lab: browser.RunningLab) -> None:
    with urllib.request.urlopen(lab.address, timeout=30) as page:
        assert page.status == 200
        assert b"JupyterLab" in page.read()
    status, found = ask(lab.address, lab.token, "/api/contents")
    assert status == 200
    assert [entry["name"] for entry in found["content"]] == [jupyter.FIRST_LESSON]
    assert ask(lab.address, None, "/api/contents") == (403, None)
    assert ask(lab.address, lab.token[:-1], "/api/contents") == (403, None)


def test_its_token_is_in_nobodys_list_of_processes(lab: browser.RunningLab) -> None:
    commands = browser.all_commands()
    assert len([c for c in commands if "ipykernel_launcher" in c]) >= 1
    assert [c for c in commands if lab.token in c] == []


def test_it_and_its_kernel_listen_on_loopback_only(lab: browser.RunningLab) -> None:
    listening = [
        connection.laddr.ip
        for process in lab.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 5  # the kernel has five
    assert {*listening} == {"127.0.0.1"}


def test_what_the_kernel_says_is_encrypted(lab: browser.RunningLab) -> None:
    (connection,) = (lab.said.parent / "home" / "jupyter" / "runtime").glob("kernel-*.json")
    assert len(json.loads(connection.read_bytes())["curve_secretkey"]) == 40
    assert "without encryption" not in lab.said.read_text()


def test_its_files_are_this_accounts_alone(lab: browser.RunningLab) -> None:
    home = lab.said.parent / "home"
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}
    assert any(path.match("jupyter/runtime/kernel-*.json") for path in modes)
    assert modes[home] == modes[home / "jupyter"] == 0o700  # closed to others at the top
    holding = [p for p in modes if p.is_file() and lab.token.encode() in p.read_bytes()]
    assert [path for path in holding if modes[path] & 0o077] == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_it_and_its_kernels(start: Start, how: signal.Signals) -> None:
    with start() as lab:
        start_kernel(lab)
        processes = lab.processes()
        assert len(processes) == 2
        assert lab.interrupt(how) == 0
        assert browser.alive(processes, timeout_s=5) == []
        assert "Traceback" not in lab.said.read_text()


def test_killed_it_leaves_no_kernel(start: Start) -> None:
    with start() as lab:
        start_kernel(lab)
        processes = lab.processes()
        assert lab.interrupt(signal.SIGKILL) == -signal.SIGKILL
        assert browser.alive(processes) == []


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    keyboard, screen = os.openpty()
    name = os.ttyname(screen)
    os.close(screen)
    yield keyboard, name
    os.close(keyboard)


def test_control_c_in_a_terminal_asks_nothing(start: Start, terminal: tuple[int, str]) -> None:
    keyboard, name = terminal
    with start(script=IN_A_TERMINAL, TERMINAL=name) as lab:
        os.write(keyboard, b"\x03")
        assert lab.process.wait(30) == 0
        assert "Shut down this Jupyter server" not in lab.said.read_text()


def test_nothing_of_the_persons_own_decides(
    start: Start, lab: browser.RunningLab, tmp_path: Path
) -> None:
    # A home as people have them, in which everything contradicts us, and that is read-only.
    home = tmp_path / "person"
    spec = json.dumps({"argv": ["/bin/false"], "display_name": "wrong", "language": "python"})
    for share in (home / ".local/share/jupyter", home / "other"):
        (share / "kernels/python3").mkdir(parents=True)
        (share / "kernels/python3/kernel.json").write_text(spec)
    (home / ".jupyter").mkdir()
    for name in ("jupyter_server_config.py", "jupyter_lab_config.py"):
        (home / ".jupyter" / name).write_text(
            "c.ServerApp.ip = '0.0.0.0'\nc.ServerApp.allow_remote_access = True\n"
            "c.IdentityProvider.token = ''\nc.ServerApp.root_dir = '/'\n"
        )
    before = sorted(home.rglob("*"))
    home.chmod(0o500)
    with start(
        HOME=str(home),
        JUPYTER_TOKEN="",
        JUPYTER_PATH=str(home / "other"),
        JUPYTER_CONFIG_DIR=str(home / ".jupyter"),
        JUPYTER_CONFIG_PATH=str(home / ".jupyter"),
        JUPYTER_RUNTIME_DIR="/proc/nowhere",
        IPYTHONDIR="/proc/nowhere",
        PYTHONSTARTUP="/proc/nowhere.py",
        PYTHONPATH="/proc/nowhere",
        MPLBACKEND="nonsense",
        BROWSER="nonsense",
    ) as other:
        kernel = start_kernel(other)
        assert kernel.cmdline()[0] == sys.executable
        environment = kernel.environ()
        assert environment.get("MPLBACKEND") != "nonsense"
        assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
        assert ask(other.address, None, "/api/contents") == (403, None)
        sockets = psutil.Process(other.process.pid).net_connections("tcp")
        assert {connection.laddr.ip for connection in sockets} == {"127.0.0.1"}
        assert len({lab.token, other.token}) == 2
        assert min(len(lab.token), len(other.token)) >= 32
    assert sorted(home.rglob("*")) == before


def test_it_opens_the_first_lesson_first_and_afterwards_what_was_open(
    start: Start, lab: browser.RunningLab
) -> None:
    assert f"/lab/tree/{jupyter.FIRST_LESSON}?" in lab.address
    with start(visited=True) as again:
        assert "/lab?" in again.address


def test_a_port_insisted_on_is_had_or_refused(
    start: Start, lab: browser.RunningLab, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken; choose another --port"):
            jupyter.run(tmp_path, browser=False, port=port, arguments=[])
    # Beside one that runs, and with words for JupyterLab, which win.
    with start("--ServerApp.base_url=/course/", port=port) as other:
        assert other.address.startswith(f"http://127.0.0.1:{port}/course/lab")
        assert lab.address.partition("/lab")[0] != f"http://127.0.0.1:{port}"


def test_a_browser_is_led_to_the_address_and_not_told_the_token(
    start: Start, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$*" > {told}.new && mv {told}.new {told}\n')
    program.chmod(0o700)
    with start(OPEN="yes", BROWSER=f"{program} %s") as lab:
        deadline = time.monotonic() + 30
        while not told.exists():
            assert time.monotonic() < deadline, "no browser was opened"
            time.sleep(0.05)
        page = Path(url2pathname(told.read_text().strip().removeprefix("file://")))
        assert lab.token not in told.read_text()
        assert f"url={lab.address}" in page.read_text()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert lab.interrupt() == 0
    assert not page.exists()


@pytest.mark.parametrize(
    ("environment", "likely"),
    [
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"WSL_DISTRO_NAME": "Debian"}, True),
        ({}, False),
        ({"DISPLAY": ""}, False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, False),
        ({"DISPLAY": ":0", "CODESPACES": "true"}, False),
        ({"DISPLAY": ":0", "container": "podman"}, False),
    ],
)
def test_where_a_browser_would_be_seen(
    environment: dict[str, str], likely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The marks of a container of the machine that the tests run on.
    monkeypatch.setattr(jupyter, "_CONTAINER_MARKS", ())
    monkeypatch.setattr(sys, "platform", "linux")
    assert jupyter.browser_is_likely(environment) is likely


def test_in_a_container_nobody_would_see_a_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / ".dockerenv"
    monkeypatch.setattr(jupyter, "_CONTAINER_MARKS", (str(mark),))
    monkeypatch.setattr(sys, "platform", "linux")
    assert jupyter.browser_is_likely({"DISPLAY": ":0"})
    mark.touch()
    assert not jupyter.browser_is_likely({"DISPLAY": ":0"})


def test_over_ssh_the_way_in_is_said(start: Start) -> None:
    with start(SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22") as lab:
        port = urlsplit(lab.address).port
        assert re.search(
            rf"ssh -N -L {port}:127\.0\.0\.1:{port} \S+@192\.0\.2\.2\n", lab.said.read_text()
        )


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"no folder .*; make it with: pglab lab"):
        jupyter.run(tmp_path / "nowhere", browser=False, port=None, arguments=[])
