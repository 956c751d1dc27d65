"""UserMeshService.SetSuspension."""

from __future__ import annotations

from rookery.user.v1.user_mesh_pb2 import SetSuspensionRequest, SetSuspensionResponse

from mesh.errors import NotFound
from services.user.people import People
from services.user.store.base import UserStore


class SetSuspension:
    """Takes an account away, or gives it back."""

    def __init__(self, store: UserStore, people: People) -> None:
        self._store = store
        self._people = people

    async def __call__(self, request: SetSuspensionRequest) -> SetSuspensionResponse:
        """Raises NotFound for nobody. A second time changes nothing."""
        person = await self._store.suspend(request.user_id, request.suspended)
        if person is None:
            raise NotFound("There is nobody of that id.")
        await self._people.publish([person])
        return SetSuspensionResponse()
