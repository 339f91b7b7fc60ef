"""JupyterLab on the learner's copies: private, quiet, with this environment's kernel.

It runs in this process, so that there is no child to outlive us: whatever ends ``pglab lab``, its
leases on the servers end with it, and so do the kernels, which watch their parent.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import signal
import sys
import sysconfig
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from pglab.config import Settings
from pglab.errors import ConfigError, WorkspaceError
from pglab.servers.account import make_private_directory
from pglab.servers.home import home_of, write_private
from pglab.servers.process import port_is_free

__all__ = ["browser_is_likely", "run"]

FIRST_LESSON: Final = "00-start-here.ipynb"

_FIRST_PORT = 8888  # Jupyter's own; the next free one if it is taken
_LAYOUT = ".layout"  # in the workspace: which notebooks were open
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # not every system has each
# Each says that the screen of this machine, if any, is not the one that the learner looks at.
_ELSEWHERE = (
    "SSH_CONNECTION",
    "SSH_TTY",
    "CODESPACES",
    "REMOTE_CONTAINERS",
    "KUBERNETES_SERVICE_HOST",
    "JUPYTERHUB_SERVICE_PREFIX",
    "container",
)


_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")  # of Docker and Podman

# What differs from JupyterLab's own defaults; a learner's settings win.
_SETTINGS = {
    # Without news it would still ask whether one would like news.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def run(
    workspace: Path, *, browser: bool | None, port: int | None, arguments: Sequence[str]
) -> int:
    """Run JupyterLab on a folder until Ctrl-C, SIGTERM, or the end of the terminal.

    It listens on 127.0.0.1 only and asks for a token that is new each time. Personal settings of
    other Jupyter installations, which may contradict all this, are not read. Call it once in a
    process, from its main thread: it changes the process's environment.

    Args:
        workspace: the folder that it shows.
        browser: open one; None: if this machine is likely to have one.
        port: insist on this one; None: any free one.
        arguments: further words for JupyterLab; these win.

    Returns:
        Its exit status.

    Raises:
        ConfigError: the port is taken.
        WorkspaceError: the folder does not exist, or Jupyter's own files cannot be written.
    """
    workspace = workspace.resolve()
    if not workspace.is_dir():
        raise WorkspaceError(f"there is no folder {workspace}; make it with: pglab lab")
    if port is not None and not port_is_free(port):
        raise ConfigError(f"port {port} is taken; choose another --port, or leave it out")
    _prepare_environment(home_of(Settings.from_environment()) / "jupyter")
    ending = _Ending()
    with ending.on_signals():
        try:
            return _serve(workspace, browser, port, arguments, ending)
        except KeyboardInterrupt:  # before there was a server to stop
            return 0
        except SystemExit as end:  # how Jupyter says that an argument is wrong
            return end.code if isinstance(end.code, int) else int(end.code is not None)


def _serve(
    workspace: Path,
    browser: bool | None,
    port: int | None,
    arguments: Sequence[str],
    ending: _Ending,
) -> int:
    # Only now: Jupyter reads the environment when it is imported.
    from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]

    # These words are parsed in this process; nobody else sees them, unlike those of a command.
    words = [f"--{name}={value}" for name, value in _options(workspace, port).items()]
    server: Any = LabApp.initialize_server(argv=[*words, *arguments])
    server.no_browser_open_file = True  # others could read the token in it
    ending.becomes(lambda: server.stop(from_signal=True))
    page = workspace / f".pglab-open-{os.getpid()}.html"

    def announce() -> None:
        token = server.identity_provider.token
        path = server.default_url[len(server.base_url) :].lstrip("/")
        address = f"{server.connection_url}{path}" + (f"?token={token}" if token else "")
        print(_greeting(address, server.port, os.environ), flush=True)
        if browser_is_likely(os.environ) if browser is None else browser:
            _open(address, page)

    server.io_loop.add_callback(announce)  # runs once the port is open
    try:
        server.start()
    finally:
        page.unlink(missing_ok=True)
    return 0


def _options(workspace: Path, port: int | None) -> dict[str, object]:
    import zmq

    # The first time the first lesson; afterwards JupyterLab brings back what was open.
    visited = any((workspace / _LAYOUT).glob("*.jupyterlab-workspace"))
    first = (workspace / FIRST_LESSON).is_file() and not visited
    return {
        "ServerApp.root_dir": workspace,
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port or _FIRST_PORT,
        "ServerApp.port_retries": 0 if port else 100,
        "IdentityProvider.token": secrets.token_urlsafe(24),
        "ServerApp.allow_root": True,  # a container's only user; nothing is open to the network
        "ServerApp.open_browser": False,  # announce() does it
        "LabApp.default_url": f"/lab/tree/{FIRST_LESSON}" if first else "/lab",
        "LabApp.workspaces_dir": workspace / _LAYOUT,
        # Nothing calls home, and nothing asks the learner about Jupyter's own affairs.
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
        "ServerApp.tornado_settings": {
            "page_config_data": {"buildAvailable": False, "buildCheck": False}
        },
        "ServerApp.jpserver_extensions": {"jupyter_lsp": False},  # runs npm in search of servers
        # Other accounts of this machine can see what passes over its loopback ports.
        "KernelManager.transport_encryption": "auto" if zmq.has("curve") else "disabled",
        "Application.log_level": 40,  # errors: its chatter would bury the address
    }


def _prepare_environment(directory: Path) -> None:
    """Give Jupyter, and the kernels, a place of their own and this environment's Python."""
    try:
        make_private_directory(directory.parent)
        make_private_directory(directory)
        for name in ("config", "data", "runtime", "ipython"):
            make_private_directory(directory / name)
        settings = make_private_directory(directory / "config" / "labconfig")
        write_private(settings / "default_setting_overrides.json", json.dumps(_SETTINGS, indent=1))
    except OSError as error:
        raise WorkspaceError(
            f"cannot write {error.filename or directory}: {error.strerror}; "
            "make it writable, or set PGLAB_HOME to a directory that is"
        ) from error
    for name in list(os.environ):
        # A server that started us (Codespaces, a terminal in JupyterLab) means itself by these,
        # and a start-up file or a back end for windows is for other sessions than a lesson's.
        if name.startswith(("JUPYTER_", "JUPYTERLAB_", "JPY_")) or name in {
            "MPLBACKEND",
            "PYTHONSTARTUP",
        }:
            del os.environ[name]
    os.environ.update(
        JUPYTER_CONFIG_DIR=str(directory / "config"),
        JUPYTER_DATA_DIR=str(directory / "data"),
        JUPYTER_RUNTIME_DIR=str(directory / "runtime"),
        IPYTHONDIR=str(directory / "ipython"),
        # The kernel named python3 is this environment's, whatever else is installed.
        JUPYTER_PREFER_ENV_PATH="1",
        # `!pglab status` in a cell, though nobody activated the environment.
        PATH=os.pathsep.join(
            filter(None, [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
        ),
    )


def browser_is_likely(environment: Mapping[str, str]) -> bool:
    """Tell whether a browser opened here would show itself to the learner."""
    if any(environment.get(name) for name in _ELSEWHERE):
        return False
    if any(Path(mark).exists() for mark in _CONTAINER_MARKS):
        return False
    if sys.platform in {"darwin", "win32"}:
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"))


def _greeting(address: str, port: int, environment: Mapping[str, str]) -> str:
    lines = [
        "JupyterLab runs on your copies of the lessons. Its address, for your browser:",
        "",
        f"    {address}",
        "",
    ]
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) == 4:
        with contextlib.suppress(OSError, KeyError):  # an account without a name
            lines.append(
                "It answers on this machine only; on your own, first run: "
                f"ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{connection[2]}"
            )
    return "\n".join([*lines, "Ctrl-C here ends it; what you saved stays."])


def _open(address: str, page: Path) -> None:
    # A page that only this account can read leads on: as a word of the browser's command the
    # token would be in everybody's list of processes. It lies in the workspace because browsers
    # in a sandbox (snap, flatpak) may not look into hidden folders of the home directory.
    target = escape(address)
    html = f'<!doctype html><meta http-equiv="refresh" content="0;url={target}">'
    with contextlib.suppress(OSError):
        write_private(page, f'{html}<a href="{target}">JupyterLab</a>\n')
        # Some browsers keep their caller waiting until they are closed.
        threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()


class _Ending:
    """What a signal does: KeyboardInterrupt at first, a server's orderly end once there is one."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._asked = False
        # What is ignored stays so: nohup pglab lab.
        self._signals = [
            number
            for name in _STOP_SIGNALS
            if (number := getattr(signal, name, None)) is not None
            and signal.getsignal(number) is not signal.SIG_IGN
        ]

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in self._signals}
        self._take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def becomes(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._take()  # Jupyter has put its own handlers, one of which asks "are you sure?"

    def _take(self) -> None:
        for number in self._signals:
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: object) -> None:
        if self._stop is None:
            raise KeyboardInterrupt
        if not self._asked:
            self._asked = True
            self._stop()
