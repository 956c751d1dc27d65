"""The mesh's own certificates: one authority, and a short-lived certificate for each process, as files.

```
DATA/keys/ca.crt, ca.key           the authority; whoever has the key is everybody
DATA/keys/NAME/tls.crt, tls.key    spiffe://rookery/NAME, for a service, `edge` or `operator`
DATA/keys/NAME/ca.crt              a copy of the authority's certificate
```

Files of a name change all at once: they are links through `..data`, a link to the folder with the newest, as
Kubernetes mounts secrets. Envoy watches for that link, and services look (mesh.tls).
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cli.errors import KeyMaterialError
from mesh.tls import AUTHORITY, CERTIFICATE, KEY, IdentityError, read, server_name

DOMAIN = "rookery"
"""The trust domain."""
LIFETIME = dt.timedelta(hours=24)
"""Of a certificate, unless it is told otherwise."""
_AUTHORITY_LIFETIME = dt.timedelta(days=3650)
_EARLIER = dt.timedelta(minutes=5)  # clocks of machines differ
_LINK = "..data"


class Authority:
    """Who signs the certificates of one mesh.

    Args:
        folder: where it and the certificates are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return (self.folder / AUTHORITY).exists()

    def create(self) -> None:
        """Makes it, for ten years. Raises KeyMaterialError when there is one: what it signed would be worthless."""
        if self.exists:
            raise KeyMaterialError(f"{self.folder} has an authority; `rookery keys rotate` renews what it has signed")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{DOMAIN} {secrets.token_hex(4)}")])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + _AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                # Names of another domain are worth nothing even if this key should sign them.
                x509.NameConstraints([x509.UniformResourceIdentifier(DOMAIN), x509.DNSName(DOMAIN)], None),
                critical=True,
            )
            .sign(key, hashes.SHA256())
        )
        _write(self.folder / "ca.key", _pem(key), 0o600)
        _write(self.folder / AUTHORITY, made.public_bytes(Encoding.PEM), 0o644)

    def issue(self, name: str, lifetime: dt.timedelta = LIFETIME) -> None:
        """Makes a key and a certificate for `name`, in place of those that it has.

        Raises KeyMaterialError without an authority.
        """
        authority, signer = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(min(now + lifetime, authority.not_valid_after_utc))
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/{name}"),
                        x509.DNSName(server_name(name, DOMAIN)),
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        files = {
            CERTIFICATE: (made.public_bytes(Encoding.PEM), 0o644),
            KEY: (_pem(key), 0o600),
            AUTHORITY: (authority.public_bytes(Encoding.PEM), 0o644),
        }
        _publish(self.folder / name, files)

    def issued(self) -> dict[str, dt.datetime]:
        """Names that have a certificate, and when it ends."""
        found = {}
        for folder in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if (folder / CERTIFICATE).exists():
                certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
                found[folder.name] = certificate.not_valid_after_utc
        return found

    def renew(self, names: Iterable[str], lifetime: dt.timedelta = LIFETIME) -> list[str]:
        """Issues anew what has less than half of `lifetime` left, is missing, or cannot be used; gives its names."""
        soon = (dt.datetime.now(dt.UTC) + lifetime / 2).timestamp()
        renewed = []
        for name in names:
            try:
                if read(self.folder / name).ends > soon:
                    continue
            except IdentityError:
                pass
            self.issue(name, lifetime)
            renewed.append(name)
        return renewed

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate((self.folder / AUTHORITY).read_bytes())
            key = load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyMaterialError(f"there is no authority in {self.folder}: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeyMaterialError(f"{self.folder / 'ca.key'} is not a key that `rookery keys init` made")
        return certificate, key


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable for more than `mode` says."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _publish(folder: Path, files: dict[str, tuple[bytes, int]]) -> None:
    """Puts files into a folder, all at one moment."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    newest = folder / f"..{secrets.token_hex(8)}"
    newest.mkdir(mode=0o700)
    for name, (content, mode) in files.items():
        _write(newest / name, content, mode)
    for name in files:
        link = folder / name
        if not link.is_symlink():
            link.unlink(missing_ok=True)
            link.symlink_to(Path(_LINK) / name)
    swap = folder / f"{_LINK}.new"
    swap.unlink(missing_ok=True)
    swap.symlink_to(newest.name)
    swap.replace(folder / _LINK)
    for old in folder.glob("..?*"):
        if old.is_dir() and not old.is_symlink() and old != newest:
            shutil.rmtree(old)
