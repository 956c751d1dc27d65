"""AuthService.Register."""

from __future__ import annotations

from rookery.events.v1.user_events_pb2 import UserRegistered
from rookery.user.v1.user_service_pb2 import RegisterRequest, RegisterResponse

from mesh.context import current
from mesh.ids import LeasedIds
from services.user.attempts import Guard
from services.user.passwords import Passwords
from services.user.people import People
from services.user.sessions import Sessions
from services.user.store.base import NewPerson, UserStore


class Register:
    """Makes an account and signs it in."""

    def __init__(
        self,
        ids: LeasedIds,
        store: UserStore,
        passwords: Passwords,
        guard: Guard,
        sessions: Sessions,
        people: People,
    ) -> None:
        self._ids = ids
        self._store = store
        self._passwords = passwords
        self._guard = guard
        self._sessions = sessions
        self._people = people

    async def __call__(self, request: RegisterRequest) -> RegisterResponse:
        """Raises AlreadyExists for a taken username. Whose an e-mail address is, only a mail to it tells."""
        user_id = await self._ids.next()
        session, token = self._sessions.fresh(user_id)
        person = await self._store.create(
            NewPerson(
                id=user_id,
                username=request.username,
                email=request.email.strip(),
                password_hash=await self._passwords.hash(request.password),
                name=request.name.strip() or request.username,
                address=self._guard.address(),
            ),
            session,
            UserRegistered(user_id=user_id, username=request.username),
        )
        await self._people.publish([person])
        current().response_metadata.append(("x-http-status", "201"))
        return RegisterResponse(data=self._sessions.answer(person, token))
