"""GraphService.Follow."""

from __future__ import annotations

from rookery.graph.v1.graph_service_pb2 import FollowRequest, FollowResponse

from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.graph.domain import check_pair
from services.graph.people import require_person
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore
from views.hydrate import Hydrator
from views.visibility import State, state_of


class Follow:
    """Makes the viewer follow another, or ask to."""

    def __init__(self, store: GraphStore, ids: LeasedIds, users: Hydrator, readmodel: ReadModel) -> None:
        self._store = store
        self._ids = ids
        self._users = users
        self._readmodel = readmodel

    async def __call__(self, request: FollowRequest) -> FollowResponse:
        """Raises NotFound for an unknown target, InvalidArgument for oneself, PermissionDenied across a block."""
        viewer = require_self(request.id)
        target = request.target_user_id
        check_pair(viewer, target, "follow")
        # Nobody may be followed on a guess: without the record it is not known who is protected.
        record = await require_person(self._users, target, "target_user_id")
        follow_id = await self._ids.next()
        pending = False
        if state_of(record) is State.PROTECTED:
            pending = await self._store.request(viewer, target, follow_id)
        else:
            await self._store.follow(viewer, target, follow_id)
        await self._readmodel.changed([viewer])
        return FollowResponse(data=FollowResponse.Data(following=not pending, pending_follow=pending))
