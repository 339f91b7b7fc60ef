"""A server of the learner's own: pglab uses what it makes there, and touches nothing else.

The learner's server is played by an embedded one, with databases, roles and keys that are not
pglab's; what must not change is compared before and after.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.outside import Outside, open_directory

import pglab
from pglab import databases
from pglab.config import Settings
from pglab.errors import (
    ConfigError,
    LabError,
    NoServerError,
    PermissionMissingError,
    ServerUnreachableError,
)
from pglab.purge import plan, purge
from pglab.servers import external
from pglab.servers.lifecycle import ensure_postgres, ensure_redis

# They look at a whole server, which only they use, and one of them at a time.
pytestmark = [pytest.mark.server, pytest.mark.xdist_group("external")]

PASSWORD = "p@s/w:ö?d #%"


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Theirs:
    """The learner's server.

    Attributes:
        admin: URL of a superuser.
        role: an ordinary role, which may log in and create databases.
        shop: a database of theirs, with rows.
    """

    admin: str
    role: str
    shop: str

    def url(self, user=None, password=PASSWORD, **options):
        """Return a DATABASE_URL for a role, by default the ordinary one."""
        given = conninfo_to_dict(self.admin)
        tail = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return (
            f"postgresql://{user or self.role}:{quote(password, safe='')}"
            f"@{given['host']}:{given['port']}/postgres" + (f"?{tail}" if tail else "")
        )

    def admin_sql(self, statement):
        run(self.admin, sql.SQL(statement).format(role=sql.Identifier(self.role)))

    def state(self):
        """Return everything on the server that is not pglab's for this test's role."""
        of_theirs = "SELECT oid FROM pg_database WHERE datname NOT LIKE 'pglab\\_%'"
        return {
            "databases": run(
                self.admin,
                "SELECT oid, datname, datdba, datistemplate, datallowconn, datconnlimit, datacl,"
                " shobj_description(oid, 'pg_database') FROM pg_database"
                f" WHERE oid IN ({of_theirs}) ORDER BY oid",
            ),
            "roles": run(self.admin, "SELECT * FROM pg_authid ORDER BY oid"),
            "members": run(self.admin, "SELECT * FROM pg_auth_members ORDER BY oid"),
            "settings": run(
                self.admin, "SELECT * FROM pg_db_role_setting s"
                f" WHERE setdatabase = 0 OR setdatabase IN ({of_theirs}) ORDER BY s::text",
            ),
            "configuration": run(
                self.admin, "SELECT name, setting FROM pg_settings WHERE source <> 'session'"
                " AND name NOT IN ('application_name', 'client_encoding') ORDER BY name",
            ),
            "tablespaces": run(self.admin, "SELECT * FROM pg_tablespace ORDER BY oid"),
            "rows": run(
                psycopg.conninfo.make_conninfo(self.admin, dbname=self.shop),
                "SELECT md5(string_agg(t::text, ',' ORDER BY n)), max(xmin::text) FROM goods t",
            ),
        }  # fmt: skip

    def ours(self):
        """Return the databases that pglab made."""
        with psycopg.connect(self.admin) as connection:
            return databases.made_by_us(connection)


@pytest.fixture(scope="module")
def their_home():
    """The home of the embedded servers that play the learner's own."""
    with open_directory() as place:
        kernels = Outside(place / "theirs")
        try:
            yield kernels.home
        finally:
            kernels.clear()


@pytest.fixture(scope="module")
def server_url(their_home):
    """The URL of a superuser; in place of the fixture of this name that other tests share."""
    endpoint, running = ensure_postgres(Settings(home=their_home, idle_minutes=2))
    yield endpoint.url(reveal=True)
    running.release()


