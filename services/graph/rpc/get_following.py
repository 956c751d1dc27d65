"""GraphMeshService.GetFollowing."""

from __future__ import annotations

from rookery.graph.v1.graph_mesh_pb2 import GetFollowingRequest, GetFollowingResponse

from services.graph.readmodel import ReadModel


class GetFollowing:
    """Everyone whom a person follows; also loads the read model."""

    def __init__(self, readmodel: ReadModel) -> None:
        self._readmodel = readmodel

    async def __call__(self, request: GetFollowingRequest) -> GetFollowingResponse:
        """From the store."""
        following = await self._readmodel.load(request.user_id)
        return GetFollowingResponse(
            followee_ids=following.followee_ids,
            pulled_ids=following.pulled_ids,
            unpushed_ids=following.unpushed_ids,
        )
