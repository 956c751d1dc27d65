"""AuthService.Login."""

from __future__ import annotations

from collections.abc import Callable

from rookery.user.v1.user_service_pb2 import LoginRequest, LoginResponse

from mesh.errors import InvalidArgument, PermissionDenied, Violation
from services.user.domain import fold, to_be_erased
from services.user.passwords import Passwords
from services.user.people import People
from services.user.sessions import Sessions, wrong_credentials
from services.user.store.base import UserStore


class Login:
    """Trades a name and a password for tokens."""

    def __init__(
        self, store: UserStore, passwords: Passwords, sessions: Sessions, people: People, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._people = people
        self._now_ms = now_ms

    async def __call__(self, request: LoginRequest) -> LoginResponse:
        """Raises Unauthenticated, the same for an unknown name as for a wrong password, after the same work.

        With the right password it raises PermissionDenied for a suspended account, and brings a deactivated one back.
        """
        name = request.username or request.email
        if not name:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("username", "this or `email` must be given")],
            )
        found = await self._store.login(fold(name), by_email=not request.username or "@" in name)
        person, stored = found or (None, None)
        right = await self._passwords.check(request.password, stored)
        if not right or person is None or stored is None or to_be_erased(person, self._now_ms()):
            raise wrong_credentials()
        if person.suspended:
            raise PermissionDenied("This account is suspended.", reason="ACCOUNT_SUSPENDED")
        if person.deactivated_ms and (back := await self._store.reactivate(person.id, stored, self._now_ms())):
            person = back
            await self._people.publish([person])
        return LoginResponse(data=self._sessions.answer(person, await self._sessions.begin(person.id, stored)))
