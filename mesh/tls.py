"""Who a process is to the others: a certificate, its key, and the authority that signs everybody's.

A folder holds the three under the names that Kubernetes and cert-manager give them. They are short-lived, and replaced
while processes run: each look at `Identity.current` is a look at what is there now.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import structlog

_log = structlog.get_logger(__name__)

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
"""The files of an identity's folder."""
_LOOK_S = 1.0  # between two looks at the files when it is asked at each call


class IdentityError(ValueError):
    """A folder holds no identity that can be used; the text says which file and why."""


@dataclass(frozen=True, slots=True)
class Material:
    """One identity as it was read, in PEM."""

    chain: bytes
    """The certificate, and what lies between it and the authority."""
    key: bytes
    """Its private key."""
    authority: bytes
    """Certificates of who may sign."""
    domain: str
    """The trust domain, `rookery` in `spiffe://rookery/name`."""
    name: str
    """The path of the identity, `name` in `spiffe://rookery/name`."""
    ends: float
    """When the certificate does, in seconds since 1970."""


def read(folder: Path) -> Material:
    """What a folder holds.

    Raises IdentityError when a file is missing or cannot be read, the certificate has not exactly one SPIFFE name, or
    the key is another's, which is so for a moment when files are replaced one by one.
    """
    # Here, as most processes of a mesh on one machine have no certificate, and this is a tenth of their start.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        chain, key, authority = ((folder / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITY))
    except OSError as error:
        raise IdentityError(f"{error.filename}: {error.strerror}") from None
    try:
        certificate = x509.load_pem_x509_certificate(chain)
        public = load_pem_private_key(key, None).public_key()
        x509.load_pem_x509_certificates(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise IdentityError(f"{folder}: {error}") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise IdentityError(f"{folder / KEY} is not the key of {folder / CERTIFICATE}")
    found = [urlsplit(uri) for uri in uris]
    if len(found) != 1 or found[0].scheme != "spiffe" or not found[0].netloc or len(found[0].path) < 2:
        raise IdentityError(f"{folder / CERTIFICATE} has not exactly one name such as spiffe://domain/name")
    return Material(
        chain=chain,
        key=key,
        authority=authority,
        domain=found[0].netloc,
        name=found[0].path[1:],
        ends=certificate.not_valid_after_utc.timestamp(),
    )


class Identity:
    """A folder's identity, read again when its files change. What cannot be read leaves the last one in use.

    Args:
        folder: with tls.crt, tls.key and ca.crt.
        clock: seconds, steady.

    Raises:
        IdentityError: there is none in the folder now.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()  # gRPC asks for server certificates in threads of its own
        self._state = self._stamp()
        self._material = read(folder)
        self._looked = clock()
        self._refused = self._state

    @property
    def domain(self) -> str:
        """The trust domain; it never changes while a process runs."""
        return self._material.domain

    def current(self) -> Material:
        """The identity as it is now, or was a second ago: the same object until it changes."""
        return self._material if self._clock() - self._looked < _LOOK_S else self.look()

    def look(self) -> Material:
        """The identity as it is now, for what happens once a connection."""
        with self._lock:
            self._looked = self._clock()
            if (state := self._stamp()) != self._state:
                self._replace(state)
            return self._material

    def _replace(self, state: tuple[object, ...]) -> None:
        try:
            material = read(self._folder)
        except IdentityError as error:  # being replaced: the next look finds the rest
            if state != self._refused:
                _log.warning("the certificate cannot be replaced yet", why=str(error))
            self._refused = state
            return
        if material.domain != self._material.domain:
            _log.error("a certificate of another trust domain is not taken", folder=str(self._folder))
            return
        self._state, self._material = state, material
        _log.info("the certificate was replaced", name=material.name, ends=material.ends)

    def _stamp(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for name in (CERTIFICATE, KEY, AUTHORITY):
            try:
                found = (self._folder / name).stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamps)


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """For a server that asks everybody for a certificate of the authority, and shows the newest of its own."""

    def configuration(material: Material) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.authority)

    return grpc.dynamic_ssl_server_credentials(
        configuration(identity.look()), lambda: configuration(identity.look()), True
    )


def server_context(identity: Identity) -> ssl.SSLContext:
    """The same for a server of asyncio's. Raises IdentityError when TLS cannot use what the identity has."""

    def of(material: Material) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # every connection shows its certificate
        context.set_alpn_protocols(["h2"])
        held = os.memfd_create("identity")  # OpenSSL takes a key from a file only; this one is on no disk
        try:
            os.write(held, material.chain + b"\n" + material.key)
            context.load_cert_chain(f"/proc/self/fd/{held}")
            context.load_verify_locations(cadata=material.authority.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise IdentityError(f"TLS cannot use the certificate of {material.name}: {error}") from None
        finally:
            os.close(held)
        return context

    now = identity.look()
    made = [(now, of(now))]

    def newest(handshake: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        if (material := identity.look()) is not made[0][0]:
            try:
                made[0] = (material, of(material))
            except IdentityError as error:
                _log.error("the certificate cannot be used", why=str(error))
        handshake.context = made[0][1]

    first = made[0][1]
    first.sni_callback = newest
    return first


def channel_credentials(material: Material) -> grpc.ChannelCredentials:
    """For a channel that shows this identity, and speaks to nobody whom the authority has not signed."""
    return grpc.ssl_channel_credentials(material.authority, material.key, material.chain)


def server_name(name: str, domain: str) -> str:
    """The DNS name in the certificate of `spiffe://domain/name`: what a caller insists on meeting."""
    return f"{name}.{domain}"