@pytest.fixture(scope="module")
def theirs(server_url):
    mark = uuid.uuid4().hex[:8]
    server = Theirs(server_url, f"ana_{mark}", f"shop_{mark}")
    server.admin_sql(f"CREATE ROLE {{role}} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
    run(server_url, f"CREATE DATABASE {server.shop}")
    run(
        psycopg.conninfo.make_conninfo(server_url, dbname=server.shop),
        "CREATE TABLE goods AS SELECT n, md5(n::text) AS name FROM generate_series(1, 500) n",
    )
    yield server
    for name in server.ours():
        with psycopg.connect(server_url, autocommit=True) as connection:
            databases.drop(connection, name)
    run(server_url, f"DROP DATABASE {server.shop}")
    server.admin_sql("DROP OWNED BY {role}")
    server.admin_sql("DROP ROLE {role}")


@pytest.fixture
def as_learner(theirs, lab_home, monkeypatch):
    """Set DATABASE_URL to the learner's server; afterwards drop what pglab made there."""
    monkeypatch.setenv("DATABASE_URL", theirs.url())
    yield monkeypatch
    with psycopg.connect(theirs.admin, autocommit=True) as connection:
        for name in databases.made_by_us(connection):
            databases.drop(connection, name)
    theirs.admin_sql("ALTER ROLE {role} RESET ALL")
    theirs.admin_sql("ALTER ROLE {role} CREATEDB")


def open_lab(name="basics"):
    return pglab.open(name, size="empty")


def test_a_whole_cycle_touches_nothing_of_theirs(theirs, as_learner):
    before = theirs.state()
    assert theirs.ours() == []
    with open_lab() as lab:
        assert not lab.server.managed
        assert all(name.startswith("pglab_") for name in theirs.ours())
        assert lab.database in theirs.ours()
        stays = lab.connection(application_name="will be ended")
        with lab.connection() as connection:
            connection.execute("CREATE TABLE mine AS SELECT 1 AS n")
            assert connection.info.user == theirs.role
        lab.reset()
        assert stays.closed
        with lab.connection() as connection:
            assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)
            assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
        assert theirs.state() == before
        lab.drop()
    assert all("template" in name for name in theirs.ours())
    assert theirs.state() == before


def test_another_connection_of_the_same_role_does_not_stop_a_reset(theirs, as_learner):
    with (
        open_lab() as lab,
        psycopg.connect(theirs.url(), dbname=lab.database, autocommit=True) as foreign,
    ):
        foreign.execute("SELECT 1")
        lab.reset()
        with pytest.raises(psycopg.OperationalError):
            foreign.execute("SELECT 1")


def test_purge_drops_what_pglab_made_for_this_learner_and_nothing_else(theirs, as_learner):
    before = theirs.state()
    open_lab().close()
    as_learner.setenv("PGLAB_SCOPE", "ben")
    open_lab().close()
    made = theirs.ours()
    bens = [name for name in made if name.startswith("pglab_ben_")]
    assert len(bens) == 2  # his lesson and his template
    settings = Settings.from_environment()
    doomed = plan(settings)
    assert sorted(doomed.databases) == bens
    only_theirs = type(doomed)((), (), doomed.databases)  # not this test process's own home
    purge(settings, only_theirs)
    assert theirs.ours() == [name for name in made if name not in bens]
    assert theirs.state() == before


def test_two_learners_on_one_server_do_not_meet(theirs, as_learner):
    as_learner.setenv("PGLAB_SCOPE", "ana")
    with open_lab() as anas:
        as_learner.setenv("PGLAB_SCOPE", "ben")
        with open_lab() as bens:
            assert anas.database != bens.database
            for lab in (anas, bens):
                with lab.connection() as connection:
                    connection.execute("CREATE TABLE mine AS SELECT 1 AS n")
            bens.reset()
            with anas.connection() as connection:
                assert connection.execute("SELECT n FROM mine").fetchone() == (1,)


