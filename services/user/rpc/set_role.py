"""UserMeshService.SetRole."""

from __future__ import annotations

from rookery.user.v1.user_mesh_pb2 import SetRoleRequest, SetRoleResponse

from mesh.errors import NotFound
from services.user.domain import fold
from services.user.store.base import UserStore
from services.user.store.clients import RoleStore


class SetRole:
    """Gives a person a role, or takes it away."""

    def __init__(self, users: UserStore, roles: RoleStore) -> None:
        self._users = users
        self._roles = roles

    async def __call__(self, request: SetRoleRequest) -> SetRoleResponse:
        """Raises NotFound for nobody. A second time changes nothing."""
        key = fold(request.username)
        user_id = (await self._users.ids_by_username([key])).get(key, 0)
        if not user_id or not await self._roles.set_role(user_id, request.role, request.granted):
            raise NotFound("There is nobody of that name.")
        return SetRoleResponse()
