"""UserService's reads: one or many people, by id or by name."""

from __future__ import annotations

from collections.abc import Sequence

from rookery.user.v1.user_service_pb2 import (
    GetMeRequest,
    GetUserByUsernameRequest,
    GetUserRequest,
    ListUsersByIdRequest,
    ListUsersByUsernameRequest,
)

from mesh.errors import Unauthenticated
from mesh.interceptors.viewer import require_reader, require_viewer
from services.user.people import People
from views import asked
from views.plan import Selecting, users_plan
from views.present import not_found, present_users
from views.record import is_there
from views.shown import Views


class GetUsers:
    """What all five share: ids to people, and a problem for each that is not there."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def answer(self, request: Selecting, ids: Sequence[int], names: Sequence[str], parameter: str) -> bytes:
        """The answer for `ids`, which came as `names` in `parameter`; 0 is nobody."""
        viewer = require_reader()
        plan = users_plan(request)
        known = [i for i in ids if i]
        found = dict(zip(known, await self._views.users.get(known), strict=True))
        records, errors = [], []
        for user_id, name in zip(ids, names, strict=True):
            record = found.get(user_id)
            if record is not None and is_there(record):
                records.append(record)
            else:
                errors.append(not_found("user", parameter, name))
        return await present_users(plan, self._views, records, viewer, errors=errors)


class GetMe:
    """UserService.GetMe."""

    def __init__(self, users: GetUsers) -> None:
        self._users = users

    async def __call__(self, request: GetMeRequest) -> bytes:
        """Raises Unauthenticated when the viewer is nobody any more."""
        viewer = require_viewer()
        answer = await self._users.answer(request, [viewer], [str(viewer)], "id")
        if not answer.startswith(b"\x0a"):
            raise Unauthenticated("This account is gone.")
        return answer


class GetUser:
    """UserService.GetUser."""

    def __init__(self, users: GetUsers) -> None:
        self._users = users

    async def __call__(self, request: GetUserRequest) -> bytes:
        """A person who is not there is a problem in `errors`."""
        return await self._users.answer(request, [request.id], [str(request.id)], "id")


class ListUsersById:
    """UserService.ListUsersById."""

    def __init__(self, users: GetUsers) -> None:
        self._users = users

    async def __call__(self, request: ListUsersByIdRequest) -> bytes:
        """Raises InvalidArgument for a list that is none."""
        ids = asked.ids(request.ids)
        return await self._users.answer(request, ids, [str(i) for i in ids], "ids")


class GetUserByUsername:
    """UserService.GetUserByUsername."""

    def __init__(self, users: GetUsers, people: People) -> None:
        self._users = users
        self._people = people

    async def __call__(self, request: GetUserByUsernameRequest) -> bytes:
        """A person who is not there is a problem in `errors`."""
        user_id = await self._people.id_of(request.username)
        return await self._users.answer(request, [user_id], [request.username], "username")


class ListUsersByUsername:
    """UserService.ListUsersByUsername."""

    def __init__(self, users: GetUsers, people: People) -> None:
        self._users = users
        self._people = people

    async def __call__(self, request: ListUsersByUsernameRequest) -> bytes:
        """Raises InvalidArgument for a list that is none."""
        names = asked.usernames(request.usernames)
        return await self._users.answer(request, await self._people.ids_of(names), names, "usernames")
