"""Health as grpc.health.v1 tells it: a map of components, of which two are always there.

`liveness` is SERVING for as long as the process answers at all, and never asks a dependency: a neighbour's illness must
not restart this one. `` (the server as a whole) and each service are readiness: NOT_SERVING until everything that this
process itself needs to begin is there, and again from SIGTERM on.
"""

from __future__ import annotations

from collections.abc import Iterable

from grpc_health.v1 import health, health_pb2

from mesh.errors import NotFound

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""Path of the RPC."""
LIVENESS = "liveness"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The map."""

    def __init__(self, services: Iterable[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._ready = ["", *services]
        self._is_ready = False

    async def start(self) -> None:
        """Alive, not ready yet."""
        await self.servicer.set(LIVENESS, _SERVING)
        await self.set_ready(False)

    async def set_ready(self, ready: bool) -> None:
        """Changes readiness; watchers (client-side load balancing, probes) are told at once."""
        self._is_ready = ready
        for name in self._ready:
            await self.servicer.set(name, _SERVING if ready else _NOT_SERVING)

    async def check(self, request: bytes) -> bytes:
        """`grpc.health.v1.Health/Check` for mesh.unary. Raises NotFound for what is not in the map."""
        name = health_pb2.HealthCheckRequest.FromString(request).service
        if name != LIVENESS and name not in self._ready:
            raise NotFound("There is no such service here.")
        status = _SERVING if self._is_ready or name == LIVENESS else _NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()
