"""Packets vanish under clients that are set up differently: who notices, and after how long.

Three timers of TCP are told apart here, since each runs in another situation only. Keepalive probes
are sent where nothing is under way; what was sent and is not acknowledged is retransmitted instead,
for some fifteen minutes unless ``tcp_user_timeout`` ends it; and a connection that is being made
has ``connect_timeout``. (tcp(7); RFC 9293, 3.8.4; RFC 5482.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import psycopg

from pglab.connections.dropping import check_that_packets_can_be_dropped
from pglab.connections.network import Network

__all__ = ["KEEPALIVES", "SITUATIONS", "DeadNetwork", "Noticed", "dead_network"]

KEEPALIVES: Final[Mapping[str, str]] = MappingProxyType(
    {"keepalives_idle": "1", "keepalives_interval": "1", "keepalives_count": "2"}
)
"""As a client gives them to libpq: a probe after a second of silence, and each second; two are lost
before the connection is given up. For an experiment; in production tens of seconds."""

SITUATIONS: Final = ("asked before", "asks afterwards", "connects afterwards", "session")

_SHOWN: Final = (*KEEPALIVES, "tcp_user_timeout", "connect_timeout")
_SERVERS_KEEPALIVES: Final = " ".join(f"-c tcp_{key}={value}" for key, value in KEEPALIVES.items())
_CLIENTS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("asked before", {}),
    ("asked before", KEEPALIVES),
    ("asks afterwards", {}),
    ("asks afterwards", KEEPALIVES),
    ("asks afterwards", {"tcp_user_timeout": "1500"}),
    ("connects afterwards", {}),
    ("connects afterwards", {"connect_timeout": "2"}),
)
_SESSIONS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("session", {}),
    ("session", {"options": _SERVERS_KEEPALIVES}),
)
_ASKED_FOR_S: Final = 60
_JOIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Noticed:
    """What became of one end of a connection.

    Attributes:
        side: ``client`` or ``server``.
        situation: one of ``SITUATIONS``: a client that had asked before the packets vanished, one
            that asks afterwards, one that connects afterwards; or the server's session of a client
            that holds a transaction open and is never heard of again.
        settings: what was set on this side, as a connection has it.
        seconds: from the vanishing until it noticed; None if it had not when the time was up.
        words: of the error that the client got; empty for None, and on the server's side.
    """

    side: str
    situation: str
    settings: str
    seconds: float | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class DeadNetwork:
    """What every side noticed.

    Attributes:
        watched_s: seconds for which it was watched.
        noticed: each client, and each session on the server.
    """

    watched_s: float
    noticed: tuple[Noticed, ...]


class _Client:
    """A client on a thread of its own."""

    def __init__(self, situation: str, parameters: Mapping[str, Any]) -> None:
        self.situation = situation
        self.parameters = parameters
        self.ended: float | None = None
        self.words = ""
        self.connection: psycopg.Connection[Any] | None = None
        self.pid = 0  # of its session; a connection that has failed does not know it any more
        self.thread = threading.Thread(target=self._run, name="pglab-client", daemon=True)

    def prepare(self) -> None:
        """Connect while there is a network, and ask if that is the situation."""
        if self.situation != "connects afterwards":
            self.connection = psycopg.connect(**self.parameters, autocommit=True)
            self.pid = self.connection.info.backend_pid
        if self.situation == "asked before":
            self.thread.start()

    def go_on(self) -> None:
        """Do what is done without a network."""
        if self.situation in {"asks afterwards", "connects afterwards"}:
            self.thread.start()

    def _run(self) -> None:
        try:
            if self.connection is None:
                psycopg.connect(**self.parameters).close()
            else:
                self.connection.execute("SELECT pg_sleep(%s)", [_ASKED_FOR_S])
        except psycopg.Error as error:
            self.words = " ".join(str(error).split())
            self.ended = time.perf_counter()


def dead_network(parameters: Mapping[str, Any], *, watched_s: float = 6.0) -> DeadNetwork:
    """Let all packets between clients and a server vanish, and watch who notices.

    All clients are there at once, each on a thread of its own, and are ended when the time is up;
    so are their sessions.

    Args:
        parameters: of a connection over TCP, as ``endpoint.parameters(tcp=True)`` gives them, of a
            role that may end its own sessions.
        watched_s: how long, 5 at least: the slowest time-out here takes some 3 s.

    Raises:
        ValueError: it is watched for too short a time.
        ServerError: this system is not Linux, which alone lets a program drop packets.
        psycopg.Error: there is no connection while the network is still well.
    """
    check_that_packets_can_be_dropped()
    if watched_s < 5:
        raise ValueError(f"watched_s={watched_s}; who waits longer than others needs 5 s to show")
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(**parameters, autocommit=True))
        network = stack.enter_context(Network(parameters["host"], int(parameters["port"])))
        through = {**parameters, "host": network.host, "port": str(network.port)}
        clients = [_Client(situation, {**through, **more}) for situation, more in _CLIENTS]
        sessions: list[psycopg.Connection[Any]] = []
        pids: list[int] = []
        try:
            for client in clients:
                client.prepare()
            for _, more in _SESSIONS:
                session = psycopg.connect(**{**through, **more})
                session.execute("SELECT 1")  # begins a transaction, which stays open
                sessions.append(session)
                pids.append(session.info.backend_pid)
            _wait_for_questions(admin, [c for c in clients if c.situation == "asked before"])
            network.drop_packets()
            began = time.perf_counter()
            for client in clients:
                client.go_on()
            gone = _watch(admin, pids, began, watched_s)
            found = [_noticed(client, began) for client in clients]
        finally:
            _end(admin, network, clients, sessions, pids)
    found += [
        Noticed("server", situation, _words(more), gone.get(pid))
        for pid, (situation, more) in zip(pids, _SESSIONS, strict=True)
    ]
    return DeadNetwork(watched_s, tuple(found))


def _wait_for_questions(admin: psycopg.Connection[Any], clients: list[_Client]) -> None:
    """Wait until the server works on what these asked; it has acknowledged it then."""
    pids = [client.pid for client in clients]
    deadline = time.monotonic() + _JOIN_S
    while time.monotonic() < deadline:
        (asleep,) = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s) AND wait_event = 'PgSleep'",
            [pids],
        ).fetchone() or (0,)
        if asleep == len(pids):
            return
        time.sleep(0.02)


def _watch(
    admin: psycopg.Connection[Any], pids: list[int], began: float, watched_s: float
) -> dict[int, float]:
    """Return after how many seconds which sessions were gone, once the time is up."""
    gone: dict[int, float] = {}
    while (passed := time.perf_counter() - began) < watched_s:
        there = {
            pid
            for (pid,) in admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [pids]
            )
        }
        for pid in pids:
            if pid not in there:
                gone.setdefault(pid, passed)
        time.sleep(0.05)
    return gone


def _noticed(client: _Client, began: float) -> Noticed:
    settings = {name: client.parameters[name] for name in _SHOWN if name in client.parameters}
    seconds = None if client.ended is None else client.ended - began
    return Noticed("client", client.situation, _words(settings), seconds, client.words)


def _words(settings: Mapping[str, str]) -> str:
    if "options" in settings:
        return settings["options"].replace("-c ", "")
    return " ".join(f"{name}={settings[name]}" for name in settings)


def _end(
    admin: psycopg.Connection[Any],
    network: Network,
    clients: list[_Client],
    sessions: list[psycopg.Connection[Any]],
    pids: list[int],
) -> None:
    connections = [c.connection for c in clients if c.connection is not None] + sessions
    with suppress(psycopg.Error):
        # Their sessions would sleep on, or wait for a client for two hours.
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) AS pid",
            [[client.pid for client in clients if client.pid] + pids],
        )
    network.close()
    for client in clients:
        if client.thread.ident is not None:
            client.thread.join(_JOIN_S)
    for connection in connections:
        connection.close()
