"""UserMeshService.BatchGetUsers."""

from __future__ import annotations

from rookery.user.v1.user_mesh_pb2 import BatchGetUsersRequest, BatchGetUsersResponse

from services.user.people import People


class BatchGetUsers:
    """Records for hydration elsewhere."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def __call__(self, request: BatchGetUsersRequest) -> BatchGetUsersResponse:
        """One record for each id, empty for nobody."""
        return BatchGetUsersResponse(records=await self._people.load(request.ids))
