"""Lesson 06 says nothing that its outputs do not show, and shows no secret.

Texts are looked up in the committed outputs. What the prose says of plans and refusals is asked
for again: the lesson's own SQL runs in its order on a server, under other roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pglab.config import Settings
from pglab.exercises._registry import problems_of
from pglab.lab import Lab
from tests.lesson_support import cells_of, nodes, pages, plans_of, said

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "06-encryption.ipynb"
CELLS = cells_of(LESSON)

# The seed document's statement, word for word.
SEED = """\
-- session_data está encriptado con pgcrypto o similar
SELECT pgp_sym_decrypt(session_data::bytea, 'encryption_key')
FROM sessions
WHERE instance_name = 'sciencebot-production';"""

# What the prose says of an output, as that output says it (spaces in a row are one).
CLAIMS = {
    "as-written": ["Expected error, as announced", "cannot cast type jsonb to bytea"],
    "into-jsonb": ["Expected error, as announced", "42804"],
    "plaintext": ["FAKE-private-sciencebot-demo"],
    "vault-read": ["51987650001:1@s.whatsapp.net"],
    "vault-wrong-key": ["Expected error, as announced", "Wrong key or corrupt data"],
    "four-dump": ["FAKE-private-sciencebot-production"],
    "four-disk": ["FAKE-private-sciencebot-"],
    "four-log": ["LOG: execute <unnamed>: UPDATE", "FAKE-new-key-after-login"],
    "leak-activity": ["pgp_sym_decrypt(session_data, 'lesson-06-demo-key')"],
    "leak-statements": ["pgp_sym_decrypt(session_data, $1)"],
    "leak-set-look": ["SET app.key = 'lesson-06-demo-key'"],
    "trial": [
        "pg_stat_activity | KEY | KEY | KEY | –",
        "pg_stat_statements | – | – | KEY | –",
        "log, default settings | – | – | – | –",
        "log, default settings, statement fails | KEY | KEY | – | –",
        "on_error = -1, statement fails | KEY | KEY | – | KEY",
        "log_statement = all | KEY | KEY | KEY | KEY",
        "log_statement = all, log_parameter_max_length = 0 | KEY | KEY | KEY | –",
        "log_min_duration_statement = 0 | KEY | KEY | KEY | KEY",
        "log_min_duration_statement = 0, log_parameter_max_length = 0 | KEY | KEY | KEY | –",
        "auto_explain | KEY | KEY | – | KEY",
        "auto_explain, its log_parameter_max_length = 0 | KEY | KEY | – | –",
        "its log_verbose = on | KEY | KEY | – | KEY",
    ],
    "trial-lines": [
        "DETAIL: Parameters: $1 = 'lesson-06-demo-key-",
        "Output: pgp_sym_decrypt(body",
    ],
    "attacks-table": [
        "as it was stored | opened | +51 987 654 321",
        "last bit flipped | TamperedError",
        "copied to another row | UnwrapError",
        "cut short | MalformedError",
        "key id unknown | UnknownKeyError",
        "another key by the same id | UnwrapError",
    ],
    "sessions-store": ["(True, 'sciencebot-production')"],
    "swap-detect": [
        "sciencebot-production | UnwrapError",
        "sciencebot-staging | UnwrapError",
        "sciencebot-becas | opened",
    ],
    "rotate-key": ["current='2027-02', key_ids=('2026-11', '2027-02')"],
    "lose-ask": ["{'devices': 0, 'sessions': 6}", "{'devices': 0, 'sessions': 0}"],
    "rotate-kill": ["ended by signal 9; each time 2 of 2 rows could be read"],
    "rotate-again": ["now 0 left, and 2000 of 2000 open"],
    "kms": ["'unwrap, 60 bytes': 1", "1000000"],
    "lose": [
        "a row of today | opened",
        "last night's backup | UnknownKeyError",
        "the same, with the copy of the keys | opened | FAKE-1",
    ],
    "permissions": ["KeyFileError: …/keys.json has mode 0644", "FileKeys(current='2027-02'"],
    "who": [
        "has a stolen dump | SEES IT | – | –",
        "has a stolen disk: the table's file | SEES IT | – | –",
        "has a stolen disk: the WAL | SEES IT | – | –",
        "is superuser, and reads the table | SEES IT | – | –",
        "reads the log, with log_statement = all | SEES IT | SEES IT | –",
    ],
    "lost-json": ["Expected error, as announced", "operator does not exist: bytea ->>"],
    "lost-equal": ["1000"],
    "blind-search": ["True"],
    "roles-table": ["lesson06_app | messages | rw", "lesson06_reader | sessions | ''"],
    "roles-reader": ["50000", "permission denied for table sessions"],
    "roles-monitor": ["true", "permission denied for table messages"],
    "defaults": ["made_by_owner | true", "made_by_superuser | false"],
    "rls-unset": ["Expected error, as announced", "unrecognized configuration parameter"],
    "rls-try": ["of_the_demo bigint ------------- 74", "marked bigint -------- 0"],
    "rls-write": ["new row violates row-level security policy"],
    "keys-environment": ["EnvironmentKeys(current='2027-05'"],
    "password-found": ["ALTER ROLE lesson06_reader PASSWORD 'FAKE-password'"],
    "pool-scram": ["lesson06_app | SCRAM-SHA-256 | 4096", "lesson06_monitor | NULL"],
    "pool-requests": [
        "SET | sciencebot-demo | 74",
        "SET | (forgot to say) | 74",
        "SET LOCAL | sciencebot-demo | 74",
        'SET LOCAL | (forgot to say) | invalid input syntax for type uuid: ""',
    ],
    "rls-cost-chat-app": ["| the same"],
    "rls-cost-search-app": ["times as many"],
    "rls-leakproof": ["~~* | texticlike | false", "@> | jsonb_contains | false", "uuid_eq | true"],
    "definer-honest": ["NULL"],
    "definer-attack": ["FAKE-private-sciencebot-becas"],
    "definer-again": ["NULL"],
    "injection-quote": ["SyntaxError: syntax error at or near"],
    "injection-steal": ["FAKE-not-a-real-secret-sciencebot-demo"],
    "injection-damage": ["https://evil.example.net/"],
    "injection-stop": ["([], [], 3)"],
    "injection-name": ['column "(SELECT pg_sleep(10))" does not exist'],
    "injection-least": ["permission denied for schema seed"],
    "pgpass-try": ["0600: logged in as lesson06_app", "0644: WARNING", "no password supplied"],
    "tls-lab": ["false | a socket of this machine"],
    "tls-without": [
        "prefer | TLSv1.3 | TLSv1.3 | TLSv1.3 | TLSv1.3 | no: channel binding",
        "require | TLSv1.3 | TLSv1.3 | TLSv1.3 | TLSv1.3 | no: channel binding",
        "verify-ca | no: no root certificate",
        "verify-full | no: no root certificate",
    ],
    "tls-with": [
        "disable | no: wants TLS | IN THE CLEAR",
        "prefer | TLSv1.3 | IN THE CLEAR | IN THE CLEAR",
        "require | TLSv1.3 | no: not trusted | no: not trusted | TLSv1.3 | no: not trusted",
        "verify-ca | TLSv1.3 | no: not trusted | no: not trusted | TLSv1.3 | no: not trusted",
        "verify-full | TLSv1.3 | no: not trusted | no: not trusted | no: other name | no: not",
    ],
    "tls-down": [
        "disable | IN THE CLEAR | IN THE CLEAR",
        "prefer | TLSv1.3 | IN THE CLEAR",
        "verify-full | TLSv1.3 | no: not trusted",
    ],
    "tls-strip": [
        "the client says True, the server says False",
        "heard the secret: True; the password: False",
    ],
    "tls-stop": [
        "require | connected",
        "channel_binding=require | refused: channel binding",
        "verify-full | refused: certificate not trusted",
    ],
    "tls-stat": ["app | true | TLSv1.3", "postgres | false | NULL"],
    "clean-up": ["roles_left bigint ------------ 0"],
}


def _read() -> Any:
    return nbformat.read(LESSON, as_version=4)


def _rows(cell: Any) -> list[list[str]]:
    """Return the cells of the table that an output shows as text."""
    lines = "\n".join(output.data["text/plain"] for output in cell.outputs).splitlines()
    return [[part.strip() for part in line.split("|")] for line in lines if "|" in line]


# As the seed writes it


def test_the_seeds_statement_is_word_for_word() -> None:
    cell = CELLS["as-written"]
    assert SEED in cell.source
    assert cell.metadata["tags"] == ["as-written"]


# The committed outputs


@pytest.mark.parametrize("name", CLAIMS)
def test_the_output_shows_what_the_prose_says(name: str) -> None:
    shown = said(CELLS[name])
    assert [claim for claim in CLAIMS[name] if claim not in shown] == [], shown


def test_the_pictures_are_pictures() -> None:
    for name in ("blind-plot", "costs-plot"):
        assert any("image/png" in output.get("data", {}) for output in CELLS[name].outputs)


def test_every_exercise_stands_in_the_lesson_and_is_not_attempted() -> None:
    cells = CELLS
    problems = problems_of("encryption")
    assert len(problems) >= 6
    for problem in problems:
        cell = cells[f"exercise-{problem.number}"]
        assert cell.source.strip() == f"%%exercise {problem.id}\n{problem.starter}".strip()
        assert f"{problem.id} not attempted" in said(cell)


def test_no_bit_of_a_ciphertext_can_be_flipped_unnoticed() -> None:
    shown = said(CELLS["every-bit"])
    counts = {name: int(count) for name, count in re.findall(r"'(\w+)': (\d+)", shown)}
    assert "opened" not in counts
    blob_bytes = int(_rows(CELLS["encrypt"])[-1][1])
    assert sum(counts.values()) == 8 * blob_bytes


def test_the_rotation_was_killed_between_its_beginning_and_its_end() -> None:
    counts = {row[0]: int(row[1]) for row in _rows(CELLS["rotate-state"]) if row[1].isdigit()}
    assert set(counts) == {"2026-11", "2027-02"}
    assert counts["2027-02"] >= 700
    assert sum(counts.values()) == 2000
    left = re.match(r"(\d+) rows left; rotated (\d+)", said(CELLS["rotate-again"]))
    assert left
    assert int(left[1]) == int(left[2]) == counts["2026-11"]


def test_the_blind_index_spares_nearly_all_and_the_thief_reads_nearly_all() -> None:
    found = re.search(r"(\d+) with the blind index, (\d+) without", said(CELLS["blind-search"]))
    assert found
    assert 100 * int(found[1]) < int(found[2])
    guessed = re.match(r"(\d+) of (\d+) rows guessed right", said(CELLS["blind-leak"]))
    assert guessed
    assert int(guessed[1]) > 0.95 * int(guessed[2]) > 9_000


def test_the_least_s2k_and_the_program_are_many_times_as_fast_as_pgcrypto() -> None:
    us = {row[0]: float(row[1].replace(",", "")) for row in _rows(CELLS["s2k-measure"])[1:]}
    assert us["default"] > 10 * us["AES-GCM, no server"]
    assert us["no repetition"] < us["65,536 octets"] < us["default"] < us["1,048,576 octets"]
    # What pgcrypto draws: 65,536 to 253,952.
    octets = [int(row[2]) for row in _rows(CELLS["s2k-count"]) if row[2].isdigit()]
    assert octets
    assert all(65_536 <= count <= 253_952 for count in octets)


def test_the_other_costs_are_as_the_prose_says() -> None:
    rows = _rows(CELLS["costs-others"])[1:]
    us = {(case, variant): float(time.replace(",", "")) for case, variant, time in rows}
    assert us["blind-index", "decrypt all here"] > 10 * us["blind-index", "blind index"]
    assert us["rls-scan", "policy"] > us["rls-scan", "policy, evaluated once"]
    connection = _rows(CELLS["tls-cost"])[1]
    assert connection[0] == "connection"
    assert float(connection[3].replace(",", "")) > float(connection[2].replace(",", ""))


def test_no_key_and_no_password_is_in_the_notebook() -> None:
    text = LESSON.read_text(encoding="utf-8")
    outputs = "\n".join(
        said(cell) for cell in _read().cells if cell.cell_type == "code" and cell.outputs
    )
    # 32 bytes in base64, a token of 24 bytes, a SCRAM verifier, a private key.
    assert re.findall(r"(?<![\w/+-])[A-Za-z0-9+/]{43}=", outputs) == []
    assert (
        re.findall(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Z])[A-Za-z0-9_-]{32}(?![\w-])", outputs)
        == []
    )
    assert re.findall(r"SCRAM-SHA-256\$\d+:", text) == []
    assert "PRIVATE KEY" not in text


def test_what_looks_secret_says_that_it_is_not() -> None:
    for cell in _read().cells:
        for key in re.findall(r"pgp_sym_\w+\([^)]*'([^']*key[^']*)'\)", cell.source):
            assert key in {
                "lesson-06-demo-key",
                "encryption_key",
                "not the key",
                "the key",
                "app.key",
            }, cell.id


# On a server


@pytest.fixture(scope="module")
def plans() -> Iterator[dict[str, dict[str, Any]]]:
    """Run the lesson's SQL in its order; return the plan of each cell that explains one."""
    with pytest.MonkeyPatch.context() as patch:
        # A database and roles of its own: the lesson itself may be running beside this test.
        patch.setenv("PGLAB_SCOPE", "lesson06")
        lab = Lab("encryption", "small", Settings.from_environment(), progress=False)
        try:
            lab.reset()
            yield plans_of(
                lab,
                LESSON,
                without=PYTHON_FIRST,
                rewritten=lambda text: text.replace("lesson06_", "test06_"),
            )
        finally:
            lab.drop()


# They need what a Python cell of the lesson made, or look at what it did.
PYTHON_FIRST = {
    "swap",
    "swap-back",
    "rotate-state",
    "blind-explain",
    "pool-scram",
    "injection-damage",
}


@pytest.mark.server
def test_a_page_of_a_chat_costs_the_same_pages_under_the_policy(plans: dict[str, Any]) -> None:
    free, bound = plans["rls-cost-chat"], plans["rls-cost-chat-app"]
    assert [n["Node Type"] for n in nodes(free)] == [n["Node Type"] for n in nodes(bound)]
    assert pages(free) == pages(bound) < 30
    assert any("current_setting" in n.get("Filter", "") for n in nodes(bound))


@pytest.mark.server
def test_the_policy_rules_out_the_index_that_is_not_leakproof(plans: dict[str, Any]) -> None:
    free, bound = plans["rls-cost-search"], plans["rls-cost-search-app"]
    assert "messages_body_trgm" in {n.get("Index Name") for n in nodes(free)}
    assert "messages_body_trgm" not in {n.get("Index Name") for n in nodes(bound)}
    assert pages(bound) > 10 * pages(free)
