"""Every measure, on every version, with hostile names, by a role that is no superuser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from monitor_support import HOSTILE_TABLES, VERSIONS, identifier, make_hostile, make_watcher, server
from psycopg import sql
from psycopg.rows import dict_row, namedtuple_row

from pglab.errors import ConfigError, ServerUnreachableError
from pglab.monitor import MEASURES, look, survey
from pglab.monitor.asking import recognise
from pglab.monitor.measure import Variant
from pglab.servers.scratch import ScratchPostgres

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("monitor")]

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module", params=VERSIONS)
def scratch(request: pytest.FixtureRequest) -> Iterator[ScratchPostgres]:
    with server(request.param) as made, made.connect(autocommit=True) as admin:
        make_hostile(admin)
        admin.execute('CREATE SCHEMA "Odd Place"')
        admin.execute('CREATE EXTENSION pg_stat_statements SCHEMA "Odd Place"')
        admin.execute('CREATE EXTENSION pgstattuple SCHEMA "Odd Place"')
        admin.execute('GRANT USAGE ON SCHEMA "Odd Place" TO pg_monitor')
        yield made


@pytest.fixture(scope="module")
def admin(scratch: ScratchPostgres) -> Iterator[Connection]:
    with scratch.connect(autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def watcher(scratch: ScratchPostgres) -> Iterator[Connection]:
    with make_watcher(scratch) as connection:
        yield connection


def rows(connection: Connection, name: str) -> list[dict[str, Any]]:
    reading = look(connection, name)
    assert not reading.skipped
    return list(reading.rows)


# All of them


@pytest.mark.parametrize("name", MEASURES)
def test_it_answers_with_the_columns_that_it_describes(watcher: Connection, name: str) -> None:
    reading = look(watcher, name)
    if name == "io" and watcher.info.server_version < 160_000:
        assert reading.skipped == "needs PostgreSQL 16; this is 15"
        return
    assert reading.skipped == ""
    for row in reading.rows:
        assert list(row) == list(reading.measure.columns)
    json.dumps(reading.to_json())
    assert list(reading.frame().columns) == list(reading.measure.columns)
    assert all(finding.measure == name for finding in reading.findings)


def test_columns_are_what_the_query_returns_even_when_there_are_no_rows(
    watcher: Connection,
) -> None:
    known = recognise(watcher)
    for name, measure in MEASURES.items():
        schema, version = known.extensions.get(measure.extension, ("", (0, 0)))
        text = measure.sql(known.version, version)
        if text is not None:
            text = text.replace("{extension}", identifier(schema).as_string(watcher))
            described = watcher.execute(text.encode()).description
            assert [column.name for column in described or ()] == list(measure.columns), name


def test_no_role_is_needed_beyond_pg_monitor(watcher: Connection) -> None:
    row = watcher.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert row == (False,)
    skipped = {reading.name for reading in survey(watcher, MEASURES) if reading.skipped}
    assert skipped == ({"io"} if watcher.info.server_version < 160_000 else set())


def test_a_role_in_nothing_is_told_what_it_lacks(scratch: ScratchPostgres) -> None:
    with make_watcher(scratch, member=False) as nobody:
        readings = {reading.name: reading for reading in survey(nobody, MEASURES)}
        version = nobody.info.server_version
    lacking = {name for name, measure in MEASURES.items() if measure.role}
    if version < 160_000:
        lacking.add("io")
    assert {name for name, reading in readings.items() if reading.skipped} == lacking
    assert readings["connections"].skipped == (
        'needs the role pg_read_all_stats; a superuser says: GRANT pg_monitor TO "nobody"'
    )
    assert readings["table_sizes"].rows


# Names


def test_tables_of_any_name_are_measured(admin: Connection, watcher: Connection) -> None:
    found = {(row["schema"], row["name"]): row for row in rows(watcher, "table_sizes")}
    for schema, name in HOSTILE_TABLES:
        row = found[schema, name]
        oid = sql.SQL("SELECT {}::regclass::oid").format(
            sql.Literal(identifier(schema, name).as_string(admin))
        )
        (number,) = admin.execute(oid).fetchone() or (0,)
        expected = admin.execute("SELECT pg_total_relation_size(%s::oid)", [number]).fetchone()
        assert expected == (row["total_bytes"],)
        # What it calls the table can be pasted into a statement.
        assert admin.execute(f"SELECT count(*) FROM {row['table']}".encode()).fetchone()


def test_duplicates_and_missing_indexes_are_found_under_any_name(
    admin: Connection, watcher: Connection
) -> None:
    twice = {(r["schema"], r["table_name"]): r for r in rows(watcher, "duplicate_indexes")}
    missing = {
        (r["schema"], r["table_name"]): r for r in rows(watcher, "foreign_keys_without_index")
    }
    assert set(twice) == set(missing) == set(HOSTILE_TABLES)
    for place in HOSTILE_TABLES:
        assert twice[place]["relation"] == "the same"
        assert twice[place]["index_name"].endswith(" two")
        assert missing[place]["columns"] == '"Ref. Nº"'
        with admin.transaction(force_rollback=True):  # the remedies are statements that work
            for row in (twice[place], missing[place]):
                admin.execute(row["remedy"].replace(" CONCURRENTLY", "").encode())
            left = {
                (r["schema"], r["table_name"])
                for name in ("duplicate_indexes", "foreign_keys_without_index")
                for r in rows(admin, name)
            }
            assert place not in left


def test_nobody_else_s_names_change_an_answer(scratch: ScratchPostgres, admin: Connection) -> None:
    # A schema full of tables and functions that are called as the catalog's are.
    names = admin.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace"
        " AND relkind IN ('r', 'v') AND (relname ~ '^pg_stat_' OR relname IN ('pg_class',"
        " 'pg_namespace', 'pg_index', 'pg_constraint', 'pg_locks', 'pg_database', 'pg_roles',"
        " 'pg_am', 'pg_inherits', 'pg_extension', 'pg_replication_slots'))"
    ).fetchall()
    with scratch.connect(autocommit=True) as connection:
        connection.execute("CREATE SCHEMA evil")
        try:
            for (name,) in names:
                connection.execute(
                    sql.SQL("CREATE VIEW evil.{0} AS SELECT * FROM pg_catalog.{0} WHERE false")
                    .format(identifier(name))
                )  # fmt: skip
            connection.execute(
                "CREATE TABLE evil.pg_attribute (attrelid oid, attnum int, attname name)"
            )
            for signature, body in (
                ("format(text, VARIADIC name[]) RETURNS text", "'stolen'"),
                ("left(text, int) RETURNS text", "'stolen'"),
                ("current_database() RETURNS name", "'stolen'::name"),
                ("pg_total_relation_size(oid) RETURNS bigint", "0::bigint"),
                ("pg_table_size(oid) RETURNS bigint", "0::bigint"),
                ("pg_blocking_pids(int) RETURNS int[]", "'{}'::int[]"),
                ("clock_timestamp() RETURNS timestamptz", "'-infinity'::timestamptz"),
                ("quote_ident(name) RETURNS text", "'stolen'"),
            ):
                connection.execute(
                    f"CREATE FUNCTION evil.{signature} LANGUAGE sql AS $$ SELECT {body} $$".encode()
                )
            # Operators cannot be qualified in a readable way; the runner's own path is for them.
            connection.execute(
                "CREATE FUNCTION evil.never(name, name) RETURNS bool LANGUAGE sql AS 'SELECT false'"
            )
            connection.execute(
                "CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.never)"
            )
            plain = {name: shape(connection, name) for name in MEASURES}
            connection.execute("SET search_path TO evil, pg_catalog, public")
            assert {name: shape(connection, name) for name in MEASURES} == plain
            row = connection.execute("SHOW search_path").fetchone()
            assert row == ("evil, pg_catalog, public",)
            # Not only because of the runner: the text is qualified, for who pastes it elsewhere.
            known = recognise(connection)
            text = MEASURES["table_sizes"].sql(known.version)
            assert text
            pasted = connection.cursor(row_factory=dict_row).execute(text.encode()).fetchall()
            assert [r["table"] for r in pasted] == [r["table"] for r in rows(admin, "table_sizes")]
        finally:
            connection.execute("DROP SCHEMA evil CASCADE")


def shape(connection: Connection, name: str) -> tuple[str, set[Any]]:
    """What of a reading does not change from one moment to the next."""
    reading = look(connection, name)
    steady = ("schema", "name", "table", "index", "database", "state", "by", "constraint_name")
    return reading.skipped, {
        tuple(row[key] for key in steady if key in row)
        for row in reading.rows
        if row.get("schema") != "evil"
    }


# Manners


def test_a_transaction_goes_on_as_it_was(scratch: ScratchPostgres) -> None:
    with scratch.connect() as connection:
        connection.execute("CREATE TABLE mine (n int)")
        connection.execute("SET LOCAL work_mem = '7MB'")
        look(connection, "table_sizes")
        connection.execute("INSERT INTO mine VALUES (1)")  # not read-only
        settings = connection.execute(
            "SELECT current_setting('work_mem'), current_setting('search_path'),"
            " current_setting('statement_timeout'), current_setting('jit')"
        ).fetchone()
        connection.rollback()
        plain = connection.execute(
            "SELECT '7MB', current_setting('search_path'), current_setting('statement_timeout'),"
            " current_setting('jit')"
        ).fetchone()
        assert settings == plain
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_a_question_can_change_nothing(
    scratch: ScratchPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("writer", "CREATE TABLE left_behind (n int)"),
        ("sleeper", "SELECT pg_sleep(60)"),
    ):
        measure = replace(MEASURES["waits"], name=name, variants=(Variant(sql=text),))
        monkeypatch.setitem(MEASURES, name, measure)
    with scratch.connect(autocommit=True) as connection:
        writer, sleeper, waits = survey(connection, ["writer", "sleeper", "waits"])
        assert "read-only transaction" in writer.skipped
        assert sleeper.skipped == "took longer than 2 s, and was given up"
        assert waits.skipped == ""  # what comes after is asked all the same
        assert connection.execute("SELECT to_regclass('left_behind')").fetchone() == (None,)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_it_commits_and_does_not_count_as_a_rollback(scratch: ScratchPostgres) -> None:
    counts = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with scratch.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        before = connection.execute(counts).fetchone()
        for _ in range(5):
            survey(connection)
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(counts).fetchone() == before


def test_it_does_not_wait_for_a_table_that_somebody_has_for_himself(
    scratch: ScratchPostgres, watcher: Connection
) -> None:
    watcher.execute("SET statement_timeout = '30s'")
    with scratch.connect() as selfish:
        selfish.execute('LOCK TABLE "Message"')
        selfish.execute('REINDEX INDEX "Evolution API"."Message.Update one"')
        readings = {reading.name: reading for reading in survey(watcher, MEASURES)}
        oldest = watcher.info.server_version < 160_000
        assert {n for n, r in readings.items() if r.skipped} == ({"io"} if oldest else set())
        sizes = {(r["schema"], r["name"]): r for r in readings["table_sizes"].rows}
        assert sizes["public", "Message"]["locked"] is True
        assert sizes["public", "Message"]["indexes_bytes"] is None
        assert sizes["public", "Message"]["table_bytes"] > 0
        assert sizes["Evolution API", "Message.Update"]["locked"] is True
        assert sizes["public", "plain"]["locked"] is False
        unused = {r["table_name"]: r["definition"] for r in readings["unused_indexes"].rows}
        assert unused["Message"] is None
        assert unused["plain"].startswith("CREATE INDEX")
        twice = {r["table_name"] for r in readings["duplicate_indexes"].rows}
        assert "plain" in twice
        assert "Message" not in twice
        selfish.rollback()


def test_an_extension_that_is_missing_is_named(scratch: ScratchPostgres) -> None:
    with scratch.connect(autocommit=True) as connection:
        connection.execute('CREATE DATABASE "Another one"')
    with scratch.connect(autocommit=True, dbname="Another one") as connection:
        reading = look(connection, "statements")
        assert reading.skipped == (
            "needs the extension pg_stat_statements; its owner says: "
            "CREATE EXTENSION pg_stat_statements"
        )
        assert reading.rows == ()
        # And one that is older than the server has its own columns.
        connection.execute("CREATE EXTENSION pg_stat_statements VERSION '1.10'")
        assert recognise(connection).extensions["pg_stat_statements"] == ("public", (1, 10))
        connection.execute("SELECT 'a statement to be counted'")
        assert any("$1" in row["query"] for row in rows(connection, "statements"))


def test_an_extension_in_a_closed_schema_is_skipped_with_the_grant(
    scratch: ScratchPostgres, admin: Connection, watcher: Connection
) -> None:
    admin.execute('REVOKE USAGE ON SCHEMA "Odd Place" FROM pg_monitor')
    try:
        reading = look(watcher, "bloat")
        assert 'GRANT USAGE ON SCHEMA "Odd Place" TO "Watcher\'s role"' in reading.skipped
        # What comes after a failure is asked all the same.
        names = ["bloat", "table_sizes", "statements", "connections"]
        skipped = [bool(each.skipped) for each in survey(watcher, names)]
        assert skipped == [True, False, True, False]
    finally:
        admin.execute('GRANT USAGE ON SCHEMA "Odd Place" TO pg_monitor')


def test_an_unknown_name_lists_those_that_there_are(watcher: Connection) -> None:
    with pytest.raises(ConfigError, match="no measure is called 'locks'; choose of: connections"):
        look(watcher, "locks")


def test_any_row_factory_of_the_caller_s_does(scratch: ScratchPostgres) -> None:
    with scratch.connect(autocommit=True) as connection:
        connection.row_factory = namedtuple_row
        assert rows(connection, "connections")[0]["sessions"] >= 1


def test_a_lost_connection_is_named(scratch: ScratchPostgres, admin: Connection) -> None:
    connection = scratch.connect(autocommit=True)
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    with pytest.raises(ServerUnreachableError, match="does not answer any more"):
        survey(connection)
    connection.close()


# What single measures find


def test_only_clients_are_counted(scratch: ScratchPostgres, watcher: Connection) -> None:
    def by_state() -> dict[str, int]:
        found: dict[str, int] = {}
        for row in rows(watcher, "connections"):
            found[row["state"]] = found.get(row["state"], 0) + row["sessions"]
        return found

    before = by_state()
    with scratch.connect() as idle, scratch.connect() as open_one:
        idle.execute("SELECT 1")
        idle.rollback()
        open_one.execute("SELECT 1")
        after = by_state()
        total = rows(watcher, "connections")[0]["all_sessions"]
        open_one.rollback()
    assert after["idle"] == before.get("idle", 0) + 1
    assert after["idle in transaction"] == before.get("idle in transaction", 0) + 1
    every = watcher.execute("SELECT count(*) FROM pg_stat_activity").fetchone()
    assert every
    assert total == sum(after.values()) < every[0]


def test_the_room_is_what_ordinary_roles_have(scratch: ScratchPostgres, admin: Connection) -> None:
    row = admin.execute(
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
    ).fetchone()
    assert row == (rows(admin, "connections")[0]["room"],)


def test_an_index_that_is_the_beginning_of_another(admin: Connection) -> None:
    with admin.transaction(force_rollback=True):
        for statement in (
            "CREATE TABLE t (a int, b int, c int, d text, e int)",
            "CREATE INDEX short ON t (a)",
            "CREATE INDEX long ON t (a, b)",
            "CREATE UNIQUE INDEX refuses ON t (b)",  # keeps its duty
            "CREATE INDEX longer ON t (b, c)",
            "CREATE INDEX down ON t (c DESC)",
            "CREATE INDEX up ON t (c)",
            "CREATE INDEX part ON t (c) WHERE a = 1",
            "CREATE INDEX lower ON t (lower(d))",
            "CREATE INDEX upper ON t (upper(d))",
            "CREATE INDEX pattern ON t (d text_pattern_ops)",
            'CREATE INDEX collated ON t (d COLLATE "C")',
            "CREATE INDEX plain_d ON t (d)",
            "CREATE INDEX covering ON t (a) INCLUDE (d)",
            "CREATE INDEX hashed ON t USING hash (a)",
            "CREATE INDEX plain_e ON t (e)",
            "ALTER TABLE t ADD CONSTRAINT only_one EXCLUDE USING btree (e WITH =)",
        ):
            admin.execute(statement.encode())
        found = {
            row["index_name"]: (row["covered_by"], row["relation"])
            for row in rows(admin, "duplicate_indexes")
            if row["table_name"] == "t"
        }
    assert found == {
        "short": ("public.covering", "its beginning"),
        "plain_e": ("public.only_one", "the same"),  # a constraint's index stays, however young
    }


def test_a_key_of_several_columns(admin: Connection) -> None:
    with admin.transaction(force_rollback=True):
        for statement in (
            "CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b))",
            "CREATE TABLE whole (a int, b int, x int, FOREIGN KEY (a, b) REFERENCES parent)",
            "CREATE INDEX ON whole (b, a, x)",
            "CREATE TABLE half (a int, b int, x int, FOREIGN KEY (a, b) REFERENCES parent)",
            "CREATE INDEX half_a ON half (a, x, b)",
            "CREATE TABLE none (a int, b int, x int, FOREIGN KEY (a, b) REFERENCES parent)",
            "CREATE INDEX ON none (x, a, b)",
            "CREATE TABLE part (a int, b int, x int, FOREIGN KEY (a, b) REFERENCES parent)",
            "CREATE INDEX ON part (a, b) WHERE x = 1",
            "CREATE TABLE other (a int, b int, x int, FOREIGN KEY (a, b) REFERENCES parent)",
            "CREATE INDEX ON other (a, b) WHERE x IS NOT NULL",
            'CREATE TABLE "any" ("A" int, b int, FOREIGN KEY ("A", b) REFERENCES parent)',
            'CREATE INDEX on_any ON "any" ("A", b) WHERE "A" IS NOT NULL',
            "CREATE TABLE brin (a int, b int, x int, FOREIGN KEY (a, b) REFERENCES parent)",
            "CREATE INDEX ON brin USING brin (a, b)",
            (
                "CREATE TABLE parts (a int, b int, FOREIGN KEY (a, b) REFERENCES parent)"
                " PARTITION BY LIST (a)"
            ),
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
        ):
            admin.execute(statement.encode())
        found = {
            row["table_name"]: row["half_served_by"]
            for row in rows(admin, "foreign_keys_without_index")
            if row["refers_to"] == "public.parent"
        }
        # What the server itself asks, of a table that has such an index only.
        admin.execute("SET LOCAL enable_seqscan = off")
        plan = admin.execute(
            'EXPLAIN SELECT FROM ONLY "any" AS x WHERE 1 = "A" AND 2 = b FOR KEY SHARE OF x'
        ).fetchall()
    assert "on_any" in str(plan)
    assert found == {
        "half": "public.half_a",
        "none": None,
        "part": None,
        "other": None,
        "brin": "public.brin_a_b_idx",
        "parts": None,
    }


def test_unused_indexes_leave_out_those_with_a_duty(admin: Connection) -> None:
    with admin.transaction(force_rollback=True):
        for statement in (
            (
                "CREATE TABLE duty (id int PRIMARY KEY, a int UNIQUE, b int, c int,"
                " EXCLUDE USING btree (b WITH =))"
            ),
            "CREATE INDEX idle ON duty (c)",
        ):
            admin.execute(statement.encode())
        found = [
            r["index_name"] for r in rows(admin, "unused_indexes") if r["table_name"] == "duty"
        ]
    assert found == ["idle"]


def test_dead_rows_and_autovacuum_s_own_limit(admin: Connection) -> None:
    admin.execute(
        "CREATE TABLE dying (id int, n int) WITH (autovacuum_enabled = off,"
        " autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0.5)"
    )
    try:
        admin.execute("INSERT INTO dying SELECT n, 0 FROM generate_series(1, 4000) AS n")
        admin.execute("DELETE FROM dying WHERE id > 2000")
        admin.execute("SELECT pg_stat_force_next_flush()")
        admin.execute("ANALYZE dying")
        reading = look(admin, "dead_rows")
        (row,) = [r for r in reading.rows if r["name"] == "dying"]
        assert (row["live_rows"], row["dead_rows"]) == (2000, 2000)
        assert row["autovacuum_at"] == 10 + 1000
        assert row["autovacuum_enabled"] is False
        (finding,) = [f for f in reading.findings if "dying" in f.text]
        assert finding.text == (
            "public.dying has 2,000 dead rows, 2,000 live, and autovacuum is off for it"
        )
        before = {r["name"]: r for r in rows(admin, "bloat_exact")}["dying"]
        admin.execute("VACUUM dying")
        after = {r["name"]: r for r in rows(admin, "bloat_exact")}
        assert before["dead_bytes"] > 0
        if "dying" in after:  # the emptied end of the file may have been cut off
            assert after["dying"]["dead_bytes"] == 0
    finally:
        admin.execute("DROP TABLE dying")


def test_approximate_and_exact_bloat_agree(admin: Connection) -> None:
    admin.execute("VACUUM")
    exact = {(r["schema"], r["name"]): r for r in rows(admin, "bloat_exact")}
    near = {(r["schema"], r["name"]): r for r in rows(admin, "bloat")}
    assert set(exact) == set(near)
    for place, row in exact.items():
        assert near[place]["table_bytes"] == row["table_bytes"]
        assert abs(near[place]["free_share"] - row["free_share"]) < 0.1
