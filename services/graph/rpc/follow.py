"""GraphService.Follow."""

from __future__ import annotations

from rookery.graph.v1.graph_service_pb2 import FollowRequest, FollowResponse

from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.graph.domain import check_pair
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore
from views.hydrate import Hydrator
from views.record import is_there


class Follow:
    """Makes the viewer follow another."""

    def __init__(self, store: GraphStore, ids: LeasedIds, users: Hydrator, readmodel: ReadModel) -> None:
        self._store = store
        self._ids = ids
        self._users = users
        self._readmodel = readmodel

    async def __call__(self, request: FollowRequest) -> FollowResponse:
        """Raises NotFound for an unknown target, InvalidArgument for oneself."""
        viewer = require_self(request.id)
        target = request.target_user_id
        check_pair(viewer, target, "follow")
        if not is_there((await self._users.get([target]))[0]):
            raise NotFound(f"Could not find user with target_user_id: [{target}].")
        if await self._store.follow(viewer, target, await self._ids.next()):
            await self._readmodel.changed([viewer])
        return FollowResponse(data=FollowResponse.Data(following=True, pending_follow=False))
