"""What only a container can go through: it outlives its owner, and its engine has its own ideas."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tools.docker_engine import Engine

from pglab.config import Settings
from pglab.errors import ServerError, ServerStartError
from pglab.purge import plan, purge
from pglab.servers import engine, lifecycle
from pglab.servers.connect import connect_postgres
from pglab.servers.home import Kind, Unit, home_of
from pglab.servers.running import is_supervisor

pytestmark = [
    pytest.mark.server,
    pytest.mark.containers,
    pytest.mark.xdist_group("containers"),  # the engine is one worker's
]

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def settings(
    container_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGLAB_HOME", str(tmp_path_factory.mktemp("containers") / "lab"))
        patch.setenv("PGLAB_BACKEND", "containers")
        patch.setenv("PGLAB_IDLE_MINUTES", "5")
        for name, value in container_engine.environment.items():
            patch.setenv(name, value)
        settings = Settings.from_environment()
        yield settings
        purge(settings, plan(settings))


def _unit(settings: Settings, kind: Kind = "postgres") -> Unit:
    return Unit(home_of(settings), kind, "containers")


def _supervisor(unit: Unit) -> int:
    state = unit.read_state()
    assert state is not None
    pid: int = state["supervisor_pid"]
    return pid


def _containers(unit: Unit) -> list[dict[str, Any]]:
    with engine.connected() as client:
        filters = {"label": f"{engine.LABEL}={engine.name_of(unit)}"}
        return [found.attrs for found in client.containers.list(all=True, filters=filters)]


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _note(settings: Settings, word: str) -> None:
    """Commit a word, which is to survive what comes."""
    endpoint, running = lifecycle.ensure_postgres(settings)
    with connect_postgres(endpoint) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", (word,))
    running.release()


def _words(settings: Settings) -> list[str]:
    endpoint, running = lifecycle.ensure_postgres(settings)
    with connect_postgres(endpoint) as connection:
        words = [word for (word,) in connection.execute("SELECT word FROM words")]
    running.release()
    return words


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_container_hides_the_password_and_is_published_on_loopback_alone(
    settings: Settings, kind: Kind
) -> None:
    ensure = lifecycle.ensure_postgres if kind == "postgres" else lifecycle.ensure_redis
    endpoint, running = ensure(settings)
    (container,) = _containers(_unit(settings, kind))
    assert endpoint.password.reveal() not in str(container)
    addresses = {
        binding["HostIp"]
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    assert addresses == {"127.0.0.1"}
    running.release()


def test_a_killed_container_is_started_again_on_the_same_port(settings: Settings) -> None:
    _note(settings, "before the kill")
    unit = _unit(settings)
    supervisor, port = _supervisor(unit), unit.last_port()
    (killed,) = _containers(unit)
    with engine.connected() as client:
        client.containers.get(killed["Id"]).kill()
    assert "before the kill" in _words(settings)
    (container,) = _containers(unit)
    assert container["Id"] != killed["Id"]
    assert (_supervisor(unit), unit.last_port()) == (supervisor, port)


def test_a_killed_supervisors_container_is_replaced(settings: Settings) -> None:
    _note(settings, "before the supervisor's death")
    unit = _unit(settings)
    supervisor = _supervisor(unit)
    (left,) = _containers(unit)
    os.kill(supervisor, signal.SIGKILL)
    _wait_until(lambda: not is_supervisor(supervisor))
    assert lifecycle.describe(unit)["running"] is False  # nobody would ever stop it
    assert "before the supervisor's death" in _words(settings)
    (container,) = _containers(unit)
    assert container["Id"] != left["Id"]
    assert _supervisor(unit) != supervisor


def test_down_removes_what_a_killed_supervisor_left(settings: Settings) -> None:
    _, running = lifecycle.ensure_redis(settings)
    running.release()
    unit = _unit(settings, "redis")
    supervisor = _supervisor(unit)
    os.kill(supervisor, signal.SIGKILL)
    _wait_until(lambda: not is_supervisor(supervisor))
    assert len(_containers(unit)) == 1
    assert lifecycle.stop(unit) is True
    assert _containers(unit) == []
    assert lifecycle.stop(unit) is False


def test_a_new_password_opens_the_old_volume(settings: Settings) -> None:
    _note(settings, "under the old password")
    unit = _unit(settings)
    old = unit.password()
    lifecycle.stop(unit)
    unit.secret.unlink()
    assert "under the old password" in _words(settings)
    assert unit.password() != old


def test_the_servers_last_words_are_kept(settings: Settings) -> None:
    _note(settings, "and then it stops")
    unit = _unit(settings)
    lifecycle.stop(unit)
    assert "database system is shut down" in unit.server_log.read_text()


def test_an_image_that_cannot_be_pulled_is_named_with_the_remedy(settings: Settings) -> None:
    # Nothing listens on port 1, so that the engine's answer comes at once.
    image = "127.0.0.1:1/pglab-test/none:1"
    broken = dataclasses.replace(settings, postgres_image=image)
    lifecycle.stop(_unit(settings))
    with pytest.raises(ServerStartError, match=r"cannot be pulled: .*PGLAB_POSTGRES_IMAGE") as info:
        lifecycle.ensure_postgres(broken)
    assert image in str(info.value)
    assert _containers(_unit(settings)) == []


def test_a_server_that_ends_at_once_is_quoted(settings: Settings) -> None:
    # The image of Redis has no program that is called postgres.
    broken = dataclasses.replace(settings, postgres_image=settings.redis_image)
    lifecycle.stop(_unit(settings))
    with pytest.raises(ServerStartError, match=r"ended .*last words:\n.*postgres") as info:
        lifecycle.ensure_postgres(broken)
    assert settings.redis_image in str(info.value)
    assert _containers(_unit(settings)) == []


def test_purge_removes_the_volume(settings: Settings) -> None:
    from docker.errors import NotFound

    _note(settings, "soon gone")
    name = engine.name_of(_unit(settings))
    with engine.connected() as client:
        assert client.volumes.get(name).name == name
    purge(settings, plan(settings))
    with engine.connected() as client, pytest.raises(NotFound):
        client.volumes.get(name)


def test_a_volume_is_not_forgotten_where_no_engine_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, running = lifecycle.ensure_redis(settings)
    running.release()
    unit = _unit(settings, "redis")
    lifecycle.stop(unit)
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", "unix:///nobody/listens/here.sock")
        with pytest.raises(ServerError, match=engine.name_of(unit)):
            engine.remove_volume(unit)
    assert unit.path.is_dir()
