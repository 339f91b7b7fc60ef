"""Backups of real databases: what comes back is what was there at one moment, or nothing does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pglab import backup
from pglab.config import Secret, Settings
from pglab.encryption import LocalKeys
from pglab.servers import lifecycle
from pglab.servers.connect import connect_postgres

pytestmark = pytest.mark.server

KEYS = LocalKeys({"2026-11": b"k" * 32})

# Names that need quotes, every kind of key, values whose text form depends on settings.
ODD = """
CREATE SCHEMA "Odd.schema";
CREATE EXTENSION pgcrypto;
CREATE TYPE "Odd.schema".mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE "Odd.schema"."a ""quoted"" Täble" (
    "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mood "Odd.schema".mood NOT NULL DEFAULT 'ok',
    at timestamptz NOT NULL DEFAULT now(),
    took interval, share double precision, raw bytea, doc jsonb, names text[],
    doubled bigint GENERATED ALWAYS AS ("Id" * 2) STORED,
    CONSTRAINT "has 'a' rule" CHECK (share < 10)
);
INSERT INTO "Odd.schema"."a ""quoted"" Täble" (took, share, raw, doc, names)
SELECT make_interval(mins => n), n / 7.0, decode(md5(n::text), 'hex'),
       jsonb_build_object('n', n, 'ñ', 'línea' || chr(10) || 'two'), ARRAY['x', NULL, n::text]
