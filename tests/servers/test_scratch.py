"""Scratch servers: made in a moment, killed at will, gone with their maker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from pglab.config import Secret
from pglab.errors import NoServerError, ServerStartError
from pglab.servers.process import free_port, working_in
from pglab.servers.scratch import ScratchFolder, ScratchPostgres, ScratchRedis, scratch_postgres
from pglab.servers.scratch_kill import shared_memory_of

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server():
    with scratch_postgres(tcp=True) as made:
        yield made


def one(connection, statement):
    return connection.execute(statement).fetchone()[0]


def listening(pid):
    """Return the addresses that a process listens on by TCP."""
    return {
        (found.laddr.ip, found.laddr.port)
        for found in psutil.Process(pid).net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }


def wait_until(met, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_it_is_a_whole_server_with_safe_defaults(server):
    with server.connect() as connection:
        assert one(connection, "SHOW fsync") == "on"
        assert one(connection, "SHOW full_page_writes") == "on"
        assert one(connection, "SHOW password_encryption") == "scram-sha-256"
        assert one(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        connection.execute("CREATE EXTENSION pgcrypto; CREATE EXTENSION pg_stat_statements")
        assert one(connection, "SELECT count(*) FROM pg_stat_statements") > 0


def test_it_listens_on_loopback_alone_and_only_where_asked(server):
    assert listening(server.pid) == {("127.0.0.1", server.port)}
    with scratch_postgres() as quiet:
        assert listening(quiet.pid) == set()
        with quiet.connect() as connection:
            assert one(connection, "SELECT inet_server_addr()") is None


def test_its_directory_is_nobody_elses(server):
    assert stat.S_IMODE(server.socket_directory.stat().st_mode) == 0o700
    for path in (server.log_path, server.data_directory / "pg_hba.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_has_a_password_of_its_own_that_no_command_line_shows(server):
    with scratch_postgres(tcp=True) as other:
        assert other.password != server.password
        assert "***" in repr(other.password) or other.password.reveal() not in repr(other.password)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            other.connect(password=server.password.reveal())
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            other.connect(user="somebody", host="127.0.0.1")
        words = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # others' processes end meanwhile
                words += process.cmdline()
        assert words
        assert not [part for part in words if other.password.reveal() in part]


def test_programs_find_it_through_their_environment(server, monkeypatch):
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    said = subprocess.run(
        [server.programs.psql, "-Atc", "SELECT current_user"],
        env=server.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "postgres\n"
    assert server.password.reveal() not in json.dumps(server.environment())
    with server.connect() as connection:  # nor does this one heed what the learner has set
        assert one(connection, "SELECT 1") == 1
    with pytest.raises(NoServerError, match="pg_nonsense is not among"):
        _ = server.programs.pg_nonsense


def test_a_kill_ends_every_process_and_loses_nothing_that_was_committed():
    with scratch_postgres() as server:
        kept = server.connect(autocommit=True)
        kept.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS i")
        lost = server.connect()
        lost.execute("INSERT INTO kept SELECT generate_series(1, 5000)")
        address, before = server.conninfo(), working_in(server.data_directory, "postgres")
        assert len(before) > 5
        after, memory = server.log_end(), shared_memory_of(server.pid, server.data_directory)
        assert memory in shared_memory()
        server.kill()
        assert memory not in shared_memory()
        assert working_in(server.data_directory, "postgres") == []
        assert not server.running
        assert server.read_log(after) == ""  # no process had the time for a last word
        with pytest.raises(psycopg.OperationalError):
            kept.execute("SELECT 1")
        kept.close()
        lost.close()
        server.start()
        assert "database system was not properly shut down" in server.read_log(after)
        with psycopg.connect(address) as again:
            assert one(again, "SELECT count(*) FROM kept") == 1000


def test_it_starts_again_after_its_postmaster_alone_was_killed():
    with scratch_postgres() as server:
        with server.connect() as connection:
            backend = connection.info.backend_pid
            os.kill(backend, signal.SIGSTOP)  # it cannot notice, and holds the shared memory
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: not server.running)
            server.start()
            assert backend not in working_in(server.data_directory, "postgres")
        assert answers(server)


def test_its_end_ends_what_outlived_its_postmaster():
    with scratch_postgres() as server, server.connect() as connection:
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not server.running)
    assert working_in(server.data_directory, "postgres") == []


def test_a_stop_in_good_order_needs_no_recovery():
    with scratch_postgres() as server:
        server.stop()
        server.stop()
        after = server.log_end()
        server.start()
        server.start()
        assert "not properly shut down" not in server.read_log(after)
        after = server.log_end()
        server.restart("immediate")
        assert "not properly shut down" in server.read_log(after)


def test_settings_hold_until_alter_system_says_otherwise():
    with scratch_postgres(settings={"work_mem": "7MB", "application_name": "it's"}) as server:
        with server.connect(autocommit=True) as connection:
            assert one(connection, "SHOW work_mem") == "7MB"
            connection.execute("ALTER SYSTEM SET work_mem = '9MB'")
        server.restart()
        with server.connect() as connection:
            assert one(connection, "SHOW work_mem") == "9MB"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nonsense": "1"}, 'unrecognized configuration parameter "nonsense"'),
        ({"work_mem": "much"}, 'invalid value for parameter "work_mem": "much"'),
        ({"ssl": "on"}, 'could not load server certificate file "server.crt"'),
        ({"shared_preload_libraries": "absent"}, 'could not access file "absent"'),
    ],
)
def test_a_wrong_setting_is_told_in_the_servers_own_words(settings, words):
    before = leftovers()
    with pytest.raises(ServerStartError) as raised:
        scratch_postgres(settings=settings)
    assert words in str(raised.value)
    assert leftovers() == before


def test_hba_lines_and_files_are_the_servers():
    with scratch_postgres(
        hba=["local all all scram-sha-256", "host all all 127.0.0.1/32 reject"],
        files={"note": "in its data directory", "more": b"\x00\xff"},
        tcp=True,
    ) as server:
        assert (server.data_directory / "note").read_text() == "in its data directory"
        assert (server.data_directory / "more").read_bytes() == b"\x00\xff"
        assert stat.S_IMODE((server.data_directory / "note").stat().st_mode) == 0o600
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
            server.connect(host="127.0.0.1")
        server.write_hba(["local all all scram-sha-256", "host all all 127.0.0.1/32 scram-sha-256"])
        with server.connect(autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: answers(server, host="127.0.0.1"))


def shared_memory():
    """Return the ids of the machine's shared memory segments."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {int(line.split()[1]) for line in lines}


