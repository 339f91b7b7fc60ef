"""The certificate authority: what it signs, for whom, and what it refuses."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pglab.errors import ConfigError
from pglab.tls import CertificateAuthority, self_signed


def loaded(pem):
    return x509.load_pem_x509_certificate(pem)


def verify(certificate, root, name):
    """Verify as a browser would; libpq is tried in tests/servers/test_tls_experiment.py."""
    verifier = PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName(name))
    verifier.verify(certificate, [])


def test_what_it_issues_is_trusted_for_its_names_alone():
    authority = CertificateAuthority.create("a root")
    issued = authority.issue(["localhost", "db.example"], ["127.0.0.1", "::1"])
    certificate, root = loaded(issued.cert_pem), loaded(authority.root_pem)
    certificate.verify_directly_issued_by(root)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "db.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"),
    ]  # fmt: skip
    verify(certificate, root, "db.example")
    with pytest.raises(VerificationError):
        verify(certificate, root, "other.example")
    with pytest.raises(VerificationError):
        verify(certificate, loaded(CertificateAuthority.create("a root").root_pem), "db.example")


def test_the_key_is_the_certificates_and_only_that():
    issued = CertificateAuthority.create("a root").issue(["localhost"])
    key = serialization.load_pem_private_key(issued.key_pem, password=None)
    assert key.public_key() == loaded(issued.cert_pem).public_key()
    key_pem, cert_pem = issued
    assert key_pem != CertificateAuthority.create("a root").issue(["localhost"]).key_pem
    assert b"PRIVATE" not in cert_pem


def test_a_self_signed_certificate_proves_itself_to_nobody_else():
    issued = self_signed(["localhost"])
    certificate = loaded(issued.cert_pem)
    certificate.verify_directly_issued_by(certificate)
    root = loaded(CertificateAuthority.create("a root").root_pem)
    with pytest.raises((InvalidSignature, ValueError)):
        certificate.verify_directly_issued_by(root)


@pytest.mark.parametrize("days", [1, 30, -1])
def test_the_days_are_from_now_on(days):
    certificate = loaded(CertificateAuthority.create("a root").issue(["a"], days=days).cert_pem)
    now = datetime.datetime.now(datetime.UTC)
    left = certificate.not_valid_after_utc - now
    assert abs(left - datetime.timedelta(days=days)) < datetime.timedelta(minutes=5)
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc
    assert certificate.not_valid_before_utc < now


def test_a_clients_certificate_has_its_role_for_a_name():
    issued = CertificateAuthority.create("a root").issue(common_name="app")
    assert loaded(issued.cert_pem).subject.rfc4514_string() == "CN=app"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a certificate for no name"),
        ({"ips": ["localhost"]}, "'localhost' does not appear to be an IPv4 or IPv6 address"),
        ({"hostnames": ["bücher.example"]}, "a certificate cannot be for"),
        ({"common_name": "x" * 65}, "cannot be a common name"),
    ],
)
def test_names_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        CertificateAuthority.create("a root").issue(**arguments)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_root_needs_a_name(name):
    with pytest.raises(ConfigError, match="cannot be a common name"):
        CertificateAuthority.create(name)


def test_no_repr_shows_a_key():
    authority = CertificateAuthority.create("a root")
    issued = authority.issue(["localhost"])
    assert repr(authority) == "CertificateAuthority('a root')"
    assert "PRIVATE" not in repr(issued) + str(issued) + repr(authority)
    assert authority.name == "a root"


def test_importing_it_loads_no_cryptography():
    code = "import pglab.tls, sys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
