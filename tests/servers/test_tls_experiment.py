"""TLS by experiment: which server each sslmode accepts, on real servers and through real relays."""

from __future__ import annotations

import pytest

from pglab.servers.scratch import ScratchFolder, scratch_postgres
from pglab.tls import CertificateAuthority
from pglab.tls_experiment import MODES, Attempt, accepted, as_table, attempt, stage

pytestmark = pytest.mark.server

SERVERS = ["honest", "another CA", "self-signed", "other name", "relay"]
TLS, CLEAR = "connected, TLSv1.3", "connected IN THE CLEAR"
HOSTSSL = "refused: server insists on TLS"
UNTRUSTED, NAME = "refused: certificate not trusted", "refused: name does not match"
NO_ROOT, BINDING = "refused: no root certificate", "refused: channel binding"


@pytest.fixture(scope="module")
def scene():
    with stage() as made:
        yield made


def rows(attempts):
    found = {}
    for tried in attempts:
        found.setdefault(tried.sslmode, []).append(str(tried))
    return found


def test_what_a_client_with_the_root_certificate_accepts(scene):
    assert list(scene.ports) == SERVERS
    assert rows(accepted(scene)) == {
        "disable": [HOSTSSL, CLEAR, CLEAR, CLEAR, HOSTSSL],
        # What cannot be trusted over TLS is tried again without: worse than no certificate at all.
        "allow": [TLS, CLEAR, CLEAR, CLEAR, UNTRUSTED],
        "prefer": [TLS, CLEAR, CLEAR, TLS, UNTRUSTED],
        # With a root certificate at hand, require is verify-ca.
        "require": [TLS, UNTRUSTED, UNTRUSTED, TLS, UNTRUSTED],
        "verify-ca": [TLS, UNTRUSTED, UNTRUSTED, TLS, UNTRUSTED],
        "verify-full": [TLS, UNTRUSTED, UNTRUSTED, NAME, UNTRUSTED],
    }


def test_what_a_client_without_a_root_certificate_accepts(scene):
    assert rows(accepted(scene, trusting=False)) == {
        "disable": [HOSTSSL, CLEAR, CLEAR, CLEAR, HOSTSSL],
        "allow": [TLS, CLEAR, CLEAR, CLEAR, BINDING],
        "prefer": [TLS, TLS, TLS, TLS, BINDING],
        "require": [TLS, TLS, TLS, TLS, BINDING],
        "verify-ca": [NO_ROOT] * 5,
        "verify-full": [NO_ROOT] * 5,
    }


def test_only_verify_full_never_reaches_an_impostor(scene):
    fooled = {
        tried.sslmode
        for trusting in (True, False)
        for tried in accepted(scene, trusting=trusting)
        if tried.connected and tried.server != "honest"
    }
    assert fooled == set(MODES) - {"verify-full"}


def test_channel_binding_tells_the_server_by_the_password(scene):
    """Whoever does not know the password's verifier cannot prove which TLS connection this is."""
    outcomes = {
        name: str(attempt(scene.parameters(name), sslmode="require", channel_binding="require"))
        for name in SERVERS
    }
    assert outcomes == {"honest": TLS} | dict.fromkeys(SERVERS[1:], BINDING)
    detected = attempt(scene.parameters("relay"), sslmode="require")  # "prefer" is the default
    assert "SCRAM channel binding check failed" in detected.said


def test_a_man_in_the_middle_reads_what_channel_binding_does_not_protect(scene):
    assert not scene.relay.heard("pg_stat_ssl")
    fooled = attempt(scene.parameters("relay"), sslmode="require", channel_binding="disable")
    assert str(fooled) == TLS
    assert scene.relay.heard("pg_stat_ssl")
    assert not scene.relay.heard(scene.password.reveal())  # SCRAM sends no password


def test_a_man_who_strips_tls_is_caught_only_by_whom_insists(scene):
    place = {**scene.parameters("relay"), "port": str(scene.stripping_relay.port)}
    assert str(attempt(place, sslmode="require")) == HOSTSSL
    scene.allow_plaintext(True)
    try:
        fooled = attempt(place, sslmode="require")
        assert (fooled.connected, fooled.encrypted, fooled.tls) == (True, True, None)
        assert str(fooled) == "connected, yet the server sees no TLS"
        assert str(attempt(place, sslmode="require", channel_binding="require")) == BINDING
        assert str(attempt(place, sslmode="verify-full", root=scene.root)) == UNTRUSTED
        assert str(attempt(scene.parameters("honest"), sslmode="disable")) == CLEAR
    finally:
        scene.allow_plaintext(False)
    assert str(attempt(scene.parameters("honest"), sslmode="disable")) == HOSTSSL


def test_direct_negotiation_verifies_like_the_other(scene):
    options = {"sslmode": "verify-full", "root": scene.root, "sslnegotiation": "direct"}
    assert str(attempt(scene.parameters("honest"), **options)) == TLS
    assert str(attempt(scene.parameters("another CA"), **options)) == UNTRUSTED


def test_the_table_has_a_row_for_each_mode(scene):
    table = as_table(accepted(scene, modes=["disable", "verify-full"], servers=["honest"]))
    assert list(table.index) == ["disable", "verify-full"]
    assert table["honest"].to_dict() == {"disable": HOSTSSL, "verify-full": TLS}


def test_an_attempt_is_not_swayed_by_the_environment(scene, monkeypatch):
    monkeypatch.setenv("PGCHANNELBINDING", "require")  # which would refuse an impostor
    tried = attempt(scene.parameters("another CA"), sslmode="require")
    assert tried == Attempt("", "require", connected=True, encrypted=True, tls="TLSv1.3")


def test_nothing_of_the_stage_is_left():
    with stage() as made:
        servers = [made.honest, *made.impostors.values()]
        assert scene_password_is_nowhere(made)
    assert not any(server.running or server.socket_directory.exists() for server in servers)
    assert not made.root.exists()


def scene_password_is_nowhere(made):
    return made.password.reveal() not in repr(made)


@pytest.mark.parametrize(
    ("days", "names", "words"),
    [
        (-1, ["localhost"], "certificate verify failed"),
        (1, ["elsewhere.example"], 'does not match host name "localhost"'),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(days, names, words):
    authority = CertificateAuthority.create("test")
    issued = authority.issue(names, days=days)
    with ScratchFolder() as folder:
        root = folder.path / "root.crt"
        root.write_bytes(authority.root_pem)
        with scratch_postgres(
            settings={"ssl": "on"},
            files={"server.key": issued.key_pem, "server.crt": issued.cert_pem},
            tcp=True,
        ) as server:
            place = server.parameters(sslmode="verify-full")
            tried = attempt(place, root=root)
            assert words in tried.said
            with server.connect(sslmode="require") as connection:
                assert connection.pgconn.ssl_in_use
