"""What can go wrong with a backup: each fault has its name, and no half is ever called good."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from support.outside import IS_ROOT, open_directory

from pglab import backup
from pglab.backup.folder import file_entry
from pglab.backup.manifest import MANIFEST
from pglab.backup.point_in_time import base_backup
from pglab.encryption import LocalKeys
from pglab.servers.connect import connect_postgres
from pglab.servers.scratch import ScratchFolder, scratch_postgres

pytestmark = pytest.mark.server

KEYS = LocalKeys({"2026-11": b"k" * 32})
# Random, so that no compression makes it small: some 30 MB, and as much in a dump.
FILL = """
CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);
INSERT INTO messages (body)
SELECT (SELECT string_agg(md5(random()::text || n || k), '') FROM generate_series(1, 30) AS k)
FROM generate_series(1, 30000) AS n;
CREATE TABLE small AS SELECT n FROM generate_series(1, 100) AS n;
"""


@pytest.fixture(scope="module")
def server():
    with scratch_postgres() as found:
        with found.connect(autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        with found.connect(dbname="shop") as connection:
            connection.execute(FILL)
        yield found


@pytest.fixture
def endpoint(server):
    return server.endpoint()


@pytest.fixture(scope="module")
def plain(server, tmp_path_factory):
    return backup.create(server.endpoint(), "shop", tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def sealed(server, tmp_path_factory):
    return backup.create(server.endpoint(), "shop", tmp_path_factory.mktemp("sealed"), keys=KEYS)


@pytest.fixture(params=["plain", "sealed"])
def copy(request, tmp_path):
    """A backup to be harmed."""
    made = request.getfixturevalue(request.param)
    shutil.copytree(made.path, tmp_path / made.name)
    return backup.open_backup(tmp_path / made.name)


def databases(endpoint):
    with connect_postgres(endpoint) as connection:
        return sorted(row[0] for row in connection.execute("SELECT datname FROM pg_database"))


@pytest.fixture
def no_trace(endpoint):
    """Whatever the test does, the server has the same databases afterwards."""
    before = databases(endpoint)
    yield
    assert databases(endpoint) == before


def largest(made):
    name = max(made.manifest.files, key=lambda each: made.manifest.files[each].bytes)
    return made.path / name


def with_true_checksums(made):
    """Return a harmed backup whose manifest vouches for the harm, as a careless copier's would."""
    path = made.path / MANIFEST
    text = json.loads(path.read_text())
    text["files"] = {
        name: {"bytes": entry.bytes, "sha256": entry.sha256}
        for name in text["files"]
        if (made.path / name).exists()
        for entry in [file_entry(made.path / name)]
    }
    path.write_text(json.dumps(text))
    return backup.open_backup(made.path)


def changed(made, **facts):
    path = made.path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    return backup.open_backup(made.path)


# --- truncated and damaged ------------------------------------------------------------------


def test_a_truncated_dump(endpoint, copy, no_trace):
    file = largest(copy)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(backup.TruncatedBackupError, match="is cut short"):
        backup.check(copy)
    with pytest.raises(backup.TruncatedBackupError, match="is cut short"):
        backup.restore(copy, endpoint, "again", keys=KEYS)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_truncated_dump_whose_manifest_vouches_for_it(endpoint, copy, no_trace, keep):
    file = largest(copy)
    os.truncate(file, int(file.stat().st_size * keep))
    copy = with_true_checksums(copy)
    # Only pg_restore, the cipher, or the counts afterwards can tell; the database goes either way.
    with pytest.raises(backup.BackupError) as caught:
        backup.restore(copy, endpoint, "again", keys=KEYS)
    if copy.manifest.key_id:
        assert isinstance(caught.value, backup.TruncatedBackupError)


