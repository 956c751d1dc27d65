"""ClientService."""

from __future__ import annotations

from rookery.user.v1.oauth_service_pb2 import (
    AccountClient,
    CreateClientRequest,
    CreateClientResponse,
    CreateClientTokenRequest,
    CreateClientTokenResponse,
    DeleteClientRequest,
    DeleteClientResponse,
    ListClientsRequest,
    ListClientsResponse,
)

from mesh.context import current
from mesh.errors import InvalidArgument, NotFound, PermissionDenied, Violation
from mesh.ids import id_of_ms, rfc3339_of_id
from mesh.interceptors.viewer import require_viewer
from services.user.client_rules import MOST, fresh_client, redirectable
from services.user.sessions import Sessions
from services.user.signed import token_of
from services.user.store.clients import Client, ClientStore


def _shown(client: Client) -> AccountClient:
    return AccountClient(
        id=client.id,
        name=client.name,
        confidential=client.secret_hash is not None,
        redirect_uris=client.redirect_uris,
        created_at=rfc3339_of_id(id_of_ms(client.created_ms)),
        consumer_key=client.consumer_key,
    )


def _missing(client_id: str) -> NotFound:
    return NotFound(f"Could not find client with id: [{client_id}].")


class CreateClient:
    """Registers a program."""

    def __init__(self, clients: ClientStore, sessions: Sessions) -> None:
        self._clients = clients
        self._sessions = sessions

    async def __call__(self, request: CreateClientRequest) -> CreateClientResponse:
        """Raises InvalidArgument for an address that people cannot be sent to, PermissionDenied above 20 clients."""
        if not all(redirectable(address) for address in request.redirect_uris):
            rule = "must be https, http on the same machine, or a scheme of the program's own, without a fragment"
            raise InvalidArgument(
                "One or more parameters to your request was invalid.", violations=[Violation("redirect_uris", rule)]
            )
        client, secret = fresh_client(
            require_viewer(),
            request.name.strip() or request.name,
            tuple(dict.fromkeys(request.redirect_uris)),
            confidential=request.confidential,
            now_ms=self._sessions.now_ms(),
        )
        if not await self._clients.add_client(client, MOST):
            raise PermissionDenied(f"You may not have more than {MOST} clients.", reason="TOO_MANY_CLIENTS")
        shown = _shown(client)
        shown.consumer_secret = client.consumer_secret
        if secret:
            shown.client_secret = secret
        current().response_metadata.extend([("x-http-status", "201"), ("cache-control", "no-store")])
        return CreateClientResponse(data=shown)


class ListClients:
    """The viewer's programs."""

    def __init__(self, clients: ClientStore) -> None:
        self._clients = clients

    async def __call__(self, request: ListClientsRequest) -> ListClientsResponse:
        """Without secrets."""
        return ListClientsResponse(data=[_shown(one) for one in await self._clients.clients_of(require_viewer())])


class DeleteClient:
    """Deletes a program of the viewer's."""

    def __init__(self, clients: ClientStore) -> None:
        self._clients = clients

    async def __call__(self, request: DeleteClientRequest) -> DeleteClientResponse:
        """Raises NotFound for none, and for another's."""
        if not await self._clients.remove_client(require_viewer(), request.id):
            raise _missing(request.id)
        return DeleteClientResponse(data=DeleteClientResponse.Data(deleted=True))


class CreateClientToken:
    """Lets a program of the viewer's act for the viewer, with signed requests."""

    def __init__(self, clients: ClientStore, sessions: Sessions) -> None:
        self._clients = clients
        self._sessions = sessions

    async def __call__(self, request: CreateClientTokenRequest) -> CreateClientTokenResponse:
        """Raises NotFound for none, and for another's."""
        viewer = require_viewer()
        session = self._sessions.signing(viewer, request.id)
        own = any(one.id == request.id for one in await self._clients.clients_of(viewer))
        if not own or not await self._clients.add_session(session):
            raise _missing(request.id)
        current().response_metadata.extend([("x-http-status", "201"), ("cache-control", "no-store")])
        data = CreateClientTokenResponse.Data(oauth_token=token_of(session), oauth_token_secret=session.token_secret)
        return CreateClientTokenResponse(data=data)
