"""UserService.UpdateMe."""

from __future__ import annotations

from rookery.events.v1.user_events_pb2 import UserProfileChanged
from rookery.user.v1.user_service_pb2 import UpdateMeRequest, UpdateMeResponse

from mesh.errors import InvalidArgument, Unauthenticated, Violation
from mesh.interceptors.viewer import require_viewer
from services.user.domain import resource
from services.user.people import People
from services.user.store.base import UserStore


class UpdateMe:
    """Changes the members of the viewer's profile that are given."""

    def __init__(self, store: UserStore, people: People) -> None:
        self._store = store
        self._people = people

    async def __call__(self, request: UpdateMeRequest) -> UpdateMeResponse:
        """Raises InvalidArgument when nothing is given, and for a name of spaces only."""
        viewer = require_viewer()
        changes = {field.name: str(value).strip() for field, value in request.ListFields()}
        if not changes:
            raise InvalidArgument("The request changes nothing.")
        if changes.get("name") == "":
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("name", "must not be empty")],
            )
        person = await self._store.update(viewer, changes, UserProfileChanged(user_id=viewer))
        if person is None:
            raise Unauthenticated("This account is gone.")
        await self._people.publish([person])
        return UpdateMeResponse(data=resource(person))
