"""Signing in and staying signed in: tokens for sessions."""

from __future__ import annotations

import time
from collections.abc import Callable

from rookery.user.v1.user_service_pb2 import Tokens

from mesh.errors import Unauthenticated
from services.user.domain import Person, RefreshToken, resource
from services.user.store.base import Session, SessionStore
from services.user.tokens import AccessTokens


def wrong_credentials() -> Unauthenticated:
    """The same for an unknown name as for a wrong password."""
    return Unauthenticated("The name or the password is wrong.", reason="WRONG_CREDENTIALS")


class Sessions:
    """Begins, continues and ends sessions."""

    def __init__(
        self,
        store: SessionStore,
        tokens: AccessTokens,
        *,
        ttl_ms: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._ttl_ms = ttl_ms
        self._now_ms = now_ms

    def fresh(self, user_id: int) -> tuple[Session, RefreshToken]:
        """A new session, not stored yet, and its first refresh token."""
        token = RefreshToken.fresh()
        now = self._now_ms()
        return Session(token.session_id, user_id, token.hash, now, now + self._ttl_ms), token

    async def begin(self, user_id: int, password_hash: str) -> RefreshToken:
        """A new session, stored; gives its first refresh token.

        Raises Unauthenticated when the account went, or got another password, since `password_hash` was read.
        """
        session, token = self.fresh(user_id)
        if not await self._store.add(session, password_hash):
            raise wrong_credentials()
        return token

    async def refresh(self, text: str) -> tuple[int, RefreshToken]:
        """Spends a refresh token; gives whose it is and the next one.

        Raises Unauthenticated when it is not good; one that was spent before ends its session.
        """
        spent = RefreshToken.parse(text)
        following = RefreshToken.fresh(spent.session_id)
        now = self._now_ms()
        user_id = await self._store.rotate(
            spent.session_id, spent.hash, following.hash, now_ms=now, expires_ms=now + self._ttl_ms
        )
        if user_id is None:
            raise Unauthenticated("The refresh token is not valid.", reason="INVALID_REFRESH_TOKEN")
        return user_id, following

    async def end(self, text: str) -> None:
        """Ends the session of a refresh token; one that is not good ends nothing, and is no error."""
        token = RefreshToken.parse(text)
        await self._store.end(token.session_id, token.hash)

    async def end_all(self, user_id: int) -> None:
        """Ends all sessions of a person."""
        await self._store.end_all(user_id)

    async def forget_expired(self) -> int:
        """Deletes a batch of sessions that have ended; gives how many."""
        return await self._store.forget_expired(self._now_ms())

    def answer(self, person: Person, token: RefreshToken) -> Tokens:
        """What signing in answers with."""
        return Tokens(
            access_token=self._tokens.sign(person.id, token.session_id),
            refresh_token=str(token),
            token_type="bearer",  # noqa: S106 -- the name of a scheme (RFC 6750)
            expires_in=self._tokens.ttl_s,
            user=resource(person),
        )
