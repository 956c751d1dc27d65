"""Lets only those call an RPC whom its contract names, by the certificate that they showed."""

from __future__ import annotations

import structlog
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter

from mesh.errors import PermissionDenied
from mesh.interceptors.base import Answer, Context, Next, Rpc

_log = structlog.get_logger(__name__)
_PEER = "peer_spiffe_id"  # gRPC gives it for a certificate that was verified and has exactly one such name


class Callers:
    """Compares the peer's name with `Rpc.callers`. Nobody who is not listed gets as far as being believed who asks.

    Args:
        domain: the trust domain whose names count, `rookery` in `spiffe://rookery/name`.
    """

    def __init__(self, domain: str, registry: CollectorRegistry) -> None:
        self._domain = domain
        self._refused = Counter(
            "rpc_server_strangers",
            "Calls of who is not listed for the method",
            ["rpc_method"],
            registry=registry,
        )

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap."""
        allowed = frozenset(f"spiffe://{self._domain}/{caller}".encode() for caller in rpc.callers)
        refused = self._refused.labels(rpc.path)
        path = rpc.path

        async def handle(request: Message, context: Context) -> Answer:
            peer = next(iter(context.auth_context().get(_PEER, ())), b"")
            if peer not in allowed:
                refused.inc()
                _log.warning("caller refused", method=path, caller=peer.decode(errors="replace"))
                raise PermissionDenied("This caller may not make this call.", reason="CALLER_NOT_LISTED")
            return await following(request, context)

        return handle
