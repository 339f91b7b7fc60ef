"""``pglab backup`` as it is typed."""

from __future__ import annotations

import json

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from pglab.cli_backup import backup
from pglab.encryption import FileKeys
from pglab.errors import ConfigError, PglabError

pytestmark = pytest.mark.server


@pytest.fixture
def shop(database):
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE sales AS SELECT n FROM generate_series(1, 500) AS n")
    return conninfo_to_dict(database)["dbname"]


@pytest.fixture
def run(tmp_path):
    def call(*words, ok=True):
        result = CliRunner().invoke(backup, [*words, "--folder", str(tmp_path / "backups")])
        if ok and result.exception is not None:
            raise result.exception
        return result

    return call


def facts(result):
    return json.loads(result.output)


def test_from_making_to_pruning(run, shop, database, tmp_path):
    assert "no backup in" in run("list").output
    made = facts(run("create", shop, "--json"))
    assert made["rows"] == 500
    assert made["name"] in run("list").output
    assert "is whole" in run("verify").output
    assert facts(run("verify", made["name"], "--against", shop, "--json"))["equal_to"] == shop
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO sales VALUES (501)")
    with pytest.raises(PglabError, match="has 501 rows, not 500"):
        run("verify", "latest", "--against", shop)
    copy = f"{shop}_copy"
    try:
        assert "500 rows, proven equal" in run("restore", "latest", copy).output
        with pytest.raises(PglabError, match="left alone"):
            run("restore", "latest", copy)
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {copy}")
    report = facts(run("drill", shop, "--from", "latest", "--json"))
    assert report["lost_rows"] == {"public.sales": 1}
    assert report["backup_s"] is None
    assert "rows lost     none" in run("drill", shop).output
    assert len(facts(run("list", "--json"))) == 2
    dry = facts(run("prune", "--gfs", "1,0,0", "--dry-run", "--json"))
    assert [each["keeps"] for each in dry] == ["daily", None]
    assert len(facts(run("list", "--json"))) == 2
    assert run("prune", "--gfs", "1,0,0", ok=False).exit_code == 1, "nobody said yes"
    assert "deleted 1, kept 1" in run("prune", "--gfs", "1,0,0", "--yes").output
    assert len(facts(run("list", "--json"))) == 1


def test_with_keys(run, shop, tmp_path):
    FileKeys.create(tmp_path / "keys.json", "2026-11")
    keys = ("--keys", str(tmp_path / "keys.json"))
    assert facts(run("create", shop, *keys, "--json"))["key_id"] == "2026-11"
    assert "key 2026-11" in run("list").output
    assert "decrypted to its end" in run("verify", *keys).output
    assert "decrypted" not in run("verify").output
    with pytest.raises(PglabError, match="give the keys"):
        run("drill", shop, "--from", "latest")
    assert "rows lost     none" in run("drill", shop, "--from", "latest", *keys).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "no_such_thing"), "there is no database 'no_such_thing'; the server has"),
        (("create",), "name a database; the server has"),
        (("verify",), "there is no backup in"),
        (("verify", "nonsense"), "is no backup"),
        (("prune", "--gfs", "7"), "not three numbers"),
        (("prune", "--gfs", "7,4,12", "--days", "3"), "two rules"),
        (("prune", "--days", "0"), "keeps none"),
        (("prune", "--json"), "asks no questions"),
    ],
)
def test_what_cannot_be_done_is_said(run, server_url, words, said):
    with pytest.raises((ConfigError, PglabError), match=said):
        run(*words)


@pytest.mark.parametrize("command", ["create", "list", "verify", "restore", "prune", "drill"])
def test_every_command_has_help_and_json(command):
    shown = CliRunner().invoke(backup, [command, "--help"]).output
    assert "--json" in shown
    assert "--folder" in shown