def test_a_byte_that_was_changed(endpoint, copy, no_trace):
    with largest(copy).open("r+b") as file:
        file.seek(200_000)
        byte = file.read(1)
        file.seek(200_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(backup.DamagedBackupError, match="was changed"):
        backup.restore(copy, endpoint, "again", keys=KEYS)
    copy = with_true_checksums(copy)
    with pytest.raises(backup.BackupError):
        backup.restore(copy, endpoint, "again", keys=KEYS)


def test_a_table_that_is_missing_from_the_dump_is_missed(endpoint, plain, tmp_path, no_trace):
    """A dump that restores without an error, and is not the database."""
    path = tmp_path / plain.name
    shutil.copytree(plain.path, path)
    shutil.rmtree(path / "dump")
    subprocess.run(
        [endpoint.programs / "pg_dump", "--format=directory", f"--file={path / 'dump'}",
         "--exclude-table=small", "shop"],
        env={**os.environ, "PGHOST": endpoint.socket_directory, "PGPORT": str(endpoint.port),
             "PGUSER": endpoint.user, "PGPASSWORD": endpoint.password.reveal()},
        check=True,
    )  # fmt: skip
    harmed = changed(backup.open_backup(path), files={})
    with pytest.raises(backup.MismatchError, match=r"table public\.small is missing"):
        backup.restore(harmed, endpoint, "again")


# --- keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [None, LocalKeys({"2026-11": b"x" * 32}), LocalKeys({"2027-01": b"k" * 32})],
    ids=["none", "another of this name", "another"],
)
def test_a_wrong_key(endpoint, sealed, no_trace, keys):
    with pytest.raises(backup.WrongKeyError, match="2026-11"):
        backup.restore(sealed, endpoint, "again", keys=keys)


def test_the_dump_of_another_backup_in_this_ones_place(endpoint, sealed, tmp_path, no_trace):
    other = backup.create(endpoint, "shop", tmp_path, keys=KEYS)
    shutil.copy(sealed.dump, other.dump)
    with pytest.raises(backup.WrongKeyError):
        backup.restore(with_true_checksums(other), endpoint, "again", keys=KEYS)


def test_nothing_of_the_data_can_be_read_in_an_encrypted_backup(endpoint, tmp_path):
    marker = "SE_BUSCA_ESTA_PALABRA"
    with connect_postgres(endpoint, "shop", autocommit=True) as connection:
        connection.execute(f"CREATE TABLE secret AS SELECT '{marker}'::text AS word")
    try:
        open_one = backup.create(endpoint, "shop", tmp_path / "open", format="custom")
        closed = backup.create(endpoint, "shop", tmp_path / "closed", keys=KEYS)
    finally:
        with connect_postgres(endpoint, "shop", autocommit=True) as connection:
            connection.execute("DROP TABLE secret")
    assert b"PGDMP" in open_one.dump.read_bytes()[:10]
    content = closed.dump.read_bytes()
    assert b"PGDMP" not in content
    assert b"secret" not in content
    assert marker not in (closed.path / MANIFEST).read_text()


# --- versions -------------------------------------------------------------------------------