def answers(server, **options):
    try:
        server.connect(**options).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_port_can_be_insisted_on():
    port = free_port()
    with scratch_postgres(tcp=True, port=port) as server:
        assert server.port == port
        assert listening(server.pid) == {("127.0.0.1", port)}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ServerStartError, match=f"port {taken} of 127.0.0.1 is taken"):
            scratch_postgres(tcp=True, port=taken)


def test_a_base_backup_runs_as_a_second_server():
    with ScratchFolder() as room, scratch_postgres(settings={"work_mem": "5MB"}) as first:
        with first.connect(autocommit=True) as connection:
            connection.execute("CREATE TABLE things AS SELECT 42 AS answer")
        copies = [room.path / "by-password", room.path / "by-peer"]
        for copy in copies:
            subprocess.run(
                [first.programs.pg_basebackup, "-D", copy, "-X", "stream", "-c", "fast"],
                env=first.environment(), check=True, capture_output=True,
            )  # fmt: skip
        with first.connect(autocommit=True) as connection:
            connection.execute("UPDATE things SET answer = 43")
        for copy, password in zip(copies, [first.password, None], strict=True):
            with scratch_postgres(directory=copy, password=password) as second:
                assert second.data_directory == copy
                with second.connect() as connection:
                    assert one(connection, "SELECT answer FROM things") == 42
                    assert one(connection, "SHOW work_mem") == "4MB"  # its settings are its own
            assert (copy / "PG_VERSION").exists()
        with scratch_postgres(directory=copies[0], password=Secret("wrong")) as second:
            assert not answers(second)
    assert not room.path.exists()


def test_recovery_is_waited_for_by_whom_it_matters_to():
    with ScratchFolder() as room, scratch_postgres() as first:
        copy = room.path / "copy"
        subprocess.run(
            [first.programs.pg_basebackup, "-D", copy, "-X", "stream", "-c", "fast"],
            env=first.environment(), check=True, capture_output=True,
        )  # fmt: skip
        (copy / "standby.signal").touch()
        with scratch_postgres(directory=copy, settings={"restore_command": "false"}) as standby:
            with pytest.raises(ServerStartError, match=r"still recovers after 0\.2 s"):
                standby.wait_until_writable(timeout_s=0.2)
            with standby.connect(autocommit=True) as connection:
                assert one(connection, "SELECT pg_is_in_recovery()")
                connection.execute("SELECT pg_promote()")
            standby.wait_until_writable()
            with standby.connect() as connection:
                connection.execute("CREATE TABLE written ()")


