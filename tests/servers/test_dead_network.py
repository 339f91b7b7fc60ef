"""Packets that vanish: which of TCP's timers notices, by the kernel's own doing."""

from __future__ import annotations

import socket
import threading
import time

import psycopg
import pytest

from pglab.config import Settings
from pglab.connections import KEEPALIVES, Network, dead_network, packets_can_be_dropped
from pglab.connections.dropping import drop_arriving, let_arrive
from pglab.errors import ServerError
from pglab.servers import lifecycle

pytestmark = pytest.mark.server

needs_linux = pytest.mark.skipif(
    not packets_can_be_dropped(), reason="lacks Linux, which alone has socket filters"
)


@pytest.fixture(scope="module")
def endpoint(lab_home):
    found, running = lifecycle.ensure_postgres(Settings.from_environment())
    yield found
    running.release()


@pytest.fixture
def pair():
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = socket.create_connection(listening.getsockname())
        there, _ = listening.accept()
    with here, there:
        here.settimeout(0.3)
        yield here, there


@needs_linux
def test_a_dropping_socket_hears_nothing_until_it_is_let(pair):
    here, there = pair
    let_arrive(here)  # without a filter there is nothing to take away
    drop_arriving(here)
    there.sendall(b"lost")
    with pytest.raises(TimeoutError):
        here.recv(16)
    let_arrive(here)
    here.settimeout(20)
    assert here.recv(16) == b"lost"  # retransmitted


@needs_linux
def test_what_is_dropped_is_not_acknowledged(pair):
    """Which is the difference from a proxy that has fallen silent."""
    here, there = pair
    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    there.settimeout(20)
    drop_arriving(here)
    there.sendall(b"lost")
    with pytest.raises(TimeoutError, match="timed out"):
        there.recv(16)
    assert there.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    with pytest.raises(BrokenPipeError):
        there.sendall(b"and this")


def test_other_systems_are_told_what_they_need(monkeypatch, endpoint):
    monkeypatch.setattr("sys.platform", "darwin")
    assert not packets_can_be_dropped()
    with (
        socket.socket() as unused,
        pytest.raises(ServerError, match=r"on Linux only, and this is darwin.*WSL 2"),
    ):
        drop_arriving(unused)
    with (
        Network(endpoint.host, endpoint.port) as network,
        pytest.raises(ServerError, match="on Linux only"),
    ):
        network.drop_packets()
    with pytest.raises(ServerError, match="on Linux only"):
        dead_network(endpoint.parameters(tcp=True))


@needs_linux
def test_an_answer_comes_once_packets_arrive_again(endpoint):
    with Network(endpoint.host, endpoint.port) as network:
        parameters = {**endpoint.parameters(tcp=True), "host": network.host}
        with psycopg.connect(**{**parameters, "port": str(network.port)}) as connection:
            network.drop_packets()
            found = []
            asking = threading.Thread(
                target=lambda: found.append(connection.execute("SELECT 7").fetchone())
            )
            asking.start()
            asking.join(0.5)
            assert asking.is_alive()
            network.recover()
            asking.join(30)
            assert found == [(7,)]


@needs_linux
def test_each_timer_notices_in_its_own_situation_only(endpoint, capfd):
    found = dead_network(endpoint.parameters(tcp=True), watched_s=6)
    with psycopg.connect(**endpoint.parameters(), autocommit=True) as admin:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            left = admin.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            if left == (0,):
                break
            time.sleep(0.05)
        assert left == (0,)
    probes = " ".join(f"{name}={value}" for name, value in KEEPALIVES.items())
    noticed = {(each.side, each.situation, each.settings): each for each in found.noticed}
    assert len(noticed) == len(found.noticed) == 9
    seconds = {key: each.seconds for key, each in noticed.items()}
    client = "client"
    # Nobody who was told nothing notices, and probes are not sent while something is under way.
    assert seconds[client, "asked before", ""] is None
    assert seconds[client, "asks afterwards", ""] is None
    assert seconds[client, "asks afterwards", probes] is None
    assert seconds[client, "connects afterwards", ""] is None
    assert seconds["server", "session", ""] is None
    assert seconds[client, "asked before", probes] >= 2
    assert seconds[client, "asks afterwards", "tcp_user_timeout=1500"] >= 1.5
    assert seconds[client, "connects afterwards", "connect_timeout=2"] >= 1.5
    server = " ".join(f"tcp_{name}={value}" for name, value in KEEPALIVES.items())
    assert seconds["server", "session", server] >= 2
    for each in found.noticed:
        if each.side == "client" and each.seconds is not None:
            assert "time" in each.words
        else:
            assert each.words == ""
    assert capfd.readouterr() == ("", "")


def test_too_short_a_time_shows_nothing(endpoint):
    if not packets_can_be_dropped():
        pytest.skip("lacks Linux, which alone has socket filters")
    with pytest.raises(ValueError, match="watched_s=1"):
        dead_network(endpoint.parameters(tcp=True), watched_s=1)