FROM generate_series(1, 60) AS n;
CREATE TABLE words (word text PRIMARY KEY, n int);
INSERT INTO words SELECT w, length(w) FROM unnest(ARRAY['b', 'A', 'a', 'B', 'ä', 'Z', '']) AS w;
CREATE TABLE no_key (a int, b text);
INSERT INTO no_key SELECT n % 3, NULLIF('x' || n % 2, 'x1') FROM generate_series(1, 20) AS n;
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE "order" (a int, b int, c text, PRIMARY KEY (b, a));
INSERT INTO "order" SELECT n % 5, n, 'c' FROM generate_series(1, 30) AS n;
ALTER TABLE "order" DROP COLUMN c;
CREATE TABLE parts (n int PRIMARY KEY, v text) PARTITION BY RANGE (n);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (50);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (50) TO (100);
INSERT INTO parts SELECT n, 'v' FROM generate_series(0, 99) AS n;
CREATE TABLE parent (n int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
CREATE SEQUENCE loose START 100 INCREMENT -7 MAXVALUE 1000;
SELECT nextval('loose'), nextval('loose');
CREATE SEQUENCE untouched;
CREATE VIEW glance AS SELECT count(*) FROM words;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';
CREATE INDEX partial ON words (lower(word)) WHERE n > 0;
SELECT lo_from_bytea(0, 'a large object');
"""


@pytest.fixture(scope="module")
def endpoint():
    found, running = lifecycle.ensure_postgres(Settings.from_environment())
    yield found
    running.release()


@pytest.fixture
def name(database):
    return psycopg.conninfo.conninfo_to_dict(database)["dbname"]


@pytest.fixture
def target(endpoint):
    """A name for a restored database, which is dropped afterwards."""
    fresh = f"pglab_test_{os.urandom(6).hex()}"
    yield fresh
    with connect_postgres(endpoint, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {fresh} WITH (FORCE)")


@pytest.fixture
def odd(database):
    with psycopg.connect(database) as connection:
        connection.execute(ODD)
    return database


def databases(endpoint, begins):
    """Return the databases whose names begin so; tests of other files make others meanwhile."""
    with connect_postgres(endpoint) as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [begins]
        )
        return {row[0] for row in found}


def at(endpoint, database):
    return connect_postgres(endpoint, database, autocommit=True)


@pytest.mark.parametrize(
    ("form", "keys"), [("directory", None), ("custom", None), ("custom", KEYS)],
    ids=["directory", "custom", "encrypted"],
)  # fmt: skip
def test_an_odd_database_comes_back_whole(endpoint, odd, name, target, tmp_path, form, keys):
    made = backup.create(endpoint, name, tmp_path, format=form, keys=keys)
    assert made.manifest.format == form
    assert backup.check(made, keys=keys).bytes == made.manifest.bytes
    done = backup.restore(made, endpoint, target, keys=keys)
    state = made.manifest.state
    assert state.tables['"Odd.schema"."a ""quoted"" Täble"'].rows == 60
    assert state.tables["public.parent"].rows == 1, "children are counted by themselves"
    assert state.tables["large objects"].rows == 1
    assert "public.parts" not in state.tables
    assert "public.parts" in state.objects["view"]
    assert state.sequences["public.loose"].first == 100 - 7 - 7
    assert state.sequences["public.untouched"].first == 1
    assert state.extensions["pgcrypto"]
    assert done.rows == state.rows == 60 + 7 + 20 + 1 + 30 + 100 + 1 + 2 + 1
    with psycopg.connect(odd) as before, at(endpoint, target) as after:
        query = 'SELECT t::text FROM "Odd.schema"."a ""quoted"" Täble" AS t ORDER BY 1'
        assert before.execute(query).fetchall() == after.execute(query).fetchall()
        assert after.execute("SELECT nextval('loose'), twice(4)").fetchone() == (86, 8)
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


def test_the_checksum_can_be_had_without_us(endpoint, odd, name, tmp_path):
    made = backup.create(endpoint, name, tmp_path)
    table = made.manifest.state.tables['public."order"']
    with psycopg.connect(odd) as connection:
        rows = connection.execute('SELECT a, b FROM "order" ORDER BY b, a').fetchall()
    text = "".join(f"{a}\t{b}\n" for a, b in rows)
    assert table.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_session_of_whoever_looks_changes_no_checksum(endpoint, odd, name, tmp_path):
    made = backup.create(endpoint, name, tmp_path)
    with connect_postgres(endpoint, autocommit=True) as admin:
        for setting in (
            "timezone TO 'America/Lima'", "datestyle TO 'German'", "bytea_output TO escape",
            "intervalstyle TO iso_8601", "extra_float_digits TO 0", "search_path TO nowhere",
        ):  # fmt: skip
            admin.execute(sql.SQL("ALTER DATABASE {} SET ").format(sql.Identifier(name))
                          + sql.SQL(setting))  # fmt: skip
    backup.compare_database(made, endpoint, name)


def test_nothing_that_was_committed_later_is_in_it_while_writes_go_on(
    endpoint, database, name, target, tmp_path
):
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE log (n bigint GENERATED ALWAYS AS IDENTITY, t text)")
        connection.execute(
            "INSERT INTO log (t) SELECT repeat('x', 200) FROM generate_series(1, 90000)"
        )
    stop, wrote = threading.Event(), []

    def write():
        with psycopg.connect(database, autocommit=True) as writer:
            while not stop.is_set():
                writer.execute("INSERT INTO log (t) VALUES ('later')")
                wrote.append(1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        made = backup.create(endpoint, name, tmp_path)
    finally:
        stop.set()
        thread.join(30)
    done = backup.restore(made, endpoint, target)
    with at(endpoint, target) as copy, psycopg.connect(database) as live:
        (last,) = copy.execute("SELECT max(n) FROM log").fetchone()
        (copied,) = copy.execute("SELECT count(*) FROM log").fetchone()
        (alive,) = live.execute("SELECT count(*) FROM log").fetchone()
        (following,) = copy.execute("SELECT nextval('log_n_seq')").fetchone()
    assert done.rows == copied == last
    assert alive == 90_000 + len(wrote)
    assert copied < alive, "the writer was too slow to prove anything"
    assert following > last
    bounds = made.manifest.state.sequences["public.log_n_seq"]
    assert bounds.first < bounds.last, "the sequence went on while the dump was made"


def test_a_restored_database_that_differs_never_gets_the_name(
    endpoint, odd, name, target, tmp_path
):
    made = backup.create(endpoint, name, tmp_path)
    text = json.loads((made.path / "manifest.json").read_text())
    text["state"]["tables"]["public.words"]["sha256"] = "0" * 64
    (made.path / "manifest.json").write_text(json.dumps(text))
    with pytest.raises(backup.MismatchError) as caught:
        backup.restore(backup.open_backup(made.path), endpoint, target)
    assert caught.value.differences == (
        "table public.words has 7 rows as expected, but other content",
    )
    assert databases(endpoint, target) == set(), "a half-proven database was left"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE words SET n = 9 WHERE word = 'a'", "table public.words has 7 rows as expected"),
        ("DELETE FROM words WHERE word = 'a'", "table public.words has 6 rows, not 7"),
        ("DROP TABLE words CASCADE", "table public.words is missing"),
        ("CREATE TABLE more ()", "table public.more is new"),
        ("SELECT nextval('loose')", "sequence public.loose continues with 79, not 86"),
        ("DROP INDEX partial", "index public.partial is missing"),
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'partial'::regclass",
         "(INVALID)"),
        ('ALTER TABLE "Odd.schema"."a ""quoted"" Täble" DROP CONSTRAINT "has \'a\' rule"',
         'has \'a\' rule" is missing'),
        ("ALTER TABLE words ALTER n SET DEFAULT 3", "n integer DEFAULT 3"),
        ("DROP EXTENSION pgcrypto", "extension pgcrypto is missing"),
        ("DROP VIEW glance", "view public.glance is missing"),
        ("SELECT lo_put(oid, 0, 'A') FROM pg_largeobject_metadata", "table large objects has 1"),
        ("ALTER TYPE \"Odd.schema\".mood RENAME VALUE 'sad' TO 'blue'", "(blue, ok, happy) is new"),
    ],
)  # fmt: skip
def test_every_kind_of_difference_is_found(endpoint, odd, name, tmp_path, harm, said):
    made = backup.create(endpoint, name, tmp_path)
    backup.compare_database(made, endpoint, name)
    with psycopg.connect(odd) as connection:
        connection.execute(harm)
    with pytest.raises(backup.MismatchError) as caught:
        backup.compare_database(made, endpoint, name)
    assert any(said in each for each in caught.value.differences), caught.value.differences


def test_a_database_that_exists_is_left_alone(endpoint, odd, name, tmp_path):
    made = backup.create(endpoint, name, tmp_path)
    with psycopg.connect(odd) as connection:
        connection.execute("INSERT INTO words VALUES ('mine', 1)")
    with pytest.raises(backup.TargetExistsError, match="left alone"):
        backup.restore(made, endpoint, name)
    assert databases(endpoint, name) == {name}
    with psycopg.connect(odd) as connection:
        assert connection.execute("SELECT n FROM words WHERE word = 'mine'").fetchone() == (1,)


def test_a_dump_holds_no_roles_and_the_restore_says_which(endpoint, odd, name, target, tmp_path):
    role = f"pglab_test_owner_{os.urandom(4).hex()}"
    with connect_postgres(endpoint, autocommit=True) as admin:
        admin.execute(f'CREATE ROLE "{role}" LOGIN CREATEDB')
    try:
        with psycopg.connect(odd) as connection:
            connection.execute(f'ALTER TABLE words OWNER TO "{role}"')
        made = backup.create(endpoint, name, tmp_path)
        assert made.manifest.state.roles == {role: "LOGIN CREATEDB"}
        with psycopg.connect(odd) as connection:
            connection.execute("ALTER TABLE words OWNER TO CURRENT_USER")
    finally:
        with connect_postgres(endpoint, autocommit=True) as admin:
            admin.execute(f'DROP ROLE "{role}"')
    with pytest.raises(backup.MissingRolesError, match=f'CREATE ROLE "{role}" LOGIN CREATEDB'):
        backup.restore(made, endpoint, target)
    assert databases(endpoint, target) == set()
    assert backup.restore(made, endpoint, target, owners=False).database == target


def test_the_password_is_in_no_argument_and_no_environment(endpoint, odd, name, tmp_path):
    seen = []
    secret = endpoint.password.reveal()
    done = threading.Event()

    def look():
        while not done.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_bytes()
                    if b"pg_dump" in words:
                        seen.append(words + (process / "environ").read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        backup.create(endpoint, name, tmp_path)
    finally:
        done.set()
        watcher.join(20)
    assert seen, "pg_dump was not seen"
    assert not any(secret.encode() in each for each in seen)
    assert any(b"PGPASSFILE=" in each for each in seen)


def test_a_password_with_every_awkward_sign(endpoint, odd, name, tmp_path):
    role, password = f"pglab_test_{os.urandom(4).hex()}", r"a:b\c 'd' #%é"
    with connect_postgres(endpoint, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(password)))  # fmt: skip
    try:
        other = replace(endpoint, user=role, password=Secret(password))
        assert backup.create(other, name, tmp_path).manifest.state.rows > 0
    finally:
        with connect_postgres(endpoint, autocommit=True) as admin:
            admin.execute(f'DROP ROLE "{role}"')


def test_a_drill_counts_what_would_be_lost(endpoint, odd, name, tmp_path):
    def work():
        with psycopg.connect(odd) as connection:
            connection.execute("INSERT INTO words SELECT 'w' || n FROM generate_series(1, 23) n")
            connection.execute("DELETE FROM no_key WHERE a = 0")

    before = databases(endpoint, "pglab_drill_")
    report = backup.drill(endpoint, name, tmp_path, meanwhile=work)
    lost = {table: count for table, count in report.lost_rows.items() if count}
    assert lost == {"public.words": 23, "public.no_key": -6}
    assert report.recovery_s >= report.restored.restore_s > 0
    assert report.lost_s > 0
    assert "+23 in public.words" in report.lines()[-1]
    assert databases(endpoint, "pglab_drill_") == before, "the drill left its copy"


def test_verifying_by_hand_with_psql(endpoint, odd, name, tmp_path):
    """What the manifest says can be checked with psql and sha256sum alone."""
    made = backup.create(endpoint, name, tmp_path)
    table = made.manifest.state.tables["public.words"]
    done = subprocess.run(
        [endpoint.programs / "psql", "--quiet", "--command", table.statement],
        env={**os.environ, "PGPASSWORD": endpoint.password.reveal(), "PGDATABASE": name,
             "PGHOST": endpoint.socket_directory or endpoint.host, "PGPORT": str(endpoint.port),
             "PGUSER": endpoint.user},
        capture_output=True, check=True,
    )  # fmt: skip
    assert hashlib.sha256(done.stdout).hexdigest() == table.sha256