def test_what_is_no_cluster_is_refused(tmp_path):
    with pytest.raises(ServerStartError, match="holds no PostgreSQL cluster"):
        scratch_postgres(directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PGLAB_HOME", str(tmp_path / "file" / "lab"))
    before = leftovers()
    with pytest.raises(ServerStartError, match=r"cannot make a cluster in .*Not a directory"):
        scratch_postgres()
    assert leftovers() == before


def test_the_guard_ends_servers_and_nobody_elses_shell():
    with maker() as process:
        data = Path(process.stdout.readline().split()[2])
        with subprocess.Popen(["sleep", "60"], cwd=data) as shell:
            os.kill(process.pid, signal.SIGKILL)
            process.stdin.close()
            process.wait(30)
            wait_until(lambda: not data.parent.exists())
            assert shell.poll() is None
            shell.kill()


MAKER = """
    import signal, sys
    signal.signal(signal.SIGINT, lambda *_: None)
    from pglab.servers.scratch import ScratchRedis, scratch_postgres
    with scratch_postgres() as server, ScratchRedis() as redis:
        connection = server.connect(autocommit=True)
        connection.execute("CREATE TABLE t AS SELECT 1")
        print(server.socket_directory, redis.socket.parent, server.data_directory, flush=True)
        sys.stdin.read()
        {end}
"""


def maker(end="pass"):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(MAKER).format(end=end)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def leftovers():
    """Return the directories that guards of this process watch, and processes of ours there."""
    children = psutil.Process().children(recursive=True)
    words = [said for child in children if (said := words_of(child)) is not None]
    return {each[4] for each in words if "pglab-scratch" in each}, len(words)


def words_of(process):
    """Return a process's command line; None if it has ended, or just does."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return None


@pytest.mark.parametrize("end", ["killed", "raise SystemExit(3)", "import os; os._exit(4)", "pass"])
def test_however_the_maker_ends_nothing_is_left(end):
    with maker("pass" if end == "killed" else end) as process:
        folders = [Path(word) for word in process.stdout.readline().split()]
        assert all(path.is_dir() for path in folders)
        postgres = working_in(folders[2], "postgres")
        assert postgres
        if end == "killed":
            os.kill(process.pid, signal.SIGKILL)
        process.stdin.close()
        process.wait(30)
    wait_until(lambda: not any(path.exists() for path in folders))
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in postgres))


def test_a_paused_server_does_not_survive_its_maker_either():
    with maker() as process:
        data = Path(process.stdout.readline().split()[2])
        for pid in working_in(data, "postgres"):
            os.kill(pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        process.stdin.close()
        process.wait(30)
    wait_until(lambda: not data.parent.exists())
    assert working_in(data, "postgres") == []


def test_an_interrupt_of_the_makers_group_is_not_meant_for_its_servers():
    with maker() as process:
        folders = [Path(word) for word in process.stdout.readline().split()]
        servers = working_in(folders[2], "postgres")
        os.killpg(process.pid, signal.SIGINT)  # as Jupyter interrupts a kernel
        time.sleep(0.5)
        assert set(servers) <= set(working_in(folders[2], "postgres"))
        assert all(path.is_dir() for path in folders)
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_forked_child_cannot_close_it(server):
    child = os.fork()
    if child == 0:
        server.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert answers(server)


def test_redis_keeps_its_address_and_loses_its_data():
    with ScratchRedis({"maxmemory": "4mb"}) as redis:
        client = redis.client(decode_responses=True)
        client.set("a", "1")
        assert client.config_get("maxmemory") == {"maxmemory": str(4 << 20)}
        redis.kill()
        redis.start()
        assert redis.client().get("a") is None
        client.close()
        folder = redis.socket.parent
    assert not folder.exists()


def test_a_wrong_setting_of_redis_is_told_in_its_own_words():
    with pytest.raises(ServerStartError, match="Bad directive"):
        ScratchRedis({"nonsense": "1"})


def test_no_class_shows_its_secret(server):
    assert isinstance(server, ScratchPostgres)
    assert server.password.reveal() not in repr(server) + repr(server.endpoint())
