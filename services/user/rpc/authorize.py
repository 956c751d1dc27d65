"""OAuthService.Authorize, Decide and AuthorizeSigned."""

from __future__ import annotations

from google.api.httpbody_pb2 import HttpBody
from rookery.user.v1.oauth_service_pb2 import AuthorizeRequest, AuthorizeSignedRequest

from services.user.authorizing import Authorizing
from services.user.forms import parse


class Authorize:
    """The page that asks a person, for a client of OAuth 2.0."""

    def __init__(self, authorizing: Authorizing) -> None:
        self._authorizing = authorizing

    async def __call__(self, request: AuthorizeRequest) -> HttpBody:
        """Raises InvalidArgument for an unknown client, or an address that is not registered."""
        return await self._authorizing.begin(request)


class AuthorizeSigned:
    """The same, for a client of OAuth 1.0a."""

    def __init__(self, authorizing: Authorizing) -> None:
        self._authorizing = authorizing

    async def __call__(self, request: AuthorizeSignedRequest) -> HttpBody:
        """Raises InvalidArgument for a request token that is over."""
        return await self._authorizing.begin_signed(request.oauth_token)


class Decide:
    """What follows the forms of those pages."""

    def __init__(self, authorizing: Authorizing) -> None:
        self._authorizing = authorizing

    async def __call__(self, request: HttpBody) -> HttpBody:
        """Raises InvalidArgument for a form that this service did not make, or that is over."""
        return await self._authorizing.go_on(parse(request))
