"""Certificates for an edge of a test, as a public authority would have made them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Public:
    """A certificate that signs itself, for 127.0.0.1 and `localhost`."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> int:
        """Its number, which tells it from another."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number

    def trusting(self) -> ssl.SSLContext:
        """What a client needs that trusts this and nothing else."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def take(self, new: Public) -> None:
        """Puts another in the place of this one as operators should: moved, the certificate last."""
        new.key.replace(self.key)
        new.certificate.replace(self.certificate)


def public_certificate(folder: Path) -> Public:
    """Makes one in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"localhost {secrets.token_hex(4)}")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = Public(folder / "public.crt", folder / "public.key")
    public.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    public.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return public
