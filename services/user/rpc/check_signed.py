"""What the edge asks about a request whose Authorization begins with `OAuth `: envoy.service.auth.v3.Authorization."""

from __future__ import annotations

from google.rpc import code_pb2, status_pb2
from rookery.user.v1.edge_check_pb2 import CheckRequest, CheckResponse

from mesh.context import ROLE_KEY, SCOPE_KEY, SESSION_KEY, VIEWER_KEY
from mesh.interceptors.base import Priority, Rpc
from mesh.server import EDGE
from services.user.signed import SignedRequests
from services.user.store.clients import RoleStore

_REPLACE = 2  # envoy.config.core.v3.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


class CheckSigned:
    """Lets a signed request in, in the name of whom it is signed for."""

    def __init__(self, signed: SignedRequests, roles: RoleStore) -> None:
        self._signed = signed
        self._roles = roles

    async def __call__(self, request: CheckRequest) -> CheckResponse:
        """401 for anything that is not right; what it was is told to nobody."""
        signer = await self._signed.signer(request.attributes.request.http)
        if signer is None:
            return CheckResponse(
                status=status_pb2.Status(code=code_pb2.UNAUTHENTICATED),
                denied_response=CheckResponse.Denied(status=CheckResponse.HttpStatus(code=401)),
            )
        if signer.session is None:
            return CheckResponse(status=status_pb2.Status(), ok_response=CheckResponse.Ok())
        session = signer.session
        headers = {
            VIEWER_KEY: str(session.user_id),
            SESSION_KEY: session.id.hex(),
            SCOPE_KEY: session.scope,
            ROLE_KEY: " ".join(await self._roles.roles_of(session.user_id)),
        }
        return CheckResponse(
            status=status_pb2.Status(),
            ok_response=CheckResponse.Ok(
                headers=[
                    CheckResponse.HeaderOption(
                        header=CheckResponse.Header(key=key, value=value), append_action=_REPLACE
                    )
                    for key, value in headers.items()
                    if value
                ],
                headers_to_remove=["authorization"],
            ),
        )

    @property
    def rpc(self) -> Rpc:
        """It, as a server takes it. Its service is Envoy's, and in no contract of this project."""
        return Rpc(
            service="envoy.service.auth.v3.Authorization",
            method="Check",
            request=CheckRequest,
            handler=self,
            priority=Priority.CRITICAL,
            callers=frozenset((EDGE,)),
        )
