"""AuthService.ChangePassword."""

from __future__ import annotations

from rookery.user.v1.user_service_pb2 import ChangePasswordRequest, ChangePasswordResponse

from mesh.interceptors.viewer import require_viewer
from services.user.passwords import Passwords
from services.user.sessions import Sessions, wrong_credentials
from services.user.store.base import UserStore


class ChangePassword:
    """Gives the viewer another password, and signs everybody out but who asks."""

    def __init__(self, store: UserStore, passwords: Passwords, sessions: Sessions) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions

    async def __call__(self, request: ChangePasswordRequest) -> ChangePasswordResponse:
        """Raises Unauthenticated for a wrong password.

        One whose answer got lost may be sent again: `new_password` is the password then, and it is enough to know it.
        """
        viewer = require_viewer()
        person, stored = await self._store.credentials(viewer) or (None, None)
        right = await self._passwords.check(request.password, stored)
        if not right:
            right = await self._passwords.check(request.new_password, stored)
        if not right or person is None or stored is None:
            raise wrong_credentials()
        session, token = self._sessions.fresh(viewer)
        changed = await self._store.change_password(
            viewer, stored, await self._passwords.hash(request.new_password), session
        )
        if changed is None:
            raise wrong_credentials()
        return ChangePasswordResponse(data=self._sessions.answer(changed, token))
