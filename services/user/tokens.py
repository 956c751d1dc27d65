"""Access tokens: JWTs signed with Ed25519 (RFC 8037), and the keys behind them.

Keys are rows that all replicas share. A new one is made when the newest is 30 days old; it is published at once and
signs only after 15 minutes, three times as long as the edge keeps a key set; an old one is published until the last
token that it signed has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey
from rookery.user.v1.user_service_pb2 import GetJwksResponse, Jwk

from services.user.store.base import KeyStore, SigningKey

ISSUER = "rookery"
AUDIENCE = "rookery-api"
_ROTATE_MS = 30 * 86_400_000
_PUBLISH_FIRST_MS = 15 * 60_000


@dataclass(frozen=True, slots=True)
class _Loaded:
    signing: OKPKey
    all: list[OKPKey]
    published: GetJwksResponse


class AccessTokens:
    """Signs tokens and publishes keys. Call `load` before, and now and then."""

    def __init__(
        self,
        store: KeyStore,
        *,
        ttl_s: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self.ttl_s = ttl_s
        self._now_ms = now_ms
        self._loaded: _Loaded | None = None

    async def load(self) -> None:
        """Reads the keys, and makes one when there is none or the newest is old. Raises Unavailable."""
        now = self._now_ms()
        rows = await self._store.signing_keys()
        if not rows or rows[0].created_ms < now - _ROTATE_MS:
            key = OKPKey.generate_key("Ed25519", auto_kid=True)
            await self._store.add_signing_key(
                SigningKey(key.kid or key.thumbprint(), json.dumps(key.as_dict(private=True)), now),
                unless_since_ms=now - _ROTATE_MS,
            )
            rows = await self._store.signing_keys()
        settled = [row for row in rows if row.created_ms <= now - _PUBLISH_FIRST_MS]
        signing = settled[0] if settled else rows[-1]
        # A key signs until the next one is settled (15 minutes more for replicas that are late to notice); its tokens
        # live for ttl_s after that. Its own age says nothing: the whole service may have stood still for weeks.
        oldest_ms = now - 2 * _PUBLISH_FIRST_MS - self.ttl_s * 1000
        needed = rows[:1] + [row for newer, row in pairwise(rows) if newer.created_ms >= oldest_ms]
        keys = [OKPKey.import_key(json.loads(row.jwk)) for row in needed]
        by_kid = {key.kid: key for key in keys}
        self._loaded = _Loaded(
            by_kid[signing.kid],
            keys,
            GetJwksResponse(
                keys=[
                    Jwk(kty="OKP", crv="Ed25519", x=str(public["x"]), kid=key.kid, alg="EdDSA", use="sig")
                    for key in keys
                    if (public := key.as_dict(private=False))
                ]
            ),
        )

    def sign(
        self, subject: str, session_id: bytes, *, scope: str, roles: Sequence[str] = (), client_id: str = ""
    ) -> str:
        """A token for one session, good for `ttl_s`.

        Args:
            subject: the person's id; of a client in its own name, its id after mesh.context.CLIENT_VIEWER.
            session_id: which session.
            scope: what it is good for.
            roles: what the person is besides.
            client_id: the client that acts for the person.
        """
        now = self._now_ms() // 1000
        claims: dict[str, str | int] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "sid": session_id.hex(),
            "scope": scope,
            "iat": now,
            "exp": now + self.ttl_s,
        }
        if roles:
            claims["role"] = " ".join(roles)
        if client_id:
            claims["client_id"] = client_id
        key = self._keys().signing
        return jwt.encode({"alg": "EdDSA", "kid": key.kid, "typ": "JWT"}, claims, key, algorithms=["EdDSA"])

    def verified(self, token: str) -> Mapping[str, object] | None:
        """The claims of an access token that is good, or was; None for anything else."""
        try:
            decoded = jwt.decode(token, KeySet([*self._keys().all]), algorithms=["EdDSA"])
        except (JoseError, ValueError):
            return None
        claims = decoded.claims
        good = claims.get("iss") == ISSUER and claims.get("aud") == AUDIENCE and isinstance(claims.get("sid"), str)
        return claims if good else None

    def published(self) -> GetJwksResponse:
        """The public keys."""
        return self._keys().published

    def _keys(self) -> _Loaded:
        if self._loaded is None:
            raise RuntimeError("load() comes first")
        return self._loaded
