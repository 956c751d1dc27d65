"""AuthService.Logout."""

from __future__ import annotations

from rookery.user.v1.user_service_pb2 import LogoutRequest, LogoutResponse

from mesh.errors import InvalidArgument, Violation
from mesh.interceptors.viewer import require_viewer
from services.user.sessions import Sessions


class Logout:
    """Ends the session of a refresh token, or all of the viewer's."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def __call__(self, request: LogoutRequest) -> LogoutResponse:
        """Raises Unauthenticated for `all` without an access token."""
        if request.all:
            await self._sessions.end_all(require_viewer())
        elif request.refresh_token:
            await self._sessions.end(request.refresh_token)
        else:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("refresh_token", "this or `all` must be given")],
            )
        return LogoutResponse(data=LogoutResponse.Data(logged_out=True))
