"""Refuses the least important calls first when a server has more to do than it can."""

from __future__ import annotations

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter, Gauge

from mesh.errors import Unavailable
from mesh.interceptors.base import Answer, Context, Next, Priority, Rpc

# The share of the limit that calls of each priority may fill: the last tenth is for critical calls alone.
_SHARE = {Priority.BACKGROUND: 0.6, Priority.NORMAL: 0.9, Priority.CRITICAL: 1.0}


class Overload:
    """Serves at most `limit` calls at once. A refused call is UNAVAILABLE: another replica may take it."""

    def __init__(self, limit: int, registry: CollectorRegistry) -> None:
        self._limit = limit
        self._active = 0
        self._refused = Counter("rpc_server_refused", "Calls refused by load", ["priority"], registry=registry)
        Gauge("rpc_server_active_requests", "Calls in flight", registry=registry).set_function(lambda: self._active)

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap."""
        room = max(1, int(self._limit * _SHARE[rpc.priority]))
        refused = self._refused.labels(rpc.priority.name.lower())

        async def handle(request: Message, context: Context) -> Answer:
            if self._active >= room:
                refused.inc()
                raise Unavailable("The service has too much to do; try again in a moment.", reason="OVERLOADED")
            self._active += 1
            try:
                return await following(request, context)
            finally:
                self._active -= 1

        return handle
