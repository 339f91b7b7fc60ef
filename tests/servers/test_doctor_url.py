"""``pglab doctor --url``: what it says of servers that differ in what matters."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pglab.config import Secret
from pglab.connections import Network, PgBouncer, find_pgbouncer
from pglab.doctor_url import examine_url
from pglab.servers.scratch import scratch_postgres
from pglab.tls import CertificateAuthority

pytestmark = pytest.mark.server


def examine(url):
    found = list(examine_url(Secret(url)))
    password = conninfo_to_dict(url).get("password")
    assert not password or password not in repr(found)
    return found


def by_check(url):
    return {finding.check: finding for finding in examine(url)}


def address(parameters, **options):
    """Return a URL for libpq parameters, with further ones in its query."""
    given = {**parameters, **options}
    login = f"{quote(given.pop('user'))}:{quote(given.pop('password'), safe='')}"
    host, port = given.pop("host"), given.pop("port")
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in given.items())
    return f"postgresql://{login}@{quote(host, safe='')}:{port}/?{query}"


@pytest.fixture(scope="module")
def authority():
    """Return an authority that nobody but the test trusts."""
    return CertificateAuthority.create("pglab test")


@pytest.fixture(scope="module")
def secure(authority):
    key, certificate = authority.issue(["localhost"])
    with scratch_postgres(
        settings={"ssl": "on"}, files={"server.key": key, "server.crt": certificate}, tcp=True
    ) as server:
        yield server


def test_a_server_that_lacks_nothing(server_url):
    found = by_check(server_url)
    assert [check for check, finding in found.items() if finding.status != "ok"] == []
    assert found.keys() == {
        "URL", "version", "TLS", "latency", "sessions", "permissions", "extensions", "time zones",
        "clock", "connections", "lessons",
    }  # fmt: skip
    assert "loopback" in found["TLS"].detail
    assert found["lessons"].detail.startswith("all can run there")


def test_what_each_sslmode_proves(secure, authority, tmp_path):
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem)
    given = {**secure.parameters(sslmode="require"), "host": "localhost"}
    required = by_check(address(given))["TLS"]
    assert required.status == "note"
    assert (
        "encrypted (TLSv1.3); sslmode=require proves nothing about who answers" in required.detail
    )
    # Nobody that the system trusts has signed this certificate.
    assert "does not work here" in required.remedy
    assert "sslrootcert=FILE" in required.remedy
    known = by_check(address(given, sslmode="verify-ca", sslrootcert=root))["TLS"]
    assert "signed by your authority, for whatever host" in known.detail
    full = by_check(address(given, sslmode="verify-full", sslrootcert=root))["TLS"]
    assert full.status == "ok"
    assert "the certificate names this host" in full.detail
    plain = by_check(address(given, sslmode="disable"))["TLS"]
    assert "not encrypted" in plain.detail


def test_a_certificate_for_another_host(secure, authority, tmp_path):
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem)
    given = {**secure.parameters(sslmode="verify-full"), "host": "127.0.0.1"}
    found = by_check(address(given, sslrootcert=root))
    assert found["connection"].status == "fault"
    assert "certificate" in found["connection"].detail
    assert "sslrootcert" in found["connection"].remedy


def test_a_password_that_is_wrong(secure):
    given = secure.parameters(sslmode="require")
    found = by_check(address(given, password="s3cret"))
    assert found["connection"].status == "fault"
    assert "percent-encoded" in found["connection"].remedy


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgresql://u:p@postgres.railway.internal/d", "DATABASE_PUBLIC_URL"),
        ("postgresql://u:p@no-such-host.invalid/d", "does it resolve"),
        ("postgresql://u:p@127.0.0.1:1/d", "is the server up"),
        ("postgresql://u:p%zz@h/d", "correct the URL"),
        ("postgresql://u:p@a,b/d", "correct the URL"),
    ],
)
def test_what_cannot_be_reached_has_a_remedy(url, remedy):
    *_, last = examine_url(Secret(url))
    assert last.status == "fault"
    assert remedy in last.remedy


@contextmanager
def role(server_url, options):
    name = f"pglab_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'kw7-Zq9' {}").format(
                sql.Identifier(name), sql.SQL(options)
            )
        )
        try:
            yield address({**conninfo_to_dict(server_url), "user": name, "password": "kw7-Zq9"})
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_role_that_may_not_make_databases(server_url):
    with role(server_url, "") as url:
        found = by_check(url)
    assert found["permissions"].status == "fault"
    assert "CREATEDB" in found["permissions"].remedy
    assert found["lessons"].status == "fault"


def test_a_role_that_is_no_superuser(server_url):
    with role(server_url, "CREATEDB") as url:
        found = by_check(url)
    assert found["permissions"].status == "note"
    assert "05, 06, 09" in found["lessons"].detail


def test_a_server_far_away(server_url):
    given = conninfo_to_dict(server_url)
    with Network(given["host"], int(given["port"]), round_trip_s=0.02) as network:
        found = by_check(address({**given, "host": network.host, "port": str(network.port)}))
    assert found["latency"].status == "note"
    assert "fewer round trips" in found["latency"].remedy


def test_a_pooler_is_recognised(secure):
    if find_pgbouncer() is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is not installed, and CI must have it")
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    with PgBouncer(secure.endpoint()) as bouncer:
        found = by_check(address(bouncer.parameters("postgres")))
    assert found["sessions"].status == "note"
    assert "a direct URL" in found["sessions"].remedy


def test_what_the_environment_adds_is_said(server_url, monkeypatch):
    given = conninfo_to_dict(server_url)
    monkeypatch.setenv("PGPASSWORD", given["password"])
    found = examine(f"postgresql://{given['user']}@{given['host']}:{given['port']}/postgres")
    assert any("password comes from this machine's environment" in each.detail for each in found)
    assert not any(each.status == "fault" for each in found)
