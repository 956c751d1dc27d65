"""OAuthService.BeginSigned and EndSigned: how a client of OAuth 1.0a comes to its token (RFC 5849, 2).

The edge hands an Authorization header of scheme OAuth on only after `CheckSigned` has found its signature good.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

from google.api.httpbody_pb2 import HttpBody

from mesh.context import current
from mesh.errors import InvalidArgument, Unauthenticated
from services.user.client_rules import OUT_OF_BAND, fresh_secret, hash_of
from services.user.scopes import SIGNED
from services.user.sessions import Sessions
from services.user.signed import parse, token_of
from services.user.store.base import UserStore
from services.user.store.clients import REQUEST, ClientStore, Grant

_LIVES_MS = 600_000


def _said() -> Mapping[str, str]:
    said = parse(current().credentials)
    if said is None:
        raise Unauthenticated("This needs a signed request: Authorization: OAuth ...")
    return said


def _form(**values: str) -> HttpBody:
    current().response_metadata.append(("cache-control", "no-store"))
    return HttpBody(content_type="application/x-www-form-urlencoded", data=urlencode(values).encode())


class BeginSigned:
    """Gives a client a request token."""

    def __init__(self, clients: ClientStore, sessions: Sessions) -> None:
        self._clients = clients
        self._sessions = sessions

    async def __call__(self, request: HttpBody) -> HttpBody:
        """Raises InvalidArgument for a callback that is not registered, Unauthenticated without a signature."""
        said = _said()
        client = await self._clients.by_consumer_key(said.get("oauth_consumer_key", ""))
        if client is None:
            raise Unauthenticated("The client is not known.")
        callback = said.get("oauth_callback", "") or OUT_OF_BAND
        if callback != OUT_OF_BAND and callback not in client.redirect_uris:
            raise InvalidArgument("This oauth_callback is not one that the client registered.")
        token, secret = fresh_secret(), fresh_secret()
        await self._clients.add_grant(
            Grant(
                hash=hash_of(token),
                kind=REQUEST,
                client_id=client.id,
                user_id=0,
                redirect_uri=callback,
                scope=SIGNED,
                challenge="",
                secret=secret,
                expires_ms=self._sessions.now_ms() + _LIVES_MS,
            )
        )
        return _form(oauth_token=token, oauth_token_secret=secret, oauth_callback_confirmed="true")


class EndSigned:
    """Trades a request token that a person approved for an access token."""

    def __init__(self, clients: ClientStore, sessions: Sessions, users: UserStore) -> None:
        self._clients = clients
        self._sessions = sessions
        self._users = users

    async def __call__(self, request: HttpBody) -> HttpBody:
        """Raises Unauthenticated for a token or verifier that is not good; the token is over then."""
        said = _said()
        client = await self._clients.by_consumer_key(said.get("oauth_consumer_key", ""))
        if client is None:
            raise Unauthenticated("The client is not known.")
        client_id, verifier = client.id, hash_of(said.get("oauth_verifier", "")).hex().encode()

        def right(grant: Grant) -> bool:
            approved = grant.user_id and hmac.compare_digest(grant.challenge.encode(), verifier)
            return bool(approved) and grant.client_id == client_id

        done = await self._clients.exchange(
            REQUEST,
            hash_of(said.get("oauth_token", "")),
            right,
            lambda grant: self._sessions.signing(grant.user_id, client_id),
            self._sessions.now_ms(),
        )
        if done is None:
            raise Unauthenticated("The request token or its verifier is not good.")
        _, session = done
        people = await self._users.by_ids([session.user_id])
        return _form(
            oauth_token=token_of(session),
            oauth_token_secret=session.token_secret,
            user_id=str(session.user_id),
            screen_name=people[0].username if people else "",
        )