def script(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return folder


def older_programs(tmp_path):
    """One that says so of itself, and PostgreSQL's own where an older one is installed."""
    yield script(tmp_path / "old", "pg_dump", 'echo "pg_dump (PostgreSQL) 14.9"')
    yield from Path("/usr/lib/postgresql").glob("1[0-6]/bin")


def test_a_pg_dump_that_is_older_than_the_server(endpoint, tmp_path):
    for folder in older_programs(tmp_path):
        with pytest.raises(backup.ProgramVersionError, match="newer than itself"):
            backup.create(endpoint, "shop", tmp_path / "backups", programs=folder)
    assert not (tmp_path / "backups").exists()


def test_a_pg_dump_that_finds_out_itself_that_it_is_older(endpoint, tmp_path):
    said = (
        "pg_dump: error: aborting because of server version mismatch\n"
        "pg_dump: detail: server version: 17.10; pg_dump version: 16.4"
    )
    folder = script(
        tmp_path / "old",
        "pg_dump",
        '[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 99.1" && exit\n'
        f'echo "{said}" >&2; exit 1',
    )
    with pytest.raises(backup.ProgramVersionError, match=r"pg_dump version: 16\.4"):
        backup.create(endpoint, "shop", tmp_path / "backups", programs=folder)
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_dump_of_a_newer_server(endpoint, copy, no_trace):
    copy = changed(copy, server_version="99.1")
    with pytest.raises(backup.ProgramVersionError, match=r"the dump is of PostgreSQL 99\.1"):
        backup.restore(copy, endpoint, "again", keys=KEYS)


def test_a_dump_that_a_newer_program_wrote(endpoint, copy, no_trace):
    copy = changed(copy, program_version="99.1")
    with pytest.raises(backup.ProgramVersionError, match=r"pg_dump 99\.1 wrote the dump"):
        backup.restore(copy, endpoint, "again", keys=KEYS)


def test_a_dump_whose_header_is_of_a_newer_format(endpoint, tmp_path, no_trace):
    made = backup.create(endpoint, "shop", tmp_path, format="custom")
    with made.dump.open("r+b") as file:
        file.seek(6)  # after PGDMP and the major number
        file.write(bytes([99]))
    with pytest.raises(backup.ProgramVersionError, match="older than the dump"):
        backup.restore(with_true_checksums(made), endpoint, "again")


# --- no space -------------------------------------------------------------------------------


@contextlib.contextmanager
def largest_file(size):
    """Let no program that we start write a longer file: what a full disk or a quota is like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
def test_no_space_in_the_middle_of_a_dump(endpoint, tmp_path, keys):
    with largest_file(2_000_000), pytest.raises(backup.NoSpaceError, match="make room"):
        backup.create(endpoint, "shop", tmp_path, keys=keys, jobs=1)
    assert list(tmp_path.iterdir()) == []
    assert backup.create(endpoint, "shop", tmp_path, keys=keys).manifest.state.rows == 30_100


@contextlib.contextmanager
def small_disk(size_mb):
    if not IS_ROOT:
        pytest.skip("lacking: root, who alone may mount a small disk")
    with open_directory() as place:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", place],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"lacking: the right to mount: {done.stderr}")
        try:
            yield place
        finally:
            for _ in range(50):
                if subprocess.run(["umount", place], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
            else:
                subprocess.run(["umount", "--lazy", place], check=True)


def test_too_little_space_is_found_before_and_a_full_disk_in_the_middle(endpoint):
    with small_disk(12) as disk:
        with pytest.raises(backup.NoSpaceError, match="MB are free at"):
            backup.create(endpoint, "shop", disk / "backups")
        assert list((disk / "backups").iterdir()) == []
        for keys in (None, KEYS):
            with pytest.raises(backup.NoSpaceError, match="thrown away"):
                backup.create(endpoint, "shop", disk / "backups", keys=keys, check_space=False)
            assert list((disk / "backups").iterdir()) == []


def test_no_space_for_the_restored_database(server, plain, sealed, tmp_path):
    with small_disk(80) as disk, ScratchFolder() as place:
        base = base_backup(server.endpoint(), disk / "data")
        # The WAL on a disk with room: without room for that, a server stops and says nothing.
        shutil.copytree(base / "pg_wal", place.path / "wal")
        place.own(place.path / "wal")
        shutil.rmtree(base / "pg_wal")
        (base / "pg_wal").symlink_to(place.path / "wal")
        with scratch_postgres(directory=base, password=server.password) as other:
            before = databases(other.endpoint())
            with pytest.raises(backup.NoSpaceError, match="are free for the server's data"):
                backup.restore(plain, other.endpoint(), "again")
            for made in (plain, sealed):
                hopeful = changed_copy(made, tmp_path / made.name)
                with pytest.raises(backup.NoSpaceError):
                    backup.restore(hopeful, other.endpoint(), "again", keys=KEYS)
                assert databases(other.endpoint()) == before


def test_a_server_that_stops_for_want_of_room_for_its_wal(server, plain, tmp_path):
    with small_disk(125) as disk:
        base = base_backup(server.endpoint(), disk / "data")
        with scratch_postgres(directory=base, password=server.password) as other:
            hopeful = changed_copy(plain, tmp_path / "hopeful")
            with pytest.raises(backup.NoSpaceError):
                backup.restore(hopeful, other.endpoint(), "again")


def changed_copy(made, folder):
    shutil.copytree(made.path, folder / made.name)
    return changed(backup.open_backup(folder / made.name), database_bytes=1)


# --- killed ---------------------------------------------------------------------------------


def test_pg_dump_killed_in_mid_dump(endpoint, tmp_path):
    real = endpoint.programs
    at_work = script(
        tmp_path / "programs",
        "pg_dump",
        f'[ "$1" = --version ] && exec "{real}/pg_dump" --version\n'
        f'"{real}/pg_dump" "$@" & child=$!\n'
        f"while ! ls {tmp_path}/backups/.unfinished-*/dump/*.dat* >/dev/null 2>&1; do :; done\n"
        "kill -9 $child; kill -9 $$",
    )
    with pytest.raises(backup.ProgramKilledError, match="SIGKILL"):
        backup.create(endpoint, "shop", tmp_path / "backups", programs=at_work)
    assert list((tmp_path / "backups").iterdir()) == []


def test_pg_dump_killed_in_the_middle_of_an_encrypted_stream(endpoint, tmp_path):
    """The stream that we sealed is formally whole, and only half a dump."""
    real = endpoint.programs
    at_work = script(
        tmp_path / "programs",
        "pg_dump",
        f'[ "$1" = --version ] && exec "{real}/pg_dump" --version\n'
        f'"{real}/pg_dump" "$@" | head -c 3000000; kill -9 $$',
    )
    with pytest.raises(backup.ProgramKilledError, match="SIGKILL"):
        backup.create(endpoint, "shop", tmp_path / "backups", programs=at_work, keys=KEYS)
    assert list((tmp_path / "backups").iterdir()) == []


KILLED = """
import sys
from pathlib import Path
from pglab import backup
from pglab.config import Secret
from pglab.servers.endpoint import PostgresEndpoint
socket, port, password, programs, folder = sys.stdin.read().split("\\n")
endpoint = PostgresEndpoint(source="embedded", user="postgres", password=Secret(password),
    port=int(port), socket_directory=socket, programs=Path(programs))
backup.create(endpoint, "shop", Path(folder))
"""


def test_our_own_process_killed_in_mid_dump(endpoint, tmp_path):
    folder = tmp_path / "backups"
    child = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE)
    child.stdin.write(
        "\n".join([
            endpoint.socket_directory, str(endpoint.port), endpoint.password.reveal(),
            str(endpoint.programs), str(folder),
        ]).encode()
    )  # fmt: skip
    child.stdin.close()
    deadline = time.monotonic() + 60
    while not list(folder.glob(".unfinished-*/dump/*.dat*")):
        assert time.monotonic() < deadline
        assert child.poll() is None, "it was finished before it could be killed"
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert backup.list_backups(folder) == []
    (left,) = backup.unfinished(folder)
    with pytest.raises(backup.NotABackupError, match="never finished"):
        backup.open_backup(left)
    made = backup.create(endpoint, "shop", folder)
    assert [each.name for each in backup.list_backups(folder)] == [made.name]


def test_pg_restore_killed_in_mid_restore(endpoint, plain, tmp_path, no_trace):
    real = endpoint.programs
    at_work = script(tmp_path / "programs", "pg_dump", f'exec "{real}/pg_dump" "$@"')
    script(
        at_work,
        "pg_restore",
        f'"{real}/pg_restore" "$@" & child=$!\nsleep 0.15; kill -9 $child; wait $child; kill -9 $$',
    )
    with pytest.raises(backup.ProgramKilledError, match="SIGKILL"):
        backup.restore(plain, endpoint, "again", programs=at_work)


def test_the_server_killed_in_mid_dump_and_in_mid_restore(plain, tmp_path):
    with scratch_postgres() as mortal:
        backup.restore(plain, mortal.endpoint(), "shop")
        real = mortal.endpoint().programs
        at_work = script(tmp_path / "programs", "pg_dump", f"""
            [ "$1" = --version ] && exec "{real}/pg_dump" --version
            kill -9 {mortal.pid}; exec "{real}/pg_dump" "$@" """)  # fmt: skip
        script(at_work, "pg_restore", f"""kill -9 $(cat {tmp_path}/pid); sleep 0.2
            exec "{real}/pg_restore" "$@" """)  # fmt: skip
        with pytest.raises((backup.BackupError, psycopg.Error)):
            backup.create(mortal.endpoint(), "shop", tmp_path / "backups", programs=at_work)
        assert list((tmp_path / "backups").iterdir()) == []
        mortal.kill()
        mortal.start()
        (tmp_path / "pid").write_text(str(mortal.pid))
        with pytest.raises(backup.BackupError) as caught:
            backup.restore(plain, mortal.endpoint(), "again", programs=at_work)
        assert any("_unverified_" in note for note in caught.value.__notes__)
        mortal.kill()
        mortal.start()
        left = [name for name in databases(mortal.endpoint()) if name.startswith("again")]
        assert all("_unverified_" in name for name in left)
        assert "again" not in left
