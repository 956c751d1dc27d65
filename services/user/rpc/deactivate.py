"""UserService.Deactivate."""

from __future__ import annotations

from collections.abc import Callable

from rookery.user.v1.user_service_pb2 import DeactivateRequest, DeactivateResponse

from mesh.ids import id_of_ms, rfc3339_of_id
from mesh.interceptors.viewer import require_viewer
from services.user.domain import GRACE_MS
from services.user.people import People
from services.user.sessions import wrong_credentials
from services.user.signing_in import SignIn
from services.user.store.base import UserStore


class Deactivate:
    """Takes the viewer's account away, until they log in or 30 days are over."""

    def __init__(self, store: UserStore, sign_in: SignIn, people: People, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._sign_in = sign_in
        self._people = people
        self._now_ms = now_ms

    async def __call__(self, request: DeactivateRequest) -> DeactivateResponse:
        """Raises Unauthenticated for a wrong password. A second time changes nothing, and answers the same."""
        viewer = require_viewer()
        _, stored = await self._sign_in.by_id(viewer, request.password)
        person = await self._store.deactivate(viewer, stored, self._now_ms())
        if person is None:
            raise wrong_credentials()
        await self._people.publish([person])
        erased_after = rfc3339_of_id(id_of_ms(person.deactivated_ms + GRACE_MS))
        return DeactivateResponse(data=DeactivateResponse.Data(deactivated=True, erased_after=erased_after))
