"""AuthService.Login."""

from __future__ import annotations

from rookery.user.v1.user_service_pb2 import LoginRequest, LoginResponse

from mesh.errors import InvalidArgument, Unauthenticated, Violation
from services.user.domain import fold
from services.user.passwords import Passwords
from services.user.sessions import Sessions
from services.user.store.base import UserStore


class Login:
    """Trades a name and a password for tokens."""

    def __init__(self, store: UserStore, passwords: Passwords, sessions: Sessions) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions

    async def __call__(self, request: LoginRequest) -> LoginResponse:
        """Raises Unauthenticated, the same for an unknown name as for a wrong password, after the same work."""
        name = request.username or request.email
        if not name:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("username", "this or `email` must be given")],
            )
        found = await self._store.login(fold(name), by_email=not request.username or "@" in name)
        person, stored = found or (None, None)
        if not await self._passwords.check(request.password, stored) or person is None:
            raise Unauthenticated("The name or the password is wrong.", reason="WRONG_CREDENTIALS")
        return LoginResponse(data=self._sessions.answer(person, await self._sessions.begin(person.id)))
