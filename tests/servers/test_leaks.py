"""The search for a secret finds it where it is, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pglab import leaks
from pglab.backup.errors import BackupError
from pglab.leaks import Finding, Place, Store
from pglab.servers.scratch import ScratchPostgres, scratch_postgres

pytestmark = pytest.mark.server

KEY = "a-key-for-show"
BOUND, TEXT, CLIENT, SET = (
    "bound by the server",
    "in the text",
    "bound by the client",
    "SET, then used",
)


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with scratch_postgres(settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="module")
def found(server: ScratchPostgres) -> dict[tuple[str, str], Finding]:
    findings = leaks.trial(server.connect, server.read_log, key=KEY)
    return {(finding.place, finding.way): finding for finding in findings}


def ways(found: dict[tuple[str, str], Finding], place: str) -> set[str]:
    return {way for way in leaks.WAYS if found[place, way].found}


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("pg_stat_activity", {TEXT, CLIENT, SET}),
        ("pg_stat_statements", {SET}),
        ("log, default settings", set()),
        ("log, default settings, statement fails", {TEXT, CLIENT}),
        ("log, log_parameter_max_length_on_error = -1, statement fails", {TEXT, CLIENT, BOUND}),
        ("log_statement = all", {TEXT, CLIENT, SET, BOUND}),
        ("log_statement = all, log_parameter_max_length = 0", {TEXT, CLIENT, SET}),
        ("log_min_duration_statement = 0", {TEXT, CLIENT, SET, BOUND}),
        ("log_min_duration_statement = 0, log_parameter_max_length = 0", {TEXT, CLIENT, SET}),
        ("auto_explain", {TEXT, CLIENT, BOUND}),
        ("auto_explain, its log_parameter_max_length = 0", {TEXT, CLIENT}),
        ("auto_explain, the same, and its log_verbose = on", {TEXT, CLIENT, BOUND}),
    ],
)
def test_who_leaks_a_key(
    found: dict[tuple[str, str], Finding], place: str, expected: set[str]
) -> None:
    assert ways(found, place) == expected


def test_every_place_is_looked_at_in_every_way(found: dict[tuple[str, str], Finding]) -> None:
    assert len(found) == len(leaks.PLACES) * len(leaks.WAYS)
    assert len({place.name for place in leaks.PLACES}) == len(leaks.PLACES)


def test_the_line_is_the_one_with_the_key(found: dict[tuple[str, str], Finding]) -> None:
    line = found["log_statement = all", BOUND].line
    assert line
    assert "Parameters: $1 = 'a-key-for-show-" in line


def test_every_use_has_a_key_of_its_own(found: dict[tuple[str, str], Finding]) -> None:
    # Or a place would be blamed for what an earlier one had left in the same log.
    lines = [finding.line for finding in found.values() if finding.line]
    assert len(set(lines)) == len(lines)


def test_a_place_of_ones_own(server: ScratchPostgres) -> None:
    place = Place(name="durations", look="log", settings={"log_duration": "on"})
    findings = leaks.trial(server.connect, server.read_log, key=KEY, places=[place])
    # It logs how long a statement took and not the statement.
    assert [finding.found for finding in findings] == [False] * len(leaks.WAYS)


def test_the_trial_leaves_no_table(
    server: ScratchPostgres, found: dict[tuple[str, str], Finding]
) -> None:
    with server.connect() as connection:
        assert connection.execute("SELECT to_regclass('pglab_leaks')").fetchone() == (None,)


def _plain(connection: psycopg.Connection[Any], secret: str) -> None:
    connection.execute("INSERT INTO plain VALUES (%s)", [secret])


def _pgcrypto(connection: psycopg.Connection[Any], secret: str) -> None:
    connection.execute("INSERT INTO crypted VALUES (pgp_sym_encrypt(%s, %s))", [secret, KEY])


def _hidden(connection: psycopg.Connection[Any], secret: str) -> None:
    mixed = bytes(byte ^ 0x55 for byte in secret.encode())
    connection.execute("INSERT INTO hidden VALUES (%s)", [mixed])


def _bytes(connection: psycopg.Connection[Any], secret: str) -> None:
    connection.execute("INSERT INTO as_bytes VALUES (%s)", [secret.encode()])


STORES = {
    "plain": Store("plain", _plain),
    "pgcrypto": Store("public.crypted", _pgcrypto),
    "hidden": Store("hidden", _hidden),
    "bytes": Store("as_bytes", _bytes),
}


@pytest.fixture(scope="module")
def seen(server: ScratchPostgres) -> dict[str, list[str]]:
    with server.connect(autocommit=True) as connection:
        connection.execute(
            "CREATE EXTENSION IF NOT EXISTS pgcrypto; CREATE TABLE plain (v text);"
            "CREATE TABLE crypted (v bytea); CREATE TABLE hidden (v bytea);"
            "CREATE TABLE as_bytes (v bytea)"
        )
        findings = leaks.who_sees(
            connection,
            STORES,
            dump=lambda table: leaks.plain_dump(server.endpoint(), "postgres", table),
        )
        settings = "SELECT current_setting('log_statement'), current_setting('client_min_messages')"
        assert connection.execute(settings).fetchone() == ("none", "notice")
    rows = leaks.grid(findings, place="who", found="yes")
    return {way: [row["who"].split()[-1] for row in rows if row[way] == "yes"] for way in STORES}


def test_plain_is_seen_by_all(seen: dict[str, list[str]]) -> None:
    assert seen["plain"] == ["dump", "file", "WAL", "table", "all"]


def test_pgcrypto_is_seen_in_the_log_only(seen: dict[str, list[str]]) -> None:
    assert seen["pgcrypto"] == ["all"]


def test_what_never_arrived_is_seen_by_nobody(seen: dict[str, list[str]]) -> None:
    assert seen["hidden"] == []


def test_digits_hide_nothing(seen: dict[str, list[str]]) -> None:
    # bytea is dumped, logged and shown in hexadecimal digits.
    assert seen["bytes"] == ["dump", "file", "WAL", "table", "all"]


def test_a_table_that_is_not_there_is_no_empty_dump(server: ScratchPostgres) -> None:
    with pytest.raises(BackupError, match="no matching tables"):
        leaks.plain_dump(server.endpoint(), "postgres", "nowhere")


def test_a_grid_has_a_row_a_place_and_a_column_a_way() -> None:
    findings = [Finding("log", "text", "… key"), Finding("log", "bound", None)]
    assert leaks.grid(findings) == [{"place": "log", "text": "SEEN", "bound": "–"}]
