"""AuthService.GetJwks."""

from __future__ import annotations

from rookery.user.v1.user_service_pb2 import GetJwksRequest, GetJwksResponse

from services.user.tokens import AccessTokens


class GetJwks:
    """Gives the public keys."""

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    async def __call__(self, request: GetJwksRequest) -> GetJwksResponse:
        """From memory."""
        return self._tokens.published()
