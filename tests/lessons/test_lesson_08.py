"""Lesson 08 says nothing that its outputs and a real server do not show. Never a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import psycopg
import pytest

import pglab
from pglab import backup
from pglab.backup.point_in_time import Target, archive_now
from pglab.backup.practice import Practice
from pglab.exercises._registry import problems_of

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "08-backup.ipynb"

SEED_DUMP = """\
# Exportar base de datos completa
pg_dump -h postgres.railway.internal \\
        -U postgres \\
        -d evolution \\
        -F c \\
        -f backup.dump
"""
SEED_RESTORE = """\
# Restaurar
pg_restore -h postgres.railway.internal \\
           -U postgres \\
           -d evolution \\
           backup.dump"""

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "notes": ["50000 | 1439 | 3"],
    "seed-dump": ["[exit status 0]"],
    "contents": ["TABLE public contacts", "FK CONSTRAINT public contacts", "TABLE public notes"],
    "seed-restore": ["[exit status 1]", "errors ignored on restore", "already exists",
                     "duplicate key value violates unique constraint"],
    "seed-restore-rows": ["50000 | 1439 | 6"],
    "clean-cut": ["victim is ready", "end of file", "messages left: 0"],
    "clean-single": ["end of file", "messages left: 50000"],
    "new-database": ["[exit status 0]"],
    "create": ["public.messages | 50000 |", "public.notes | 6 |"],
    "restored": ["8 tables", "proven equal, as evolution_proven"],
    "harm": ["table public.messages has 50,000 rows as expected, but other content",
             "table public.notes has 3 rows, not 6"],
    "restore-table": ["[exit status 0]"],
    "restore-table-look": ["1439 | 0 | 0 | 0"],
    "restore-list-run": ["CONSTRAINT public contacts contacts_pkey", "[exit status 0]"],
    "restore-proof": ["equal to the backup: 1,439 contacts"],
    "rules": ["7 days | 7 | 6 days", "7 days, 4 weeks, 12 months | 20 | 328 days"],
    "prune": ["newer than the newest good one | dump/", "is cut short: 1,000 of",
              "the newest good one | nothing"],
    "role-elsewhere": ["noted in the manifest: {'gateway': 'LOGIN'}",
                       'CREATE ROLE "gateway" LOGIN'],
    "globals": ["CREATE ROLE gateway;"],
    "identity-whole": ["evolution | 30 | 0 | 0"],
    "split": ["evolution_monday | 30 | 10 | 20", "… and Redis flushed | 30 | 30 | 0"],
    "base": ["backup successfully verified", 'checksum mismatch for file "PG_VERSION"',
             "[exit status 1]"],
    "archive-command": ['cmp -s "%p" /archive/%f', "sync", "mv"],
    "disaster-look": ["40", "undefined_table"],
    "find-run": ["true"],
    "recover": ["50,200 of 50,200 messages, 0 of 40 notes"],
    "bring-back": ["50200 messages", "40 notes from after", "[exit status 0]"],
    "beyond": ["the archive ends before that point"],
    "drill-report": ["proven equal | 8 tables", "rows lost | +25 in public.notes"],
    "faults": ["truncated dump | TruncatedBackupError", "another key | WrongKeyError",
               "a database of that name | TargetExistsError"],
    "half": ["3 rows"],
}  # fmt: skip


@pytest.fixture(scope="module")
def cells() -> dict[str, Any]:
    return {cell.id: cell for cell in nbformat.read(LESSON, as_version=4).cells}


def said(cell: Any) -> str:
    parts = []
    for output in cell.outputs:
        text = output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        parts.append("".join(text))
    return re.sub(r"[ \t]+", " ", "\n".join(parts))


def text_of(cells: dict[str, Any]) -> str:
    return "\n".join(cell.source for cell in cells.values())


@pytest.mark.parametrize("name", CLAIMS)
def test_an_output_says_what_the_prose_says_of_it(cells: dict[str, Any], name: str) -> None:
    shown = said(cells[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


def test_the_seeds_commands_are_word_for_word(cells: dict[str, Any]) -> None:
    assert SEED_DUMP in cells["seed-dump"].source
    assert SEED_RESTORE in cells["seed-restore"].source


def test_the_checksums_are_equal_until_one_word_changes(cells: dict[str, Any]) -> None:
    sums = re.findall(r"(\w+) 50000 rows ([0-9a-f]{16})", said(cells["checksum"]))
    assert [name for name, _ in sums] == ["evolution", "evolution_again"] * 2
    before, copy, still, changed = (value for _, value in sums)
    assert before == copy == still != changed
    assert before in said(cells["create"]), "the manifest's sum is the one of psql and sha256sum"


def test_what_a_second_costs_is_what_committed_in_it(cells: dict[str, Any]) -> None:
    shown = said(cells["second"])
    lost = int(re.search(r"(\d+) are lost", shown)[1])
    assert lost == int(re.search(r"the WAL has (\d+) commits within that second", shown)[1])
    assert 0 < lost < 200


def test_nothing_half_restored_is_left(cells: dict[str, Any]) -> None:
    assert "unverified" not in said(cells["half"])
    assert said(cells["half"]).count("evolution") == 3


def test_no_output_shows_where_the_scratch_files_are(cells: dict[str, Any]) -> None:
    shown = "\n".join(said(cell) for cell in cells.values() if cell.cell_type == "code")
    assert "pglab-" not in shown.replace("pglab-scratch", "")
    assert "/tmp" not in shown


def test_what_is_said_of_railway_is_what_the_facts_say(cells: dict[str, Any]) -> None:
    prose = cells["s4"].source
    for fact in ("switch them on yourself", "kept for 6 days", "same project and environment",
                 "wiping it deletes them"):  # fmt: skip
        assert fact in prose


def test_no_solution_is_given_away(cells: dict[str, Any]) -> None:
    text = text_of(cells)
    for problem in problems_of("backup"):
        for answer in problem.solutions:
            assert answer.text not in text


def test_it_closes_what_it_opened(cells: dict[str, Any]) -> None:
    assert "evolution.close()" in cells["close"].source
    assert "lab.close()" in cells["close"].source


# --- on a server ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def practice() -> Any:
    with pglab.open("backup", "tiny", progress=False) as lab, Practice(lab) as found:
        yield found


@pytest.mark.server
def test_a_practice_server_holds_what_the_lab_holds(practice: Practice) -> None:
    with practice.connection() as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2_000,)
        assert connection.info.dbname == "evolution"


@pytest.mark.server
def test_a_terminal_reaches_the_server_by_any_name(practice: Practice, capsys: Any) -> None:
    status = practice.sh("psql -h postgres.railway.internal -U postgres -At -c 'SELECT 40 + 2'")
    assert (status, capsys.readouterr().out) == (0, "42\n[exit status 0]\n")
    assert practice.sh("false | true; pwd; seq 30", show=3) == 0
    assert capsys.readouterr().out == ".\n1\n2\n… and 28 lines more\n[exit status 0]\n"
    assert practice.sh("false | cat") == 1, "a pipe fails where one of its programs does"
    assert practice.sh("psql -d nowhere -c 'SELECT 1'") == 2
    shown = capsys.readouterr().out
    assert str(practice.place.path) not in shown


@pytest.mark.server
def test_no_secret_is_in_the_terminals_environment(practice: Practice, capsys: Any) -> None:
    practice.sh("env; cat /proc/$$/cmdline | tr '\\0' ' '", show=200)
    secret = practice.server.password
    assert secret is not None
    assert secret.reveal() not in capsys.readouterr().out


@pytest.mark.server
def test_a_restore_over_a_full_database_doubles_what_has_no_key(practice: Practice) -> None:
    with practice.connection() as connection:
        connection.execute("CREATE TABLE keyless AS SELECT 7 AS n")
    assert practice.sh("pg_dump -F c -f full.dump") == 0
    assert practice.sh("pg_restore -d evolution full.dump") == 1
    with practice.connection(autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2_000,)
        assert connection.execute("SELECT count(*) FROM keyless").fetchone() == (2,)
        connection.execute("DROP TABLE keyless")


@pytest.mark.server
def test_closing_leaves_nothing(practice: Practice) -> None:
    with pglab.open("backup", "tiny", progress=False) as lab:
        other = Practice(lab)
        where, pid = other.place.path, other.server.pid
        other.close()
        other.close()
    assert not where.exists()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises((psycopg.Error, pglab.PglabError)):
        other.connection()


@pytest.mark.server
def test_a_practice_that_cannot_be_filled_leaves_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def fail(made_backup: object, endpoint: Any, *rest: object, **options: object) -> None:
        made.append(Path(endpoint.socket_directory))
        raise backup.RestoreError("as if it failed")

    monkeypatch.setattr("pglab.backup.practice.restore", fail)
    with (
        pglab.open("backup", "tiny", progress=False) as lab,
        pytest.raises(backup.RestoreError, match="as if"),
    ):
        Practice(lab)
    assert made
    assert not made[0].exists()


@pytest.mark.server
def test_a_practice_server_archives_and_recovers(practice: Practice) -> None:
    practice.begin_archiving()
    assert practice.sh("pg_basebackup -U postgres -D base --checkpoint=fast --no-sync") == 0
    with practice.connection(autocommit=True) as connection:
        connection.execute("CREATE TABLE late AS SELECT 1 AS n")
        archive_now(connection)
    with practice.recovered("base", Target()) as again, again.connect(dbname="evolution") as found:
        assert found.execute("SELECT count(*) FROM late").fetchone() == (1,)
