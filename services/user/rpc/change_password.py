"""AuthService.ChangePassword."""

from __future__ import annotations

from rookery.user.v1.user_service_pb2 import ChangePasswordRequest, ChangePasswordResponse

from mesh.interceptors.viewer import require_viewer
from services.user.passwords import Passwords
from services.user.sessions import Sessions, wrong_credentials
from services.user.signing_in import SignIn
from services.user.store.base import UserStore


class ChangePassword:
    """Gives the viewer another password, and signs everybody out but who asks."""

    def __init__(self, store: UserStore, passwords: Passwords, sign_in: SignIn, sessions: Sessions) -> None:
        self._store = store
        self._passwords = passwords
        self._sign_in = sign_in
        self._sessions = sessions

    async def __call__(self, request: ChangePasswordRequest) -> ChangePasswordResponse:
        """Raises Unauthenticated for a wrong password, ResourceExhausted after too many.

        One whose answer got lost may be sent again: `new_password` is the password then, and it is enough to know it.
        """
        viewer = require_viewer()
        _, stored = await self._sign_in.by_id(viewer, request.password, request.new_password)
        session, token = self._sessions.fresh(viewer)
        changed = await self._store.change_password(
            viewer, stored, await self._passwords.hash(request.new_password), session
        )
        if changed is None:
            raise wrong_credentials()
        return ChangePasswordResponse(data=await self._sessions.signed_in(changed, token))
