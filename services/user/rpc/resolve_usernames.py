"""UserMeshService.ResolveUsernames."""

from __future__ import annotations

from rookery.user.v1.user_mesh_pb2 import ResolveUsernamesRequest, ResolveUsernamesResponse

from services.user.people import People


class ResolveUsernames:
    """Names to ids, for mentions."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def __call__(self, request: ResolveUsernamesRequest) -> ResolveUsernamesResponse:
        """One id for each name, 0 for nobody."""
        return ResolveUsernamesResponse(ids=await self._people.ids_of(request.usernames))
