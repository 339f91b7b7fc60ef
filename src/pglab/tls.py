"""A certificate authority for an afternoon: keys and certificates for servers of one's own.

For lessons and tests. It keeps its key in memory, revokes nothing, and is gone with its process.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Self

from pglab.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["CertificateAuthority", "Issued", "self_signed"]

# Clocks differ; a certificate that begins now would not be valid yet on some of them.
_BEFORE = timedelta(hours=1)


class Issued(NamedTuple):
    """A private key and its certificate, both as PEM; its repr keeps the key to itself."""

    key_pem: bytes
    cert_pem: bytes

    def __repr__(self) -> str:
        return f"Issued(key_pem=***, cert_pem=<{len(self.cert_pem)} bytes>)"


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A root that signs certificates: ``CertificateAuthority.create("pglab lesson 06")``."""

    _key: EllipticCurvePrivateKey
    _certificate: x509.Certificate

    @classmethod
    def create(cls, name: str, *, days: float = 30) -> Self:
        """Make a new root with a key of its own (ECDSA on P-256).

        Args:
            name: its common name, of 1 to 64 characters.
            days: from now on, in which it is valid; negative for one that has expired.

        Raises:
            ConfigError: the name cannot stand in a certificate.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key, days, ca=True).add_extension(
            x509.KeyUsage(
                key_cert_sign=True, crl_sign=True, digital_signature=False,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
        return cls(key, _signed(builder, key))

    @property
    def name(self) -> str:
        """Return its common name."""
        return self._certificate.subject.rfc4514_string().removeprefix("CN=")

    @property
    def root_pem(self) -> bytes:
        """Return its certificate as PEM: what a client trusts, by ``sslrootcert``."""
        return _pem(self._certificate)

    def issue(
        self,
        hostnames: Sequence[str] = (),
        ips: Sequence[str] = (),
        *,
        days: float = 7,
        common_name: str | None = None,
    ) -> Issued:
        """Return a new key and a certificate for these names, which this root has signed.

        Args:
            hostnames: DNS names that it is for; libpq compares them with ``host``.
            ips: addresses that it is for.
            days: from now on, in which it is valid; negative for one that has expired.
            common_name: of the subject, such as a role for a client's certificate; the first name
                when omitted.

        Raises:
            ConfigError: there is no name at all, or one that cannot stand in a certificate.
        """
        subject = self._certificate.subject
        return _issue((self._key, subject), hostnames, ips, days, common_name)

    def __repr__(self) -> str:
        return f"CertificateAuthority({self.name!r})"


def self_signed(
    hostnames: Sequence[str] = (), ips: Sequence[str] = (), *, days: float = 7
) -> Issued:
    """Return a new key and a certificate that nobody but itself has signed.

    Raises:
        ConfigError: there is no name at all, or one that cannot stand in a certificate.
    """
    return _issue(None, hostnames, ips, days, None)


def _issue(
    signer: tuple[EllipticCurvePrivateKey, x509.Name] | None,
    hostnames: Sequence[str],
    ips: Sequence[str],
    days: float,
    common_name: str | None,
) -> Issued:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names = [*hostnames, *ips, *([common_name] if common_name else [])]
    if not names:
        raise ConfigError(
            "a certificate for no name (hostnames=[], ips=[]) proves nothing; "
            "give the name that clients connect to, such as hostnames=['localhost']"
        )
    try:
        alternatives = [
            *(x509.DNSName(name) for name in hostnames),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips),
        ]
    except ValueError as error:
        raise ConfigError(f"a certificate cannot be for {names}: {error}; correct it") from None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common_name or names[0])
    signing, issuer = signer or (key, subject)
    builder = (
        _builder(subject, issuer, key, days, ca=False)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Issued(key_pem, _pem(_signed(builder, signing)))


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError as error:
        raise ConfigError(f"{text!r} cannot be a common name: {error}; shorten it") from None


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: float, *, ca: bool
) -> x509.CertificateBuilder:
    from cryptography import x509

    end = datetime.now(UTC) + timedelta(days=days)
    begin = min(datetime.now(UTC), end) - _BEFORE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)
