"""Rules about clients, with no I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit, urlunsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from services.user.store.clients import Client

MOST = 20
"""Clients of one person."""
OUT_OF_BAND = "oob"
"""The callback of a client that cannot be sent people: they get a number to type in (RFC 5849, 2.1)."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Schemes that a browser acts on by itself.
_NEVER = frozenset(
    {"javascript", "data", "vbscript", "file", "blob", "about", "view-source", "filesystem", "ws", "wss"}
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,63}")
_PRINTED = re.compile(r"[\x21-\x7e]+")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def hash_of(text: str) -> bytes:
    """What the store keeps of a secret with 256 random bits."""
    return hashlib.sha256(text.encode()).digest()


def fresh_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def fresh_client(
    owner_id: int, name: str, redirect_uris: tuple[str, ...], *, confidential: bool, now_ms: int
) -> tuple[Client, str]:
    """A new client and its secret, which is empty for a public one."""
    secret = fresh_secret() if confidential else ""
    made = Client(
        id=secrets.token_urlsafe(18),
        owner_id=owner_id,
        name=name,
        secret_hash=hash_of(secret) if confidential else None,
        redirect_uris=redirect_uris,
        consumer_key=secrets.token_urlsafe(18),
        consumer_secret=fresh_secret(),
        created_ms=now_ms,
    )
    return made, secret


def redirectable(address: str) -> bool:
    """Whether people may be sent there: https, http on the same machine, or a scheme of a program's own (RFC 8252)."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not _PRINTED.fullmatch(address) or "#" in address or not _SCHEME.fullmatch(parts.scheme):
        return False
    if "@" in parts.netloc or "\\" in address or '"' in address or "'" in address or ";" in address:
        return False
    if parts.scheme == "https":
        return bool(host)
    if parts.scheme == "http":
        return host in _LOOPBACK
    return parts.scheme not in _NEVER


def with_parameters(address: str, **parameters: str) -> str:
    """An address with parameters added to its query; empty ones are left out."""
    parts = urlsplit(address)
    query = parse_qsl(parts.query, keep_blank_values=True) + [
        (name, value) for name, value in parameters.items() if value
    ]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def is_challenge(text: str) -> bool:
    """Whether it can be a challenge of method S256."""
    return _CHALLENGE.fullmatch(text) is not None


def verifies(verifier: str, challenge: str) -> bool:
    """Whether a verifier meets a challenge of method S256 (RFC 7636, 4.6)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    return hmac.compare_digest(create_s256_code_challenge(verifier).encode(), challenge.encode())


def basic(credentials: str) -> tuple[str, str] | None:
    """Name and secret of an Authorization header of scheme Basic, form-encoded or not (RFC 6749, 2.3.1); else None."""
    scheme, _, encoded = credentials.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (unquote_plus(name), unquote_plus(secret)) if colon else None


def has_secret(client: Client, secret: str) -> bool:
    """Whether that is a confidential client's secret."""
    return client.secret_hash is not None and hmac.compare_digest(client.secret_hash, hash_of(secret))
