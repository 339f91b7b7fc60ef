"""A folder of backups: what is whole, what is cut short, and what was never finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pglab.backup import KeepFor, list_backups, open_backup, prune, unfinished
from pglab.backup.errors import (
    BackupProgramError,
    DamagedBackupError,
    NoSpaceError,
    NotABackupError,
    ProgramKilledError,
    ProgramVersionError,
    TruncatedBackupError,
)
from pglab.backup.folder import backup_name, file_entry
from pglab.backup.manifest import Locale, Manifest, read_manifest, write_manifest
from pglab.backup.programs import check_ended
from pglab.backup.state import DatabaseState, SequenceState, TableState, differences

START = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)


def state(**changes):
    table = TableState(rows=3, sha256="a" * 64, statement="COPY …", columns=("id bigint NOT NULL",))
    base = DatabaseState(
        tables={"public.messages": table},
        sequences={"public.s": SequenceState(first=4, last=6)},
        constraints={"public.messages: messages_pkey": "PRIMARY KEY (id)"},
        indexes={"public.messages_pkey": "CREATE UNIQUE INDEX …"},
        extensions={"pgcrypto": "1.3"},
        objects={"view": ("public.v",)},
        roles={"app": "LOGIN"},
    )
    return msgspec.structs.replace(base, **changes)


def a_backup(folder, at=START, content=b"dump", database="evolution"):
    path = folder / backup_name(database, at)
    path.mkdir(parents=True)
    (path / "dump.custom").write_bytes(content)
    manifest = Manifest(
        name=path.name, database=database, format="custom", started_at=at, snapshot_at=at,
        snapshot_lsn="0/1", finished_at=at + timedelta(seconds=2), server_version="17.10",
        program_version="17.10", compression="zstd:1", database_bytes=9, key_id=None,
        locale=Locale(encoding="UTF8", provider="libc", locale=None, collate="C", ctype="C"),
        files={"dump.custom": file_entry(path / "dump.custom")}, state=state(),
    )  # fmt: skip
    write_manifest(path, manifest)
    return open_backup(path)


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    made = a_backup(tmp_path)
    assert read_manifest(made.path) == made.manifest
    assert made.name == "20261101T030000.000Z-evolution"
    assert made.manifest.seconds == 2


def test_a_database_of_any_name_has_a_backup_of_a_plain_name():
    assert backup_name('Ünï "x"/../y', START) == "20261101T030000.000Z-_n_x_y"


def test_only_finished_backups_are_listed(tmp_path):
    later, sooner = a_backup(tmp_path, START + timedelta(days=1)), a_backup(tmp_path)
    (tmp_path / ".unfinished-20261105T000000.000Z-evolution-ab12").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("mine")
    assert [each.name for each in list_backups(tmp_path)] == [sooner.name, later.name]
    assert [path.name for path in unfinished(tmp_path)] == [
        ".unfinished-20261105T000000.000Z-evolution-ab12"
    ]
    assert list_backups(tmp_path / "nowhere") == []


def test_an_unfinished_one_is_not_opened_though_it_has_all_its_files(tmp_path):
    made = a_backup(tmp_path)
    half = made.path.rename(tmp_path / f".unfinished-{made.name}")
    assert list_backups(tmp_path) == []
    with pytest.raises(NotABackupError, match="never finished"):
        open_backup(half)


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_a_manifest_that_is_cut_short(tmp_path, keep):
    made = a_backup(tmp_path)
    text = (made.path / "manifest.json").read_bytes()
    (made.path / "manifest.json").write_bytes(text[:keep])
    with pytest.raises(NotABackupError, match="damaged or cut short"):
        open_backup(made.path)
    assert list_backups(tmp_path) == []


def test_a_manifest_of_a_newer_program(tmp_path):
    made = a_backup(tmp_path)
    text = (made.path / "manifest.json").read_text().replace('"version": 1', '"version": 2')
    (made.path / "manifest.json").write_text(text)
    with pytest.raises(NotABackupError, match="version 2"):
        open_backup(made.path)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(NotABackupError, match="is no backup"):
        open_backup(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda path: path.write_bytes(b"dum"), TruncatedBackupError),
        (lambda path: path.unlink(), TruncatedBackupError),
        (lambda path: path.write_bytes(b"dumps"), DamagedBackupError),
        (lambda path: path.write_bytes(b"dumb"), DamagedBackupError),
    ],
    ids=["cut short", "missing", "longer", "changed"],
)
def test_a_file_that_is_not_what_was_written(tmp_path, harm, error):
    made = a_backup(tmp_path)
    made.check_files()
    harm(made.path / "dump.custom")
    with pytest.raises(error, match="use another backup") as caught:
        made.check_files()
    assert type(caught.value) is error


def test_pruning_deletes_what_the_rule_lets_go_and_only_that(tmp_path):
    made = [a_backup(tmp_path, START + timedelta(days=n)) for n in range(12)]
    now = START + timedelta(days=11, hours=1)
    planned = prune(list_backups(tmp_path), KeepFor(7), now=now, dry_run=True)
    assert len(list_backups(tmp_path)) == 12, "a dry run deletes nothing"
    done = prune(list_backups(tmp_path), KeepFor(7), now=now)
    assert [(each.backup.name, each.reason) for each in planned] == [
        (each.backup.name, each.reason) for each in done
    ]
    assert [each.name for each in list_backups(tmp_path)] == [each.name for each in made[5:]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [each.name for each in made[5:]]


def test_pruning_keeps_the_newest_whole_one_however_old_it_is(tmp_path):
    made = [a_backup(tmp_path, START + timedelta(days=n)) for n in range(4)]
    (made[3].path / "dump.custom").write_bytes(b"dumb")
    (made[2].path / "dump.custom").write_bytes(b"d")
    done = prune(list_backups(tmp_path), KeepFor(1), now=START + timedelta(days=300))
    assert [(each.backup.name, each.reason) for each in done] == [
        (made[3].name, "newer than the newest good one"),
        (made[2].name, "newer than the newest good one"),
        (made[1].name, "the newest good one"),
        (made[0].name, None),
    ]
    assert "was changed" in done[0].problem
    assert "cut short" in done[1].problem


def test_each_database_is_pruned_by_itself(tmp_path):
    one = a_backup(tmp_path, START, database="one")
    two = a_backup(tmp_path, START + timedelta(days=50), database="two")
    prune(list_backups(tmp_path), KeepFor(1), now=START + timedelta(days=51))
    assert [each.name for each in list_backups(tmp_path)] == [one.name, two.name]


def changed_table(**changes):
    table = msgspec.structs.replace(state().tables["public.messages"], **changes)
    return {"public.messages": table}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (state(), ()),
        (state(tables={}), ("table public.messages is missing",)),
        (
            state(tables=changed_table(rows=2, sha256="b" * 64)),
            ("table public.messages has 2 rows, not 3",),
        ),
        (
            state(tables=changed_table(sha256="b" * 64)),
            ("table public.messages has 3 rows as expected, but other content",),
        ),
        (
            state(tables=changed_table(columns=("id integer NOT NULL",))),
            ("table public.messages has other columns: id bigint NOT NULL; id integer NOT NULL",),
        ),
        (state(sequences={"public.s": SequenceState(first=5, last=5)}), ()),
        (
            state(sequences={"public.s": SequenceState(first=3, last=3)}),
            ("sequence public.s continues with 3, not between 4 and 6",),
        ),
        (
            state(sequences={"public.s": SequenceState(first=7, last=7)}),
            ("sequence public.s continues with 7, not between 4 and 6",),
        ),
        (
            state(constraints={}),
            ("constraint public.messages: messages_pkey is missing",),
        ),
        (
            state(indexes={"public.messages_pkey": "CREATE UNIQUE INDEX … (INVALID)"}),
            (
                (
                    "index public.messages_pkey is now: CREATE UNIQUE INDEX … (INVALID); "
                    "it was: CREATE UNIQUE INDEX …"
                ),
            ),
        ),
        (state(extensions={"pgcrypto": "1.4"}), ()),
        (state(extensions={}), ("extension pgcrypto is missing",)),
        (state(objects={}), ("view public.v is missing",)),
    ],
)  # fmt: skip
def test_differences_in_words(found, said):
    assert differences(state(), found) == said


def test_an_invalid_index_is_a_difference_on_another_major_version_too():
    found = state(indexes={"public.messages_pkey": "CREATE UNIQUE INDEX … (INVALID)"})
    assert len(differences(state(), found, definitions=False)) == 1
    other_words = state(indexes={"public.messages_pkey": "CREATE UNIQUE INDEX other words"})
    assert differences(state(), other_words, definitions=False) == ()


_OLD = (
    "pg_dump: error: aborting because of server version mismatch\n"
    "pg_dump: detail: server version: 17.10; pg_dump version: 15.18"
)


@pytest.mark.parametrize(
    ("code", "words", "error", "said"),
    [
        (1, _OLD, ProgramVersionError, "server version: 17.10"),
        (1, "pg_dump: error: could not write to file: No space left on device",
         NoSpaceError, "make room"),
        (-9, "", ProgramKilledError, "SIGKILL"),
        (1, "pg_dump: error: a worker process died unexpectedly", ProgramKilledError, "workers"),
        (1, "processing x\npg_dump: error: query failed", BackupProgramError, "query failed"),
        (3, "", BackupProgramError, "ended with 3"),
    ],
)  # fmt: skip
def test_what_a_programs_end_means(code, words, error, said):
    with pytest.raises(error, match=said) as caught:
        check_ended("pg_dump", code, words)
    assert type(caught.value) is error


def test_a_program_that_ended_well_means_nothing():
    check_ended("pg_dump", 0, "pg_dump: warning: something")
