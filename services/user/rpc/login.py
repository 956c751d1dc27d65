"""AuthService.Login."""

from __future__ import annotations

from collections.abc import Callable

from rookery.user.v1.user_service_pb2 import LoginRequest, LoginResponse

from mesh.errors import InvalidArgument, Violation
from services.user.people import People
from services.user.sessions import Sessions
from services.user.signing_in import Credentials, SignIn
from services.user.store.base import UserStore


class Login:
    """Trades a name, a password and perhaps a code for tokens."""

    def __init__(
        self, store: UserStore, sign_in: SignIn, sessions: Sessions, people: People, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._sign_in = sign_in
        self._sessions = sessions
        self._people = people
        self._now_ms = now_ms

    async def __call__(self, request: LoginRequest) -> LoginResponse:
        """Begins a session. Raises as `verify` does."""
        person, stored = await self.verify(request)
        return LoginResponse(data=await self._sessions.signed_in(person, await self._sessions.begin(person.id, stored)))

    async def verify(self, request: LoginRequest) -> Credentials:
        """Who that is, and the password's hash. Raises as SignIn.by_name.

        With the right password, and code if one is asked for, it brings a deactivated account back.
        """
        name = request.username or request.email
        if not name:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("username", "this or `email` must be given")],
            )
        by_email = not request.username or "@" in name
        person, stored = await self._sign_in.by_name(name, request.password, request.code, by_email=by_email)
        if person.deactivated_ms and (back := await self._store.reactivate(person.id, stored, self._now_ms())):
            person = back
            await self._people.publish([person])
        return person, stored
