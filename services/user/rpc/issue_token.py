"""OAuthService.IssueToken and RevokeToken."""

from __future__ import annotations

from google.api.httpbody_pb2 import HttpBody
from rookery.user.v1.oauth_service_pb2 import IssueTokenResponse, RevokeTokenResponse

from services.user.forms import parse
from services.user.granting import Granting


class IssueToken:
    """Trades a code, a refresh token or a client's secret for an access token."""

    def __init__(self, granting: Granting) -> None:
        self._granting = granting

    async def __call__(self, request: HttpBody) -> IssueTokenResponse:
        """Raises InvalidArgument and Unauthenticated with the errors of RFC 6749, 5.2."""
        return await self._granting.issue(parse(request))


class RevokeToken:
    """Ends the session of a token."""

    def __init__(self, granting: Granting) -> None:
        self._granting = granting

    async def __call__(self, request: HttpBody) -> RevokeTokenResponse:
        """Raises Unauthenticated for an unknown client; a token that is none is no error."""
        await self._granting.revoke(parse(request))
        return RevokeTokenResponse(revoked=True)
