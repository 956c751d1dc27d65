"""Signed requests: OAuth 1.0a with HMAC-SHA1 (RFC 5849), as clients of the X API sign by default.

A signature covers the method, the address and the parameters of the query. The address is the one that the client
meant: what stands before may have been told another host, so the addresses under which this installation is known are
tried, and that of the request's own Host. A nonce is good once within the time that a timestamp is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import parse_http_list

from authlib.oauth1.rfc5849.signature import construct_base_string, hmac_sha1_signature
from authlib.oauth1.rfc5849.util import escape
from rookery.user.v1.edge_check_pb2 import CheckRequest

from mesh.cache.store import CacheGone, CacheStore
from services.user.client_rules import hash_of
from services.user.store.base import Session, SessionStore
from services.user.store.clients import REQUEST, Client, ClientStore

SCHEME = "OAuth "
NONCE_PREFIX = "nonce:"
_APART_S = 300
_MOST_PARAMETERS = 200
_REMEMBERED = 10_000
_ONE = re.compile(r'\s*([A-Za-z_%0-9]{1,64})\s*=\s*"([^"]{0,1024})"\s*')
_NAMES = frozenset(
    {
        "realm",
        "oauth_consumer_key",
        "oauth_token",
        "oauth_signature_method",
        "oauth_signature",
        "oauth_timestamp",
        "oauth_nonce",
        "oauth_version",
        "oauth_callback",
        "oauth_verifier",
        "oauth_body_hash",
    }
)
BEGIN_PATH, END_PATH = "/oauth/request_token", "/oauth/access_token"


def parse(header: str) -> Mapping[str, str] | None:
    """The parameters of an Authorization header of scheme OAuth; None for what is none, or has one twice."""
    if not header.startswith(SCHEME):
        return None
    found: dict[str, str] = {}
    for part in parse_http_list(header.removeprefix(SCHEME)):
        one = _ONE.fullmatch(part)
        if one is None or one[1] not in _NAMES or one[1] in found:
            return None
        found[one[1]] = unquote(one[2])
    return found


def fresh_verifier(*, by_hand: bool) -> str:
    """What a person brings back: 7 digits where they type them, which is tried once; otherwise 192 random bits."""
    return f"{secrets.randbelow(10**7):07d}" if by_hand else secrets.token_urlsafe(24)


def token_of(session: Session) -> str:
    """The name of a token, as X has it: whose it is, then which."""
    return f"{session.user_id}-{session.id.hex()}"


def _session_id(token: str) -> bytes:
    _, _, digits = token.partition("-")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


class Nonces:
    """Says of each nonce whether it is new: by the cache store, for all replicas, and without it by this process."""

    def __init__(self, cache: CacheStore) -> None:
        self._cache = cache
        self._here: OrderedDict[str, None] = OrderedDict()

    async def is_new(self, *parts: str) -> bool:
        """Whether these were not seen together in the last minutes."""
        key = NONCE_PREFIX + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        mine = secrets.token_bytes(8)  # a command may be carried out twice: its own value is no other's
        try:
            [before] = await self._cache.exchange([("SET", key, mine, "NX", "GET", "EX", 2 * _APART_S)])
        except CacheGone:
            before = b"" if key in self._here else None
        self._here[key] = None
        if len(self._here) > _REMEMBERED:
            self._here.popitem(last=False)
        return before is None or before == mine


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a request."""

    client: Client
    """The program."""
    session: Session | None
    """The person's session; None where a client asks for a token."""


class SignedRequests:
    """Verifies signatures.

    Args:
        addresses: scheme and host under which this installation is known, such as `https://api.x.com`.
    """

    def __init__(
        self,
        clients: ClientStore,
        sessions: SessionStore,
        nonces: Nonces,
        addresses: Sequence[str],
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._clients = clients
        self._sessions = sessions
        self._nonces = nonces
        self._addresses = tuple(addresses)
        self._now_s = now_s

    async def signer(self, request: CheckRequest.HttpRequest) -> Signer | None:
        """Who signed a request; None unless everything about it is right. Raises Unavailable."""
        said = parse(request.headers.get("authorization", ""))
        if (
            said is None
            or said.get("oauth_signature_method") != "HMAC-SHA1"
            or said.get("oauth_version", "1.0") != "1.0"
        ):
            return None
        nonce, stamp = said.get("oauth_nonce", ""), said.get("oauth_timestamp", "")
        if not nonce or not re.fullmatch("[0-9]{1,12}", stamp) or abs(int(stamp) - self._now_s()) > _APART_S:
            return None
        client = await self._clients.by_consumer_key(said.get("oauth_consumer_key", ""))
        if client is None:
            return None
        path = urlsplit(request.path).path
        token = said.get("oauth_token", "")
        session: Session | None = None
        if path == BEGIN_PATH:
            secret = ""
        elif path == END_PATH:
            grant = await self._clients.grant(REQUEST, hash_of(token), int(self._now_s() * 1000))
            if grant is None or grant.client_id != client.id:
                return None
            secret = grant.secret
        else:
            session = await self._sessions.by_id(_session_id(token))
            if (
                session is None
                or not session.token_secret
                or session.client_id != client.id
                or token != token_of(session)
                or session.expires_ms <= self._now_s() * 1000
            ):
                return None
            secret = session.token_secret
        if not self._is_signed(request, said, client.consumer_secret, secret):
            return None
        # Only what was signed is noted, so that nobody fills the cache or uses up another's nonces.
        if not await self._nonces.is_new(client.consumer_key, token, stamp, nonce):
            return None
        return Signer(client, session)

    def _is_signed(
        self, request: CheckRequest.HttpRequest, said: Mapping[str, str], client_secret: str, token_secret: str
    ) -> bool:
        parts = urlsplit(request.path)
        try:
            query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            return False
        given = said.get("oauth_signature", "").encode()
        parameters = [
            *query,
            *((name, value) for name, value in said.items() if name not in ("realm", "oauth_signature")),
        ]
        good = False
        for address in (*self._addresses, f"{request.scheme or 'http'}://{request.host}"):
            base = _base_string(request.method, address + parts.path, parameters)
            if base is not None:
                expected = hmac_sha1_signature(base, client_secret, token_secret)
                good |= hmac.compare_digest(expected.encode(), given)
        return good


def _base_string(method: str, uri: str, parameters: Sequence[tuple[str, str]]) -> str | None:
    """RFC 5849, 3.4.1. The library decodes values of oauth_* once, as they stand in a header: here they are decoded."""
    try:
        escaped = [(name, escape(value) if name.startswith("oauth_") else value) for name, value in parameters]
        return str(construct_base_string(method, uri, escaped))
    except ValueError:
        return None
