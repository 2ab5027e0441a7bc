"""A CA and a certificate for test servers."""
from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """PEM texts of a certificate, its key and its CA."""

    certificate: str
    key: str
    ca: str


def issue(*names: str) -> Certificate:
    """A certificate for `names` of a CA that exists only for it."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    ca = _builder(ca_name, ca_name, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=0)).add_extension(
        x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
    ).sign(ca_key, hashes.SHA256())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    leaf = _builder(subject, ca_name, key.public_key(), x509.BasicConstraints(ca=False, path_length=None)).add_extension(
        x509.SubjectAlternativeName([_name(name) for name in names]), critical=False
    ).sign(ca_key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(_pem(leaf), private.decode(), _pem(ca))


def _name(name: str) -> x509.GeneralName:
    """A name or an address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject, issuer, public_key, constraints) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(constraints, critical=True)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
