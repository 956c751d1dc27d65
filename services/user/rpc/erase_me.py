"""ErasureService.EraseMe."""

from __future__ import annotations

from rookery.user.v1.erasure_service_pb2 import EraseMeRequest, EraseMeResponse

from mesh.interceptors.viewer import require_viewer
from services.user.erasure import Eraser
from services.user.sessions import wrong_credentials
from services.user.signing_in import SignIn


class EraseMe:
    """Erases the viewer."""

    def __init__(self, sign_in: SignIn, eraser: Eraser) -> None:
        self._sign_in = sign_in
        self._eraser = eraser

    async def __call__(self, request: EraseMeRequest) -> EraseMeResponse:
        """Raises Unauthenticated for a wrong password, and for somebody who is gone already, after the same work."""
        viewer = require_viewer()
        await self._sign_in.by_id(viewer, request.password)
        if not await self._eraser.erase(viewer):
            raise wrong_credentials()
        return EraseMeResponse(data=EraseMeResponse.Data(erased=True))