def test_two_roles_on_one_server_can_both_read_their_copies(theirs, as_learner):
    as_learner.setenv("PGLAB_SCOPE", "ana")
    open_lab().close()
    other = f"{theirs.role}_too"
    run(theirs.admin, f"CREATE ROLE {other} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
    try:
        as_learner.setenv("PGLAB_SCOPE", "ben")
        as_learner.setenv("DATABASE_URL", theirs.url(other))
        with open_lab() as lab:
            lab.reset()
            with lab.connection() as connection:
                assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
            lab.drop()
        # The same word, by mistake: what belongs to another role is neither used nor dropped.
        as_learner.setenv("PGLAB_SCOPE", "ana")
        with open_lab() as lab, pytest.raises(PermissionMissingError, match="must be owner"):
            lab.reset()
    finally:
        with psycopg.connect(theirs.admin, autocommit=True) as connection:
            for name in databases.made_by_us(connection, "pglab_ben_"):
                databases.drop(connection, name)
        run(theirs.admin, f"DROP ROLE {other}")


# What is not ours


def test_a_database_of_theirs_that_has_our_name_is_left_alone(theirs, as_learner):
    as_learner.setenv("PGLAB_SCOPE", "ana")
    name = "pglab_ana_basics_empty"
    run(theirs.admin, f"CREATE DATABASE {name}")
    run(psycopg.conninfo.make_conninfo(theirs.admin, dbname=name), "CREATE TABLE precious (n int)")
    try:
        with pytest.raises(LabError, match="did not make, and leaves alone") as caught:
            open_lab()
        assert name in str(caught.value)
        assert "PGLAB_SCOPE" in str(caught.value)
        with psycopg.connect(theirs.admin, autocommit=True) as connection:
            with pytest.raises(LabError):
                databases.drop(connection, name)
            with pytest.raises(LabError, match="only pglab_"):
                databases.drop(connection, theirs.shop)
            with pytest.raises(LabError, match="only pglab_"):
                databases.create(connection, "shop_new")
        there = psycopg.conninfo.make_conninfo(theirs.admin, dbname=name)
        assert run(there, "SELECT count(*) FROM precious") == [(0,)]
    finally:
        run(theirs.admin, f"DROP DATABASE {name}")


def test_a_database_that_lost_our_comment_is_not_reset(theirs, as_learner):
    with open_lab() as lab:
        run(theirs.admin, f"COMMENT ON DATABASE {lab.database} IS 'now it is mine'")
        with pytest.raises(LabError, match="leaves alone"):
            lab.reset()
        run(theirs.admin, f"COMMENT ON DATABASE {lab.database} IS 'made by pglab'")


# What is missing


@pytest.mark.parametrize(
    ("change", "restore", "facts"),
    [
        (
            "ALTER ROLE {role} NOCREATEDB",
            "ALTER ROLE {role} CREATEDB",
            ["permission denied to create database", 'ALTER ROLE "{role}" CREATEDB'],
        ),
        (
            "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
            "GRANT CONNECT ON DATABASE postgres TO PUBLIC",
            ["may not connect", 'GRANT CONNECT ON DATABASE "postgres" TO "{role}"'],
        ),
        (
            "ALTER ROLE {role} SET default_transaction_read_only = on",
            "ALTER ROLE {role} RESET default_transaction_read_only",
            ["read-only transaction", 'ALTER ROLE "{role}" RESET default_transaction_read_only'],
        ),
    ],
    ids=["create databases", "connect", "write"],
)
def test_a_missing_permission_is_named_with_its_remedy(change, restore, facts, theirs, as_learner):
    before = theirs.ours()
    theirs.admin_sql(change)
    try:
        with pytest.raises(PermissionMissingError) as caught:
            open_lab()
        assert theirs.ours() == before
    finally:
        theirs.admin_sql(restore)
    for fact in facts:
        assert fact.format(role=theirs.role) in str(caught.value)
    assert PASSWORD not in str(caught.value)
    open_lab().close()  # with the permission back, the same call works


def test_a_role_that_may_not_log_in_is_told_so(theirs, as_learner):
    theirs.admin_sql("ALTER ROLE {role} NOLOGIN")
    try:
        with pytest.raises(ServerUnreachableError, match="not permitted to log in"):
            open_lab()
    finally:
        theirs.admin_sql("ALTER ROLE {role} LOGIN")


def test_a_server_that_is_too_old_is_refused():
    with pytest.raises(NoServerError, match=r"PostgreSQL 14, and the course needs 15 or later"):
        external.check_version(140022)
    external.check_version(150000)


# What a URL may say


@pytest.mark.parametrize(
    ("options", "setting", "expected"),
    [
        ({"sslmode": "disable"}, "application_name", "pglab basics"),
        ({"sslmode": "prefer", "application_name": "mine"}, "application_name", "pglab basics"),
        ({"options": "-c work_mem=7MB"}, "work_mem", "7MB"),
        ({"keepalives_idle": "30", "connect_timeout": "5"}, "work_mem", "4MB"),
    ],
)
def test_parameters_of_the_url_are_in_force(options, setting, expected, theirs, as_learner):
    as_learner.setenv("DATABASE_URL", theirs.url(**options))
    with open_lab() as lab, lab.connection() as connection, lab.engine.connect() as other:
        assert connection.execute(f"SHOW {setting}").fetchone() == (expected,)
        assert other.exec_driver_sql(f"SHOW {setting}").scalar() == expected
        assert "***" in lab.url()


def test_a_unix_socket_directory_in_the_url(theirs, as_learner, server_url):
    directory = run(server_url, "SHOW unix_socket_directories")[0][0]
    port = conninfo_to_dict(server_url)["port"]
    login = f"postgresql://{theirs.role}:{quote(PASSWORD, safe='')}@"
    for url in (
        f"{login}{quote(directory, safe='')}:{port}/postgres",
        f"{login}/postgres?host={quote(directory, safe='')}&port={port}",
    ):
        as_learner.setenv("DATABASE_URL", url)
        with open_lab() as lab, lab.connection() as connection:
            assert connection.info.host == directory
            assert run(lab.url(reveal=True), "SELECT current_user") == [(theirs.role,)]


def test_several_hosts_in_the_url_are_refused(theirs, as_learner):
    as_learner.setenv("DATABASE_URL", "postgresql://ana:hunter2@one:1,two:2/app")
    with pytest.raises(ConfigError, match="several servers") as caught:
        open_lab()
    assert "hunter2" not in str(caught.value)


# Redis


@pytest.fixture
def their_redis(lab_home, their_home, monkeypatch):
    """A Redis with keys that are not pglab's; REDIS_URL leads to it, PostgreSQL is our own."""
    endpoint, running = ensure_redis(Settings(home=their_home, idle_minutes=2))
    monkeypatch.setenv("REDIS_URL", endpoint.url(500, reveal=True))
    import redis

    with redis.Redis.from_url(endpoint.url(500, reveal=True)) as client:
        client.flushdb()
        client.mset({"theirs": 1, "pglab": 2, "pglab:other-tool": 3, "pglabx:basics:x": 4})
        yield client
        client.flushdb()
    running.release()


def contents(client):
    return {key: client.get(key) for key in client.scan_iter()}


def test_a_reset_removes_only_this_lessons_keys(their_redis, monkeypatch):
    monkeypatch.setenv("PGLAB_SCOPE", "ana")
    before = contents(their_redis)
    with open_lab() as lab, open_lab("cache") as other:
        other.redis.set(other.key("kept"), 1)
        before[other.key("kept").encode()] = b"1"
        lab.redis.mset({lab.key(n): n for n in range(2500)})
        assert len(contents(their_redis)) == len(before) + 2500
        assert all(key.startswith((b"pglab", b"theirs")) for key in contents(their_redis))
        lab.reset()
        assert contents(their_redis) == before
        other.drop()
        del before[b"pglab:ana:cache:kept"]
        assert contents(their_redis) == before


def test_two_learners_on_one_redis_do_not_meet(their_redis, monkeypatch):
    with open_lab() as anas:
        anas.redis.set(anas.key("x"), "ana's")
        monkeypatch.setattr("pglab.lab._learner", lambda: "ben")  # another machine, or checkout
        with open_lab() as bens:
            assert bens.key("x") == "pglab:ben:basics:x"
            bens.redis.set(bens.key("x"), "ben's")
            bens.reset()
            assert bens.redis.get(bens.key("x")) is None
        monkeypatch.undo()
        assert their_redis.keys("pglab:*:basics:x") == [anas.key("x").encode()]
