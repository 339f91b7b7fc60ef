"""No password where others could read it, no file that others may open, no open door."""

from __future__ import annotations

import os
import stat
import traceback
import uuid
from pathlib import Path

import psutil
import pytest
from support.outside import Outside, leftovers, open_directory, supervisors

import pglab
from pglab.config import Settings
from pglab.errors import ServerUnreachableError
from pglab.servers.connect import connect_postgres
from pglab.servers.home import Unit

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def home():
    """A home whose servers were used as a lesson uses them, and are still up."""
    with open_directory() as place:
        kernels = Outside(place / "lab")
        try:
            yield kernels.home
        finally:
            kernels.clear()


@pytest.fixture(scope="module")
def lab(home):
    patch = pytest.MonkeyPatch()
    patch.setenv("PGLAB_HOME", str(home))
    patch.setenv("PGLAB_IDLE_MINUTES", "2")
    with pglab.open("basics", size="empty") as lab:
        lab.redis.set(lab.key("x"), 1)
        lab.reset()
        with lab.connection() as connection, lab.engine.connect() as other:
            connection.execute("SELECT 1")
            other.exec_driver_sql("SELECT 1")
            with pytest.raises(Exception, match="nonsense"):
                connection.execute("SELECT nonsense")
        lab.redis.set(lab.key("y"), 1)
        yield lab
    patch.undo()


@pytest.fixture(scope="module")
def units(home, lab):
    return [Unit(home, "postgres", "embedded"), Unit(home, "redis", "embedded")]


@pytest.fixture(scope="module")
def passwords(units):
    found = [unit.password().reveal() for unit in units]
    assert len(set(found)) == 2
    assert all(len(password) >= 32 for password in found)
    return found


@pytest.fixture(scope="module")
def family(home, lab):
    """Every process of the lab: supervisors, servers, and the servers' own children."""
    parents = [psutil.Process(pid) for pid in supervisors(home)]
    assert len(parents) == 2
    whole = [*parents, *(child for p in parents for child in p.children(recursive=True))]
    assert {"postgres", "valkey-server"} <= {name_of(process) for process in whole}
    return whole


def name_of(process):
    """Return a process's name; none if it has ended meanwhile, as a worker of autovacuum may."""
    try:
        return process.name()
    except psutil.Error:
        return None


def holding(passwords, file):
    """Return which file holds a password; one that is gone, or closed to us, holds none."""
    try:
        text = file.read_bytes()
    except OSError:
        return []
    return [str(file) for password in passwords if password.encode() in text]


def test_no_password_in_any_command_line(passwords, family):
    read = list(Path("/proc").glob("[0-9]*/cmdline"))
    still = {process.pid for process in family if process.is_running()}
    assert still <= {int(path.parent.name) for path in read}
    assert [found for path in read for found in holding(passwords, path)] == []


def test_no_password_in_the_environment_of_a_process_of_the_lab(passwords, family):
    files = [Path(f"/proc/{process.pid}/environ") for process in family if process.is_running()]
    assert any(file.read_bytes() for file in files)
    assert [found for file in files for found in holding(passwords, file)] == []


def files_of(home):
    return [
        path
        for top in (home, *leftovers(home))
        for path in (top, *top.rglob("*"))
        if not path.is_socket()
    ]


def test_passwords_stand_in_the_secret_files_alone(home, units, passwords):
    found = {name for path in files_of(home) for name in holding(passwords, path)}
    assert found == {str(unit.path / "secret") for unit in units}
    logs = [unit.server_log for unit in units] + [unit.supervisor_log for unit in units]
    assert all(log.stat().st_size for log in logs), "an empty log proves nothing"


def test_files_are_0600_and_directories_0700(home, family):
    sockets = {
        Path(c.laddr).parent
        for process in family
        for c in process.net_connections("unix")
        if str(c.laddr).startswith("/")
    }
    assert len(sockets) == 2
    wrong = []
    for path in (*files_of(home), *sockets, *(p for s in sockets for p in s.iterdir())):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            continue
        if mode != 0o700 if path.is_dir() or path.is_socket() else mode != 0o600:
            wrong.append(f"{mode:o} {path}")
    assert wrong == []


def test_servers_listen_on_the_loopback_address_only(family, lab):
    listening = {
        (process.name(), c.laddr.ip, c.laddr.port)
        for process in family
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN or c.type != 1
    }
    redis_port = lab.redis.config_get("port")["port"]
    assert {(name, ip) for name, ip, _ in listening} == {
        ("postgres", "127.0.0.1"),
        ("valkey-server", "127.0.0.1"),
    }
    assert {port for _, _, port in listening} == {lab.server.port, int(redis_port)}


def test_both_servers_insist_on_the_password(lab, units):
    import psycopg
    import redis

    for host in ("127.0.0.1", lab.server.socket_directory):
        with pytest.raises(psycopg.OperationalError, match=r"no password|authentication failed"):
            psycopg.connect(
                host=host, port=lab.server.port, user="postgres", dbname="postgres", password="no"
            )
    state = units[1].read_state()
    with redis.Redis(port=state["port"]) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_what_can_be_printed_shows_no_password(lab, passwords):
    shown = [
        repr(lab),
        str(lab),
        repr(vars(lab)),
        lab.url(),
        repr(lab.server),
        repr(lab.engine),
        str(lab.engine.url),
        repr(Settings.from_environment()),
        repr(lab._redis_endpoint),
        lab._redis_endpoint.url(),
    ]
    assert [text for text in shown for password in passwords if password in text] == []
    assert passwords[0] in lab.url(reveal=True)


def test_an_error_shows_no_password(lab, passwords):
    with pytest.raises(ServerUnreachableError) as caught:
        connect_postgres(lab.server, "nope")
    text = "".join(traceback.format_exception(caught.value))
    assert "nope" in text
    assert [password for password in passwords if password in text] == []


def test_an_engine_error_shows_no_password(lab, passwords):
    from sqlalchemy.exc import SQLAlchemyError

    with lab.engine.connect() as connection, pytest.raises(SQLAlchemyError) as caught:
        connection.exec_driver_sql("SELECT nonsense")
    text = "".join(traceback.format_exception(caught.value))
    assert [password for password in passwords if password in text] == []


def test_a_url_of_the_learners_reaches_no_server(home, lab):
    """The supervisors were started from this process's environment, but without its URLs."""
    kernels = Outside(home.with_name("other"))
    word = uuid.uuid4().hex
    try:
        done = kernels.run(
            """
import os, pglab
from pathlib import Path
pglab.open("basics", size="empty").close()
found = []
for environ in Path("/proc").glob("[0-9]*/environ"):
    try:
        if os.environ["REDIS_URL"][9:41].encode() in environ.read_bytes():
            found.append(int(environ.parent.name))
    except OSError:
        pass
return found, os.getpid()
""",
            REDIS_URL=f"redis://:{word}@127.0.0.1:1/0",
        )
        assert done.error is None, done.chain
        assert done.value[0] == [done.value[1]]
    finally:
        kernels.clear()
    assert os.environ.get("REDIS_URL") is None
