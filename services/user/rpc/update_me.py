"""UserService.UpdateMe."""

from __future__ import annotations

from rookery.events.v1.user_events_pb2 import UserProfileChanged
from rookery.user.v1.user_service_pb2 import UpdateMeRequest, UpdateMeResponse

from mesh.errors import InvalidArgument, Unauthenticated, Violation
from mesh.interceptors.viewer import require_viewer
from services.user.domain import country_of, resource
from services.user.people import People
from services.user.store.base import UserStore


class UpdateMe:
    """Changes the members of the viewer's profile that are given."""

    def __init__(self, store: UserStore, people: People) -> None:
        self._store = store
        self._people = people

    async def __call__(self, request: UpdateMeRequest) -> UpdateMeResponse:
        """Raises InvalidArgument when nothing is given, for a name of spaces only and for a country that is none."""
        viewer = require_viewer()
        changes: dict[str, str | bool] = {
            field.name: value.strip() if isinstance(value, str) else value for field, value in request.ListFields()
        }
        if not changes:
            raise InvalidArgument("The request changes nothing.")
        if changes.get("name") == "":
            raise _invalid("name", "must not be empty")
        if request.HasField("country"):
            country = country_of(request.country)
            if country is None:
                raise _invalid("country", "must be empty or a country's code such as BR")
            changes["country"] = country
        person = await self._store.update(viewer, changes, UserProfileChanged(user_id=viewer))
        if person is None:
            raise Unauthenticated("This account is gone.")
        await self._people.publish([person])
        return UpdateMeResponse(data=resource(person))


def _invalid(member: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "One or more parameters to your request was invalid.", violations=[Violation(member, message)]
    )
