"""What clients get: tokens for codes, for refresh tokens and for their own secrets, and the end of tokens."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from rookery.user.v1.oauth_service_pb2 import IssueTokenResponse

from mesh.context import CLIENT_VIEWER, current
from mesh.errors import MeshError, Unauthenticated
from services.user.client_rules import basic, has_secret, hash_of, verifies
from services.user.domain import RefreshToken
from services.user.forms import oauth_error
from services.user.scopes import OF_CLIENTS, OFFLINE
from services.user.sessions import Sessions
from services.user.store.base import Session, SessionStore, UserStore
from services.user.store.clients import CODE, Client, ClientStore, Grant, RoleStore
from services.user.tokens import AccessTokens


def unknown_client() -> MeshError:
    """The same for an unknown client as for a wrong secret (RFC 6749, 5.2)."""
    description = "The client is not known, or its secret is wrong."
    return Unauthenticated(
        description,
        reason="INVALID_CLIENT",
        headers={"www-authenticate": 'Basic realm="rookery"'},
        members={"error": "invalid_client", "error_description": description},
    )


class Granting:
    """The token endpoint and the end of tokens."""

    def __init__(
        self,
        clients: ClientStore,
        roles: RoleStore,
        users: UserStore,
        store: SessionStore,
        sessions: Sessions,
        tokens: AccessTokens,
    ) -> None:
        self._clients = clients
        self._roles = roles
        self._users = users
        self._store = store
        self._sessions = sessions
        self._tokens = tokens

    async def client(self, form: Mapping[str, str]) -> tuple[Client, bool]:
        """The client that asks, and whether it showed a secret. One that can keep a secret has to.

        Raises Unauthenticated (`invalid_client`).
        """
        credentials = current().credentials
        shown = basic(credentials)
        if shown is None and credentials.lower().startswith("basic"):
            raise unknown_client()  # another scheme is of no account here, as at all operations that need no token
        if shown and ("client_secret" in form or form.get("client_id", shown[0]) != shown[0]):
            raise oauth_error("invalid_request", "A client shows itself in one way only.")
        name, secret = shown or (form.get("client_id", ""), form.get("client_secret", ""))
        found = await self._clients.client(name)
        if found is None and form.get("grant_type") == "client_credentials":
            # As X has it, and RFC 6749 not: the key and the secret of OAuth 1.0a.
            signing = await self._clients.by_consumer_key(name)
            if signing is not None and hmac.compare_digest(hash_of(signing.consumer_secret), hash_of(secret)):
                return signing, True
        if found is None or (found.secret_hash is not None and not has_secret(found, secret)):
            raise unknown_client()
        if found.secret_hash is None and secret:
            raise unknown_client()
        return found, found.secret_hash is not None

    async def issue(self, form: Mapping[str, str]) -> IssueTokenResponse:
        """Raises InvalidArgument and Unauthenticated with the errors of RFC 6749, 5.2."""
        kind = form.get("grant_type", "")
        if kind not in ("authorization_code", "refresh_token", "client_credentials"):
            error = "unsupported_grant_type" if kind else "invalid_request"
            raise oauth_error(error, "grant_type must be authorization_code, refresh_token or client_credentials.")
        client, proven = await self.client(form)
        current().response_metadata.extend([("cache-control", "no-store"), ("pragma", "no-cache")])
        if kind == "authorization_code":
            return await self._for_code(client, form)
        if kind == "refresh_token":
            return await self._for_refresh_token(client, form)
        if not proven:
            raise oauth_error("unauthorized_client", "A public client has no token of its own.")
        return await self._for_client(client)

    async def revoke(self, form: Mapping[str, str]) -> None:
        """Ends the session of a token of the client's; what is no token of it is no error (RFC 7009, 2.2).

        Raises Unauthenticated (`invalid_client`) and InvalidArgument (`invalid_request`).
        """
        client, _ = await self.client(form)
        token = form.get("token", "")
        if not token:
            raise oauth_error("invalid_request", "token is missing.")
        session_id, secret_hash = self._session_of(token)
        session = await self._store.by_id(session_id) if session_id else None
        if session is None or session.client_id != client.id:
            return
        if secret_hash is None or secret_hash == session.token_hash:
            await self._store.end_own(session.user_id, session.id)

    def _session_of(self, token: str) -> tuple[bytes, bytes | None]:
        if "." in token:
            claims = self._tokens.verified(token)
            return (bytes.fromhex(str(claims["sid"])), None) if claims else (b"", None)
        try:
            parsed = RefreshToken.parse(token)
        except Unauthenticated:
            return b"", None
        return parsed.session_id, parsed.hash

    async def _for_code(self, client: Client, form: Mapping[str, str]) -> IssueTokenResponse:
        token = RefreshToken.fresh()
        now = self._sessions.now_ms()

        def right(grant: Grant) -> bool:
            return (
                grant.client_id == client.id
                and grant.redirect_uri == form.get("redirect_uri", "")
                and verifies(form.get("code_verifier", ""), grant.challenge)
            )

        def made(grant: Grant) -> Session:
            offline = OFFLINE in grant.scope.split()
            lives_ms = self._sessions.ttl_ms if offline else self._tokens.ttl_s * 1000
            return Session(
                id=token.session_id,
                user_id=grant.user_id,
                token_hash=token.hash if offline else b"",
                created_ms=now,
                expires_ms=now + lives_ms,
                client_id=client.id,
                scope=grant.scope,
            )

        done = await self._clients.exchange(CODE, hash_of(form.get("code", "")), right, made, now)
        if done is None:
            raise oauth_error("invalid_grant", "The code is not good, or not for this client, address and verifier.")
        _, session = done
        return await self._answer(session.user_id, session.scope, client, token)

    async def _for_refresh_token(self, client: Client, form: Mapping[str, str]) -> IssueTokenResponse:
        try:
            rotated, token = await self._sessions.refresh(form.get("refresh_token", ""), client_id=client.id)
        except Unauthenticated as error:
            raise oauth_error("invalid_grant", error.detail) from None
        people = await self._users.by_ids([rotated.user_id])
        if not people or not people[0].active:
            raise oauth_error("invalid_grant", "The refresh token is not valid.")
        return await self._answer(rotated.user_id, rotated.scope, client, token)

    async def _answer(self, user_id: int, scope: str, client: Client, token: RefreshToken) -> IssueTokenResponse:
        roles = await self._roles.roles_of(user_id)
        return IssueTokenResponse(
            token_type="bearer",  # noqa: S106 -- the name of a scheme (RFC 6750)
            expires_in=self._tokens.ttl_s,
            access_token=self._tokens.sign(
                str(user_id), token.session_id, scope=scope, roles=roles, client_id=client.id
            ),
            scope=scope,
            refresh_token=str(token) if OFFLINE in scope.split() else None,
        )

    async def _for_client(self, client: Client) -> IssueTokenResponse:
        """A token that is nobody's; its session is its owner's, so that they see it and can end it."""
        token = RefreshToken.fresh()
        now = self._sessions.now_ms()
        session = Session(
            id=token.session_id,
            user_id=client.owner_id,
            token_hash=b"",
            created_ms=now,
            expires_ms=now + self._tokens.ttl_s * 1000,
            client_id=client.id,
            scope=OF_CLIENTS,
        )
        if not await self._clients.add_session(session):
            raise unknown_client()
        return IssueTokenResponse(
            token_type="bearer",  # noqa: S106 -- the name of a scheme (RFC 6750)
            expires_in=self._tokens.ttl_s,
            access_token=self._tokens.sign(f"{CLIENT_VIEWER}{client.id}", session.id, scope=OF_CLIENTS),
            scope=OF_CLIENTS,
        )
