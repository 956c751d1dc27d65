"""Calls to other services: one channel a destination, with deadline, retries, breaker and bulkhead around each call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from mesh.context import SCOPE_KEY, TRACE_KEY, VIEWER_KEY, child_traceparent, current
from mesh.errors import DeadlineExceeded, from_rpc_error
from mesh.resilience.breaker import Breaker
from mesh.resilience.bulkhead import Bulkhead
from mesh.tls import Identity, Material, channel_credentials, server_name

Stub = TypeVar("Stub")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

_FAILURES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
_MARGIN_S = 0.02  # kept of the caller's time, to still answer with what this call gave
_LAST_CALL_S = 60.0  # no call takes as long, its wait for the bulkhead included
# A call that got less time than this may be too late for a destination that is well: it is no sign of its health.
_FAIR_S = 0.25

# AIP-194: only UNAVAILABLE is retried, and every RPC in this mesh may be sent twice. The throttle is the retry budget:
# while more than about a tenth of the calls fail, none is retried.
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class ClientMetrics:
    """Counts of the calls to every destination of one process."""

    seconds: Histogram
    """Duration of calls."""
    failed: Counter
    """Calls that the destination failed, by code."""

    @classmethod
    def create(cls, registry: CollectorRegistry = REGISTRY) -> ClientMetrics:
        """Registers them; once a process."""
        return cls(
            Histogram("rpc_client_duration_seconds", "Duration of outgoing calls", ["destination"], registry=registry),
            Counter("rpc_client_failures", "Outgoing calls that failed", ["destination", "code"], registry=registry),
        )


class Destination(Generic[Stub]):
    """One service, as another calls it.

    Args:
        name: for metrics.
        target: a gRPC target: `unix:///path`, `dns:///host:port`.
        stub: the generated stub's class.
        timeout_s: the longest that a call may take, when the caller has that long.
        limit: calls at once; twice as many may wait.
        identity: this process's; calls then go over mutual TLS.
        peer: whose certificate is met there, when that is not `name`.
        scope: what the calls may do at public RPCs, which ask for it; an operator's commands say EVERYTHING.
    """

    def __init__(
        self,
        name: str,
        target: str,
        stub: Callable[[grpc.aio.Channel], Stub],
        *,
        metrics: ClientMetrics | None = None,
        timeout_s: float = 2.0,
        limit: int = 128,
        identity: Identity | None = None,
        peer: str = "",
        scope: str = "",
    ) -> None:
        self.name = name
        self._target = target
        self._peer = peer or name
        self._identity = identity
        self._material = identity.current() if identity else None
        self._make = stub
        self._channel = self._dial(self._material)
        self._stub = stub(self._channel)
        self._closing: set[asyncio.Task[None]] = set()
        self._timeout_s = timeout_s
        self._scope = scope
        self._breaker = Breaker(name)
        self._bulkhead = Bulkhead(limit=limit, queue=2 * limit)
        self._seconds = metrics.seconds.labels(name) if metrics else None
        self._failed = metrics.failed if metrics else None

    @property
    def stub(self) -> Stub:
        """The stub, of a channel that shows the newest certificate. Use it for one call: another may need another."""
        if self._identity is not None and (material := self._identity.current()) is not self._material:
            self._closing.add(closing := asyncio.create_task(self._close_later(self._channel)))
            closing.add_done_callback(self._closing.discard)
            self._material = material
            self._channel = self._dial(material)
            self._stub = self._make(self._channel)
        return self._stub

    def _dial(self, material: Material | None) -> grpc.aio.Channel:
        if material is None:
            return grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        options = {
            **dict(_OPTIONS),
            # By which a connection must stand. 0.1 s, as without TLS, is too short for a handshake with a busy process.
            "grpc.min_reconnect_backoff_ms": 2_000,
            "grpc.ssl_target_name_override": server_name(self._peer, material.domain),
        }
        return grpc.aio.secure_channel(self._target, channel_credentials(material), options=tuple(options.items()))

    async def _close_later(self, channel: grpc.aio.Channel) -> None:
        """Ends a channel whose certificate was replaced, once nobody can hold a method of it any more."""
        try:
            await asyncio.sleep(_LAST_CALL_S)
        finally:
            await channel.close()

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float | None = None,
    ) -> Response:
        """Calls `method` of `stub` in the name of the current call.

        The deadline is the smaller of `timeout_s` (or the destination's default) and what the caller has left less
        20 ms; waiting for a place in the bulkhead counts. Raises the MeshError that the destination raised, Unavailable
        when it cannot be reached, the breaker is open or the bulkhead full, DeadlineExceeded when time ran out.
        """
        context = current()
        clock = asyncio.get_running_loop().time
        limit = self._timeout_s if timeout_s is None else timeout_s
        end = clock() + limit
        metadata = [(TRACE_KEY, child_traceparent(context.traceparent))]
        if context.viewer_id:
            metadata.append((VIEWER_KEY, str(context.viewer_id)))
        if self._scope:
            metadata.append((SCOPE_KEY, self._scope))
        async with self._bulkhead:
            left = context.remaining()
            timeout = end - clock()
            if left is not None:
                timeout = min(timeout, left - _MARGIN_S)
            if timeout <= 0:
                raise DeadlineExceeded("There was not enough time left.")
            self._breaker.before()
            started = clock()
            try:
                response = await method(request, timeout=timeout, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and timeout < min(0.9 * limit, _FAIR_S):
                    self._breaker.abandoned()
                elif error.code() in _FAILURES:
                    self._breaker.failure()
                    if self._failed:
                        self._failed.labels(self.name, error.code().name).inc()
                else:
                    self._breaker.success()
                raise from_rpc_error(error) from None
            except BaseException:  # cancelled, or a request that cannot be sent: nothing was learnt
                self._breaker.abandoned()
                raise
            finally:
                if self._seconds:
                    self._seconds.observe(clock() - started)
            self._breaker.success()
            return response

    async def close(self) -> None:
        """Ends the channel; calls in flight end with CANCELLED."""
        for closing in tuple(self._closing):
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close()
