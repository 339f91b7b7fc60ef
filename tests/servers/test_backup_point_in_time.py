"""Back to a moment: what came before it is all there, and what came after it is gone. Counted."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pglab import backup
from pglab.backup.point_in_time import (
    Target,
    archive_command,
    archive_now,
    archiving,
    base_backup,
    commits,
    recovered,
    verify_base_backup,
    wal_archive,
)
from pglab.errors import ConfigError
from pglab.servers.scratch import ScratchFolder, scratch_postgres

pytestmark = pytest.mark.server

BEFORE_BASE, BEFORE_MISTAKE, AFTER_MISTAKE = 1_000, 137, 61


@pytest.fixture(scope="module")
def history():
    """A server that worked, was backed up, worked, lost a table by mistake, and worked on."""
    with ScratchFolder() as place:
        archive = wal_archive(place)
        with scratch_postgres(settings=archiving(archive)) as server:
            with server.connect(autocommit=True) as connection:
                connection.execute("CREATE ROLE shopkeeper LOGIN")
                connection.execute("CREATE TABLE sales (n int PRIMARY KEY)")
                connection.execute("CREATE TABLE diary (n int PRIMARY KEY)")
                connection.execute(f"INSERT INTO sales SELECT generate_series(1, {BEFORE_BASE})")
                base = base_backup(server.endpoint(), place.path / "base")
                for n in range(BEFORE_MISTAKE):
                    connection.execute("INSERT INTO sales VALUES (%s)", (10_000 + n,))
                connection.execute("SELECT pg_create_restore_point('before the mistake')")
                (moment,) = connection.execute("SELECT clock_timestamp()").fetchone()
                connection.execute("DROP TABLE sales")
                for n in range(AFTER_MISTAKE):
                    connection.execute("INSERT INTO diary VALUES (%s)", (n,))
                archive_now(connection)
                (after,) = connection.execute("SELECT clock_timestamp()").fetchone()
            yield SimpleNamespace(
                place=place, archive=archive, base=base, moment=moment, after=after,
                programs=server.programs.bin, password=server.password,
            )  # fmt: skip


def found(history, target, **options):
    with (
        recovered(history.base, history.archive, target, place=history.place, **options) as again,
        again.connect() as connection,
    ):
        sales = connection.execute("SELECT to_regclass('sales') IS NOT NULL").fetchone()[0]
        count = "SELECT count(*) FROM "
        return (
            connection.execute(count + "sales").fetchone()[0] if sales else None,
            connection.execute(count + "diary").fetchone()[0],
        )


def the_mistake(history):
    (drop,) = [each for each in commits(history.archive, history.programs) if each.dropped]
    return drop


ALL = BEFORE_BASE + BEFORE_MISTAKE


@pytest.mark.parametrize(
    ("target", "left"),
    [
        (lambda history: Target.time(history.moment), (ALL, 0)),
        (lambda history: Target.before(the_mistake(history).xid), (ALL, 0)),
        (lambda history: Target.name("before the mistake"), (ALL, 0)),
        (lambda history: Target.time(the_mistake(history).at), (None, 0)),
        (lambda history: Target(), (None, AFTER_MISTAKE)),
    ],
    ids=["moment", "before the transaction", "name", "moment of the mistake", "end of the archive"],
)
def test_exactly_what_came_after_the_point_is_lost(history, target, left):
    assert found(history, target(history)) == left


def test_every_commit_is_a_point_of_its_own(history):
    inserts = [
        each
        for each in commits(history.archive, history.programs)
        if history.moment - timedelta(minutes=5) < each.at < history.moment and not each.dropped
    ]
    some = inserts[-40]
    assert found(history, Target.before(some.xid)) == (ALL - 40, 0)
    assert found(history, Target.time(some.at)) == (ALL - 39, 0)


def test_the_cluster_comes_back_with_its_roles_and_its_password(history):
    target = Target.time(history.moment)
    with recovered(
        history.base, history.archive, target, place=history.place, password=history.password
    ) as again:
        with again.connect(autocommit=True) as connection:
            roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin").fetchall()
            assert ("shopkeeper",) in roles
            connection.execute("INSERT INTO sales VALUES (1000000)")
        made = backup.create(again.endpoint(), "postgres", history.place.path / "dumps")
        assert made.manifest.state.tables["public.sales"].rows == ALL + 1


def test_the_mistake_is_found_in_the_archive(history):
    drop = the_mistake(history)
    assert history.moment < drop.at < history.after


def test_a_point_before_the_base_backup(history):
    with pytest.raises(backup.RecoveryError, match="lies before the base backup"):
        found(history, Target.time(datetime(2020, 1, 1, tzinfo=UTC)))


def test_a_point_after_the_end_of_the_archive(history):
    with pytest.raises(backup.RecoveryError, match="the archive ends before that point"):
        found(history, Target.time(history.after + timedelta(hours=1)))


def test_a_name_that_nobody_gave(history):
    with pytest.raises(backup.RecoveryError, match="did not get there"):
        found(history, Target.name("another name"))


def test_a_missing_file_of_the_archive(history):
    wal = max(path for path in history.archive.iterdir() if len(path.name) == 24)
    hidden = wal.rename(history.place.path / "hidden")
    try:
        with pytest.raises(backup.RecoveryError, match="a file of it is missing"):
            found(history, Target.time(history.moment))
    finally:
        hidden.rename(wal)


def test_a_time_without_a_zone():
    with pytest.raises(ConfigError, match="no zone"):
        Target.time(datetime(2026, 11, 24, 15, 0))  # noqa: DTZ001


def test_no_recovery_leaves_anything(history):
    assert [path.name for path in history.place.path.glob("recovered-*")] == []


# --- base backups ---------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["changed", "missing", "new"])
def test_pg_verifybackup_finds_it(history, tmp_path, harm):
    verify_base_backup(history.base, history.programs)
    copy = tmp_path / "copy"
    history.place.copy(history.base, copy)
    file = copy / "global" / "pg_control"
    if harm == "changed":
        content = bytearray(file.read_bytes())
        content[500] ^= 1
        file.write_bytes(content)
    elif harm == "missing":
        file.unlink()
    else:
        (copy / "base" / "surplus").write_text("x")
    with pytest.raises(backup.DamagedBackupError, match="pg_verifybackup refuses"):
        verify_base_backup(copy, history.programs)


def test_a_base_backup_never_goes_over_another(history):
    with scratch_postgres() as server, pytest.raises(ConfigError, match="exists"):
        base_backup(server.endpoint(), history.base)


def test_a_base_backup_that_fails_leaves_nothing(tmp_path):
    with (
        scratch_postgres(hba=["local all all scram-sha-256"]) as server,
        pytest.raises(backup.BackupProgramError, match="replication"),
    ):
        base_backup(server.endpoint(), tmp_path / "base")
    assert list(tmp_path.iterdir()) == []


# --- the archive ----------------------------------------------------------------------------


def archive(folder, name, content):
    """Run the command as PostgreSQL does; return its exit status."""
    (folder / "p").write_bytes(content)
    command = archive_command(folder / "arch'ive 100%").replace("%%", "\0")
    command = command.replace("%f", name).replace("%p", "p").replace("\0", "%")
    return subprocess.run(["/bin/sh", "-c", command], cwd=folder).returncode


def test_the_archive_command_is_safe(tmp_path):
    kept = tmp_path / "arch'ive 100%"
    kept.mkdir()
    assert archive(tmp_path, "A", b"one") == 0
    assert archive(tmp_path, "A", b"one") == 0, "asked again after a crash, it says yes"
    assert archive(tmp_path, "A", b"two") != 0, "another content is never written over it"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {"A": b"one"}


def test_the_archive_command_fails_where_there_is_no_archive(tmp_path):
    assert archive(tmp_path, "A", b"one") != 0


def test_an_archive_that_cannot_be_written_is_told(tmp_path):
    with (
        scratch_postgres(settings=archiving(tmp_path / "nowhere")) as server,
        server.connect(autocommit=True) as connection,
        pytest.raises(backup.RecoveryError, match="was not archived within 1 s"),
    ):
        archive_now(connection, timeout_s=1)
