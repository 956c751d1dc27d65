"""UserService.UpdateMe."""

from __future__ import annotations

from rookery.events.v1.user_events_pb2 import UserProfileChanged
from rookery.user.v1.user_service_pb2 import UpdateMeRequest, UpdateMeResponse

from mesh.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Violation
from mesh.interceptors.viewer import require_viewer
from services.user.domain import country_of, resource
from services.user.people import People
from services.user.store.base import UserStore
from views.hydrate import Hydrator
from views.record import author_of, entry_of, is_there


class UpdateMe:
    """Changes the members of the viewer's profile that are given."""

    def __init__(self, store: UserStore, people: People, tweets: Hydrator) -> None:
        self._store = store
        self._people = people
        self._tweets = tweets

    async def __call__(self, request: UpdateMeRequest) -> UpdateMeResponse:
        """Raises InvalidArgument when nothing is given, for a name of spaces only and for a country that is none.

        Raises NotFound for pinning what is not one's own tweet, whoever's it is, and PermissionDenied for a retweet.
        """
        viewer = require_viewer()
        changes: dict[str, str | bool | int] = {
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
        if request.pinned_tweet_id:
            await self._check_pin(viewer, request.pinned_tweet_id)
        person = await self._store.update(viewer, changes, UserProfileChanged(user_id=viewer))
        if person is None:
            raise Unauthenticated("This account is gone.")
        await self._people.publish([person])
        if request.pinned_tweet_id:
            await self._check_pinned(viewer, request.pinned_tweet_id)
        return UpdateMeResponse(data=resource(person))

    async def _check_pin(self, viewer: int, tweet_id: int) -> None:
        [record] = await self._tweets.get([tweet_id])
        if record is None or not is_there(record) or author_of(record) != viewer:
            raise NotFound("There is no tweet of yours with this id.")  # another's may be one that nobody may know of
        if entry_of(record).retweeted_id:
            raise PermissionDenied("A retweet cannot be pinned.")

    async def _check_pinned(self, viewer: int, tweet_id: int) -> None:
        """The tweet may have been deleted, and its event handled, between the check and the change."""
        [record] = await self._tweets.get([tweet_id])
        if not is_there(record):
            await self._people.publish(await self._store.unpin([(viewer, tweet_id)]))
            raise NotFound("There is no tweet of yours with this id.")


def _invalid(member: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "One or more parameters to your request was invalid.", violations=[Violation(member, message)]
    )
