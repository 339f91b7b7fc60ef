"""Killing and suspending every process in turn: nothing is orphaned, no committed row is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest
from servers.faults import Home, Homes, a_home, copy_home, wait_until

from pglab.config import Settings
from pglab.errors import LabError, ServerStartError, ServerUnreachableError
from pglab.lab import Lab
from pglab.servers import lifecycle, postgres, running
from pglab.servers.endpoint import PostgresEndpoint
from pglab.servers.home import Kind
from pglab.servers.lifecycle import Running
from pglab.servers.postgres import PostgresProcess
from pglab.servers.programs import embedded_postgres

pytestmark = pytest.mark.server

BOTH: tuple[Kind, ...] = ("postgres", "redis")


@pytest.fixture(scope="module")
def homes() -> Iterator[Homes]:
    with closing(Homes()) as homes:
        yield homes


@pytest.fixture
def home(homes: Homes, request: pytest.FixtureRequest) -> Iterator[Home]:
    with homes.give(request) as home:
        yield home


@pytest.fixture
def new_home() -> Iterator[Home]:
    with a_home(new=True) as home:
        yield home


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_ANSWER_TIMEOUT_S", 2)
    monkeypatch.setattr(lifecycle, "_PATIENCE_S", 0.0)


def store(lab: Lab, word: str) -> None:
    with lab.connection() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (word,))


def stored(lab: Lab) -> list[str]:
    with lab.connection() as connection:
        return [row[0] for row in connection.execute("SELECT word FROM kept ORDER BY word")]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# Kernels


def test_killed_kernel_keeps_its_committed_rows_and_frees_its_lease(home: Home) -> None:
    kernel = home.kernel("""
        import pglab
        lab = pglab.open("LESSON", "empty")
        with lab.connection() as connection:
            connection.execute("CREATE TABLE kept (word text)")
            connection.execute("INSERT INTO kept VALUES ('committed')")
        open_one = lab.connection(application_name="in a transaction")
        open_one.execute("INSERT INTO kept VALUES ('not committed')")
        print("ready")
        input()
    """)
    kernel.hears("ready")
    home.note_sockets()
    assert home.unit().leases_held() == 1
    kernel.kill()
    assert home.unit().leases_held() == 0
    lab = home.open()
    assert stored(lab) == ["committed"]
    with lab.connection(autocommit=True) as connection:
        wait_until(
            "its transaction is rolled back",
            lambda: (
                not connection.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'in a transaction'"
                ).fetchone()
            ),
        )
    home.stop()
    home.assert_nothing_left()


def test_kernel_killed_while_it_holds_the_start_lock(home: Home) -> None:
    kernel = home.kernel("""
        from pglab.config import Settings
        from pglab.servers.home import Unit, home_of, starting
        with starting(Unit(home_of(Settings.from_environment()), "postgres", "embedded")):
            print("ready")
            input()
    """)
    kernel.hears("ready")
    other = home.kernel("""
        import pglab
        print("opening")
        print("opened", pglab.open("LESSON", "empty").database)
    """)
    other.hears("opening")
    assert not home.named("postgres")
    kernel.kill()
    assert other.hears("opened") == f"pglab_{home.lesson}_empty"


def test_interrupt_while_waiting_for_the_start(new_home: Home) -> None:
    kernel = new_home.kernel("""
        import pglab
        try:
            pglab.open("LESSON", "empty")
        except KeyboardInterrupt:
            print("interrupted")
    """)
    wait_until("initdb runs", lambda: new_home.named("initdb"))
    new_home.note_sockets()
    os.kill(kernel.pid, signal.SIGINT)
    kernel.hears("interrupted")
    assert kernel.ends() == 0
    new_home.unit().start_lock.acquire(timeout=0).lock.release()
    assert new_home.unit().leases_held() == 0
    lab = new_home.open()
    store(lab, "afterwards")
    assert stored(lab) == ["afterwards"]
    assert len(new_home.named("postgres")) > 0
    new_home.stop()
    new_home.assert_nothing_left()


def test_interrupt_of_the_kernel_leaves_the_servers_alone(home: Home) -> None:
    kernel = home.kernel("""
        import pglab
        lab = pglab.open("LESSON", "empty")
        lab.redis.ping()
        try:
            print("ready")
            input()
        except KeyboardInterrupt:
            print("interrupted")
        lab.connection().close()
        print(lab.redis.ping())
    """)
    kernel.hears("ready")
    before = home.server(), home.server("redis"), home.supervisor(), home.supervisor("redis")
    os.killpg(kernel.pid, signal.SIGINT)  # as jupyter_client does
    kernel.hears("interrupted")
    kernel.hears("True")
    after = home.server(), home.server("redis"), home.supervisor(), home.supervisor("redis")
    assert after == before
    assert not any(map(ended, before))


def test_forked_children_take_neither_lease_nor_connections_along(home: Home) -> None:
    kernel = home.kernel("""
        import multiprocessing, os, sys, warnings
        import pglab
        from sqlalchemy import text

        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads
        lab = pglab.open("LESSON", "empty")
        mine = lab.connection()
        with lab.engine.connect() as pooled:
            pooled.execute(text("SELECT 1"))
        lab.redis.ping()

        def work():
            with lab.connection() as own, lab.engine.connect() as other:
                own.execute("SELECT 1"), other.execute(text("SELECT 1"))
            lab.redis.ping()
            lab.close()

        children = [multiprocessing.get_context("fork").Process(target=work) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print("children", [child.exitcode for child in children])
        if os.fork() == 0:
            with lab:
                sys.exit(0)
        os.wait()
        print("backend", mine.execute("SELECT pg_backend_pid()").fetchone()[0])
        with lab.engine.connect() as pooled:
            print("pooled", pooled.execute(text("SELECT 'works'")).scalar())
        print("redis", lab.redis.ping())
        input()
    """)
    assert kernel.hears("children") == "[0, 0]"
    kernel.hears("backend")
    assert kernel.hears("pooled") == "works"
    assert kernel.hears("redis") == "True"
    assert (home.unit().leases_held(), home.unit("redis").leases_held()) == (1, 1)


# Supervisors and servers


def test_killed_supervisor_of_postgres(home: Home) -> None:
    lab = home.open()
    store(lab, "committed")
    idle = lab.connection()
    idle.execute("INSERT INTO kept VALUES ('not committed')")
    port, sockets, old = lab.server.port, home.sockets.copy(), home.server()
    kill(home.supervisor())
    again = home.open()
    assert stored(again) == ["committed"]
    assert ended(old)
    # The server is found where it was, by whoever kept the address.
    assert (again.server.port, home.sockets) == (port, sockets)
    assert stored(lab) == ["committed"]
    home.stop()
    home.assert_nothing_left()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_killed_supervisor_leaves_no_orphan(home: Home, kind: str) -> None:
    home.open().redis.ping()
    assert home.named("postgres")
    kill(home.supervisor(kind))
    name = "postgres" if kind == "postgres" else "valkey-server"
    wait_until(f"{name} ends by itself", lambda: not home.named(name))
    # What else it left, its socket's directory, goes at the latest with the next start.
    assert home.open().redis.ping() is True
    home.stop()
    home.assert_nothing_left()


def test_killed_supervisor_of_redis(home: Home) -> None:
    lab = home.open()
    lab.redis.set(lab.key("a"), 1)
    old, port = home.server("redis"), lab._redis_endpoint.port
    kill(home.supervisor("redis"))
    again = home.open()
    assert again.redis.get(lab.key("a")) is None  # a cache, and a new one
    assert again._redis_endpoint.port == port
    assert ended(old)
    assert lab.redis.ping() is True
    home.stop()
    home.assert_nothing_left()


@pytest.mark.usefixtures("impatient")
def test_suspended_server_whose_supervisor_is_killed(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    store(lab, "committed")
    old = [home.server(kind) for kind in BOTH]
    for kind, pid in zip(BOTH, old, strict=True):
        os.kill(pid, signal.SIGSTOP)
        kill(home.supervisor(kind))
    again = home.open()
    assert stored(again) == ["committed"]
    assert again.redis.ping() is True
    assert all(map(ended, old))


def test_a_server_without_its_supervisor_is_not_joined(home: Home) -> None:
    home.open().redis.ping()
    for unit in map(home.unit, BOTH):
        state = unit.read_state()
        assert state is not None
        assert running.probe(unit).endpoint is not None
        for pid in (os.getpid(), 2**22 + 1, None, "x"):
            unit.write_state({**state, "supervisor_pid": pid})
            assert running.probe(unit).endpoint is None, pid
        unit.write_state(state)


def test_killed_postmaster_and_a_backend_that_is_busy(home: Home) -> None:
    lab = home.open()
    store(lab, "committed")
    kernel = home.kernel("""
        import pglab
        connection = pglab.open("LESSON", "empty").connection()
        print("backend", connection.info.backend_pid)
        connection.execute("SET jit = off")
        connection.execute("SELECT count(*) FROM generate_series(1, 1e9) a, generate_series(1, 9)")
    """)
    busy = int(kernel.hears("backend"))
    wait_until("it is busy", lambda: psutil.Process(busy).cpu_times().user > 0.05)
    old, supervisor = home.server(), home.supervisor()
    kill(old)
    again = home.open()
    assert stored(again) == ["committed"]
    wait_until("another server is written down", lambda: home.server() != old)
    assert home.supervisor() == supervisor
    assert ended(busy)
    home.stop()
    home.assert_nothing_left()


def test_killed_backend(home: Home) -> None:
    lab = home.open()
    store(lab, "committed")
    victim = lab.connection()
    postmaster = home.server()
    kill(victim.info.backend_pid)
    again = home.open()  # at once: the server is just recovering from the crash
    assert stored(again) == ["committed"]
    assert home.server() == postmaster
    with pytest.raises(psycopg.OperationalError):
        victim.execute("SELECT 1")


def test_server_that_dies_just_after_it_answered(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(home.open(), "committed")
    answered = lifecycle.ensure_postgres
    victims = [home.server()]

    def answer_and_die(settings: Settings) -> tuple[PostgresEndpoint, Running]:
        found = answered(settings)
        while victims:
            kill(victims.pop())
        return found

    monkeypatch.setattr("pglab.lab.ensure_postgres", answer_and_die)
    assert stored(home.open()) == ["committed"]
    assert victims == []


def test_killed_valkey(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    old, supervisor = home.server("redis"), home.supervisor("redis")
    kill(old)
    assert home.open().redis.ping() is True
    assert lab.redis.ping() is True
    # It answers a moment before its supervisor has written down that it does.
    wait_until("another server is written down", lambda: home.server("redis") != old)
    assert home.supervisor("redis") == supervisor
    home.stop()
    home.assert_nothing_left()


# Initialisation


def test_starter_killed_in_mid_initdb(new_home: Home) -> None:
    kernel = new_home.kernel("import pglab; pglab.open('LESSON', 'empty')")
    wait_until("initdb runs", lambda: new_home.named("initdb"))
    kernel.kill()
    lab = new_home.open()
    store(lab, "afterwards")
    assert stored(lab) == ["afterwards"]
    new_home.stop()
    new_home.assert_nothing_left()


def test_supervisor_killed_in_mid_initdb(new_home: Home) -> None:
    kernel = new_home.kernel("""
        import pglab
        try:
            pglab.open("LESSON", "empty")
        except pglab.PglabError as error:
            print("error", type(error).__name__, error)
    """)
    wait_until("initdb runs", lambda: new_home.named("initdb"))
    new_home.note_sockets()
    assert all(path.is_dir() for path in new_home.sockets)
    assert len(new_home.sockets) == 1  # known already, or nobody would ever remove it
    kill(new_home.supervisor())
    assert kernel.hears("error").startswith("ServerStartError the supervisor of postgres-embedded")
    wait_until("initdb ends by itself", lambda: not new_home.processes())
    lab = new_home.open()
    store(lab, "afterwards")
    assert stored(lab) == ["afterwards"]
    (sockets,) = new_home.sockets  # the same one, and no password file in it any more
    assert all(path.name.startswith(".s.PGSQL.") for path in sockets.iterdir())
    new_home.stop()
    new_home.assert_nothing_left()


def test_initdb_that_could_not_clean_up_leaves_no_half_cluster(new_home: Home) -> None:
    new_home.kernel("import pglab; pglab.open('LESSON', 'empty')")
    wait_until("initdb has begun", lambda: list(new_home.path.parent.rglob("PG_VERSION")))
    supervisor = new_home.supervisor()
    os.kill(supervisor, signal.SIGSTOP)  # as in a power cut, neither sees the other's end
    for initdb in wait_until("initdb runs", lambda: new_home.named("initdb")):
        initdb.kill()
    kill(supervisor)
    wait_until("all has ended", lambda: not new_home.processes())
    assert list(new_home.path.parent.rglob("PG_VERSION")) != []
    lab = new_home.open()
    store(lab, "afterwards")
    assert stored(lab) == ["afterwards"]
    new_home.stop()
    new_home.assert_nothing_left()


# Suspended and hanging


@pytest.mark.usefixtures("impatient")
def test_suspended_postmaster_is_named_and_can_be_stopped(home: Home) -> None:
    store(home.open(), "committed")
    pid = home.server()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ServerUnreachableError, match=rf"process {pid}.*pglab down"):
        home.open()
    shutdowns = home.unit().server_log.read_text().count("database system is shut down")
    assert home.stop() == ["postgres"]
    assert home.unit().server_log.read_text().count("database system is shut down") > shutdowns
    assert stored(home.open()) == ["committed"]


@pytest.mark.usefixtures("impatient")
def test_suspended_valkey_is_named_and_can_be_stopped(home: Home) -> None:
    home.open().redis.ping()
    pid = home.server("redis")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ServerUnreachableError, match=rf"process {pid}.*pglab down"):
        home.open().redis.ping()
    assert home.stop() == ["postgres", "redis"]
    assert home.open().redis.ping() is True


def test_suspended_supervisor_can_be_stopped(home: Home) -> None:
    home.open()
    os.kill(home.supervisor(), signal.SIGSTOP)
    assert home.stop() == ["postgres"]
    assert "stopping" in home.unit().supervisor_log.read_text()  # it was not just killed
    home.assert_nothing_left()


def test_supervisor_that_does_not_end_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(home.open(), "committed")
    monkeypatch.setattr(lifecycle, "_DOWN_TIMEOUT_S", 0.0)
    assert home.stop() == ["postgres"]
    monkeypatch.undo()
    assert stored(home.open()) == ["committed"]
    home.stop()
    home.assert_nothing_left()


def test_hanging_backend_does_not_keep_the_server_up(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = home.open()
    store(lab, "committed")
    home.stop()
    stops = tuple((signals, 1.0 if number < 2 else 60.0) for number, (signals, _) in
                  enumerate(postgres._STOPS))  # fmt: skip
    monkeypatch.setattr(postgres, "_STOPS", stops)
    programs = embedded_postgres()
    assert programs is not None
    server = PostgresProcess(home.unit(), programs, postgres.accounts.server_account())
    home.unit().write_state(server.start())
    assert server.child is not None
    postmaster = server.child.pid
    backend = psycopg.connect(
        host=str(home.unit().last_sockets()), port=server.port, user="postgres",
        password=home.unit().password().reveal(), dbname=lab.database,
    )  # fmt: skip
    os.kill(backend.info.backend_pid, signal.SIGSTOP)
    server.stop()
    assert ended(postmaster)
    server.clean()
    backend.close()
    assert stored(home.open()) == ["committed"]


def test_server_that_dies_again_and_again_is_given_up(home: Home) -> None:
    store(home.open(), "committed")
    supervisor, pid = home.supervisor(), home.server()
    while not ended(supervisor):
        with contextlib.suppress(ProcessLookupError):
            kill(pid)
        wait_until(
            "a new one, or none any more",
            lambda pid=pid: ended(supervisor) or (home.unit().read_state() or {}).get("pid") != pid,
        )
        state = home.unit().read_state() or {}
        pid = state.get("pid", pid)
    wait_until("it has ended", lambda: not home.named("postgres"))
    assert "the server died 6 times in 60 s" in home.unit().supervisor_log.read_text()
    with pytest.raises(ServerStartError, match=r"(?s)given up .* died 6 times.*pglab down"):
        home.open()
    assert home.stop() == []
    assert stored(home.open()) == ["committed"]


def test_stop_twice_and_with_nothing_running_and_while_in_use(home: Home) -> None:
    assert home.stop() == []
    store(home.open(), "committed")
    kernel = home.kernel("""
        import psycopg
        import pglab
        lab = pglab.open("LESSON", "empty")
        old = lab.connection()
        print("ready")
        input()
        try:
            old.execute("SELECT 1")
        except psycopg.OperationalError as error:
            print("lost", type(error).__name__)
        with lab.connection() as new:
            print("rows", *new.execute("SELECT word FROM kept").fetchone())
    """)
    kernel.hears("ready")
    assert home.stop() == ["postgres"]
    assert home.stop() == []
    home.assert_nothing_left()
    kernel.go()
    assert kernel.hears("lost") == "AdminShutdown"
    assert kernel.hears("rows") == "committed"  # a new connection starts the server again


def test_a_second_supervisor_waits_and_gives_up(home: Home) -> None:
    lab = home.open()
    order = lifecycle.Order(
        home=str(home.path), kind="postgres", source="embedded", port=None, idle_minutes=1, image=""
    )
    second = home.kernel(f"""
        import io, sys
        sys.stdin = io.StringIO({order.to_json()!r})
        from pglab.servers import supervisor
        supervisor._PREDECESSOR_TIMEOUT_S = 0.5
        supervisor.main()
    """)
    assert "another supervisor does not end" in second.hears('{"ready": false')
    postmasters = [p for p in home.named("postgres") if "-D" in p.cmdline()]
    assert [p.pid for p in postmasters] == [home.server()]
    store(lab, "works")


def test_a_postmaster_that_somebody_else_started_is_not_joined(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.open()
    home.note_sockets()
    pid, data = home.server(), Path((home.unit().read_state() or {})["data"])
    monkeypatch.setattr(postgres, "_STOP_TIMEOUT_S", 0.0)
    programs = embedded_postgres()
    assert programs is not None
    with pytest.raises(ServerStartError, match=rf"process {pid} still serves {data}"):
        PostgresProcess(home.unit(), programs, postgres.accounts.server_account()).start()


# What lies in the home


SPOILT_STATES = [
    "",
    "{",
    "[]",
    '{"unit": UNIT, "port": "x"}',
    '{"unit": UNIT, "port": -1, "host": "127.0.0.1"}',
    '{"unit": UNIT, "port": 1, "host": null, "sockets": 7, "gave_up_at": "x"}',
    '{"unit": UNIT, "last_port": 65536, "sockets": "/"}',
]


def test_spoilt_state_is_replaced(home: Home) -> None:
    for text in SPOILT_STATES:  # one home, because each costs as much as all of this
        path = home.unit().path / "state.json"
        path.write_text(text.replace("UNIT", f'"{home.unit().path}"'))
        lab = home.open()
        store(lab, text)
        assert (home.unit().read_state() or {})["port"] == lab.server.port, text
        home.stop()
    assert stored(home.open()) == sorted(SPOILT_STATES)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("kind", "other"), [("postgres", "redis"), ("redis", "postgres")])
def test_stale_state_points_to_a_program_that_never_answers(
    home: Home, kind: Kind, other: Kind
) -> None:
    home.open().redis.ping()
    lifecycle.stop(home.unit(kind))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        # Even the supervisor's number belongs to a supervisor, though to another one.
        state = {"host": "127.0.0.1", "port": port, "supervisor_pid": home.supervisor(other)}
        home.unit(kind).write_state(state)
        lab = home.open()
        assert lab.redis.ping() is True
        assert port not in (lab.server.port, lab._redis_endpoint.port)
        store(lab, "works")


def test_stale_state_points_to_another_postgres(home: Home) -> None:
    with a_home(new=True) as stranger:
        other = stranger.open()
        home.unit().write_state({
            "host": "127.0.0.1", "port": other.server.port, "supervisor_pid": stranger.supervisor(),
        })  # fmt: skip
        lab = home.open()
        assert lab.server.port != other.server.port
        store(lab, "ours")
        with other.connection() as connection:
            assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)


def test_spoilt_list_of_redis_databases(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    path = home.unit("redis").path / "databases.json"
    for text in ("", "{", "[1]", '{"pglab_faults_empty": "x"}'):
        path.write_text(text)
        with pytest.raises(LabError, match=r"databases.json.* remove that file"):
            home.open("other").redis.ping()
    path.unlink()
    assert home.open("other").redis.ping() is True


def test_lost_password_is_replaced(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    store(lab, "committed")
    seen = {home.unit().password().reveal(), home.unit("redis").password().reveal()}
    for spoilt in (None, b"", b"two words\n", b"\xff"):
        home.stop()
        for kind in BOTH:
            home.unit(kind).secret.unlink()
            if spoilt is not None:
                home.unit(kind).secret.write_bytes(spoilt)
        lab = home.open()
        assert stored(lab) == ["committed"], spoilt
        assert lab.redis.ping() is True
        seen |= {home.unit().password().reveal(), home.unit("redis").password().reveal()}
    assert len(seen) == 10
    with pytest.raises(ServerUnreachableError, match="password authentication failed"):
        lab.connection(password="x").close()


@pytest.mark.usefixtures("impatient")
def test_password_lost_while_the_server_runs(home: Home) -> None:
    store(home.open(), "committed")
    home.unit().secret.unlink()
    with pytest.raises(ServerUnreachableError, match=r"is lost; run: pglab down"):
        home.open()
    assert home.stop() == ["postgres"]
    assert stored(home.open()) == ["committed"]


@pytest.mark.usefixtures("impatient")
def test_password_of_another_server(home: Home) -> None:
    store(home.open(), "committed")
    home.stop()
    home.unit().secret.write_text("not-the-one-that-it-has\n")
    with pytest.raises(ServerUnreachableError, match=r"refuses the password .* remove that file"):
        home.open()
    home.stop()
    home.unit().secret.unlink()
    assert stored(home.open()) == ["committed"]


def test_copy_of_a_running_home_is_a_lab_of_its_own(home: Home) -> None:
    original = home.open()
    original.redis.set("a", 1)
    store(original, "from the original")
    with original.connection(autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    with a_home(new=True) as copied:
        copy_home(home.path, copied.path)
        copied.lesson = home.lesson
        copy = copied.open()
        assert stored(copy) == ["from the original"]
        store(copy, "from the copy")
        copy.redis.set("b", 1)
        assert stored(original) == ["from the original"]
        assert original.redis.keys() == [b"a"]
        assert copy.server.port != original.server.port
        assert not copied.sockets & home.sockets
    assert stored(original) == ["from the original"]


# Ports


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_wanted_port_is_taken(home: Home, kind: str) -> None:
    variable = f"PGLAB_{kind.upper()}_PORT"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=rf"port {port} .* set {variable} to"):
            home.open(**{variable: str(port)}).redis.ping()
    lab = home.open(**{variable: str(port)})
    lab.redis.ping()
    assert {"postgres": lab.server.port, "redis": lab._redis_endpoint.port}[kind] == port


def test_remembered_port_is_taken(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    ports = lab.server.port, lab._redis_endpoint.port
    store(lab, "committed")
    home.stop()
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        lab = home.open()
        assert lab.redis.ping() is True
        assert not {lab.server.port, lab._redis_endpoint.port} & set(ports)
        assert stored(lab) == ["committed"]


def test_remembered_port_is_kept(home: Home) -> None:
    lab = home.open()
    lab.redis.ping()
    ports = lab.server.port, lab._redis_endpoint.port
    home.stop()
    lab = home.open()
    lab.redis.ping()
    assert (lab.server.port, lab._redis_endpoint.port) == ports
