"""ErasureService.EraseMe."""

from __future__ import annotations

from rookery.user.v1.erasure_service_pb2 import EraseMeRequest, EraseMeResponse

from mesh.interceptors.viewer import require_viewer
from services.user.erasure import Eraser
from services.user.passwords import Passwords
from services.user.sessions import wrong_credentials
from services.user.store.base import UserStore


class EraseMe:
    """Erases the viewer."""

    def __init__(self, store: UserStore, passwords: Passwords, eraser: Eraser) -> None:
        self._store = store
        self._passwords = passwords
        self._eraser = eraser

    async def __call__(self, request: EraseMeRequest) -> EraseMeResponse:
        """Raises Unauthenticated for a wrong password, and for somebody who is gone already, after the same work."""
        viewer = require_viewer()
        _, stored = await self._store.credentials(viewer) or (None, None)
        if not await self._passwords.check(request.password, stored) or not await self._eraser.erase(viewer):
            raise wrong_credentials()
        return EraseMeResponse(data=EraseMeResponse.Data(erased=True))
