"""Signing in and staying signed in: tokens for sessions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from rookery.user.v1.user_service_pb2 import Tokens

from mesh.context import EVERYTHING
from mesh.errors import Unauthenticated
from services.user.domain import Person, RefreshToken, resource
from services.user.scopes import SIGNED
from services.user.store.base import Rotated, Session, SessionStore
from services.user.store.clients import RoleStore
from services.user.tokens import AccessTokens

_CENTURY_MS = 36_500 * 86_400_000


def wrong_credentials() -> Unauthenticated:
    """The same for an unknown name as for a wrong password."""
    return Unauthenticated("The name or the password is wrong.", reason="WRONG_CREDENTIALS")


class Sessions:
    """Begins, continues and ends sessions."""

    def __init__(
        self,
        store: SessionStore,
        roles: RoleStore,
        tokens: AccessTokens,
        *,
        ttl_ms: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._roles = roles
        self._tokens = tokens
        self.ttl_ms = ttl_ms
        self.now_ms = now_ms

    def fresh(self, user_id: int) -> tuple[Session, RefreshToken]:
        """A new session, not stored yet, and its first refresh token."""
        token = RefreshToken.fresh()
        now = self.now_ms()
        return Session(token.session_id, user_id, token.hash, now, now + self.ttl_ms), token

    def signing(self, user_id: int, client_id: str) -> Session:
        """A new session of a client that signs its requests, not stored yet. It does not end by itself, as at X."""
        now = self.now_ms()
        return Session(
            id=secrets.token_bytes(16),
            user_id=user_id,
            token_hash=b"",
            created_ms=now,
            expires_ms=now + _CENTURY_MS,
            client_id=client_id,
            scope=SIGNED,
            token_secret=secrets.token_urlsafe(32),
        )

    async def begin(self, user_id: int, password_hash: str) -> RefreshToken:
        """A new session, stored; gives its first refresh token.

        Raises Unauthenticated when the account went, or got another password, since `password_hash` was read.
        """
        session, token = self.fresh(user_id)
        if not await self._store.add(session, password_hash):
            raise wrong_credentials()
        return token

    async def refresh(self, text: str, *, client_id: str = "") -> tuple[Rotated, RefreshToken]:
        """Spends a refresh token, of a client where one is named; gives what session it is and the next token.

        Raises Unauthenticated when it is not good; one that was spent more than a moment before ends its session.
        """
        spent = RefreshToken.parse(text)
        following = RefreshToken.fresh(spent.session_id)
        now = self.now_ms()
        rotated = await self._store.rotate(
            spent.session_id,
            spent.hash,
            following.hash,
            client_id=client_id,
            now_ms=now,
            expires_ms=now + self.ttl_ms,
        )
        if rotated is None:
            raise Unauthenticated("The refresh token is not valid.", reason="INVALID_REFRESH_TOKEN")
        return rotated, following

    async def end(self, text: str) -> None:
        """Ends the session of a refresh token; one that is not good ends nothing, and is no error."""
        token = RefreshToken.parse(text)
        await self._store.end(token.session_id, token.hash)

    async def end_all(self, user_id: int) -> None:
        """Ends all sessions of a person."""
        await self._store.end_all(user_id)

    async def forget_expired(self) -> int:
        """Deletes a batch of sessions whose time is over, and of those whose last token is; gives how many."""
        now = self.now_ms()
        expired = await self._store.forget_expired(now)
        return expired + await self._store.forget_ended(now - self.tokens_end_ms)

    @property
    def tokens_end_ms(self) -> int:
        """How long after the end of a session an access token of it may be good: its time, and a minute for clocks."""
        return self._tokens.ttl_s * 1000 + 60_000

    async def signed_in(self, person: Person, token: RefreshToken) -> Tokens:
        """What signing in answers with, for somebody who may have roles."""
        return self.answer(person, token, await self._roles.roles_of(person.id))

    def answer(self, person: Person, token: RefreshToken, roles: Sequence[str] = ()) -> Tokens:
        """What signing in answers with."""
        return Tokens(
            access_token=self._tokens.sign(str(person.id), token.session_id, scope=EVERYTHING, roles=roles),
            refresh_token=str(token),
            token_type="bearer",  # noqa: S106 -- the name of a scheme (RFC 6750)
            expires_in=self._tokens.ttl_s,
            user=resource(person),
        )
